import itertools

import numpy as np
import pytest
from bargain_env.spec import GAMES, GameSpec, ObservationKind
from bargain_eval.baselines import AlwaysWalkPolicy, RandomPolicy
from bargain_eval.equilibria import TioliPolicy
from bargain_eval.exact import (
    Profile,
    Strategy,
    TabularGame,
    action_values,
    best_response,
    best_response_values,
    evaluate,
    flow,
    mean_plan,
    nash_conv,
    policy_profile,
    realisation,
    regret_by_outside,
    tabular_game,
    type_values,
    uniform_profile,
)
from brute_force import BruteForce, NoisyPolicy
from test_exact_game import SPECS

TINY = {
    "mini-a": SPECS["mini-a"],
    "one item": GameSpec(item_quantities=(2,), max_rounds=2, max_value=2, discount=0.7),
    "three items": GameSpec(item_quantities=(1, 1, 1), max_rounds=1, max_value=2, discount=0.5),
    "narrow": GameSpec(item_quantities=(1, 1), max_rounds=2, max_value=2, outside_range=(0.3, 0.75), discount=0.9),
    "empty interval": SPECS["empty interval"],
    "three rounds": GameSpec(item_quantities=(1,), max_rounds=3, max_value=2, discount=0.8, outside_range=(0.5, 1.0)),
}


def random_strategy(game: TabularGame, seat: int, rng: np.random.Generator) -> Strategy:
    shapes = [game.shape(decision) for decision in range(seat, game.spec.max_turns, 2)]
    return tuple(rng.dirichlet(np.full(shape[2], 0.3), size=shape[:2]) for shape in shapes)


@pytest.mark.parametrize("observation", ["standing", "history"])
@pytest.mark.parametrize("spec", TINY.values(), ids=TINY)
def test_every_number_is_that_of_a_recursion_over_the_reference_rules(
    spec: GameSpec, observation: ObservationKind
) -> None:
    policies = NoisyPolicy(spec, 1, observation), NoisyPolicy(spec, 2, observation)
    game, slow = tabular_game(spec), BruteForce(spec, policies)
    found = evaluate(game, policy_profile(game, *policies))
    expected = slow.expected()
    assert found.payoffs == pytest.approx(expected[:2], abs=1e-12)
    assert found.agreement_rate == pytest.approx(expected[2], abs=1e-12)
    assert found.welfare == pytest.approx(expected[:2].sum(), abs=1e-12)
    for seat in range(2):
        best = list(slow.best_values(seat).values())
        assert found.interim_payoffs[seat] + found.interim_regret[seat] == pytest.approx(best, abs=1e-12)
        assert found.best_payoffs[seat] == pytest.approx(game.chance @ best, abs=1e-12)
    assert found.nash_conv == pytest.approx(found.best_payoffs.sum() - expected[:2].sum(), abs=1e-12)
    assert found.nash_conv > 0.05


# Computed by another implementation: NashConv, gains, and the payoff of each seat under uniform play.
UNIFORM = {
    "mini-a": (0.3850694444, (0.23229167, 0.15277778), 0.60625),
    "mini-b": (0.4697337963, (0.25920139, 0.21053241), 0.60625),
    "mini-c": (0.4928708895, (0.27441368, 0.21845721), 0.55307382),
}
WALK = {"mini-a": 0.67708333, "mini-b": 0.67708333, "mini-c": 0.59287919}
TIOLI = {
    "mini-a": (0.71267361, 0.68702980, 1.39970341, 0.114583),
    "mini-b": (0.71267361, 0.68702980, 1.39970341, 0.114583),
    "mini-c": (0.66516738, 0.61406283, 1.27923020, 0.196164),
}


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_play(name: str) -> None:
    game = tabular_game(GAMES[name])
    found = evaluate(game, uniform_profile(game))
    total, gains, payoff = UNIFORM[name]
    assert found.nash_conv == pytest.approx(total, abs=5.1e-11)
    assert found.gains == pytest.approx(gains, abs=5.1e-9)
    assert found.payoffs == pytest.approx([payoff, payoff], abs=5.1e-9)
    asked = evaluate(game, policy_profile(game, RandomPolicy(game.spec)))
    assert asked.nash_conv == pytest.approx(found.nash_conv, abs=1e-14)


@pytest.mark.parametrize("name", WALK)
def test_always_walking_is_an_equilibrium(name: str) -> None:
    game = tabular_game(GAMES[name])
    found = evaluate(game, policy_profile(game, AlwaysWalkPolicy(game.spec)))
    assert found.payoffs == pytest.approx([WALK[name]] * 2, abs=5.1e-9)
    assert found.nash_conv == pytest.approx(0, abs=1e-14)
    assert found.agreement_rate == 0


@pytest.mark.parametrize("name", TIOLI)
def test_take_it_or_leave_it_is_an_equilibrium(name: str) -> None:
    game = tabular_game(GAMES[name])
    found = evaluate(game, policy_profile(game, TioliPolicy(game.spec)))
    first, second, total, deals = TIOLI[name]
    assert found.payoffs == pytest.approx([first, second], abs=5.1e-9)
    assert found.welfare == pytest.approx(total, abs=5.1e-9)
    assert found.agreement_rate == pytest.approx(deals, abs=5.1e-7)
    assert found.nash_conv == pytest.approx(0, abs=1e-14)
    assert found.interim_regret == pytest.approx(np.zeros((2, game.num_types)), abs=1e-14)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_best_response_earns_what_it_promises_and_no_strategy_earns_more(spec: GameSpec) -> None:
    game, rng = tabular_game(spec), np.random.default_rng(3)
    profile: Profile = random_strategy(game, 0, rng), random_strategy(game, 1, rng)
    for seat in range(2):
        against = flow(game, realisation(game, profile[1 - seat]))
        response, promised = best_response(game, seat, against)
        assert all(set(np.unique(array)) <= {0.0, 1.0} for array in response)
        assert all((array.sum(axis=2) == 1).all() for array in response)
        assert type_values(game, seat, against, response) == pytest.approx(promised, abs=1e-13)
        assert best_response_values(game, seat, against) == pytest.approx(promised, abs=1e-15)
        for _ in range(5):
            assert (type_values(game, seat, against, random_strategy(game, seat, rng)) <= promised + 1e-13).all()
        replaced: Profile = (response, profile[1]) if seat == 0 else (profile[0], response)
        found = evaluate(game, replaced)
        assert found.gains[seat] == pytest.approx(0, abs=1e-13)
        assert found.payoffs[seat] == pytest.approx(evaluate(game, profile).best_payoffs[seat], abs=1e-13)


def test_a_best_response_takes_the_lowest_of_equal_actions() -> None:
    # Nobody accepts and everybody walks: all offers are worth the outside offer, like walking.
    game = tabular_game(GAMES["mini-c"])
    walkers = policy_profile(game, AlwaysWalkPolicy(game.spec))
    for seat in range(2):
        response, _ = best_response(game, seat, flow(game, realisation(game, walkers[1 - seat])))
        if seat == 0:
            assert (response[0][:, :, 0] == 1).all()
        assert (response[1][:, :, 0] == 1).all()  # never reached


def test_payoffs_are_linear_in_the_opponents_flow() -> None:
    game, rng = tabular_game(SPECS["one item"]), np.random.default_rng(4)
    own = random_strategy(game, 0, rng)
    flows = [flow(game, realisation(game, random_strategy(game, 1, rng))) for _ in range(3)]
    weights = [0.5, 0.2, 0.3]
    mixed = type_values(game, 0, mean_plan(flows, weights), own)
    apart = np.sum([w * type_values(game, 0, one, own) for w, one in zip(weights, flows, strict=True)], axis=0)
    assert mixed == pytest.approx(apart, abs=1e-14)


def test_action_values_are_payoffs_of_one_changed_action() -> None:
    game, rng = tabular_game(SPECS["one item"]), np.random.default_rng(5)
    for seat in range(2):
        own, other = random_strategy(game, seat, rng), random_strategy(game, 1 - seat, rng)
        against = flow(game, realisation(game, other))
        worth, payoffs = action_values(game, seat, against, own)
        assert payoffs == pytest.approx(type_values(game, seat, against, own), abs=1e-15)
        plan = realisation(game, own)
        for round_number, (values, behaviour) in enumerate(zip(worth, own, strict=True)):
            for history, action in itertools.product(range(0, len(values), 7), range(values.shape[2])):
                changed = [array.copy() for array in own]
                changed[round_number][history] = 0
                changed[round_number][history, :, action] = 1
                reach = plan[round_number][history].sum(axis=1)
                regret = values[history, :, action] - (values * behaviour)[history].sum(axis=1)
                difference = type_values(game, seat, against, tuple(changed)) - payoffs
                assert difference == pytest.approx(reach * regret, abs=1e-13)


def test_interim_regret_by_the_share_of_the_outside_offer() -> None:
    game = tabular_game(GAMES["mini-c"])
    found = evaluate(game, uniform_profile(game))
    binned = regret_by_outside(game, found, bins=4)
    for seat, part in itertools.product(range(2), range(4)):
        inside = (game.outside * 4 > part * game.total) & (game.outside * 4 <= (part + 1) * game.total)
        expected = np.average(found.interim_regret[seat][inside], weights=game.chance[inside])
        assert binned[seat, part] == pytest.approx(expected, abs=1e-14)
    narrow = tabular_game(TINY["three rounds"])
    assert np.isnan(regret_by_outside(narrow, evaluate(narrow, uniform_profile(narrow)))[:, :4]).all()


def test_nash_conv_is_the_sum_of_both_gains_undivided() -> None:
    game = tabular_game(GAMES["mini-a"])
    found = evaluate(game, uniform_profile(game))
    assert nash_conv(game, uniform_profile(game)) == found.nash_conv == float(found.gains[0] + found.gains[1])
    assert found.gains == pytest.approx(found.interim_regret @ game.chance, abs=1e-15)

from fractions import Fraction

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.arena import play
from bargain_eval.equilibria import TioliPolicy, TioliSecondPolicy
from bargain_eval.exact import evaluate, policy_profile, tabular_game
from bargain_eval.heuristics import MyopicPolicy
from bargain_eval.policy import NumpyPolicy, UnsupportedGame
from bargain_eval.registry import load_policy

SMALL = [
    GAMES["mini-b"],
    GAMES["mini-c"],
    GameSpec(item_quantities=(2,), max_rounds=3, max_value=3),
    GameSpec(item_quantities=(1, 2), max_rounds=2, min_value=2, max_value=4),
]


@pytest.mark.parametrize("policy", [TioliPolicy, TioliSecondPolicy])
@pytest.mark.parametrize("spec", SMALL)
def test_nobody_can_gain(spec: GameSpec, policy: type[NumpyPolicy]) -> None:
    game = tabular_game(spec)
    result = evaluate(game, policy_profile(game, policy(spec)))
    np.testing.assert_allclose(result.best_payoffs, result.payoffs, rtol=0, atol=1e-12)
    assert 0 < result.agreement_rate < 1


@pytest.mark.parametrize("spec", SMALL)
def test_somebody_gains_against_half_of_it(spec: GameSpec) -> None:
    game = tabular_game(spec)
    result = evaluate(game, policy_profile(game, TioliPolicy(spec), TioliSecondPolicy(spec)))
    assert (result.best_payoffs - result.payoffs).max() > 0.01


def _values_by_enumeration(spec: GameSpec) -> tuple[float, float, float]:
    """Payoffs and agreement rate of one offer by seat 1 that seat 0 answers, over all deals, in exact fractions."""
    deals = []
    for vector in np.ndindex(*[spec.max_value - spec.min_value + 1] * spec.num_items):
        values = [spec.min_value + step for step in vector]
        total = sum(q * v for q, v in zip(spec.item_quantities, values, strict=True))
        deals += [(values, outside, total) for outside in range(1, total + 1)]
    chance = [Fraction(1, (spec.max_value - spec.min_value + 1) ** spec.num_items * total) for _, _, total in deals]
    worth = [[sum(int(c) * v for c, v in zip(x, values, strict=True)) for x in spec.offers] for values, _, _ in deals]
    accepted = [
        sum(p for p, own, (_, o, total) in zip(chance, worth, deals, strict=True) if total - own[x] >= o)
        for x in range(spec.num_offers)
    ]
    responder = [
        sum(
            p * Fraction(max(total - own[x], o), total)
            for p, own, (_, o, total) in zip(chance, worth, deals, strict=True)
        )
        for x in range(spec.num_offers)
    ]
    payoffs = [Fraction(0), Fraction(0), Fraction(0)]
    for p, own, (_, o, total) in zip(chance, worth, deals, strict=True):
        gains = [accepted[x] * (own[x] - o) for x in range(spec.num_offers)]
        offer = gains.index(max(gains))
        payoffs[0] += p * responder[offer]
        payoffs[1] += p * (gains[offer] + o) / total
        payoffs[2] += p * accepted[offer]
    return float(payoffs[0]), float(payoffs[1]), float(payoffs[2])


@pytest.mark.parametrize("spec", SMALL)
def test_the_values_of_small_games_are_those_of_exact_fractions(spec: GameSpec) -> None:
    game = tabular_game(spec)
    result = evaluate(game, policy_profile(game, TioliSecondPolicy(spec)))
    expected = _values_by_enumeration(spec)
    np.testing.assert_allclose([*result.payoffs, result.agreement_rate], expected, rtol=0, atol=1e-12)


# Enumerated over all 10**6 value vectors and every outside offer. Seat 1 earns what seat 0 earns in tioli; seat 0 and
# the agreement rate differ from tioli's seat 1, since the lowest index is another one of tied offers.
STANDARD = {"payoff_0": 0.587727690, "payoff_1": 0.634137097, "total": 1.221864786, "agreement_rate": 0.346182563}


@pytest.mark.parametrize(
    ("first", "second"),
    [(TioliSecondPolicy, TioliSecondPolicy), (MyopicPolicy, TioliSecondPolicy)],
    ids=["itself", "myopic"],
)
def test_the_values_of_the_standard_game(first: type[NumpyPolicy], second: type[NumpyPolicy]) -> None:
    summary = play((first(), second()), 200_000, 0).summary()
    for name, expected in STANDARD.items():
        value, error = summary[name], summary[f"{name}_se"]
        assert value is not None
        assert error is not None
        assert abs(value - expected) < 4 * error, name
    assert summary["illegal_rate"] == 0


def test_both_halves_stall_until_the_second_offer_of_seat_1() -> None:
    spec = GameSpec()
    game = ReferenceGame(spec, values=[[10, 20, 30], [30, 20, 10]], outside=[50, 100])
    policy = TioliSecondPolicy()
    moves = []
    while not game.finished:
        action = int(policy.get_action(game.observation(), game.action_mask()))
        assert not game.play(action)
        moves.append(action)
    kept = np.array([game.bundle(0, offer) for offer in range(80)])
    gain = kept @ np.array([0.078591187, 0.087504526, 0.099843590]) * (spec.offers @ [30, 20, 10] - 100)
    assert moves[:4] == [0, 79, 0, int(gain.argmax())]
    assert moves[4] == (80 if game.bundle_value(0, moves[3]) >= 50 else 81)
    assert len(moves) == 5


@pytest.mark.parametrize("rounds", [2, 4])
def test_other_numbers_of_rounds_move_the_offer_and_keep_its_size(rounds: int) -> None:
    spec = GameSpec(max_rounds=rounds)
    game, standard = (
        ReferenceGame(played, values=[[10, 20, 30], [30, 20, 10]], outside=[50, 100]) for played in (spec, GameSpec())
    )
    for table, policy in ((game, TioliSecondPolicy(spec)), (standard, TioliSecondPolicy())):
        while not table.finished:
            table.play(int(policy.get_action(table.observation(), table.action_mask())))
    assert game.moves[: 2 * rounds - 3] == [0, 79, 0, 79, 0][: 2 * rounds - 3]
    assert game.moves[2 * rounds - 3 :] == standard.moves[3:]


@pytest.mark.parametrize("outside", [1, 140])
def test_seat_0_answers_the_last_offer_and_seat_1_walks_from_any(outside: int) -> None:
    policy = TioliSecondPolicy()
    game = ReferenceGame(GameSpec(), values=[[20, 7, 100], [1, 1, 1]], outside=[outside, 1])
    for move in (0, 79, 0, int(game.spec.encode_offer([0, 4, 1]))):  # 140 points are left to seat 0
        game.play(move)
    assert policy.get_action(game.observation(), game.action_mask()) == 80
    game.outside[0] = 141
    assert policy.get_action(game.observation(), game.action_mask()) == 81
    game.play(79)  # a gift to seat 1, which the threat refuses
    assert policy.get_action(game.observation(), game.action_mask()) == 81


def test_a_type_that_cannot_gain_asks_for_everything() -> None:
    game = ReferenceGame(GameSpec(), values=[[1, 1, 1], [5, 5, 5]], outside=[1, 60])
    for move in (0, 79, 0):
        game.play(move)
    assert TioliSecondPolicy().get_action(game.observation(), game.action_mask()) == 79


def test_games_that_cannot_host_it_are_refused() -> None:
    with pytest.raises(UnsupportedGame, match="max_rounds 2 or more"):
        TioliSecondPolicy(GAMES["mini-a"])
    with pytest.raises(UnsupportedGame, match="tioli-second needs outside_range"):
        TioliSecondPolicy(GameSpec(outside_range=(0.2, 1.0)))
    with pytest.raises(UnsupportedGame, match="tioli-second needs discount 1"):
        TioliSecondPolicy(GameSpec(discount=0.9))


@pytest.mark.parametrize("name", ["tioli-second", "tioli_second"])
def test_both_spellings_name_it(name: str) -> None:
    assert isinstance(load_policy(name), TioliSecondPolicy)
    with pytest.raises(ValueError, match="has no option 'x'"):
        load_policy(f"{name}?x=1")

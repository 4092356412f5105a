import itertools
from typing import Any

import numpy as np
import pytest
from bargain_env.spec import GAMES, GameSpec, ObservationKind
from bargain_eval.arena import play
from bargain_eval.baselines import AlwaysWalkPolicy, FairSplitPolicy, GreedyPolicy, RandomPolicy
from bargain_eval.exact import (
    Profile,
    TabularGame,
    evaluate,
    flow,
    mean_plan,
    mix_strategies,
    plan_strategy,
    policy_profile,
    policy_strategy,
    realisation,
    tabular_game,
    type_values,
    uniform_strategy,
)
from bargain_eval.mixture import Mixture
from bargain_eval.policy import NumpyPolicy, Policy
from brute_force import NoisyPolicy
from numpy.typing import NDArray
from test_exact_game import SPECS
from test_exact_values import random_strategy


def equal(first: Profile, second: Profile, tolerance: float = 0) -> bool:
    pairs = [pair for strategies in zip(first, second, strict=True) for pair in zip(*strategies, strict=True)]
    return all(a.shape == b.shape and np.allclose(a, b, rtol=0, atol=tolerance) for a, b in pairs)


@pytest.mark.parametrize("observation", ["standing", "history"])
def test_a_table_holds_what_the_policy_answers_in_any_batches(observation: ObservationKind) -> None:
    game = tabular_game(SPECS["three rounds"])
    policy = NoisyPolicy(game.spec, 0, observation)
    asked = []

    class Counted(NoisyPolicy):
        def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
            asked.append(len(obs))
            return super()._decide(obs, action_mask)

    profile = policy_profile(game, policy)
    assert equal(profile, policy_profile(game, Counted(game.spec, 0, observation), batch_size=4), 1e-15)
    assert max(asked) == 4
    kinds = [1, 2, 2, 2, 2, 2] if observation == "standing" else [2**decision for decision in range(6)]
    assert sum(asked) == game.num_types * sum(kinds)
    assert [array.shape for array in profile[0]] == [game.shape(decision) for decision in (0, 2, 4)]
    assert [array.shape for array in profile[1]] == [game.shape(decision) for decision in (1, 3, 5)]


def test_each_seat_has_its_own_policy() -> None:
    game = tabular_game(GAMES["mini-b"])
    random, walk = RandomPolicy(game.spec), AlwaysWalkPolicy(game.spec)
    profile = policy_profile(game, random, walk)
    assert equal((profile[0], profile[0]), (uniform_strategy(game, 0), policy_strategy(game, random, 0)), 1e-15)
    assert (profile[1][0][:, :, -1] == 1).all()
    assert evaluate(game, profile).agreement_rate == 0 < evaluate(game, policy_profile(game, random)).agreement_rate


def test_float32_probabilities_are_scaled_to_sum_one() -> None:
    class Single(RandomPolicy):
        def action_probs(self, obs: Any, action_mask: Any) -> Any:
            return super().action_probs(obs, action_mask).astype(np.float32)

    game = tabular_game(GAMES["mini-c"])
    for strategy in policy_profile(game, Single(game.spec)):
        assert all(np.abs(array.sum(axis=2) - 1).max() < 1e-15 for array in strategy)


def answering(told: Any) -> Policy:
    class Answers(RandomPolicy):
        def action_probs(self, obs: Any, action_mask: Any) -> Any:
            probs = super().action_probs(obs, action_mask)
            return told(probs)

    return Answers(GAMES["mini-a"])


class NoProbabilities:
    observation: ObservationKind = "standing"
    device = "cpu"

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        raise NotImplementedError


class Remembers(RandomPolicy):
    def begin(self, game_ids: Any, seat: int, rng: np.random.Generator | None = None) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (NoProbabilities(), "the policy of seat 1, NoProbabilities, has no action_probs"),
        (Remembers(GAMES["mini-a"]), "the policy of seat 1, Remembers, remembers its games"),
        (RandomPolicy(GAMES["mini-b"]), "the policy of seat 1 was made for another game"),
        (answering(lambda probs: probs / 2), "no probability distribution"),
        (answering(lambda probs: -probs), "no probability distribution"),
        (answering(lambda probs: probs * np.nan), "no probability distribution"),
        (answering(lambda probs: np.full_like(probs, 1 / probs.shape[1])), "an illegal action a positive probability"),
        (answering(lambda probs: probs[:, :-1]), r"returned shape \(\d+, 5\) for a mask of shape \(\d+, 6\)"),
        (Mixture([RandomPolicy(GAMES["mini-a"]), NoProbabilities()], [1, 0], GAMES["mini-a"]), "has no action_probs"),
    ],
)
def test_policies_without_a_table_are_refused(policy: Policy, error: str) -> None:
    game = tabular_game(GAMES["mini-a"])
    with pytest.raises(ValueError, match=error):
        policy_strategy(game, policy, 1)


def all_deals(game: TabularGame) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]:
    pairs = np.array(list(itertools.product(range(game.num_types), repeat=2)))
    return (game.values[pairs], game.outside[pairs]), game.chance[pairs].prod(axis=1)


def members(spec: GameSpec) -> list[NumpyPolicy]:
    return [
        NoisyPolicy(spec, 5, "standing"),
        NoisyPolicy(spec, 6, "history"),
        AlwaysWalkPolicy(spec),
        FairSplitPolicy(spec),
    ]


@pytest.mark.parametrize("seat", [0, 1])
def test_a_mixture_earns_what_its_members_earn_on_average_against_anyone(seat: int) -> None:
    game, rng = tabular_game(GAMES["mini-b"]), np.random.default_rng(0)
    weights = [0.4, 0.3, 0.1, 0.2]
    mixture = Mixture(members(game.spec), weights, game.spec)
    mixed = policy_strategy(game, mixture, seat)
    apart = [policy_strategy(game, member, seat) for member in members(game.spec)]
    expected = mean_plan([realisation(game, strategy) for strategy in apart], weights)
    for found, wanted in zip(realisation(game, mixed), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-15)
    for _ in range(3):
        against = flow(game, realisation(game, random_strategy(game, 1 - seat, rng)))
        values = [type_values(game, seat, against, strategy) for strategy in apart]
        assert type_values(game, seat, against, mixed) == pytest.approx(weights @ np.array(values), abs=1e-14)


def test_a_mixture_is_not_the_mean_of_its_members_probabilities() -> None:
    game = tabular_game(GAMES["mini-b"])
    apart = [policy_strategy(game, member, 0) for member in members(game.spec)[:2]]
    mixed = mix_strategies(game, apart, [0.5, 0.5])
    blended = mean_plan(apart, [0.5, 0.5])
    np.testing.assert_allclose(mixed[0], blended[0], atol=1e-15)
    assert np.abs(mixed[1] - blended[1]).max() > 0.1


def test_a_mixture_of_mixtures_is_one_mixture() -> None:
    game = tabular_game(GAMES["mini-b"])
    first, second, third, _ = members(game.spec)
    nested = Mixture([Mixture([first, second], [0.25, 0.75], game.spec), third], [0.8, 0.2], game.spec)
    flat = Mixture([first, second, third], [0.2, 0.6, 0.2], game.spec)
    assert equal(policy_profile(game, nested), policy_profile(game, flat), 1e-14)


def test_a_mixture_of_one_plays_like_its_member_even_where_it_never_goes() -> None:
    game = tabular_game(GAMES["mini-b"])
    for member in members(game.spec):
        alone = policy_profile(game, Mixture([member], [1.0], game.spec))
        assert equal(alone, policy_profile(game, member), 1e-15)


def test_the_arena_measures_what_the_table_of_a_mixture_says() -> None:
    game = tabular_game(GAMES["mini-b"])
    mixture = Mixture(members(game.spec), [0.4, 0.3, 0.1, 0.2], game.spec)
    policies = mixture, NoisyPolicy(game.spec, 9, "standing")
    exact = evaluate(game, policy_profile(game, *policies))
    rows = play(policies, 60_000, 0, spec=game.spec)
    error = rows.payoff.std(axis=0) / np.sqrt(len(rows))
    assert (np.abs(rows.payoff.mean(axis=0) - exact.payoffs) < 4 * error).all()
    assert abs((rows.outcome == 1).mean() - exact.agreement_rate) < 4 * 0.5 / np.sqrt(len(rows))


def test_deterministic_policies_earn_exactly_what_the_arena_pays_on_all_deals() -> None:
    game = tabular_game(SPECS["one item"])
    deals, chance = all_deals(game)
    for first, second in itertools.product((GreedyPolicy(game.spec), FairSplitPolicy(game.spec)), repeat=2):
        rows = play((first, second), len(chance), 0, spec=game.spec, deals=deals)
        exact = evaluate(game, policy_profile(game, first, second))
        assert exact.payoffs == pytest.approx(chance @ rows.payoff, abs=1e-13)
        assert exact.agreement_rate == pytest.approx(chance @ (rows.outcome == 1), abs=1e-13)


@pytest.mark.parametrize(("count", "weights"), [(2, [1.0]), (1, [0.5]), (2, [1.5, -0.5]), (0, [])])
def test_weights_that_are_no_distribution_over_the_strategies(count: int, weights: list[float]) -> None:
    game = tabular_game(GAMES["mini-a"])
    with pytest.raises(ValueError, match="mixture"):
        mix_strategies(game, [uniform_strategy(game, 0)] * count, weights)


def test_a_plan_gives_its_strategy_back_wherever_it_goes() -> None:
    game = tabular_game(SPECS["three rounds"])
    for seat in range(2):
        strategy = random_strategy(game, seat, np.random.default_rng(seat))
        back = plan_strategy(realisation(game, strategy))
        for found, wanted in zip(back, strategy, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-13)
    walk = policy_strategy(game, AlwaysWalkPolicy(game.spec), 0)
    uniform = plan_strategy(realisation(game, walk))
    assert (uniform[0] == walk[0]).all()
    assert (uniform[1] == 1 / uniform[1].shape[2]).all()

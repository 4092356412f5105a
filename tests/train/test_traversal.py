"""Traversals sample what exact evaluation computes: values, regrets and reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_eval.exact import (
    Profile,
    TabularGame,
    TabularPolicy,
    action_values,
    evaluate,
    flow,
    nash_conv,
    realisation,
    regret_matching,
    tabular_game,
    uniform_profile,
)
from bargain_train.buffers import unpack_observation
from bargain_train.traversal import Strategy, Traverser
from numpy.typing import NDArray
from tensordict import TensorDictBase


def random_profile(game: TabularGame, seed: int) -> Profile:
    rng = np.random.default_rng(seed)

    def strategy(seat: int) -> tuple[NDArray[np.float64], ...]:
        draws = [rng.gamma(0.5, size=game.shape(decision)) for decision in range(seat, game.spec.max_turns, 2)]
        return tuple(draw / draw.sum(-1, keepdims=True) for draw in draws)

    return strategy(0), strategy(1)


def as_strategy(policy: TabularPolicy) -> Strategy:
    def strategy(observation: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(policy.action_probs(observation.numpy(), mask.numpy())).float()

    return strategy


def where(policy: TabularPolicy, rows: TensorDictBase) -> list[NDArray[np.int64]]:
    """Returns decision, history and type of each row."""
    spec = policy.spec
    observation = unpack_observation(spec, rows["observation"])[0].numpy()
    seen = spec.read_observation(observation)
    decision, offers = 2 * seen.round + seen.seat, policy._offers(observation, seen)
    history = np.zeros(len(observation), dtype=np.int64)
    for made in range(spec.max_turns - 1):
        history = np.where(made < decision, history * spec.num_offers + offers[:, made], history)
    return [decision, history, policy._types(seen)]


def sampled_regrets(
    game: TabularGame, policy: TabularPolicy, rows: TensorDictBase, seat: int, followed: int
) -> tuple[list[Any], list[Any]]:
    """Returns the sums of the sampled regrets and of their squares, `[H, T, A]` for each round."""
    sums = [np.zeros(game.shape(decision)) for decision in range(seat, game.spec.max_turns, 2)]
    squares = [np.zeros_like(array) for array in sums]
    decision, history, kind = where(policy, rows)
    share = game.spec.num_offers / followed
    worth = (rows["weight"].unsqueeze(-1) * rows["importance"] * rows["advantage"]).numpy().astype(np.float64)
    worth[:, :followed] *= share
    for number in range(seat, game.spec.max_turns, 2):
        columns = np.full(game.spec.num_actions, -1)
        columns[game.actions(number)] = np.arange(len(game.actions(number)))
        chosen = np.flatnonzero(decision == number)
        action = columns[rows["action"].numpy()[chosen]]
        for slot in range(action.shape[1]):
            legal = action[:, slot] >= 0
            index = history[chosen][legal], kind[chosen][legal], action[legal, slot]
            found = worth[chosen, slot][legal] * share ** (number // 2)
            np.add.at(sums[number // 2], index, found)
            np.add.at(squares[number // 2], index, found**2)
    return sums, squares


@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize(("name", "followed"), [("mini-b", 4), ("mini-b", 2), ("mini-a", 3)])
def test_samples_are_unbiased(name: str, followed: int, seat: int) -> None:
    game = tabular_game(GAMES[name])
    profile = random_profile(game, 0)
    policy = TabularPolicy(game, profile)
    strategy, size, batches = as_strategy(policy), 5000, 8
    traverser = Traverser(policy.spec, size, offers=followed, seed=3)
    worth, _ = action_values(game, seat, flow(game, realisation(game, profile[1 - seat])), profile[seat])
    values, sums, squares = [], [0.0] * len(worth), [0.0] * len(worth)
    for _ in range(batches):
        traversal = traverser.traverse(seat, (strategy, strategy))
        values.append(traversal.value)
        found = sampled_regrets(game, policy, traversal.advantages, seat, followed)
        sums = [total + new for total, new in zip(sums, found[0], strict=True)]
        squares = [total + new for total, new in zip(squares, found[1], strict=True)]
    error = np.std(values, ddof=1) / np.sqrt(batches)
    assert abs(np.mean(values) - evaluate(game, profile).payoffs[seat]) < 4 * error + 1e-4
    number = size * batches
    for exact, behaviour, total, square in zip(worth, profile[seat], sums, squares, strict=True):
        regret = (exact - (exact * behaviour).sum(-1, keepdims=True)) * game.chance[:, None]
        mean = total / number
        error = np.sqrt(np.maximum(square / number - mean**2, 1e-12) / number)
        score = ((mean - regret) / error)[square > 0]
        assert 0.7 < np.sqrt((score**2).mean()) < 1.4  # scores of one deal move together
        assert abs(score.mean()) < 5 / np.sqrt(score.size)


def test_strategies_are_kept_with_the_own_share_of_play_that_leads_to_them() -> None:
    game = tabular_game(GAMES["mini-b"])
    profile = random_profile(game, 2)
    policy = TabularPolicy(game, profile)
    strategy, size = as_strategy(policy), 40_000
    traverser = Traverser(policy.spec, size, offers=4, seed=5)
    rows = traverser.traverse(0, (strategy, strategy)).strategies
    decision, history, kind = where(policy, rows)
    plan = realisation(game, profile[1])
    for number in (1, 3):
        reach = plan[number // 2].sum(-1) * game.chance
        found = np.zeros_like(reach)
        chosen = decision == number
        np.add.at(found, (history[chosen], kind[chosen]), rows["weight"].numpy()[chosen] / size)
        assert np.abs(found - reach).max() < 0.01
        assert found.sum() == pytest.approx(reach.sum(), rel=0.02)
        played = profile[1][number // 2][history[chosen], kind[chosen]]
        kept = rows["probs"].numpy()[chosen][:, game.actions(number)]
        assert np.allclose(kept, played, atol=1e-6)


def test_a_table_in_place_of_the_network_is_monte_carlo_cfr() -> None:
    """Lanctot et al. 2009: regrets are added up in a table, and the average plays to a small NashConv."""
    game = tabular_game(GAMES["mini-a"])
    policies = [TabularPolicy(game, uniform_profile(game))]
    traverser = Traverser(policies[0].spec, 64, offers=4, seed=7)
    regrets = [[np.zeros(game.shape(seat))] for seat in range(2)]
    plans = [np.zeros(game.shape(seat)) for seat in range(2)]
    profile = [list(strategy) for strategy in uniform_profile(game)]
    nodes = iteration = 0
    while nodes < 100_000:
        iteration += 1
        for seat in range(2):
            policy = TabularPolicy(game, (tuple(profile[0]), tuple(profile[1])))
            traversal = traverser.traverse(seat, (as_strategy(policy),) * 2)
            nodes += traversal.nodes
            regrets[seat][0] += sampled_regrets(game, policy, traversal.advantages, seat, 4)[0][0]
            profile[seat] = [regret_matching(regrets[seat][0])]
            plans[seat] += iteration * profile[seat][0]  # one decision a seat: behaviour is realisation
    average = tuple((plan / plan.sum(-1, keepdims=True),) for plan in plans)
    assert nash_conv(game, (average[0], average[1])) < 0.02


def test_the_deals_to_come_can_be_stored() -> None:
    policy = TabularPolicy(tabular_game(GAMES["mini-b"]), uniform_profile(tabular_game(GAMES["mini-b"])))
    strategy = as_strategy(policy)
    first = Traverser(policy.spec, 16, offers=2, seed=1)
    first.traverse(0, (strategy, strategy))
    stored = first.state_dict()
    expected = first.traverse(1, (strategy, strategy))
    second = Traverser(policy.spec, 16, offers=2, seed=7)
    second.load_state_dict(stored)
    again = second.traverse(1, (strategy, strategy))
    assert again.value == expected.value
    assert all(torch.equal(again.advantages[name], column) for name, column in expected.advantages.items())


def test_new_deals_are_traversed_each_time() -> None:
    policy = TabularPolicy(tabular_game(GAMES["mini-b"]), uniform_profile(tabular_game(GAMES["mini-b"])))
    strategy = as_strategy(policy)
    traverser = Traverser(policy.spec, 64, offers=4, seed=1)
    first, second = (traverser.traverse(0, (strategy, strategy)).advantages["observation"] for _ in range(2))
    assert not torch.equal(first, second)


def test_a_discounted_game_pays_less_for_later_ends() -> None:
    spec = GameSpec(item_quantities=(1, 1), max_value=2, max_rounds=2, discount=0.5, observation="history")
    game = tabular_game(spec)
    profile = random_profile(game, 4)
    policy = TabularPolicy(game, profile)
    traverser = Traverser(policy.spec, 20_000, offers=4, seed=9)
    for seat in range(2):
        value = traverser.traverse(seat, (as_strategy(policy),) * 2).value
        assert value == pytest.approx(evaluate(game, profile).payoffs[seat], abs=0.006)


def test_one_offer_cannot_be_followed_alone() -> None:
    with pytest.raises(ValueError, match="at least 2 offers"):
        Traverser(GAMES["mini-b"], 4, offers=1, seed=0)

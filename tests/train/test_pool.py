"""Pools: one member a game, drawn with its weight, in both seats; and exact resumption in the middle of games."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_train.collect import Player, Rollouts
from bargain_train.networks import Network, build_network
from bargain_train.pool import Pool

SPEC = GameSpec().with_observation("history")
"""Three decisions of each seat; at its last one seat 1 can make no offer."""
LEARNER_OFFERS = 79


def offering(offer: int, spec: GameSpec = SPEC) -> Network:
    """A network that makes one offer always, and walks where it cannot."""
    network = build_network({"network": "mlp", "hidden_dims": [4]}, spec)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        bias = network.policy_head.bias
        assert isinstance(bias, torch.Tensor)
        bias[offer], bias[spec.walk_action] = 200.0, 100.0
    return network.requires_grad_(False)


def rollouts(pool: Pool, seat: int, num_envs: int = 300, length: int = 7) -> Rollouts:
    learner = offering(LEARNER_OFFERS)
    players: tuple[Player, Player] = (pool, learner) if seat == 0 else (learner, pool)
    return Rollouts(SPEC, players, num_envs=num_envs, length=length, seed=5)


def offers_by_game(games: Rollouts, seat: int, collections: int) -> list[list[int]]:
    """The offers of `seat` in each game that began and ended, in each slot in the order of its games."""
    rows = [games.collect().rows.clone() for _ in range(collections)]
    action, player, done = (torch.cat([row[key] for row in rows]) for key in ("action", "player", "done"))
    found = []
    for slot in range(action.shape[1]):
        start = 0
        for end in done[:, slot].nonzero().squeeze(-1).tolist():
            own = player[start : end + 1, slot] == seat
            offers = action[start : end + 1, slot][own]
            found.append(offers[offers < SPEC.num_offers].tolist())
            start = end + 1
    return found


def shares(offers: Sequence[int], members: Sequence[int]) -> torch.Tensor:
    return torch.tensor([offers.count(member) / len(offers) for member in members])


@pytest.mark.parametrize("seat", [0, 1])
def test_one_member_plays_a_whole_game_and_each_is_drawn_with_its_weight(seat: int) -> None:
    weights = torch.tensor([1.0, 3.0, 0.0, 4.0])
    pool = Pool([(offering(offer), float(weight)) for offer, weight in zip((10, 11, 12, 13), weights, strict=True)])
    games = offers_by_game(rollouts(pool, seat), seat, collections=10)  # 70 decisions, games of 6
    assert len(games) == 300 * 11
    assert {len(offers) for offers in games} == {3 if seat == 0 else 2}
    for offers in games:
        assert len(set(offers)) == 1, offers
    first = [offers[0] for offers in games]
    probability = weights / weights.sum()
    error = (probability * (1 - probability) / len(first)).sqrt()
    assert ((shares(first, (10, 11, 12, 13)) - probability).abs() <= 4 * error).all()
    assert first.count(12) == 0
    assert len(pool.networks) == 3

    pairs = [(first[index], first[index + 1]) for index in range(len(first)) if index % 11 < 10]
    stayed = sum(a == b for a, b in pairs) / len(pairs)
    expected = float((probability**2).sum())
    assert abs(stayed - expected) <= 4 * (expected * (1 - expected) / len(pairs)) ** 0.5  # games are independent


@pytest.mark.parametrize("seat", [0, 1])
def test_a_rollout_goes_on_bit_for_bit_in_the_middle_of_games(seat: int) -> None:
    pool = Pool([(offering(10), 0.5), (build_network({"network": "mlp", "hidden_dims": [4]}, SPEC), 0.5)])
    games = rollouts(pool, seat, num_envs=20)
    games.collect()
    state = copy.deepcopy(games.state_dict())
    rows = [games.collect().rows.clone() for _ in range(3)]
    other = rollouts(pool, seat, num_envs=20)
    other.load_state_dict(state)
    assert list(state["drawn"]) == [seat]
    for row in rows:
        again = other.collect().rows
        for key in ("action", "observation", "reward", "done", "player"):
            assert torch.equal(again[key], row[key]), key


@pytest.mark.parametrize("seat", [0, 1])
def test_the_rows_of_a_pool_are_none_to_learn_from(seat: int) -> None:
    rows = rollouts(Pool([(offering(10), 1.0)]), seat).collect().rows
    own = rows["player"] == seat
    assert own.any()
    assert (rows["action_log_prob"][own] == 0).all()
    assert (rows["state_value"][own] == 0).all()


def test_each_row_is_played_by_its_own_member() -> None:
    spec = GAMES["mini-b"].with_observation("history")
    torch.manual_seed(0)
    networks = [offering(2, spec), offering(3, spec), build_network({"network": "mlp", "hidden_dims": [4]}, spec)]
    pool = Pool([(network, 1.0) for network in networks])
    members = torch.tensor([0, 1, 2] * 2000)
    observation, mask = torch.rand(6000, spec.observation_dim), torch.ones(6000, spec.num_actions, dtype=torch.bool)
    mask[:, 3] = False
    actions = pool.act(members, observation, mask, torch.Generator().manual_seed(0))
    assert (actions[members == 0] == 2).all()
    assert (actions[members == 1] == spec.walk_action).all()  # its offer is not legal here
    drawn = actions[members == 2]
    legal = mask[0].sum()
    frequency = torch.bincount(drawn, minlength=spec.num_actions) / len(drawn)
    assert frequency[3] == 0
    assert (frequency[mask[0]] - 1 / legal).abs().max() < 4 * (0.25 / len(drawn)) ** 0.5


def test_a_pool_needs_somebody_who_plays() -> None:
    with pytest.raises(ValueError, match="a member of positive probability"):
        Pool([(offering(0), 0.0)])
    with pytest.raises(ValueError, match="a member of positive probability"):
        Pool([])

"""Networks that are tables: the same play as the table in numpy, in checkpoints too, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec, make_engine
from bargain_eval import load_policy
from bargain_eval.arena import play
from bargain_eval.by_seat import BySeat
from bargain_eval.checkpoint import write_checkpoint
from bargain_eval.exact import (
    Profile,
    Strategy,
    TabularGame,
    TabularPolicy,
    policy_profile,
    tabular_game,
    uniform_profile,
    uniform_strategy,
)
from bargain_eval.exact.profile import history_offers
from bargain_eval.exact.views import decision_views
from bargain_train.networks import Network, build_network
from bargain_train.policies import NetworkPolicy, build_policy, policy_checkpoint
from bargain_train.table_network import network_of_strategy
from torch import nn

SPECS = {
    **{name: GAMES[name] for name in ("mini-a", "mini-b", "mini-c")},
    "three rounds": GameSpec(item_quantities=(1,), max_rounds=3, min_value=2, max_value=4, discount=0.7),
    "three items": GameSpec(
        item_quantities=(1, 2, 1), max_rounds=1, min_value=2, max_value=3, outside_range=(0.3, 0.75)
    ),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def random_strategy(game: TabularGame, seat: int, rng: np.random.Generator) -> Strategy:
    """Returns a strategy that never plays some actions, and is pure in some information sets."""
    strategy = []
    for decision in range(seat, game.spec.max_turns, 2):
        histories, types, actions = game.shape(decision)
        weights = rng.dirichlet(np.full(actions, 0.3), size=(histories, types))
        weights[weights < np.minimum(0.1, weights.max(axis=2, keepdims=True))] = 0.0
        strategy.append(weights / weights.sum(axis=2, keepdims=True))
    return tuple(strategy)


def random_profile(game: TabularGame, seed: int = 0) -> Profile:
    rng = np.random.default_rng(seed)
    return random_strategy(game, 0, rng), random_strategy(game, 1, rng)


def networks_of(game: TabularGame, profile: Profile) -> tuple[Network, Network]:
    return network_of_strategy(game, 0, profile[0]), network_of_strategy(game, 1, profile[1])


def zeros(spec: GameSpec) -> Network:
    return build_network({"network": "table"}, spec.with_observation("history"))


def every_row(game: TabularGame, decision: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns what is seen in every information set of a decision, in order."""
    offers = history_offers(game.spec.num_offers, decision)
    history, kind = np.divmod(np.arange(len(offers) * game.num_types), game.num_types)
    spec = game.spec.with_observation("history")
    return decision_views(spec, game.values[kind], game.outside[kind], decision, offers[history])


@each_spec
def test_every_information_set_has_its_own_number(spec: GameSpec) -> None:
    game, reader = tabular_game(spec), zeros(spec).reader
    rows = [torch.from_numpy(every_row(game, decision)[0]) for decision in range(spec.max_turns)]
    count = sum(map(game.num_information_sets, range(2)))
    assert torch.equal(reader(torch.cat(rows)), torch.arange(count).unsqueeze(-1))


@each_spec
def test_a_network_plays_like_the_table_in_every_information_set(spec: GameSpec) -> None:
    game = tabular_game(spec)
    profile = random_profile(game)
    network, table = NetworkPolicy(networks_of(game, profile)), TabularPolicy(game, profile)
    pure = 0
    for decision in range(spec.max_turns):
        rows = every_row(game, decision)
        found, expected = network.action_probs(*rows), table.action_probs(*rows)
        np.testing.assert_allclose(found, expected, atol=0, rtol=5e-7)  # so that 0 is 0
        np.testing.assert_array_equal(found[expected == 1], 1)
        pure += int((expected == 1).sum())
    assert pure > 0


def test_pure_strategies_play_the_games_that_the_table_plays() -> None:
    game = tabular_game(GAMES["mini-c"])
    profile = random_profile(game)
    first, second = (tuple((array == array.max(axis=2, keepdims=True)) * 1.0 for array in part) for part in profile)
    pair, table = NetworkPolicy(networks_of(game, (first, second))), TabularPolicy(game, (first, second))
    games = [play((policy, policy), 500, 0, spec=game.spec) for policy in (pair, table)]
    np.testing.assert_array_equal(games[0].actions, games[1].actions)
    assert games[0].illegal.sum() == 0


@each_spec
def test_zeros_play_uniformly(spec: GameSpec) -> None:
    game, network = tabular_game(spec), zeros(spec)
    assert not any(tensor.any() for tensor in network.state_dict().values())
    found = policy_profile(game, NetworkPolicy((network, network)))
    for mine, uniform in zip(found, uniform_profile(game), strict=True):
        for array, expected in zip(mine, uniform, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_the_other_seat_plays_uniformly() -> None:
    game = tabular_game(GAMES["mini-b"])
    network = network_of_strategy(game, 0, random_profile(game)[0])
    found = policy_profile(game, NetworkPolicy((network, network)))[1]
    for array, expected in zip(found, uniform_strategy(game, 1), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_a_checkpoint_plays_bit_for_bit_alike(tmp_path: Path) -> None:
    game = tabular_game(GAMES["mini-b"])
    networks = networks_of(game, random_profile(game))
    checkpoint = policy_checkpoint("psro", networks, 3)
    assert checkpoint["networks"][0]["config"] == {"network": "table", "observation": "history"}
    write_checkpoint(tmp_path / "policy.pt", checkpoint)
    original = NetworkPolicy(networks)
    for policy in (
        build_policy(checkpoint, device="cpu"),
        load_policy(f"checkpoint:{tmp_path / 'policy.pt'}", spec=GAMES["mini-b"]),
    ):
        assert isinstance(policy, NetworkPolicy)
        assert policy.observation == "history"
        for decision in range(game.spec.max_turns):
            rows = every_row(game, decision)
            np.testing.assert_array_equal(policy.action_probs(*rows), original.action_probs(*rows))
    assert sorted(networks[0].state_dict()) == ["policy_head.answering", "policy_head.offering", "value_head.worth"]


def test_tables_mix_with_learned_networks_in_a_checkpoint() -> None:
    game = tabular_game(GAMES["mini-b"])
    first, second = networks_of(game, random_profile(game))
    learned = build_network({"network": "mlp", "hidden_dims": [8]}, GAMES["mini-b"])
    seats = [(first, 0.25), (learned, 0.75)], [(second, 1.0)]
    policy = build_policy(policy_checkpoint("psro", seats, 3), device="cpu")
    assert isinstance(policy, BySeat)
    assert len(play((policy, policy), 200, 0, spec=game.spec)) == 200


def test_a_table_is_a_network_like_any_other() -> None:
    game = tabular_game(GAMES["mini-c"])
    network = network_of_strategy(game, 1, random_profile(game)[1])
    nn.init.normal_(network.value_head.worth)  # type: ignore[arg-type]
    engine = make_engine(game.spec.with_observation("history"), 64)
    for step in range(3):
        engine.step(engine.random_actions(step))
    rows = torch.tensor(engine.observation)
    logits, value = network(rows)
    assert logits.shape == (64, game.spec.num_actions)
    assert value.shape == (64,)
    assert len(value.unique()) > 20
    again = network.heads(network.trunk(network.reader(rows)))
    assert torch.equal(logits, again[0])
    assert torch.equal(value, again[1])
    assert torch.equal(value, network.values(rows))
    np.testing.assert_array_equal(NetworkPolicy((network, network)).values(rows.numpy()), value.detach())
    (logits.sum() + value.sum()).backward()
    read = network.reader(rows).unique()
    gradient = network.value_head.worth.grad
    assert torch.equal(gradient.nonzero()[:, 0], read)  # type: ignore[union-attr,operator]


def test_rows_that_no_game_shows_are_read_all_the_same() -> None:
    game = tabular_game(GAMES["mini-b"])
    never_walks = tuple(array[..., ::-1].copy() for array in uniform_strategy(game, 0))
    never_walks[0][..., -1] = 0.0
    never_walks[0][..., 0] *= 2
    network = network_of_strategy(game, 0, never_walks)
    width, actions = game.spec.with_observation("history").observation_dim, game.spec.num_actions
    strange = torch.randn(500, width, generator=torch.Generator().manual_seed(0)) * 9
    assert network(strange)[0].isfinite().all()
    walk = torch.arange(actions) == game.spec.walk_action  # all that is legal in a finished game
    probs = NetworkPolicy((network, network)).action_probs(torch.zeros(1, width), walk[None])
    assert torch.equal(probs, walk[None].float())


def test_building_a_table_draws_no_numbers() -> None:
    before = torch.get_rng_state()
    zeros(GAMES["mini-b"])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "spec", "message"),
    [
        ({}, GAMES["mini-a"], "a table network needs the history observation, got 'standing'"),
        ({}, GameSpec(observation="history"), "this game is too large for tables"),
        ({"hidden_dims": [4]}, GAMES["mini-a"].with_observation("history"), "bad options for network 'table'"),
    ],
)
def test_what_cannot_be_a_table_is_refused(config: dict[str, Any], spec: GameSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network({"network": "table"} | config, spec)


def test_what_is_no_strategy_is_refused() -> None:
    game = tabular_game(GAMES["mini-b"])
    first, second = random_profile(game)
    with pytest.raises(ValueError, match="the strategy of seat 1 must have shapes"):
        network_of_strategy(game, 1, first)
    with pytest.raises(ValueError, match="the strategy of seat 1 holds rows that are no probability distributions"):
        network_of_strategy(game, 1, (second[0], second[1] * 0.9))


@pytest.mark.gpu
def test_a_gpu_plays_the_same() -> None:
    game = tabular_game(GAMES["mini-c"])
    networks = networks_of(game, random_profile(game))
    rows = [every_row(game, decision) for decision in range(game.spec.max_turns)]
    expected = [NetworkPolicy(networks).action_probs(*row) for row in rows]
    policy = NetworkPolicy(networks, device="cuda:0")
    for row, probs in zip(rows, expected, strict=True):
        found = policy.action_probs(*row)
        np.testing.assert_allclose(found, probs, atol=0, rtol=5e-7)
        np.testing.assert_array_equal(found == 1, probs == 1)

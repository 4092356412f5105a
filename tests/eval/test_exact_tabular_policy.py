import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.arena import play
from bargain_eval.exact import (
    Profile,
    TabularPolicy,
    best_response,
    evaluate,
    flow,
    load_profile,
    policy_profile,
    realisation,
    save_profile,
    tabular_game,
    uniform_profile,
)
from bargain_eval.policy import PolicyRequest
from brute_force import NoisyPolicy
from test_exact_game import SPECS
from test_exact_profile import all_deals, equal
from test_exact_values import random_strategy


def random_profile(spec: GameSpec, seed: int = 0) -> Profile:
    game, rng = tabular_game(spec), np.random.default_rng(seed)
    return random_strategy(game, 0, rng), random_strategy(game, 1, rng)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_profile_that_becomes_a_policy_is_found_again(spec: GameSpec) -> None:
    game, profile = tabular_game(spec), random_profile(spec)
    assert equal(policy_profile(game, TabularPolicy(game, profile)), profile, 1e-15)


def test_a_history_policy_and_its_table_play_alike() -> None:
    game = tabular_game(SPECS["three rounds"])
    policy = NoisyPolicy(game.spec, 3, "history")
    table = TabularPolicy(game, policy_profile(game, policy))
    assert equal(policy_profile(game, table), policy_profile(game, policy), 1e-15)
    first = play((policy, policy), 500, 0, spec=game.spec)
    second = play((table, table), 500, 0, spec=game.spec)
    np.testing.assert_array_equal(first.actions, second.actions)


def test_a_best_response_earns_in_the_arena_what_it_promises() -> None:
    game = tabular_game(GAMES["mini-b"])
    deals, chance = all_deals(game)
    profile = random_profile(game.spec)
    opponent = best_response(game, 1, flow(game, realisation(game, profile[0])))[0]
    answer, promised = best_response(game, 0, flow(game, realisation(game, opponent)))
    policy = TabularPolicy(game, (answer, opponent))
    rows = play((policy, policy), len(chance), 0, spec=game.spec, deals=deals)
    assert chance @ rows.payoff[:, 0] == pytest.approx(game.chance @ promised, abs=1e-13)
    assert rows.illegal.sum() == 0


def test_a_random_profile_earns_in_the_arena_what_its_table_says() -> None:
    game = tabular_game(SPECS["one item"])
    policy = TabularPolicy(game, random_profile(game.spec))
    exact = evaluate(game, policy.profile)
    rows = play((policy, policy), 60_000, 1, spec=game.spec)
    error = rows.payoff.std(axis=0) / np.sqrt(len(rows))
    assert (np.abs(rows.payoff.mean(axis=0) - exact.payoffs) < 4 * error).all()


def test_single_rows_forced_rows_and_strange_rows() -> None:
    game = tabular_game(GAMES["mini-a"])
    policy = TabularPolicy(game, random_profile(game.spec))
    width, actions = policy.spec.observation_dim, game.spec.num_actions
    walk_only = np.arange(actions) == game.spec.walk_action
    assert policy.get_action(np.zeros(width, np.float32), walk_only) == game.spec.walk_action
    with pytest.raises(ValueError, match=r"values \[0, 0\] with outside offer 0 are no type of this game"):
        policy.get_action(np.zeros((1, width), np.float32), np.ones((1, actions), bool))
    with pytest.raises(ValueError, match="obs must be"):
        policy.get_action(np.zeros((1, width - 1), np.float32), np.ones((1, actions), bool))


@pytest.mark.parametrize(
    ("values", "outside"),
    [([3, 1], 1), ([1, 1], 3), ([1, 2], 4), ([2, 0], 1)],
)
def test_a_deal_that_the_game_does_not_have(values: list[int], outside: int) -> None:
    game = tabular_game(GAMES["mini-a"])
    policy = TabularPolicy(game, uniform_profile(game))
    obs = np.zeros(policy.spec.observation_dim, np.float32)
    obs[:2], obs[2] = np.array(values) / 2, outside / sum(values)
    with pytest.raises(ValueError, match="no type of this game"):
        policy.get_action(obs, np.ones(game.spec.num_actions, bool))


def broken(change: Any) -> Profile:
    first, second = random_profile(GAMES["mini-b"])
    return change(list(first)), second


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda first: tuple(first[:1]), "the strategy of seat 0 must have shapes"),
        (lambda first: (first[0][:, :-1], first[1]), "the strategy of seat 0 must have shapes"),
        (lambda first: (first[0] * 0.9, first[1]), "the strategy of seat 0 holds rows"),
        (lambda first: (first[0] * np.nan, first[1]), "the strategy of seat 0 holds rows"),
    ],
)
def test_tables_that_are_no_profile_are_refused(change: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        TabularPolicy(tabular_game(GAMES["mini-b"]), broken(change))


def test_a_saved_profile_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    for spec, name in itertools.product((SPECS["one item"], SPECS["narrow"]), ("a.npz", "b.table")):
        game, profile = tabular_game(spec), random_profile(spec)
        save_profile(tmp_path / name, game, profile)
        loaded, back = load_profile(tmp_path / name)
        assert loaded.spec == spec
        assert equal(back, profile)
    with pytest.raises(ValueError, match="too large"):
        load_profile(tmp_path / "a.npz", max_bytes=100)
    policy = TabularPolicy.from_request(PolicyRequest("tabular", str(tmp_path / "a.npz"), seed=3))
    assert policy.spec == SPECS["narrow"].with_observation("history")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.table"]


def test_files_that_hold_no_profile(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(ValueError, match="a tabular policy needs a file"):
        TabularPolicy.from_request(PolicyRequest("tabular"))
    with pytest.raises(ValueError, match="no readable"):
        load_profile(path)
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match="no readable"):
        load_profile(path)
    np.save(tmp_path / "y.npy", np.zeros(3))
    with pytest.raises(ValueError, match="no readable"):
        load_profile(tmp_path / "y.npy")
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="holds no profile"):
        load_profile(path)
    np.savez(path, spec=np.array(json.dumps(GAMES["mini-a"].to_dict())))
    with pytest.raises(ValueError, match="seat_0_round_0 is missing"):
        load_profile(path)

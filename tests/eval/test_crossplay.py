"""Cross-play: the table, the games behind it, and how policies are named and told apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env.spec import GAMES, GameSpec
from bargain_eval import arena
from bargain_eval.arena import play
from bargain_eval.crossplay import Crossplay, CrossplayFailed, crossplay, pieces, read_crossplay
from bargain_eval.crossplay.entries import distinct_names, fingerprint, make_entries
from bargain_eval.game_rows import GameRows
from bargain_eval.registry import load_policy

SIMPLE = ("random", "greedy", "always_walk", "fair_split")

# payoff of seat 0, payoff of seat 1, agreement rate; seat 0 has the row
REFERENCE = {
    ("random", "random"): (0.50053, 0.50053, 0.49383),
    ("random", "greedy"): (0.4509, 0.6546, 0.4938),
    ("random", "always_walk"): (0.50104, 0.50104, 0),
    ("random", "fair_split"): (0.4229, 0.5967, 0.6268),
    ("greedy", "random"): (0.7505, 0.2505, 0.5),
    ("greedy", "greedy"): (0.50104, 0.50104, 0),
    ("greedy", "fair_split"): (0.50104, 0.50104, 0),
    ("always_walk", "always_walk"): (0.50104, 0.50104, 0),
    ("always_walk", "random"): (0.50104, 0.50104, 0),
    ("fair_split", "random"): (0.5003, 0.4913, 0.5),
    ("fair_split", "greedy"): (0.5009, 0.6293, 0.4816),
    ("fair_split", "always_walk"): (0.50104, 0.50104, 0),
    ("fair_split", "fair_split"): (0.5012, 0.5391, 0.7327),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Crossplay:
    folder = tmp_path_factory.mktemp("crossplay")
    return crossplay(baselines=SIMPLE, num_games=10_000, seed=11, output=folder / "table.json")


def stored(matrix: Crossplay) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(matrix.path.read_text(encoding="utf-8"))
    return content


def assert_same_games(first: GameRows, second: GameRows) -> None:
    for name in GameRows.__dataclass_fields__:
        one, other = getattr(first, name), getattr(second, name)
        np.testing.assert_array_equal(one, other, name)
        assert one.dtype == other.dtype, name


@pytest.mark.parametrize("pair", REFERENCE)
def test_the_simple_policies_earn_what_is_known(table: Crossplay, pair: tuple[str, str]) -> None:
    i, j = map(SIMPLE.index, pair)
    summary = table.cell(i, j).summary()
    for seat in range(2):
        error = table.table.standard_error[i, j, seat]
        assert abs(table.table.mean[i, j, seat] - REFERENCE[pair][seat]) < 4 * error + 1e-4
    assert abs(float(summary["agreement_rate"] or 0) - REFERENCE[pair][2]) < 4 * 0.5 / np.sqrt(10_000)


def test_every_cell_holds_the_games_that_the_arena_plays(table: Crossplay) -> None:
    assert table.complete
    assert table.names == SIMPLE
    assert table.table.count.tolist() == [[10_000] * 4] * 4
    for i, first in enumerate(SIMPLE):
        for j, second in enumerate(SIMPLE):
            rows = play((load_policy(first), load_policy(second)), 10_000, 11)
            assert_same_games(table.cell(i, j), rows)
            summary = rows.summary()
            assert table.table.mean[i, j].tolist() == [summary["payoff_0"], summary["payoff_1"]]
            assert table.table.standard_error[i, j].tolist() == [summary["payoff_0_se"], summary["payoff_1_se"]]


def test_the_file_says_what_was_played_and_how_well_each_mean_is_known(table: Crossplay) -> None:
    content = stored(table)
    assert content["format"] == "bargain-crossplay"
    assert content["rows"] == "table.rows.npz"
    assert content["game"] == GameSpec().to_dict()
    assert (content["seed"], content["num_games"], content["complete"]) == (11, 10_000, True)
    assert [policy["group"] for policy in content["policies"]] == ["baselines"] * 4
    assert len(content["detailed_results"]) == 16
    payoff = table.cell(3, 1).payoff
    detail = content["detailed_results"]["fair_split_vs_greedy"]
    np.testing.assert_allclose(detail["mean_reward_p1"], payoff[:, 1].mean())
    np.testing.assert_allclose(detail["std_reward_p0"], np.std(payoff[:, 0], ddof=1))
    np.testing.assert_allclose(detail["mean_welfare"], payoff.sum(axis=1).mean())
    np.testing.assert_allclose(content["payoff_se"][3][1], payoff.std(axis=0, ddof=1) / 100)
    assert detail["agreement_rate"] + detail["walk_rate"] == 1
    assert list(table.path.parent.glob("*.cells")) == []


def test_the_columns_of_the_games_have_the_promised_types(table: Crossplay) -> None:
    with np.load(table.rows, allow_pickle=False) as arrays:
        found = {name: (array.dtype.name, array.shape) for name, array in arrays.items()}
    cells = (4, 4, 10_000)
    assert found == {
        "game": ("int64", (10_000,)),
        "values": ("int32", (10_000, 2, 3)),
        "outside": ("int32", (10_000, 2)),
        "payoff": ("float64", (*cells, 2)),
        "outcome": ("int8", cells),
        "offer": ("int16", cells),
        "decisions": ("int8", cells),
        "illegal": ("int16", (*cells, 2)),
        "actions": ("int16", (*cells, 6)),
    }


def test_the_averages_are_those_of_the_games_with_the_errors_of_the_deals(table: Crossplay) -> None:
    payoff = np.array([[table.cell(i, j).payoff for j in range(4)] for i in range(4)])
    averages = table.averages()
    first, second = payoff[..., 0].mean(axis=1), payoff[..., 1].mean(axis=0)
    for name, each in (("seat_0", first), ("seat_1", second), ("both_seats", (first + second) / 2)):
        np.testing.assert_allclose(averages[name][0], each.mean(axis=1))
        np.testing.assert_allclose(averages[name][1], each.std(axis=1, ddof=1) / 100)


@pytest.mark.parametrize(
    "spec", [GAMES["mini-b"], GameSpec((2, 1), max_rounds=2, max_value=9, discount=0.9, outside_range=(0.2, 0.7))]
)
def test_other_games_are_stored_with_their_points(spec: GameSpec, tmp_path: Path) -> None:
    matrix = crossplay(["random", "myopic"], 300, 2, spec=spec, output=tmp_path / "small.json")
    assert read_crossplay(matrix.path).spec == spec
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        names = matrix.names[i], matrix.names[j]
        first, second = (load_policy(name, spec) for name in names)
        assert_same_games(matrix.cell(i, j), play((first, second), 300, 2, spec=spec))


def test_large_cells_are_cut_without_changing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = crossplay(["random", "greedy"], 9000, 1, output=tmp_path / "whole" / "m.json")
    monkeypatch.setattr(pieces, "PIECE_GAMES", pieces.BLOCK_SIZE)
    parts = crossplay(["random", "greedy"], 9000, 1, output=tmp_path / "parts" / "m.json")
    for first, second in ((whole.path, parts.path), (whole.rows, parts.rows)):
        assert first.read_bytes() == second.read_bytes()


def test_a_single_game_has_a_mean_and_no_error(tmp_path: Path) -> None:
    matrix = crossplay(["random"], 1, 0, output=tmp_path / "one.json")
    assert np.isfinite(matrix.table.mean).all()
    assert np.isnan(matrix.table.standard_error).all()
    assert stored(matrix)["detailed_results"]["random_vs_random"]["std_reward_p0"] is None


def test_the_seed_decides_the_deals_and_the_draws(tmp_path: Path) -> None:
    one, same, other = (
        crossplay(["random"], 50, seed, output=tmp_path / f"{name}.json").cell(0, 0)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert_same_games(one, same)
    assert not np.array_equal(one.values, other.values)
    assert not np.array_equal(one.actions, other.actions)


def test_a_total_above_first_best_names_the_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = arena.game_points

    def generous(*arguments: Any) -> Any:
        points, total = honest(*arguments)
        return points + total, total

    monkeypatch.setattr(arena, "game_points", generous)
    with pytest.raises(CrossplayFailed, match=r"4 of 4 cells failed, first random_vs_random: .*broken measurement"):
        crossplay(["random", "greedy"], 20, 0, output=tmp_path / "m.json")


@pytest.mark.parametrize(
    ("policies", "names"),
    [
        (("random", "tioli"), ["random", "tioli"]),
        (("random", "random", "random"), ["random", "random#2", "random#3"]),
        (("fair_split", "fair_split?accept_threshold=.3"), ["fair_split", "fair_split?accept_threshold=.3"]),
        (("a/best.pt", "b/best.pt"), ["a/best", "b/best"]),
        (("x/a/best.pt", "y/a/best.pt", "latest.pt"), ["x/a/best", "y/a/best", "latest"]),
        (("a/best.pt", "checkpoint:a/best.pt", "./a/best.pt"), ["best", "best#2", "best#3"]),
        (("best.pt", "best.pt?greedy"), ["best", "best?greedy"]),
        (("a/best.pt?greedy", "b/best.pt?greedy"), ["a/best?greedy", "b/best?greedy"]),
        (("a/random.pt", "random"), ["a/random", "random"]),
        (("run:ppo_20240115_143022_seed42",), ["run:ppo_20240115_143022_seed42"]),
    ],
)
def test_names_are_short_and_distinct(policies: Sequence[str], names: list[str]) -> None:
    assert distinct_names(policies) == names


def test_copies_of_a_policy_are_entries_of_their_own_and_play_the_same_games(tmp_path: Path) -> None:
    matrix = crossplay(["random"], 80, 3, baselines=["random", "greedy"], output=tmp_path / "m.json")
    assert matrix.names == ("random", "random#2", "greedy")
    assert [policy["group"] for policy in matrix.policies] == ["policies", "baselines", "baselines"]
    assert matrix.table.count.tolist() == [[80] * 3] * 3
    assert_same_games(matrix.cell(0, 2), matrix.cell(1, 2))
    assert_same_games(matrix.cell(0, 1), matrix.cell(1, 0))
    assert len(stored(matrix)["detailed_results"]) == 9


def test_pairs_that_read_alike_are_refused(tmp_path: Path) -> None:
    files = ["a.pt", "a_vs_b.pt", "b.pt", "b_vs_b.pt"]
    with pytest.raises(ValueError, match=r"could mean .* rename one of the files"):
        make_entries({"rl_checkpoints": [str(tmp_path / file) for file in files]}, tmp_path)


def test_a_fingerprint_follows_the_policy_string_and_the_file(tmp_path: Path) -> None:
    assert fingerprint("random", tmp_path) == hashlib.sha256(b"random").hexdigest()
    file = tmp_path / "best.pt"
    file.write_bytes(b"one")
    names = [str(file), f"checkpoint:{file}", f"checkpoint:{file}?greedy", f"tabular:{file}"]
    before = [fingerprint(name, tmp_path) for name in names]
    assert len(set(before)) == 4
    assert before == [fingerprint(name, tmp_path) for name in names]
    file.write_bytes(b"two")
    assert not set(before) & {fingerprint(name, tmp_path) for name in names}


def test_the_fingerprint_of_a_run_follows_the_checkpoint_that_is_meant(tmp_path: Path) -> None:
    folder = tmp_path / "ppo" / "run_20240115_143022_seed42"
    (folder / "checkpoints").mkdir(parents=True)
    for file in ("metadata.json", "policy.pt", "checkpoints/best.pt"):
        (folder / file).write_bytes(file.encode())
    run = "run:ppo_20240115_143022_seed42"
    before = {name: fingerprint(name, tmp_path) for name in (run, f"{run}?checkpoint=best")}
    (folder / "checkpoints" / "best.pt").write_bytes(b"better")
    after = {name: fingerprint(name, tmp_path) for name in before}
    assert [before[name] == after[name] for name in before] == [True, False]
    with pytest.raises(ValueError, match="there is no run"):
        fingerprint("run:ppo_20240115_143022_seed43", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_games": 0}, "num_games must be at least 1, got 0"),
        ({"seed": -1}, "seed must lie between 0"),
        ({"output": "m.txt"}, r"output must be named \*.json"),
        ({"policies": []}, "needs at least one policy"),
        ({"policies": ["nobody"]}, "unknown policy 'nobody'"),
        ({"policies": ["random?x=1"]}, "has no option 'x'"),
        ({"policies": ["tioli"], "spec": GameSpec(discount=0.9)}, "tioli needs discount 1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"executor": "moon"}, "unknown executor 'moon'"),
        ({"device": "moon"}, "moon"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"policies": ["random"], "num_games": 5, "output": "m.json"} | change
    given["output"] = tmp_path / given["output"]
    with pytest.raises(ValueError, match=message):
        crossplay(**given)
    assert list(tmp_path.glob("*.json")) == []


def test_a_file_of_another_kind_is_neither_read_nor_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text('{"runs": []}', encoding="utf-8")
    with pytest.raises(ValueError, match="is no cross-play; it is not overwritten"):
        crossplay(["random"], 5, output=path)
    with pytest.raises(ValueError, match="is no cross-play"):
        read_crossplay(path)
    assert path.read_text(encoding="utf-8") == '{"runs": []}'
    path.write_text('{"runs": ', encoding="utf-8")
    with pytest.raises(ValueError, match="is damaged"):
        crossplay(["random"], 5, output=path)
    with pytest.raises(ValueError, match="there is no file"):
        read_crossplay(tmp_path / "nothing.json")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    matrix = crossplay(["random"], 30, output=tmp_path / "m.json")
    other = crossplay(["random"], 31, output=tmp_path / "other.json")
    matrix.rows.write_bytes(other.rows.read_bytes())
    with pytest.raises(ValueError, match=r"does not belong to m\.json"):
        matrix.cell(0, 0)
    matrix.rows.write_bytes(matrix.rows.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is damaged"):
        read_crossplay(matrix.path).cell(0, 0)
    matrix.rows.unlink()
    with pytest.raises(ValueError, match="the games of the cross-play are missing"):
        read_crossplay(matrix.path).cell(0, 0)
    content = stored(matrix)
    for change in ({"format_version": 2}, {"payoff_se": None}, {"policy_names": ["a", "b"]}):
        matrix.path.write_text(json.dumps(content | change), encoding="utf-8")
        with pytest.raises(ValueError, match=r"format version 2|is damaged|must have shape"):
            read_crossplay(matrix.path)

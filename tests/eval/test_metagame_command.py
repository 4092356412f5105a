"""`bargain-eval metagame` from end to end on a small cross-play, on plain tables, and on wrong input."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env.spec import GameSpec
from bargain_eval.arena import play
from bargain_eval.cli import main
from bargain_eval.game_rows import GameRows
from bargain_eval.measures import game_measures, study_deals
from bargain_eval.metagame import study
from bargain_eval.mistakes import count_mistakes
from bargain_eval.registry import load_policy

NAMES = ("random", "greedy", "fair_split", "tioli")
GAMES = 400
FAST = ("--solver", "max_welfare", "--bootstrap", "20", "--coalition-samples", "4")
QUICK = ("--solver", "cce", "--bootstrap", "0")

Cells = dict[tuple[int, int], GameRows]


@pytest.fixture(scope="module")
def cells() -> Cells:
    policies = [load_policy(name, seed=3) for name in NAMES]
    each = range(len(NAMES))
    return {(i, j): play((policies[i], policies[j]), GAMES, seed=5) for i in each for j in each}


@pytest.fixture(scope="module")
def matrix(cells: Cells, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_crossplay(tmp_path_factory.mktemp("crossplay") / "matrix.json", cells)


def write_crossplay(path: Path, cells: Cells) -> Path:
    """Writes the two files of a finished cross-play."""
    size = len(NAMES)

    def stacked(name: str) -> Any:
        return np.array([[getattr(cells[i, j], name) for j in range(size)] for i in range(size)])

    payoff = stacked("payoff")
    rows = path.with_suffix(".rows.npz")
    np.savez(
        rows,
        game=cells[0, 0].game,
        values=cells[0, 0].values.astype(np.int32),
        outside=cells[0, 0].outside.astype(np.int32),
        payoff=payoff,
        outcome=stacked("outcome"),
        offer=stacked("offer"),
        decisions=stacked("decisions"),
        illegal=stacked("illegal").astype(np.int16),
        actions=stacked("actions"),
    )
    content = {
        "format": "bargain-crossplay",
        "format_version": 1,
        "complete": True,
        "game": GameSpec().to_dict(),
        "seed": 5,
        "num_games": GAMES,
        "policy_names": list(NAMES),
        "policies": [{"name": name, "policy": name, "group": "baselines"} for name in NAMES],
        "payoff_matrix": payoff.mean(axis=2).tolist(),
        "payoff_se": (payoff.std(axis=2, ddof=1) / np.sqrt(GAMES)).tolist(),
        "counts": np.full((size, size), GAMES).tolist(),
        "detailed_results": {
            f"{NAMES[i]}_vs_{NAMES[j]}": cells[i, j].summary() for i in range(size) for j in range(size)
        },
        "rows": rows.name,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def analyse(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> dict[str, Any]:
    assert main(["metagame", *map(str, argv), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result: dict[str, Any] = json.loads(out)
    return result


def refusal(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    assert main(["metagame", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bargain-eval metagame: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture
def result(matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return analyse(capsys, matrix, *FAST, "--output", tmp_path)


def test_the_measures_are_per_game_and_by_cell(result: dict[str, Any], cells: Cells) -> None:
    assert result["policies"] == list(NAMES)
    assert result["num_games"] == GAMES
    for (i, j), rows in cells.items():
        np.testing.assert_allclose(result["payoff_matrix"][i][j], rows.payoff.mean(axis=0), atol=1e-12)
        for name, measure in game_measures(rows, GameSpec()).items():
            mean, shown = measure.mean(), result["measures"][name][i][j]
            assert (shown is None and np.isnan(mean)) or shown == pytest.approx(mean, abs=1e-12), name


def test_welfare_is_the_mixture_of_the_games_that_the_equilibrium_plays(result: dict[str, Any], cells: Cells) -> None:
    joint = np.array(result["solution"]["joint"])
    assert joint.sum() == pytest.approx(1)
    for name in result["welfare"]:
        amount = counted = 0.0
        for (i, j), rows in cells.items():
            measure = game_measures(rows, GameSpec())[name]
            amount += joint[i, j] * measure.amount.sum()
            counted += joint[i, j] * measure.counted.sum()
        assert result["welfare"][name]["value"] == pytest.approx(amount / counted if counted else None), name


def test_regrets_follow_from_the_matrix_and_the_mixtures(result: dict[str, Any]) -> None:
    payoffs, solution = np.array(result["payoff_matrix"]), result["solution"]
    row, column = np.array(solution["row"]), np.array(solution["column"])
    own = np.einsum("i,j,ijk->k", row, column, payoffs)
    np.testing.assert_allclose(solution["payoff"], own, atol=1e-9)
    regrets = np.stack([own[0] - payoffs[:, :, 0] @ column, own[1] - row @ payoffs[:, :, 1]], axis=1)
    for entry in result["leaderboard"]:
        k = NAMES.index(entry["policy"])
        np.testing.assert_allclose(entry["ne_regret_by_seat"], regrets[k], atol=1e-9)
        assert entry["ne_regret"] == pytest.approx(regrets[k].mean(), abs=1e-9)
        assert min(entry["ne_regret_by_seat"]) > -1e-6
        assert entry["mass"] == pytest.approx([row[k], column[k]])
        low, high = entry["ne_regret_ci"]
        assert low <= high
    ranked = [round(entry["ne_regret"], 9) for entry in result["leaderboard"]]
    assert ranked == sorted(ranked)
    # Always offering nothing and asking for everything loses to what is played.
    assert ranked[-1] > 0.01


def test_bounds_and_efficiency(result: dict[str, Any], cells: Cells) -> None:
    rows = cells[0, 0]
    bounds = result["bounds"]
    assert bounds["walk"] == pytest.approx(1.00208137, abs=1e-8)
    assert bounds["walk_points"] == pytest.approx(607)
    best = study_deals(rows.values, rows.outside, GameSpec()).first_best.mean()
    assert bounds["first_best"] == pytest.approx(best)
    total = result["welfare"]["utilitarian"]["value"]
    expected = (total - bounds["walk"]) / (best - bounds["walk"])
    assert result["efficiency"]["normalised"] == pytest.approx(expected)


def test_mistakes_are_counted_over_all_games_of_a_policy(result: dict[str, Any], cells: Cells) -> None:
    for k, name in enumerate(NAMES):
        for seat in range(2):
            own = [rows for cell, rows in cells.items() if cell[seat] == k]
            counts = count_mistakes(GameRows.concatenate(own), GameSpec())
            for mistake, count in counts.items():
                rate, shown = count.rates()[seat], result["mistakes"][name][mistake][seat]
                assert (shown is None and np.isnan(rate)) or shown == pytest.approx(rate), (name, mistake)


def test_lifts_and_contributions_are_complete(result: dict[str, Any]) -> None:
    size = len(NAMES)
    assert np.shape(result["partner_lift"]["row"]) == (size, size)
    assert list(result["ecosystem_lift"]) == list(NAMES)
    coalitions = result["coalitions"]
    assert coalitions["exact"]
    assert coalitions["solved"] == 2**size - 1
    assert coalitions["measures"] == ["utilitarian", "nash", "egalitarian", "nash_plus"]
    assert coalitions["efficiency_gap"] < 1e-9
    assert coalitions["solver"] == "max_welfare"
    totals = [result["solvers"]["max_welfare"]["welfare"][name] for name in coalitions["measures"]]
    np.testing.assert_allclose(np.sum(coalitions["shapley"], axis=0), totals, atol=1e-9)


def test_beyond_the_limit_contributions_are_sampled(
    matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        "--solver",
        "cce",
        "--bootstrap",
        "0",
        "--coalition-samples",
        "6",
        "--exact-coalitions",
        "3",
        "--output",
        tmp_path,
    )
    sampled = analyse(capsys, matrix, *options)["coalitions"]
    assert not sampled["exact"]
    assert sampled["samples"] == 6
    assert np.shape(sampled["shapley_se"]) == (len(NAMES), 4)
    assert analyse(capsys, matrix, *options)["coalitions"] == sampled
    none = analyse(capsys, matrix, *QUICK, "--coalition-samples", "0", "--output", tmp_path)
    assert none["coalitions"] is None
    assert none["bootstrap"] is None
    assert none["leaderboard"][0]["ne_regret_ci"] is None


def test_the_seed_decides_the_intervals(matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        analyse(capsys, matrix, *FAST, "--output", tmp_path, "--seed", seed)["solution"]["payoff_ci"]
        for seed in ("1", "1", "2")
    ]
    assert runs[0] == runs[1] != runs[2]


def test_the_symmetric_view_has_one_mixture(matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = analyse(capsys, matrix, *FAST, "--symmetric", "--output", tmp_path)
    assert result["symmetric"]
    assert result["solution"]["row"] == pytest.approx(result["solution"]["column"])
    payoffs = np.array(result["payoff_matrix"])
    np.testing.assert_allclose(payoffs[:, :, 0], payoffs[:, :, 1].T)
    for entry in result["leaderboard"]:
        assert entry["ne_regret_by_seat"][0] == pytest.approx(entry["ne_regret_by_seat"][1], abs=1e-9)


def test_groups_pool_the_runs_of_an_algorithm(matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ungrouped = analyse(capsys, matrix, *FAST, "--output", tmp_path)
    result = analyse(capsys, matrix, *FAST, "--groups", "simple=[gf]*", "--output", tmp_path)
    assert result["policies"] == ["random", "simple", "tioli"]
    assert result["groups"]["simple"] == ["greedy", "fair_split"]
    old, new = np.array(ungrouped["payoff_matrix"]), np.array(result["payoff_matrix"])
    np.testing.assert_allclose(new[0, 1], old[0, 1:3].mean(axis=0))
    np.testing.assert_allclose(new[1, 1], (old[1, 2] + old[2, 1]) / 2)
    np.testing.assert_allclose(new[2, 0], old[3, 0])


def test_the_files_hold_what_is_printed(matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = analyse(capsys, matrix, *FAST, "--output", tmp_path)
    assert json.loads((tmp_path / "matrix.metagame.json").read_text(encoding="utf-8")) == result
    with (tmp_path / "matrix.metagame.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["policy"] for row in rows] == [entry["policy"] for entry in result["leaderboard"]]
    first, entry = rows[0], result["leaderboard"][0]
    assert float(first["ne_regret_high"]) == entry["ne_regret_ci"][1]
    assert float(first["ne_regret_1"]) == entry["ne_regret_by_seat"][1]
    assert float(first["ne_regret_1_low"]) == entry["ne_regret_by_seat_ci"][1][0]
    assert float(first["mass_0"]) == entry["mass"][0]
    k = NAMES.index(first["policy"])
    assert float(first["shapley_nash"]) == result["coalitions"]["shapley"][k][1]
    assert len(set(first)) == len(rows[0])


def test_the_files_lie_beside_the_input_or_where_asked(
    cells: Cells, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = write_crossplay(tmp_path / "played.json", cells)
    analyse(capsys, matrix, *QUICK, "--coalition-samples", "0")
    assert (tmp_path / "played.metagame.json").is_file()
    assert (tmp_path / "played.metagame.csv").is_file()
    analyse(
        capsys,
        matrix,
        "--solver",
        "cce",
        "--bootstrap",
        "0",
        "--coalition-samples",
        "0",
        "--output",
        tmp_path / "other.json",
    )
    assert (tmp_path / "other.json").is_file()
    assert (tmp_path / "other.csv").is_file()


def test_the_tables_show_every_part(matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metagame", str(matrix), *FAST, "--output", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for part in (
        "NE-regret",
        "equilibrium mass",
        "normalised",
        "efficiency",
        "partner lifts",
        "entry mass",
        "Shapley",
        "Does the solver matter?",
        "Mistakes per chance",
        "m4 accept",
        "matrix.metagame.csv",
    ):
        assert " ".join(part.split()) in " ".join(out.split()), part
    for name in NAMES:
        assert out.count(name) >= 5


def test_json_is_alone_on_stdout_whatever_a_compiled_library_prints(
    matrix: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = study.study

    def noisy(*args: Any, **options: Any) -> dict[str, Any]:
        os.write(1, b"a line from C\n")
        return real(*args, **options)

    monkeypatch.setattr(study, "study", noisy)
    assert main(["metagame", str(matrix), *QUICK, "--output", str(tmp_path), "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["format"] == "bargain-metagame"
    assert err == ""


def test_a_plain_json_table_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Battle of the sexes: both coordinate, on either.
    payoffs = [[[3, 2], [0, 0]], [[0, 0], [2, 3]]]
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"policy_names": ["opera", "match"], "payoff_matrix": payoffs}), encoding="utf-8")
    result = analyse(capsys, path, "--solver", "max_welfare")
    assert result["game"] is result["bootstrap"] is result["bounds"] is None
    assert list(result["welfare"]) == ["utilitarian"]
    assert result["welfare"]["utilitarian"]["value"] == pytest.approx(5)
    assert result["coalitions"]["measures"] == ["utilitarian"]
    assert main(["metagame", str(path)]) == 0


def test_a_plain_csv_table_is_the_same_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payoffs = np.random.default_rng(0).random((3, 3, 2))
    names = ["a", "b", "c"]
    (tmp_path / "table.json").write_text(
        json.dumps({"policy_names": names, "payoff_matrix": payoffs.tolist()}), encoding="utf-8"
    )
    lines = [f"{a},{b},{payoffs[i, j, 0]},{payoffs[i, j, 1]}" for i, a in enumerate(names) for j, b in enumerate(names)]
    text = "\n".join(["row,column,payoff_0,payoff_1", *lines])
    (tmp_path / "table2.csv").write_text(text, encoding="utf-8")
    first, second = analyse(capsys, tmp_path / "table.json"), analyse(capsys, tmp_path / "table2.csv")
    assert first | {"input": ""} == second | {"input": ""}


def test_a_cross_play_without_games_is_a_plain_table(
    matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(matrix.read_text(encoding="utf-8"))
    (tmp_path / "bare.json").write_text(json.dumps(content | {"rows": None}), encoding="utf-8")
    result = analyse(capsys, tmp_path / "bare.json", *FAST)
    assert result["bootstrap"] is None
    assert list(result["welfare"]) == ["utilitarian"]


def test_a_single_policy_is_a_game_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"policy_names": ["only"], "payoff_matrix": [[[0.6, 0.7]]]}), encoding="utf-8")
    result = analyse(capsys, path)
    assert result["leaderboard"][0]["mass"] == [1, 1]
    assert result["partner_lift"] is result["ecosystem_lift"] is None
    assert result["coalitions"]["shapley"] == [[pytest.approx(1.3)]]
    assert main(["metagame", str(path)]) == 0


def test_an_incomplete_matrix_is_refused(matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(matrix.read_text(encoding="utf-8"))
    content["payoff_matrix"][1][2] = [None, None]
    content["payoff_se"][1][2] = [None, None]
    content["counts"][1][2] = 0
    path = tmp_path / "partial.json"
    for rows in (content["rows"], None):
        path.write_text(json.dumps(content | {"complete": False, "rows": rows}), encoding="utf-8")
        (tmp_path / "matrix.rows.npz").write_bytes(matrix.with_suffix(".rows.npz").read_bytes())
        message = refusal(capsys, path)
        assert "1 pairs of the payoff table were never played, the first is greedy against fair_split." in message
    assert not list(tmp_path.glob("*.metagame.*"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "[1]", "holds no payoff table: policy_names and payoff_matrix are needed."),
        ("a.json", '{"policy_names": ["x"], "payoff_matrix": [[1]]}', "payoffs must have shape [M, N, 2]"),
        ("a.json", '{"policy_names": ["x", "x"], "payoff_matrix": [[[1, 2]]]}', "distinct"),
        ("a.csv", "row,column,payoff_0\nx,x,1", "the columns row, column, payoff_0, payoff_1 are needed."),
        ("a.csv", "row,column,payoff_0,payoff_1\nx,y,1,2", "must have the same policies in both seats"),
        ("a.csv", "row,column,payoff_0,payoff_1\nx,x,1,", "has no two payoffs for x against x."),
        ("a.csv", "row,column,payoff_0,payoff_1\nx,x,1,2\nx,x,1,2", "has two lines for x against x."),
        ("a.csv", "row,column,payoff_0,payoff_1\nx,x,1,2\nx,y,1,2\ny,x,1,2", "the first is y against y."),
    ],
)
def test_wrong_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert message in refusal(capsys, tmp_path / name)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--solver", "magic"), "magic"),
        ((*QUICK, "--compare", "magic"), "magic"),
        ((*QUICK, "--coalition-solver", "magic"), "magic"),
        (("--groups", "x"), "--groups needs NAME=PATTERN, got 'x'."),
        (("--groups", "x=nobody*"), "--groups x=nobody* matches none of random, greedy, fair_split, tioli."),
        (("--groups", "x=t*", "y=*i"), "--groups puts tioli into both x and y."),
        (("--level", "1.5"), "--level"),
        (("--bootstrap", "-1"), "--bootstrap"),
        (("--solver", "cce", "--bootstrap", "1"), "num_resamples must be at least 2, got 1."),
        (("--output", "nowhere/x.json"), "lies in no existing folder"),
        (("--output", "x.txt"), "--output must name a folder or a JSON file (NAME.json), got x.txt."),
    ],
)
def test_wrong_options_are_refused(
    matrix: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str
) -> None:
    assert message in refusal(capsys, matrix, *argv)


def test_a_missing_file_and_an_overwritten_input_are_refused(
    matrix: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no file" in refusal(capsys, tmp_path / "none.json")
    assert "would overwrite the input" in refusal(capsys, matrix, "--output", matrix)

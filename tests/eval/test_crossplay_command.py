"""`bargain-eval crossplay` from end to end: flags, tables, CSV files, JSON, and wrong input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_eval.cli import main
from bargain_eval.crossplay import pieces, read_crossplay


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_works_without_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crossplay"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    matrix = read_crossplay("results/crossplay_matrix.json")
    assert matrix.names == ("random", "greedy", "always_walk", "fair_split", "tioli")
    assert (matrix.num_games, matrix.seed, matrix.complete) == (500, 0, True)
    assert "Written: results/crossplay_matrix.json, results/crossplay_matrix.rows.npz" in out


def test_the_tables_show_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--policies", "tioli", "--baselines", "random", "greedy", "--num-games", "40", "--output", "m.json"]
    assert main(["crossplay", *flags, "--seed", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    matrix = read_crossplay("m.json")
    assert matrix.names == ("tioli", "random", "greedy")
    assert matrix.seed == 5

    def rows(title: str) -> dict[str, list[float]]:
        start = next(n for n, line in enumerate(lines) if line.startswith(title))
        rows = [line.split() for line in lines[start + 4 : start + 7]]
        return {row[1]: [float(word) for word in row[2:] if word != "±"] for row in rows}

    first, total = rows("Payoff of seat 0 (row) against seat 1 (column); 40 games a cell, seed 5"), rows("Total payoff")
    averages = rows("Mean payoff against all policies")
    expected = matrix.averages()
    for k, name in enumerate(matrix.names):
        np.testing.assert_allclose(first[name], matrix.table.mean[k, :, 0], atol=5e-5)
        np.testing.assert_allclose(total[name], matrix.table.mean[k].sum(axis=1), atol=1e-4)
        shown = [pair[part][k] for pair in expected.values() for part in range(2)]
        np.testing.assert_allclose(averages[name], shown, atol=5e-5)


def test_many_policies_fit_the_width(capsys: pytest.CaptureFixture[str]) -> None:
    policies = [f"aspiration?beta={beta / 10}" for beta in range(1, 13)]
    assert main(["crossplay", "--policies", *policies, "--num-games", "2", "--output", "m.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    assert "…" not in "".join(lines)
    assert sum("12 aspiration?beta=1.2" in line for line in lines) == 5  # two matrices in two parts each, and averages


def test_csv_files_hold_the_means(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--policies", "random", "fair_split?accept_threshold=.3", "--num-games", "30", "--output", "m.json"]
    assert main(["crossplay", *flags, "--output-csv", "tables/x.csv"]) == 0
    assert "tables/x_p0.csv, tables/x_p1.csv, tables/x_welfare.csv" in capsys.readouterr().out
    mean = read_crossplay("m.json").table.mean
    for suffix, table in (("p0", mean[:, :, 0]), ("p1", mean[:, :, 1]), ("welfare", mean.sum(axis=2))):
        with Path(f"tables/x_{suffix}.csv").open(newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
        assert head[1:] == [row[0] for row in rows] == ["random", "fair_split?accept_threshold=.3"]
        assert [[float(number) for number in row[1:]] for row in rows] == table.tolist()


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--game", "mini-b", "--baselines", "random", "greedy", "--num-games", "30", "--output", "m.json"]
    assert main(["crossplay", *flags, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told: dict[str, Any] = json.loads(out)
    matrix = read_crossplay("m.json")
    assert told["files"] == ["m.json", "m.rows.npz"]
    assert told["payoff_matrix"] == matrix.table.mean.tolist()
    assert told["game"] == matrix.spec.to_dict()
    assert told["averages"]["greedy"]["seat_1_se"] == matrix.averages()["seat_1"][1][1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--policies gtp-9", "unknown policy 'gtp-9'"),
        ("--policies run:ppo_20240115_143022_seed42", "there is no run"),
        ("--num-games 0", "--num-games"),
        ("--workers 0", "--workers"),
        ("--executor moon", "--executor"),
        ("--output m.txt", "must be named *.json"),
        ("--policies tioli --discount .9", "tioli needs discount 1"),
        ("--output taken/m.json", "cannot be written"),
    ],
)
def test_wrong_input_gives_one_sentence(flags: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file", encoding="utf-8")
    assert main(["crossplay", *flags.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_a_missing_checkpoint_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bargain_train")
    assert main(["crossplay", "--rl-checkpoints", "nowhere/best.pt"]) == 2
    assert "there is no checkpoint at nowhere/best.pt" in capsys.readouterr().err


def test_a_failed_cell_gives_exit_code_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["crossplay", "--policies", "random", "greedy", "--num-games", "30", "--output", "m.json"]
    with monkeypatch.context() as patch:
        patch.setattr(pieces, "load_policy", lambda *_: None)
        assert main(flags) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bargain-eval crossplay: 4 of 4 cells failed, first random_vs_random: AttributeError")
    assert err.count("\n") == 1
    assert main(flags) == 0

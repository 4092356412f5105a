"""`bargain-eval search`: paired deals, one seat at a time, intervals, and the stored result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bargain_eval import load_policy
from bargain_eval.arena import play
from bargain_eval.cli import main

FLAGS = ["search", "--checkpoint", "random", "--num-games", "60", "--num-simulations", "10", "--game", "mini-b"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_result_is_that_of_paired_games(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, "--opponents", "random", "greedy", "--use-gumbel", "--c-puct", "1.5", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert list(outcome["opponents"]) == ["random", "greedy"]
    text = outcome["search"]["greedy"]
    assert text == "search:random?num_simulations=10&c_puct=1.5&evaluation=rollout&gumbel=true&considered=16"
    mini = load_policy("random", None).spec.from_dict(outcome["game"])  # type: ignore[attr-defined]
    greedy, searching, plain = (load_policy(name, mini) for name in ("greedy", text, "random"))
    with_search = play((greedy, searching), 60, 0, spec=mini).payoff[:, 1]
    without = play((greedy, plain), 60, 0, spec=mini).payoff[:, 1]
    cell, gain = outcome["opponents"]["greedy"]["seat_1"], with_search - without
    assert cell["with_search"] == pytest.approx(with_search.mean())
    assert cell["without_search"] == pytest.approx(without.mean())
    assert cell["gain_se"] == pytest.approx(gain.std(ddof=1) / np.sqrt(60))
    assert cell["gain_interval"] == pytest.approx(
        [gain.mean() + sign * 1.96 * cell["gain_se"] for sign in (-1, 1)], abs=1e-4
    )
    stored = json.loads(Path("results/search.json").read_text(encoding="utf-8"))
    assert stored["opponents"] == outcome["opponents"]
    seats = [outcome["opponents"]["greedy"][f"seat_{seat}"]["gain"] for seat in range(2)]
    assert outcome["opponents"]["greedy"]["both_seats"]["gain"] == pytest.approx(np.mean(seats))


def test_it_says_what_the_searches_were_like(capsys: pytest.CaptureFixture[str]) -> None:
    """A searcher that knows its opponent earns what it expects; moves tell something of the hand."""
    flags = ("--game", "mini-c", "--num-games", "2000", "--opponents", "fair_split", "--know-opponent", "--json")
    assert main([*FLAGS, *flags]) == 0
    cells = json.loads(capsys.readouterr().out)["opponents"]["fair_split"]
    for seat in range(2):
        log = cells[f"seat_{seat}"]["search"]
        assert log["expected"] == pytest.approx(log["earned"], abs=0.03)
        assert log["simulations"] == 10 * sum(at["searches"] for at in log["decisions"].values())
        assert log["simulations_per_second"] == pytest.approx(log["simulations"] / log["seconds"])
    assert cells["seat_0"]["search"]["decisions"]["0"]["searches"] == 2000
    before, after = (cells[f"seat_{seat}"]["search"]["decisions"][str(seat)]["effective_hands"] for seat in range(2))
    assert 0 < after < before <= 1


def test_the_table_names_seats_and_gains(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, "--output", "somewhere/found.json"]) == 0
    text = capsys.readouterr().out
    assert "95% interval" in text
    assert text.count("│ random") == 3
    assert "│ both" in text
    assert Path("somewhere/found.json").is_file()


def test_the_model_of_the_opponent() -> None:
    def searched(*flags: str) -> str:
        assert main([*FLAGS, "--num-games", "4", "--opponents", "fair_split?accept_threshold=.5", *flags]) == 0
        (text,) = json.loads(Path("results/search.json").read_text(encoding="utf-8"))["search"].values()
        return str(text)

    assert "opponent" not in searched()
    assert searched("--model", "greedy").endswith("&opponent=greedy")
    assert searched("--know-opponent").endswith("&opponent=fair_split%3Faccept_threshold%3D.5")


def test_bad_flags_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, "--model", "greedy", "--know-opponent"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert main([*FLAGS, "--checkpoint", "missing.pt"]) == 2
    assert "missing.pt" in capsys.readouterr().err
    assert main([*FLAGS, "--output", "found.txt"]) == 2
    assert "--output must be named *.json" in capsys.readouterr().err
    Path("file").touch()
    assert main([*FLAGS, "--output", "file/found.json"]) == 2
    assert "file/found.json cannot be written" in capsys.readouterr().err

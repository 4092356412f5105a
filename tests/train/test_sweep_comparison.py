"""`bargain-train sweep --compare-algorithms`: all algorithms on the same seeds, each training once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest
from bargain_eval import ResultsManager
from bargain_train.algorithms import ALGORITHMS
from bargain_train.cli import main
from bargain_train.run import Run
from bargain_train.sweep.claims import Claims

from tests.train.conftest import COMMON, TINY

FOLDER = Path("sweep_results/comparison")
PPO = ["--rollout-steps", "8", "--total-timesteps", "1024"]
OTHERS = [*TINY["sampled-cfr"][len(COMMON) :], *TINY["psro"][len(COMMON) :]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _compare(*flags: str, settings: list[str]) -> int:
    return main(["sweep", "--compare-algorithms", *flags, "--", *COMMON, "--no-eval-nash-conv", *settings])


def _runs() -> list[dict[str, Any]]:
    return ResultsManager("results").list_runs()


def _rows() -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / "comparison.json").read_text()))


def test_four_algorithms_are_compared_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["ppo", "nfsp", "sampled_cfr", "psro"]
    settings = [*PPO, *OTHERS]
    assert _compare("--algorithms", *names, "--seeds", "1", settings=settings) == 0
    assert {(run["algorithm"], run["seed"], run["status"]) for run in _runs()} == {(n, 1, "completed") for n in names}
    for row in _rows():
        stored = ResultsManager("results").get_run(row["run"])
        assert (row["state"], row["seed"]) == ("complete", 1)
        assert row["final_metrics"] == stored["final_metrics"]
    assert not Path("checkpoints").exists()
    capsys.readouterr()

    assert _compare("--algorithms", *names, "--seeds", "1", settings=settings) == 0
    assert len(_runs()) == 4
    output, error = capsys.readouterr()
    assert error == ""
    for row in _rows():
        assert f"{row['algorithm']}, seed 1: complete, run {row['run']}" in output
        (line,) = (line for line in output.splitlines() if line.split()[:1] == [row["algorithm"]])
        assert line.split()[1:5] == ["1", "of", "1", f"{row['final_metrics']['pool_payoff']:.4f}"]


def test_the_table_has_means_and_deviations_over_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ppo", *COMMON, "--no-eval-nash-conv", *PPO, "--seed", "2", "--log-interval", "2"]) == 0
    assert _compare("--algorithms", "ppo", "--seeds", "2", "5", settings=PPO) == 0
    assert [run["seed"] for run in _runs()] == [5, 2]  # the run that was there is not repeated
    payoffs = [run["final_metrics"]["pool_payoff"] for run in _runs()]
    expected = f"{statistics.fmean(payoffs):.4f} ± {statistics.stdev(payoffs):.4f}"
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  ppo "))
    assert expected in line
    assert "2 of 2" in line


def test_a_stopped_comparison_goes_on_with_the_run_it_was_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advance = Run.advance

    def stop_halfway(run: Run, steps: int) -> None:
        advance(run, steps)
        if run.step == 512 and run.config.seed == 2:
            os.kill(os.getpid(), signal.SIGINT)

    words = ("--algorithms", "ppo", "--seeds", "1", "2", "3")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stop_halfway)
        assert _compare(*words, settings=PPO) == 130
    assert "The same command goes on with what is missing" in capsys.readouterr().out
    assert [row["state"] for row in _rows()] == ["complete", "stopped"]
    before = {run["run_id"] for run in _runs()}
    assert _compare(*words, settings=PPO) == 0
    assert [row["state"] for row in _rows()] == ["complete"] * 3
    assert len(_runs()) == 3
    assert before < {run["run_id"] for run in _runs()}


def test_a_training_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Run.log

    def diverge(run: Run, *arguments: Any, **more: Any) -> None:
        log(run, *arguments, **more)
        if run.config.seed == 1:
            raise FloatingPointError("the loss is not finite")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", diverge)
        assert _compare("--algorithms", "ppo", "--seeds", "1", "2", settings=PPO) == 1
    output = capsys.readouterr().out
    assert "ppo, seed 1: failed, run " in output
    assert "FloatingPointError: the loss is not finite." in output
    assert "1 of 2" in output
    assert _compare("--algorithms", "ppo", "--seeds", "1", "2", settings=PPO) == 0
    assert sorted(run["status"] for run in _runs()) == ["completed", "completed", "failed"]


def test_a_training_in_other_hands_is_left_to_them(capsys: pytest.CaptureFixture[str]) -> None:
    lock = Claims(FOLDER / "locks").take("ppo_seed7")
    assert lock is not None
    assert _compare("--algorithms", "ppo", "--seeds", "7", settings=PPO) == 0
    assert "ppo, seed 7: elsewhere" in capsys.readouterr().out
    assert _runs() == []


def test_a_dry_run_prints_every_training_with_the_settings_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--game", "mini-b", "--iterations", "3", "--total-timesteps", "9000000"]
    assert main(["sweep", "--compare-algorithms", "--dry-run", "--", *settings]) == 0
    assert list(Path().iterdir()) == []
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [(words[1], words[-1]) for words in lines] == [
        (name, f"--seed={seed}") for seed in (42, 123, 456) for name in ALGORITHMS
    ]
    by_name = {words[1]: words[2:-1] for words in lines}
    assert by_name["sampled-cfr"] == ["--game", "mini-b", "--iterations", "3"]
    assert by_name["nfsp"] == ["--game", "mini-b", "--total-timesteps", "9000000"]
    assert by_name["psro"] == ["--game", "mini-b"]

"""`bargain-train sweep --workers`: several processes do what one would, and one that dies loses nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from bargain_train.sweep.sharing import ATTEMPTS, as_they_end

COMMON = ["--game", "mini-b", "--hidden-dims", "16", "--num-envs", "32", "--eval-games", "20", "--threads", "1"]
SETTINGS = [*COMMON, "--rollout-steps", "8", "--total-timesteps", "512", "--no-eval-nash-conv"]


def die_at_first(task: tuple[str, Path]) -> str:
    name, diary = task
    with diary.open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")
    if name == "always" or (name == "once" and diary.read_text(encoding="utf-8").split().count("once") == 1):
        os._exit(9)
    return name


def test_a_task_whose_worker_dies_is_done_again(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    tasks = deque((name, diary) for name in ("once", "a", "b"))
    assert sorted(as_they_end(die_at_first, tasks, "local", 2)) == ["a", "b", "once"]
    assert sorted(diary.read_text(encoding="utf-8").split()) == ["a", "b", "once", "once"]


def test_a_task_whose_workers_always_die_ends_the_sweep(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    with pytest.raises(RuntimeError, match=f"a worker died {ATTEMPTS} times"):
        list(as_they_end(die_at_first, deque([("always", diary)]), "local", 2))
    assert diary.read_text(encoding="utf-8").split() == ["always"] * ATTEMPTS


def refuse(name: str) -> str:
    if name == "bad":
        raise ValueError(f"{name} does not fit.")
    return name


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_is_raised(workers: int) -> None:
    with pytest.raises(ValueError, match="bad does not fit"):
        list(as_they_end(refuse, deque(["good", "bad"]), "local", workers))


def speak(name: str) -> tuple[str, int]:
    sys.stderr.write(f"progress of {name}\n")
    time.sleep(0.2)  # so that one process cannot do all
    return name, os.getpid()


@pytest.mark.parametrize(("workers", "shown"), [(1, "progress of a\nprogress of b\n"), (2, "")])
def test_progress_is_shown_by_this_process_alone(workers: int, shown: str, capfd: pytest.CaptureFixture[str]) -> None:
    done = dict(as_they_end(speak, deque(["a", "b"]), "local", workers))
    assert (os.getpid() in done.values()) == (workers == 1)
    assert len(set(done.values())) == workers
    assert capfd.readouterr().err == shown


def test_emptied_tasks_are_not_begun() -> None:
    tasks = deque(range(5))
    ended = []
    for result in as_they_end(str, tasks, "local", 1):
        ended.append(result)
        if result == "1":
            tasks.clear()
    assert ended == ["0", "1"]


def sweep(folder: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> int:
    from bargain_train.cli import main

    folder.mkdir()
    monkeypatch.chdir(folder)
    return main(["sweep", *flags, "--", *SETTINGS])


def read(path: str) -> list[dict[str, Any]]:
    return list(json.loads(Path(path).read_text(encoding="utf-8")))


@pytest.mark.slow
def test_two_workers_do_the_trials_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--algorithm", "ppo", "--num-trials", "3", "--pruner", "none")
    assert sweep(tmp_path / "one", monkeypatch, *flags) == 0
    expected = read("sweep_results/ppo_random/trials.json")
    capsys.readouterr()
    assert sweep(tmp_path / "two", monkeypatch, *flags, "--workers", "2") == 0
    rows = read("sweep_results/ppo_random/trials.json")
    for row, other in zip(rows, expected, strict=True):
        for name in ("trial", "state", "objective", "values"):
            assert row[name] == other[name]
    assert len(list(Path("results/ppo").iterdir())) == 3
    writers = {json.loads(path.read_text())["pid"] for path in Path("results/ppo").glob("run_*/metadata.json")}
    assert os.getpid() not in writers
    output = capsys.readouterr().out
    assert "3 of 3 trials are done" in output
    assert output.count("The best is run") == 1


@pytest.mark.slow
def test_two_workers_train_the_runs_of_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--compare-algorithms", "--algorithms", "ppo", "nfsp", "--seeds", "1", "2")
    assert sweep(tmp_path / "one", monkeypatch, *flags) == 0
    expected = read("sweep_results/comparison/comparison.json")
    assert sweep(tmp_path / "two", monkeypatch, *flags, "--workers", "2") == 0
    rows = read("sweep_results/comparison/comparison.json")
    for row, other in zip(rows, expected, strict=True):
        for name in ("algorithm", "seed", "state", "error", "final_metrics"):
            assert row[name] == other[name]
    writers = {json.loads(path.read_text())["pid"] for path in Path("results").glob("*/run_*/metadata.json")}
    assert len(writers) == 2
    assert os.getpid() not in writers

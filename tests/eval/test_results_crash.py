"""Stored runs whose process dies, and files that must not be believed."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from bargain_eval.checkpoint import CheckpointError
from bargain_eval.results import ResultsManager, RunRecord
from stored_runs import ENVIRONMENT, checkpoint, ids, index_on_disk, strict_json


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_is_on_disk_and_marked_abandoned(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from bargain_eval.results import ResultsManager
run = ResultsManager(sys.argv[1]).create_run("ppo", 3, {"lr": 0.5})
for step in (1, 2, 3):
    run.log_metrics(step, {"loss": step})
Path(sys.argv[2]).touch()
time.sleep(60)
"""
    root, ready = tmp_path / "results", tmp_path / "ready"
    manager = ResultsManager(root)
    mine = manager.create_run("ppo", 4, {})
    with subprocess.Popen([sys.executable, "-c", code, str(root), str(ready)], env=ENVIRONMENT, text=True) as process:
        wait_for(ready, process)
        assert manager.cleanup_failed_runs(delete=True) == [], "living runs were judged"
        process.send_signal(signal.SIGKILL)

    (killed,) = (run for run in manager.list_runs(status="running") if run["run_id"] != mine.run_id)
    folder = Path(killed["path"])
    assert strict_json(folder / "config.json") == {"lr": 0.5}
    assert len((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 3

    metadata = strict_json(folder / "metadata.json")
    (folder / "metadata.json").write_text(json.dumps(metadata | {"host": "elsewhere"}), encoding="utf-8")
    assert manager.cleanup_failed_runs() == [], "a run of another host was judged"
    (folder / "metadata.json").write_text(json.dumps(metadata | {"pid": os.getpid()}), encoding="utf-8")
    assert manager.cleanup_failed_runs() == [killed["run_id"]], "a process id given out again hid a dead run"

    assert manager.get_run(killed["run_id"])["status"] == "abandoned"
    assert index_on_disk(root)[killed["run_id"]]["status"] == "abandoned"
    assert [row["loss"] for row in strict_json(folder / "metrics.json")] == [1, 2, 3]
    assert manager.cleanup_failed_runs() == []
    assert manager.get_run(mine.run_id)["status"] == "running"


def test_cleanup_deletes_failed_and_abandoned_runs_alone(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    runs: dict[str, RunRecord] = {
        name: manager.create_run("ppo", 0, {}) for name in ("good", "failed", "stopped", "lost")
    }
    runs["good"].complete()
    runs["failed"].fail("error")
    runs["stopped"].interrupt()
    lost = runs.pop("lost").run_id
    living = manager.create_run("ppo", 0, {})

    assert manager.cleanup_failed_runs(delete=True) == sorted([lost, runs["failed"].run_id])
    assert set(ids(manager.list_runs())) == {runs["good"].run_id, runs["stopped"].run_id, living.run_id}
    assert set(index_on_disk(tmp_path)) == set(ids(manager.list_runs()))
    assert not runs["failed"].path.exists()


def test_a_kill_at_any_moment_leaves_everything_loadable(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
import torch
from bargain_eval.checkpoint import make_checkpoint
from bargain_eval.results import ResultsManager

torch.set_num_threads(1)
root, *delays = sys.argv[1:]

def save_forever():
    run = ResultsManager(root).create_run("ppo", 1, {})
    weights = {"weight": torch.rand(500, 500)}
    networks = [{"config": {}, "policy_state_dict": weights}]
    for step in range(1, 200):
        data = make_checkpoint(algorithm="ppo", spec={}, networks=networks, seats=[[(0, 1.0)]] * 2, step=step)
        run.save_checkpoint(data, step, is_best=step % 2 == 1, keep=2)
        run.log_metrics(step, {"loss": 1.0})
        run.set_progress(step, step, 1.0)
        if step == 1:
            os.write(ready, b"x")
    time.sleep(60)

for delay in delays:
    wait, ready = os.pipe()
    child = os.fork()
    if child == 0:
        save_forever()
    os.read(wait, 1)
    time.sleep(float(delay))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    rounds = 20
    generator = random.Random(0)
    delays = [f"{generator.uniform(0.0, 0.1):.4f}" for _ in range(rounds)]
    command = [sys.executable, "-c", code, str(tmp_path), *delays]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=60)

    assert len(index_on_disk(tmp_path)) == rounds
    manager = ResultsManager(tmp_path)
    runs = manager.list_runs(status="running")
    assert len(runs) == rounds
    saved = 0
    for run in runs:
        latest = manager.load_policy(run["run_id"], "latest")["step"]
        assert run["actual_timesteps"] <= latest <= run["actual_timesteps"] + 1
        assert manager.load_policy(run["run_id"], "best")["step"] in {latest, latest - 1, latest - 2}
        for path in Path(run["path"], "checkpoints").glob("step_*.pt"):
            assert manager.load_policy(run["run_id"], path.stem)["step"] == int(path.stem.removeprefix("step_"))
        saved += latest
    assert saved > 3 * rounds, "too few saves for the kills to mean anything"
    assert len(manager.cleanup_failed_runs()) == rounds
    assert list(tmp_path.rglob(".*.tmp")) == []


# Malicious files


class TouchFile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("name", [None, "policy", "best", "latest", "step_1"])
@pytest.mark.parametrize("archive", [True, False])
def test_a_malicious_policy_is_refused(tmp_path: Path, name: str | None, archive: bool) -> None:
    manager = ResultsManager(tmp_path / "results")
    run = manager.create_run("ppo", 0, {})
    evil = checkpoint() | {"resume": TouchFile(tmp_path / "trace")}
    path = run.path / "policy.pt" if name in {None, "policy"} else run.path / "checkpoints" / f"{name}.pt"
    torch.save(evil, path) if archive else path.write_bytes(pickle.dumps(evil))

    with pytest.raises(CheckpointError, match="refused"):
        manager.load_policy(run.run_id, name)

    assert not (tmp_path / "trace").exists()

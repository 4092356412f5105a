"""PPO runs repeat in another process, and stopped ones resume, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bargain_train.cli import main
from bargain_train.run import Run

if TYPE_CHECKING:
    from tests.train.conftest import Train


def _command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "bargain_train.cli", "ppo", *flags]


@pytest.mark.slow
def test_another_process_repeats_a_run(train: Train, tmp_path: Path) -> None:
    run = train()
    subprocess.run(_command(*train.flags, "--results-dir", "other"), check=True, cwd=tmp_path, capture_output=True)
    (folder,) = (tmp_path / "other" / "ppo").iterdir()
    other = train.open(folder)
    assert other.metrics == run.metrics
    other.assert_same_weights(run)
    assert (folder / "final_eval.json").read_text() == (run.folder / "final_eval.json").read_text()


VARIANTS: dict[str, tuple[str, ...]] = {
    "shared": (),
    "two networks": ("--no-share",),
    "opponent": ("--opponent", "random", "--seat", "1"),
    "history": ("--observation", "history"),
    "transformer": ("--network", "transformer", "--d-model", "8", "--nhead", "2", "--num-layers", "1"),
    "magnet": ("--kl-rollout-coef", "0.2", "--kl-magnet-coef", "0.3", "--magnet-interval", "3"),
    "evaluations": ("--eval-interval", "300", "--checkpoint-interval", "300", "--log-interval", "3"),
}


@pytest.mark.parametrize(
    ("name", "number"), [*((name, signal.SIGINT) for name in VARIANTS), ("shared", signal.SIGTERM)]
)
def test_a_stopped_run_resumes_to_the_same_weights_and_metrics(
    train: Train, monkeypatch: pytest.MonkeyPatch, name: str, number: signal.Signals
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    whole = train("--total-timesteps", "2048", *VARIANTS[name])
    advance = Run.advance

    def stop_halfway(run: Run, steps: int) -> None:
        advance(run, steps)
        if run.step == 1024:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stop_halfway)
        half = train("--total-timesteps", "2048", *VARIANTS[name])
    assert half.code == 130
    assert half.metadata["status"] == "interrupted"
    assert half.metadata["actual_timesteps"] == 1024
    assert half.metadata["num_updates"] == 4
    assert signal.getsignal(signal.SIGINT) is handler
    assert main(["ppo", "--resume", half.run_id]) == 0
    assert half.metadata["status"] == "completed"
    assert half.metadata["training_time_seconds"] > 0
    assert half.metrics == whole.metrics
    assert half.metadata["final_metrics"] == whole.metadata["final_metrics"]
    assert half.metadata["best_metrics"] == whole.metadata["best_metrics"]
    half.assert_same_weights(whole)


@pytest.mark.slow
def test_ctrl_c_in_another_process_leaves_a_run_that_resumes(tmp_path: Path, train: Train) -> None:
    flags = [*train.flags, "--total-timesteps", "60000", "--seed", "3"]
    process = subprocess.Popen(_command(*flags), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    folder = _wait_for_lines(tmp_path, 3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    stopped = train.open(folder, process.returncode)
    assert stopped.code == 130
    assert f"--resume {stopped.run_id}" in output.decode()
    assert stopped.metadata["status"] == "interrupted"
    assert 0 < stopped.metadata["actual_timesteps"] < 60000
    assert stopped.metrics[-1]["step"] == stopped.metadata["actual_timesteps"]
    subprocess.run(_command("--resume", stopped.run_id), check=True, cwd=tmp_path, capture_output=True)
    whole = train(*flags)
    assert stopped.metrics == whole.metrics
    stopped.assert_same_weights(whole)


def _wait_for_lines(root: Path, count: int) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in root.glob("results/ppo/run_*/metrics.jsonl"):
            if len(path.read_text().splitlines()) >= count:
                return path.parent
        time.sleep(0.01)
    raise TimeoutError("the run wrote no metrics")


def test_a_second_ctrl_c_stops_at_once(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = Run.advance

    def interrupt_twice(run: Run, steps: int) -> None:
        advance(run, steps)
        if run.step == 768:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Run, "advance", interrupt_twice)
    run = train("--checkpoint-interval", "512")
    assert run.code == 130
    assert run.metadata["status"] == "interrupted"
    assert [line["step"] for line in run.metrics] == [256, 512]
    monkeypatch.undo()
    os.chdir(run.folder.parents[2])
    assert main(["ppo", "--resume", run.run_id]) == 0
    assert [line["step"] for line in run.metrics] == [256, 512, 768, 1024]


def test_a_signal_during_the_final_evaluation_does_not_undo_the_run(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Run.finish

    def interrupted_finish(run: Run, *arguments: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        finish(run, *arguments, **options)

    monkeypatch.setattr(Run, "finish", interrupted_finish)
    run = train("--total-timesteps", "256")
    assert run.code == 0
    assert run.metadata["status"] == "completed"

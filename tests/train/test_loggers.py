"""The sinks of metrics: console, TensorBoard, W&B, and the public `create_logger`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from bargain_train import create_logger
from bargain_train.loggers import CONSOLE_METRICS, ConsoleLogger, MultiLogger

if TYPE_CHECKING:
    from tests.train.conftest import Train


class _Sink:
    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.lines.append((step, metrics))

    def close(self) -> None:
        self.closed = True


def test_numpy_and_torch_scalars_reach_every_sink() -> None:
    sinks = _Sink(), _Sink()
    logger = MultiLogger(sinks)  # type: ignore[arg-type]
    logger.log(3, {"a": np.float32(0.5), "b": torch.tensor(2), "c": 1, "d": np.int64(4), "e": True})
    logger.close()
    for sink in sinks:
        assert sink.lines == [(3, {"a": 0.5, "b": 2.0, "c": 1.0, "d": 4.0, "e": 1.0})]
        assert sink.closed


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        MultiLogger([]).log(1, {"a": [1, 2]})


def test_the_console_prints_about_twenty_lines_with_aligned_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    logger = ConsoleLogger(total=100_000)
    for step in range(128, 100_001, 128):
        metrics = {"payoff_0": 0.5, "payoff_1": 0.25, "total": 0.75, "agreement_rate": 0.1, "other": 9.0}
        logger.log(step, metrics | ({"eval/pool_payoff": 0.4} if step > 50_000 else {}))
    logger.close()
    lines = capsys.readouterr().err.splitlines()
    numbers = [line for line in lines if "step" not in line]
    headers = [line for line in lines if "step" in line]
    assert 19 <= len(numbers) <= 21
    assert len(headers) == 2
    assert "eval pool" not in headers[0]
    assert "eval pool" in headers[1]
    assert {len(line) for line in lines} == {len(headers[0]), len(headers[1])}
    assert "9.0" not in numbers[0]


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ({"eval/nash_conv": 0.01234}, "0.0123"),
        ({"eval/nash_conv_lower": 0.0282, "eval/nash_conv_upper": 0.0358}, "0.028-0.036"),
        ({"eval/nash_conv_lower": 0.0282}, ">=0.028"),
    ],
)
def test_the_console_shows_nash_conv_in_one_narrow_column(
    capsys: pytest.CaptureFixture[str], metrics: dict[str, float], shown: str
) -> None:
    known = [name for name, _ in CONSOLE_METRICS if "nash_conv" not in name]
    of_updates = ("first_move_walk_rate", "mean_decisions", "entropy", "explained_variance")
    for absent in ([name for name in known if name.startswith("br_")], of_updates):  # learners; populations
        create_logger().log(5, {name: 0.5 for name in known if name not in absent} | metrics)
        headings, numbers = capsys.readouterr().err.splitlines()
        assert headings.endswith(" NashConv")
        assert numbers.endswith(f" {shown}")
        assert len(headings) == len(numbers) <= 110


def test_the_console_shows_unknown_metrics_if_it_knows_none(capsys: pytest.CaptureFixture[str]) -> None:
    create_logger().log(5, {"nash_conv[x]": 0.125})
    assert "nash_conv[x]" in capsys.readouterr().err


def test_create_logger_is_public_and_silent_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    logger = create_logger(console=False)
    logger.log(1, {"loss": 0.5})
    logger.close()
    assert capsys.readouterr() == ("", "")


def test_tensorboard_holds_every_finite_metric(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = create_logger(console=False, tensorboard_dir=tmp_path / "board")
    for step in (10, 20):
        logger.log(step, {"loss": step / 2, "eval/pool_payoff": 0.5, "broken": float("nan")})
    logger.close()
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["eval/pool_payoff", "loss"]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 5.0), (20, 10.0)]


@pytest.mark.slow
def test_a_run_writes_wandb_and_tensorboard_files(tmp_path: Path, train: Train) -> None:
    flags = ["ppo", *train.flags, "--wandb=True", "--wandb_project=p", "--wandb-tags", "a", "b", "--tensorboard"]
    subprocess.run(
        [sys.executable, "-m", "bargain_train.cli", *flags],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"},
    )
    (folder,) = tmp_path.glob("results/ppo/run_*")
    run_id = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))["run_id"]
    assert list(folder.glob(f"wandb/offline-run-*-{run_id}/run-*.wandb"))
    assert list(folder.glob("tensorboard/events.out.tfevents.*"))
    assert '"status": "completed"' in (folder / "metadata.json").read_text()

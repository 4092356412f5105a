"""A training of a sweep: an ordinary stored run, begun, gone on with, or found complete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bargain_eval.cli_tools import sentence
from bargain_eval.results import ResultsManager
from bargain_eval.results.layout import CHECKPOINTS

from bargain_train.algorithms import ALGORITHMS
from bargain_train.config import RunConfig
from bargain_train.run import Run

FAILURES = (FloatingPointError, ValueError, RuntimeError)
"""What ends a training but not the sweep: settings that do not fit, divergence, lack of memory."""


def train(run: Run) -> None:
    """Trains to the end, or until a signal or the run itself asks to stop; the run is stored either way."""
    with run:
        ALGORITHMS[run.algorithm].train(run.config, run)


def failure(error: Exception) -> str:
    """Returns what a training died of as one sentence."""
    return sentence(error if isinstance(error, ValueError) else ValueError(f"{type(error).__name__}: {error}"))


def config_to_resume(config: RunConfig, stored: Mapping[str, Any]) -> RunConfig:
    """Returns the settings with which to go on with a stored run that did not end.

    They are the stored ones, but for where runs lie. A run that has no checkpoint yet is closed as failed, and `config`
    begins anew.

    Args:
        config: The settings of a new run.
        stored: The metadata of the stored run.
    """
    if (Path(stored["path"]) / CHECKPOINTS / "latest.pt").is_file():
        again = {"resume": stored["run_id"], "results_dir": config.results_dir}
        return type(config).from_dict(stored["hyperparameters"] | again)
    record = ResultsManager(config.results_dir).open_run(stored["run_id"])
    record.fail("stopped before its first checkpoint; the sweep begins it anew as another run")
    return config

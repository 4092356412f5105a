"""Every algorithm trained with every seed: what is complete is found, what is not is trained or gone on with."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bargain_eval.files import plain, write_json
from bargain_eval.results import ResultsManager

from bargain_train.config import RunConfig
from bargain_train.run import Run
from bargain_train.sweep.claims import Claims
from bargain_train.sweep.settings import deciding
from bargain_train.sweep.sharing import ExecutorName, as_they_end
from bargain_train.sweep.training import FAILURES, config_to_resume, failure, train

COMPARISON = "comparison.json"


class Cell(NamedTuple):
    """One training of a comparison.

    Attributes:
        algorithm: The training command.
        config: Its settings, the seed among them.
    """

    algorithm: str
    config: RunConfig


class Ended(NamedTuple):
    """How a cell stands.

    Attributes:
        cell: The cell.
        state: "elsewhere" is trained by another process.
        run: The metadata of its run, None if there is none.
        error: What a failed training died of, in one sentence.
        new: True if it was trained just now.
    """

    cell: Cell
    state: Literal["complete", "failed", "stopped", "elsewhere"]
    run: dict[str, Any] | None = None
    error: str | None = None
    new: bool = False


def cells(configs: Mapping[str, RunConfig], seeds: Sequence[int]) -> list[Cell]:
    """Returns the trainings of a comparison, seed by seed."""
    return [
        Cell(algorithm, dataclasses.replace(config, seed=seed))
        for seed in seeds
        for algorithm, config in configs.items()
    ]


def compare(
    wanted: Sequence[Cell], folder: Path, executor: ExecutorName = "local", workers: int = 1
) -> Iterator[Ended]:
    """Trains what is missing and yields each cell as it ends; after one that a signal stopped no more are begun.

    A cell is complete if the results folder holds a completed run with the same settings, whoever began it. Of
    processes that share `folder` one trains a cell at a time.

    Args:
        wanted: The cells.
        folder: Where locks and comparison.json lie, which lists the cells and their runs.
        executor: Where cells are trained, see `make_executor`.
        workers: Cells at the same time.
    """
    tasks, ended = deque(wanted), []
    for one in as_they_end(partial(_end, claims=Claims(folder / "locks")), tasks, executor, workers):
        ended.append(one)
        ended.sort(key=lambda one: wanted.index(one.cell))
        write_json(folder / COMPARISON, [_row(one) for one in ended])
        yield one
        if one.state == "stopped":
            tasks.clear()


def stored_runs(cell: Cell) -> list[dict[str, Any]]:
    """Returns the metadata of the runs that have the settings of `cell`, the completed first, then the newest."""
    settings = deciding(plain(cell.config.to_dict()))
    runs = [
        run
        for run in ResultsManager(cell.config.results_dir).list_runs(cell.algorithm)
        if deciding(run["hyperparameters"]) == settings
    ]
    return sorted(runs, key=lambda run: run["status"] != "completed")


def _end(cell: Cell, claims: Claims) -> Ended:
    runs = stored_runs(cell)
    if runs and runs[0]["status"] == "completed":
        return Ended(cell, "complete", runs[0])
    lock = claims.take(f"{cell.algorithm}_seed{cell.config.seed}")
    if lock is None:
        return Ended(cell, "elsewhere")
    try:
        return _train(cell)
    finally:
        lock.release()


def _train(cell: Cell) -> Ended:
    """Trains a cell whose lock is held, unless another process completed it before the lock was taken."""
    runs = [run for run in stored_runs(cell) if run["status"] != "failed"]
    if runs and runs[0]["status"] == "completed":
        return Ended(cell, "complete", runs[0])
    run: Run | None = None
    try:
        run = Run(cell.algorithm, config_to_resume(cell.config, runs[0]) if runs else cell.config, mirror=False)
        train(run)
    except FAILURES as error:
        stored = run.record.metadata if run is not None and run.started else None
        return Ended(cell, "failed", stored, failure(error), new=True)
    return Ended(cell, "complete" if run.finished and not run.stopped else "stopped", run.record.metadata, new=True)


def _row(ended: Ended) -> dict[str, Any]:
    run = ended.run or {}
    return {
        "algorithm": ended.cell.algorithm,
        "seed": ended.cell.config.seed,
        "state": ended.state,
        "run": run.get("run_id"),
        "error": ended.error,
        "final_metrics": run.get("final_metrics", {}),
    }

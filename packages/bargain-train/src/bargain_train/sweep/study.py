"""A study of Optuna's that any number of processes work on, stop, and take up again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from bargain_eval.files import write_json
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from bargain_train.sweep.claims import Claims
from bargain_train.sweep.parameters import Parameter
from bargain_train.sweep.samplers import draw, stored_values

TRIALS = "trials.json"


class Task(NamedTuple):
    """A trial that this process works on.

    Attributes:
        trial: Optuna's, to report to.
        values: Its values of the parameters.
        lock: Held as long as it is worked on.
    """

    trial: optuna.Trial
    values: dict[str, Any]
    lock: FileLock


class Outcome(NamedTuple):
    """How work on a trial ended.

    Attributes:
        state: "stopped" leaves it to whoever takes it up again.
        value: The objective of a complete trial.
        error: What a failed trial died of, in one sentence.
    """

    state: Literal["complete", "pruned", "failed", "stopped"]
    value: float | None = None
    error: str | None = None


class Study:
    """The trials of a search.

    A trial is given to one process at a time. One whose process ended before it did, be it killed, is given out again
    before any new one, with the same values and number. After each trial the folder's trials.json is written anew.

    Args:
        study: Optuna's study.
        parameters: What is searched.
        folder: Where trials.json lies.
        claims: Locks that all processes of the folder share.
        folder_id: The folder's name among all that work on the study.
    """

    def __init__(
        self, study: optuna.Study, parameters: Mapping[str, Parameter], folder: Path, claims: Claims, folder_id: str
    ) -> None:
        self.study = study
        self._parameters, self._folder, self._claims, self._here = parameters, folder, claims, folder_id

    def alone(self) -> AbstractContextManager[object]:
        """Returns a context for writing into the folder, in which no other process is; it waits for its turn."""
        return self._claims.alone()

    def next_task(self, num_trials: int) -> Task | None:
        """Returns a trial to work on; None if all `num_trials` are done or in other hands.

        Raises:
            ValueError: If another study uses the folder.
        """
        with self.alone():
            trials = self.study.get_trials(deepcopy=False)
            for left in trials:
                if left.state == TrialState.RUNNING and left.user_attrs.get("folder", self._here) == self._here:
                    lock = self._claims.take(f"trial_{left.number}")
                    if lock is not None:
                        return self._take(optuna.Trial(self.study, left._trial_id), lock)
            if len(trials) >= num_trials:
                return None
            trial = self.study.ask()
            if trial.number >= num_trials:  # a process with another folder was faster
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            lock = self._claims.take(f"trial_{trial.number}")
            if lock is None:
                raise ValueError(f"{self._folder} is in use by another study; choose another --study.")
            return self._take(trial, lock)

    def _take(self, trial: optuna.Trial, lock: FileLock) -> Task:
        trial.set_user_attr("folder", self._here)
        return Task(trial, draw(trial, self._parameters), lock)

    def close(self, task: Task, outcome: Outcome) -> None:
        """Stores how work on a trial ended, and lets go of it."""
        with self.alone():
            if outcome.state == "complete":
                self.study.tell(task.trial, outcome.value)
            elif outcome.state == "pruned":
                self.study.tell(task.trial, state=TrialState.PRUNED)
            elif outcome.state == "failed":
                task.trial.set_user_attr("error", outcome.error)
                self.study.tell(task.trial, state=TrialState.FAIL)
            task.lock.release()
            self.write_trials()

    def write_trials(self) -> None:
        """Writes the folder's trials.json anew; to be called in `alone`."""
        write_json(self._folder / TRIALS, self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Returns each trial in plain values, by number: its state, objective, values, run ids by seed and seconds.

        The objective of a pruned trial is its last evaluation's.
        """
        return [
            {
                "trial": trial.number,
                "state": _STATES.get(trial.state, "running"),
                "objective": trial.value,
                "values": stored_values(trial.params, self._parameters),
                "runs": trial.user_attrs.get("runs", {}),
                "seconds": None if trial.duration is None else trial.duration.total_seconds(),
                "error": trial.user_attrs.get("error"),
            }
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def best_first(self) -> list[dict[str, Any]]:
        """Returns the rows of the complete trials, the best first."""
        complete = [row for row in self.rows() if row["state"] == "complete"]
        downwards = self.study.direction == optuna.study.StudyDirection.MAXIMIZE
        return sorted(complete, key=lambda row: float(row["objective"]), reverse=downwards)


_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def open_study(
    name: str,
    folder: Path,
    parameters: Mapping[str, Parameter],
    identity: Mapping[str, Any],
    *,
    storage: str | None = None,
    direction: Literal["maximize", "minimize"],
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
) -> Study:
    """Returns the study of that name, begun if there is none.

    Args:
        name: Its name.
        folder: Its folder; it is made.
        parameters: What is searched.
        identity: What all trials share; see `Plan.identity`.
        storage: The URL of a database, or a journal file; None = a journal in `folder`.
        direction: Which objectives are better.
        sampler: Draws the trials.
        pruner: Stops trials early.

    Raises:
        ValueError: If the storage cannot be opened, or the study was begun with another identity.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    claims = Claims(folder / "locks")
    with claims.alone():
        study = optuna.create_study(
            storage=_open_storage(storage, folder),
            study_name=name,
            direction=direction,
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
        begun = study.user_attrs.get("identity")
        if begun is None:
            study.set_user_attr("identity", dict(identity))
        elif other := sorted(key for key in identity if begun.get(key) != identity[key]):
            raise ValueError(
                f"the study {name} was begun with other {', '.join(other)}; give this one a name of its own with "
                "--study."
            )
        return Study(study, parameters, folder, claims, claims.folder_id())


def _open_storage(storage: str | None, folder: Path) -> BaseStorage:
    if storage is None or "://" not in storage:
        path = folder / "journal.log" if storage is None else Path(storage)
        if path.is_dir():
            raise ValueError(f"--storage {path} is a folder; name a journal file in it, or the URL of a database.")
        path.parent.mkdir(parents=True, exist_ok=True)
        return _open_journal(path.resolve())  # its lock is a link, which must not be relative
    try:
        return RDBStorage(storage)
    except ImportError as error:
        raise ValueError(
            "--storage needs a driver of this database, which is not installed; for PostgreSQL: "
            "pip install 'bargain-train[postgresql]'."
        ) from error
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(f"--storage cannot be opened: {reason}.") from error


def _open_journal(path: Path) -> BaseStorage:
    """Returns the study's storage in a journal; a half line at its end, of a write that a full disk cut, is removed."""
    lock = JournalFileSymlinkLock(str(path))
    backend = JournalFileBackend(str(path), lock)
    lock.acquire()
    try:
        written = path.read_bytes()
        if not written.endswith(b"\n"):
            os.truncate(path, written.rfind(b"\n") + 1)
    finally:
        lock.release()
    try:
        return JournalStorage(backend)
    except ValueError as error:
        raise ValueError(
            f"the journal {path} is damaged; restore it, or begin another study with --study (the runs stay)."
        ) from error

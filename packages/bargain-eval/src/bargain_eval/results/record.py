"""One run while it is written: metrics, checkpoints, final results and status."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bargain_eval.checkpoint import write_checkpoint
from bargain_eval.files import plain, remove_temporary_files, replace_with_copy, write_json
from bargain_eval.results.index import refresh_index
from bargain_eval.results.layout import (
    CHECKPOINTS,
    CONFIG,
    FINAL_EVAL,
    METADATA,
    METRICS,
    POLICY,
    Metadata,
    run_folder,
    run_lock,
    step_files,
)
from bargain_eval.results.metadata import Status, ended, read_metadata, started_here
from bargain_eval.results.metrics import append_metrics, read_metrics, rewrite_metrics


class RunRecord:
    """The record of a run of which this process is the one writer, from `create_run` or `open_run` to its closing.

    What is written is on the disk when a method returns. `complete`, `fail` and `interrupt` close the record; a closed
    one raises RuntimeError on any further writing. A record that is never closed reads `running` until
    `ResultsManager.cleanup_failed_runs` finds that its process has ended.

    Attributes:
        path: the folder of the run, absolute.
        run_id: `<algorithm>_<YYYYmmdd_HHMMSS>_seed<N>`, UTC.
    """

    def __init__(self, root: Path, path: Path, metadata: Metadata, lock: FileLock) -> None:
        self.path = path
        self.run_id: str = metadata["run_id"]
        self._root = root
        self._metadata = metadata
        self._lock = lock
        self._update({})

    @property
    def metadata(self) -> Metadata:
        """A copy of the fields of metadata.json as they stand."""
        return dict(self._metadata)

    def log_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Appends one line to metrics.jsonl; numbers of numpy and torch are welcome, NaN and infinity become null.

        Raises:
            TypeError: a value is none that JSON can hold.
            ValueError: a metric is named `step` or `timestamp`, which every line has of its own.
        """
        self._check_open()
        append_metrics(self.path, int(step), metrics)

    def save_checkpoint(
        self,
        data: Mapping[str, Any],
        step: int,
        is_best: bool = False,
        *,
        keep: int | None = 5,
        mirror: str | Path | None = None,
    ) -> Path:
        """Writes checkpoints/step_<step>.pt and makes latest.pt, and best.pt if `is_best`, the same file.

        Args:
            data: a checkpoint (`bargain_eval.checkpoint`).
            step: environment steps taken so far.
            is_best: whether this is the best policy so far.
            keep: how many step files to keep, those of the highest steps; None keeps all.
            mirror: a folder outside the record that gets latest.pt and best.pt too.

        Returns:
            The path of the step file, which is gone again where `keep` does not cover it.

        Raises:
            CheckpointError: `data` does not fit the format.
            ValueError: `keep` is below 1.
        """
        self._check_open()
        if keep is not None and keep < 1:
            raise ValueError(f"keep must be at least 1 step file, or None for all, not {keep}")
        written = self.path / CHECKPOINTS / f"step_{int(step)}.pt"
        write_checkpoint(written, data)
        folders = [written.parent] if mirror is None else [written.parent, Path(mirror)]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            replace_with_copy(written, folder / "latest.pt")
            if is_best:
                replace_with_copy(written, folder / "best.pt")
        for outdated in list(step_files(self.path).values())[: -keep if keep else 0]:
            outdated.unlink()
        return written

    def save_final_policy(self, data: Mapping[str, Any]) -> Path:
        """Writes policy.pt, the policy that the run is about, and returns its path."""
        self._check_open()
        write_checkpoint(self.path / POLICY, data)
        return self.path / POLICY

    def save_final_eval(self, evaluation: Mapping[str, Any]) -> None:
        """Writes final_eval.json."""
        self._check_open()
        write_json(self.path / FINAL_EVAL, evaluation)

    def set_final_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Replaces `final_metrics`, by which runs are ranked."""
        self._update({"final_metrics": plain(metrics)})

    def set_best_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Replaces `best_metrics`, those of best.pt."""
        self._update({"best_metrics": plain(metrics)})

    def set_progress(self, actual_timesteps: int, num_updates: int, training_time_seconds: float) -> None:
        """Replaces the counters: environment steps, updates, seconds of training, each since the run first started."""
        self._update(
            {
                "actual_timesteps": int(actual_timesteps),
                "num_updates": int(num_updates),
                "training_time_seconds": float(training_time_seconds),
            }
        )

    def complete(self) -> None:
        """Closes the record of a run that did all it set out to do."""
        self._close("completed")

    def fail(self, error: BaseException | str) -> None:
        """Closes the record of a run that an error ended."""
        self._close("failed", error if isinstance(error, str) else f"{type(error).__name__}: {error}")

    def interrupt(self) -> None:
        """Closes the record of a run that was stopped and can be resumed."""
        self._close("interrupted")

    def _close(self, status: Status, error_message: str | None = None) -> None:
        self._check_open()
        write_json(self.path / METRICS, read_metrics(self.path))
        self._update(ended(status, error_message))
        refresh_index(self._root)
        self._lock.release()

    def _update(self, fields: Metadata) -> None:
        self._check_open()
        self._metadata |= fields
        write_json(self.path / METADATA, self._metadata)

    def _check_open(self) -> None:
        if not self._lock.is_locked:
            raise RuntimeError(f"the record of run {self.run_id} is closed ({self._metadata['status']})")


def start_record(root: Path, folder: Path, metadata: Metadata) -> RunRecord:
    """The record of a new run in the empty `folder`; config.json and metadata.json are there when this returns.

    The lock is taken before metadata.json appears, so that nobody ever sees a running run with a free lock.
    """
    lock = run_lock(folder)
    lock.acquire()
    (folder / CHECKPOINTS).mkdir()
    write_json(folder / CONFIG, metadata["hyperparameters"])
    record = RunRecord(root, folder, metadata, lock)
    refresh_index(root)
    return record


def reopen_record(root: Path, identifier: str, truncate_after_step: int | None = None) -> RunRecord:
    """The record of a stored run, running again, with what lies after `truncate_after_step` taken back.

    Raises:
        ValueError: there is no such run, or it is being written.
    """
    folder = run_folder(root, identifier)
    lock = run_lock(folder)
    try:
        lock.acquire()
    except Timeout as error:
        writer = read_metadata(folder)
        raise ValueError(f"run {identifier} is being written by process {writer['pid']} on {writer['host']}") from error
    for written in (folder, folder / CHECKPOINTS):
        remove_temporary_files(written)
    (folder / METRICS).unlink(missing_ok=True)
    rewrite_metrics(folder, truncate_after_step)
    if truncate_after_step is not None:
        for step, path in step_files(folder).items():
            if step > truncate_after_step:
                path.unlink()
    stored = read_metadata(folder)
    del stored["path"]
    record = RunRecord(root, folder, stored | started_here(), lock)
    refresh_index(root)
    return record

"""The independent jobs of a run: done in parallel, each stored as soon as it is finished, and never done twice."""

from __future__ import annotations

import io
import pickle
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from bargain_eval.executor import make_executor
from bargain_eval.files import remove_temporary_files, replace_file

from bargain_train.run import Run

ATTEMPTS = 3
"""Times that a job is begun before its worker's deaths end the run."""

Result = dict[str, Any]
"""Tensors and plain values, and dicts, lists and tuples of these."""


class Job(NamedTuple):
    """A pure function at the top level of a module, and its argument; it travels by pickle.

    Attributes:
        function: Takes `task` and returns a `Result`.
        task: Whatever it needs.
    """

    function: Callable[[Any], Result]
    task: Any


class Jobs:
    """Does the jobs of a run; a context manager.

    A finished job is a file in the run's folder until `forget`, so a run that was killed goes on with those that are
    missing. A worker that dies costs one job, which is begun again.

    Args:
        run: The run; where it stops, no more jobs are begun.
        executor: Where jobs run, see `bargain_eval.executor.make_executor`; with one local worker in this process.
        workers: Jobs at the same time.

    Raises:
        ValueError: If there is no such executor.
    """

    def __init__(self, run: Run, executor: str = "local", workers: int = 1) -> None:
        self._run = run
        self._pool: Executor = make_executor(executor, workers)
        self._workers = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def do(self, jobs: Mapping[str, Job]) -> dict[str, Result] | None:
        """Returns the results of `jobs` by their names, in their order; None if the run was stopped before the last.

        Arguments and errors are those of `each`.
        """
        results = dict(self.each(jobs))
        return {name: results[name] for name in jobs} if len(results) == len(jobs) else None

    def each(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Result]]:
        """Yields names and results: first those that were stored before, then each as it is finished.

        Where the run is stopped or a job raises, the others under way are finished and stored, and no more are begun.
        A Ctrl-C at a terminal reaches local workers too and ends their jobs, which a resumed run begins again.

        Args:
            jobs: The jobs by name; a name stands for one job, whenever the run is resumed.

        Raises:
            RuntimeError: If the worker of a job died `ATTEMPTS` times.
            Exception: What a job raised.
        """
        self._folder.mkdir(exist_ok=True)
        remove_temporary_files(self._folder)
        missing = []
        for name in jobs:
            if self._file(name).is_file():
                yield name, self._read(name)
            else:
                missing.append(name)
        waiting, begun = deque(missing), Counter[str]()
        running: dict[Future[bytes], str] = {}
        try:
            while (waiting or running) and not self._run.stopped:
                while waiting and len(running) < self._workers:
                    name = waiting.popleft()
                    begun[name] += 1
                    self._run.status(f"{', '.join([*running.values(), name])}, {len(waiting)} more to go")
                    running[self._begin(jobs[name])] = name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    name = running.pop(future)
                    if isinstance(error := future.exception(), BrokenExecutor):
                        if begun[name] == ATTEMPTS and not self._run.stopped:
                            raise RuntimeError(
                                f"the worker of {name} died {ATTEMPTS} times, perhaps for lack of memory."
                            ) from error
                        waiting.appendleft(name)
                    else:
                        self._store(name, future.result())
                        yield name, self._read(name)
        finally:
            for future in wait(running).done:
                if not future.exception():
                    self._store(running[future], future.result())

    def forget(self) -> None:
        """Removes the results of finished jobs."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _folder(self) -> Path:
        return self._run.record.path / "jobs"

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.pt"

    def _begin(self, job: Job) -> Future[bytes]:
        return self._pool.submit(_do, job.function, pickle.dumps(job.task))

    def _store(self, name: str, stored: bytes) -> None:
        with replace_file(self._file(name)) as file:
            file.write(stored)

    def _read(self, name: str) -> Result:
        result: Result = torch.load(self._file(name), map_location="cpu", weights_only=True)
        return result


def _do(function: Callable[[Any], Result], task: bytes) -> bytes:
    """Does a job; task and result travel as bytes, for tensors would take a file descriptor and shared memory each."""
    file = io.BytesIO()
    torch.save(function(pickle.loads(task)), file)
    return file.getvalue()

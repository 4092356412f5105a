"""The trainings of a sweep in several processes, here or on a cluster."""

from __future__ import annotations

import contextlib
import io
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from functools import partial
from typing import Literal, TypeVar

from bargain_eval.executor import make_executor

ATTEMPTS = 3
"""Times that a task is begun before its workers' deaths end the sweep."""

ExecutorName = Literal["local", "ray", "submitit", "dask"]
Task = TypeVar("Task")
Result = TypeVar("Result")


def in_this_process(executor: ExecutorName, workers: int) -> bool:
    """Tells whether the tasks are done one after the other by the process that asks for them."""
    return (executor, workers) == ("local", 1)


def as_they_end(
    function: Callable[[Task], Result], tasks: deque[Task], executor: ExecutorName, workers: int
) -> Iterator[Result]:
    """Yields `function(task)` of each task as it ends. In other processes nothing is shown of its progress.

    Args:
        function: At the top level of a module; may run anywhere, and again where its worker died.
        tasks: What is still to be begun, from the left; whoever empties it lets those under way end and no more begin.
        executor: See `bargain_eval.executor.make_executor`.
        workers: Tasks at the same time.

    Raises:
        ValueError: If the executor's library is not installed.
        RuntimeError: If the worker of a task died `ATTEMPTS` times.
        Exception: What a task raised.
    """
    run = function if in_this_process(executor, workers) else partial(_quietly, function)
    running: dict[Future[Result], Task] = {}
    deaths = Counter[int]()
    with make_executor(executor, workers) as pool:
        while tasks or running:
            while tasks and len(running) < workers:
                task = tasks.popleft()
                running[pool.submit(run, task)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                if not isinstance(error := future.exception(), BrokenExecutor):
                    yield future.result()
                    continue
                deaths[id(task)] += 1
                if deaths[id(task)] == ATTEMPTS:
                    raise RuntimeError(f"a worker died {ATTEMPTS} times, perhaps for lack of memory.") from error
                tasks.appendleft(task)


def _quietly(function: Callable[[Task], Result], task: Task) -> Result:
    """Does a task without the progress bars that it writes to stderr; what it raises is raised all the same."""
    with contextlib.redirect_stderr(io.StringIO()):
        return function(task)

"""The one seam for parallel jobs: a `concurrent.futures.Executor` by name, on this machine or on a cluster.

A job must be a pure function of plain arguments, defined at the top level of a module: it travels by pickle, and may
run anywhere, in any order, and twice.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


def make_executor(name: str = "local", workers: int = 1) -> Executor:
    """Returns an executor, to be used in a `with` statement.

    | name | where jobs run |
    |---|---|
    | local | one worker: in this process, within `submit`; several: in so many new processes of this machine |
    | ray | on the Ray cluster of the environment variable RAY_ADDRESS, else on `workers` processes of a new local one |
    | submitit | `workers` at a time: on SLURM where there is `sbatch`, else in new processes of this machine |
    | dask | on the scheduler of DASK_SCHEDULER_ADDRESS, else on `workers` processes of a new local one |

    Local processes compute with one thread each, unless OMP_NUM_THREADS says otherwise, and end with this process,
    however it ends. One that dies costs its own job, whose future raises `BrokenExecutor`, and is replaced. As always
    with new processes, a script must guard its main code by `if __name__ == "__main__"`.
    SLURM's own environment variables (SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT) choose where and how long.

    Args:
        name: "local", "ray", "submitit" or "dask".
        workers: Jobs at the same time, at least 1.

    Raises:
        ValueError: If `name` is unknown, `workers` is below 1, the library is not installed, or the cluster that the
            environment names cannot be reached.
    """
    makers: dict[str, Callable[[int], Executor]] = {
        "local": _local,
        "ray": _RayExecutor,
        "submitit": _SubmititExecutor,
        "dask": _DaskExecutor,
    }
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}.")
    if name not in makers:
        raise ValueError(f"unknown executor {name!r}; choose one of {', '.join(makers)}.")
    try:
        return makers[name](workers)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"executor {name!r} needs {error.name}, which is not installed; pip install 'bargain-eval[{name}]'."
        ) from error
    except OSError as error:
        raise ValueError(f"executor {name!r} cannot reach its cluster: {str(error).rstrip('.')}.") from error


def _local(workers: int) -> Executor:
    return _SameProcess() if workers == 1 else _Processes(workers)


class _SameProcess(Executor):
    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _Processes(ThreadPoolExecutor):
    """Each thread has a process at a time to itself, so that one that dies takes no other job with it."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self._free: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        self._one_at_a_time = threading.Lock()
        for _ in range(workers):
            self._free.put(_one_process())

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        return super().submit(self._run, fn, *args, **kwargs)

    def _run(self, fn: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        process = self._free.get()
        try:
            with self._one_at_a_time, _one_thread_each():  # the process starts within the first call
                future = process.submit(fn, *args, **kwargs)
            return future.result()
        except BrokenExecutor:
            process = _one_process()
            raise
        finally:
            self._free.put(process)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        while not self._free.empty():
            self._free.get().shutdown(wait)


def _one_process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Lets processes started meanwhile compute with one thread, unless the user chose another number."""
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _end_with_parent() -> None:
    """Makes this worker end with the process that started it, even a killed one, and on Ctrl-C without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


class _RayExecutor(Executor):
    def __init__(self, workers: int) -> None:
        import ray

        new_cluster = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **new_cluster)
        self._ray = ray
        self._call = ray.remote(_call)

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        future: Future[Result] = self._call.remote(fn, *args, **kwargs).future()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._ray.shutdown()


def _call(fn: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    return fn(*args, **kwargs)


class _SubmititExecutor(ThreadPoolExecutor):
    """Each thread submits a job and waits for its end; the jobs' files lie in a temporary folder beside the caller."""

    def __init__(self, workers: int) -> None:
        import submitit

        super().__init__(workers)
        self._folder = tempfile.mkdtemp(prefix="submitit_", dir=os.getcwd())  # nodes of a cluster must see it
        self._cluster = submitit.AutoExecutor(self._folder)
        self._cluster.update_parameters(name="bargain", timeout_min=24 * 60)
        self._one_at_a_time = threading.Lock()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        return super().submit(self._run, fn, *args, **kwargs)

    def _run(self, fn: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        with self._one_at_a_time:
            job = self._cluster.submit(fn, *args, **kwargs)
        result: Result = job.result()
        return result

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        shutil.rmtree(self._folder, ignore_errors=True)


class _DaskExecutor(Executor):
    def __init__(self, workers: int) -> None:
        from distributed import Client

        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        new_cluster = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        self._client = Client(address) if address else Client(**new_cluster)
        self._executor: Executor = self._client.get_executor(pure=False)

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait)
        self._client.close()

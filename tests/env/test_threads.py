"""Engines that come and go, that many threads use, that a process forks with: nothing crashes, hangs or leaks."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from bargain_env import make_engine
from bargain_env.engine import Engine
from bargain_env.testing import snapshot

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
LIFETIMES = int(os.environ.get("BARGAIN_FUZZ", "300"))


def play(engine: Engine, steps: int = 20) -> None:
    for step in range(steps):
        engine.step(engine.random_actions(step))


def native_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def allocated_bytes() -> int:
    """Returns what the address sanitizer counts as allocated, and 0 without it."""
    count = getattr(ctypes.CDLL(None), "__sanitizer_get_current_allocated_bytes", None)
    return count() if count else 0


@linux
@pytest.mark.parametrize("end", ["close", "close twice", "forget", "forget at once"])
def test_engines_leave_nothing_behind(end: str) -> None:
    def live(number: int) -> None:
        engine = make_engine(num_envs=1 + number % 7, threads=1 + number % 5)
        if end == "forget at once":
            return
        play(engine, number % 3)
        if end != "forget":
            engine.close()
        if end == "close twice":
            engine.close()

    for number in range(35):
        live(number)
    threads, memory = native_threads(), allocated_bytes()
    for number in range(LIFETIMES):
        live(number)
    assert native_threads() == threads
    assert allocated_bytes() - memory < 500 * LIFETIMES


def test_engines_of_many_python_threads_do_not_disturb_each_other() -> None:
    engines = [make_engine(num_envs=50, seed=k, threads=1 + k % 2) for k in range(4)]
    players = [threading.Thread(target=play, args=(engine,)) for engine in engines]
    for player in players:
        player.start()
    for player in players:
        player.join()
    for k, engine in enumerate(engines):
        alone = make_engine(num_envs=50, seed=k)
        play(alone)
        assert all(np.array_equal(array, snapshot(alone)[name]) for name, array in snapshot(engine).items())


@pytest.mark.parametrize("threads", [1, 3])
def test_python_threads_may_share_an_engine_and_close_it(threads: int) -> None:
    engine, closed = make_engine(num_envs=64, threads=threads), []

    def use() -> None:
        try:
            for step in range(10_000):
                engine.step(engine.random_actions(step))
                engine.reset(seed=step)
        except RuntimeError as error:
            closed.append(str(error))

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    play(engine, 50)
    engine.close()
    for user in users:
        user.join(timeout=60)
    assert closed == ["this engine is closed."] * 3


def play_and_report(engine: Engine, connection: multiprocessing.connection.Connection) -> None:
    play(engine)
    connection.send({name: array.tobytes() for name, array in snapshot(engine).items()})
    del engine


@linux
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_forked_process_plays_the_same_games(threads: int) -> None:
    engine = make_engine(num_envs=64, threads=threads)
    play(engine, 5)
    ours, theirs = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=play_and_report, args=(engine, theirs))
    child.start()
    try:
        assert ours.poll(60), "the forked process hangs"
        reported = ours.recv()
        child.join(timeout=60)
        assert child.exitcode == 0
    finally:
        child.kill()
    play(engine)
    assert reported == {name: array.tobytes() for name, array in snapshot(engine).items()}


NO_THREADS = """
import resource, bargain_env
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    bargain_env.make_engine(threads=1024)
except RuntimeError as error:
    print(error)
engine = bargain_env.make_engine(threads=2)
engine.step(engine.random_actions())
"""


@linux
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="sanitizers need all of the address space")
def test_a_system_without_threads_says_so() -> None:
    result = subprocess.run([sys.executable, "-c", NO_THREADS], capture_output=True, text=True, timeout=60, check=False)
    assert result.stdout == "the system does not start 1024 threads; use fewer.\n", result.stderr
    assert result.returncode == 0

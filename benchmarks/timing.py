"""Timing for the benchmarks: contestants are interleaved, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np


def rates(
    contestants: Mapping[str, Callable[[], int]], *, repetitions: int = 5, seconds: float = 0.3
) -> dict[str, float]:
    """Returns the median steps per second of each contestant.

    Args:
        contestants: Functions that do some work and return how many steps it was.
        repetitions: Rounds; every round runs every contestant for `seconds`.
        seconds: Shortest time of one measurement.
    """
    for work in contestants.values():
        work()
    measured: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, work in contestants.items():
            steps, start = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds:
                steps += work()
            measured[name].append(steps / elapsed)
    return {name: statistics.median(values) for name, values in measured.items()}


def machine() -> str:
    """Returns one line about the machine and the interpreter."""
    return f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, numpy {np.__version__}"

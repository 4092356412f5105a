"""Timing for the benchmarks: contestants are interleaved, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np

Work = Callable[[], int]
"""Does some work and returns how many steps it was."""

Clock = Callable[[], float]

Rates = dict[str, list[float]]
"""The steps per second of each contestant, round by round."""


def rates(
    contestants: Mapping[str, Work], *, repetitions: int, seconds: float, clock: Clock = time.perf_counter
) -> Rates:
    """Returns the steps per second of each contestant in each round.

    Args:
        contestants: What is measured.
        repetitions: Rounds; every round runs every contestant, after one call of each that is not counted.
        seconds: Shortest time of one measurement; the work is done at least once.
        clock: Tells the time in seconds.
    """
    for work in contestants.values():
        work()
    measured: Rates = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, work in contestants.items():
            start = clock()
            steps = work()
            while (elapsed := clock() - start) < seconds:
                steps += work()
            measured[name].append(steps / elapsed)
    return measured


def median(measured: Rates, name: str) -> float:
    """Returns the median steps per second of a contestant."""
    return statistics.median(measured[name])


def ratio(measured: Rates, name: str, base: str) -> float:
    """Returns the median over the rounds of how many times as fast as `base` a contestant was."""
    return statistics.median(ours / theirs for ours, theirs in zip(measured[name], measured[base], strict=True))


def readable(rate: float) -> str:
    """Returns steps per second with three or more figures: 12.3 M, 45,600 or 789."""
    if rate >= 1e8:
        return f"{rate / 1e6:.0f} M"
    if rate >= 1e6:
        return f"{rate / 1e6:.1f} M" if rate >= 1e7 else f"{rate / 1e6:.2f} M"
    return f"{rate:,.0f}" if rate < 1e5 else f"{rate / 1e3:,.0f} k"


def machine() -> str:
    """Returns one line about the machine and the interpreter."""
    return f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, numpy {np.__version__}"

"""What training runs evaluated over time: learning curves with bands, and what it costs to reach a level.

Legend: `E` evaluations of one run, `S` runs (seeds) of one algorithm, `G` points of a curve.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bargain_eval.comparison.statistics import Bootstrap, draw_runs, iqm

MOST_POINTS = 100
"""A curve has at most so many points: more are thinned evenly, and the first and the last are kept."""


@dataclasses.dataclass(frozen=True)
class Evaluations:
    """What one run measured of itself as it trained.

    Attributes:
        steps: `[E]` environment steps, never falling.
        seconds: `[E]` seconds of training until then, evaluations included.
        values: `[E]` the metric.
    """

    steps: NDArray[np.float64]
    seconds: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Curve:
    """The course of several runs as one.

    Attributes:
        steps: `[G]` environment steps, rising.
        iqm: `[G]` interquartile mean over the runs.
        low: `[G]` lower end of its pointwise interval; None of one run.
        high: `[G]` upper end.
    """

    steps: NDArray[np.float64]
    iqm: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None


class Cost(NamedTuple):
    """What a run had used up when it reached a level: environment steps, and seconds of training."""

    steps: float
    seconds: float


def held(steps: ArrayLike, values: ArrayLike, grid: ArrayLike) -> NDArray[np.float64]:
    """Returns `[G]`, the last of `values [E]` at or before each step of `grid`, NaN before the first `steps [E]`.

    Beyond the last step nothing is known, so it is NaN there too. Of several values at one step the last counts.
    """
    known, points = np.asarray(steps, dtype=np.float64), np.asarray(grid, dtype=np.float64)
    if not known.size:
        return np.full(points.shape, np.nan)
    last = np.searchsorted(known, points, side="right") - 1
    within = (last >= 0) & (points <= known[-1])
    return np.where(within, np.asarray(values, dtype=np.float64)[np.maximum(last, 0)], np.nan)


def common_grid(runs: Sequence[Evaluations]) -> NDArray[np.float64]:
    """Returns `[G]`: the steps at which any run evaluated, from where all have begun to where the first one ends.

    So every point is about all runs: a mean over those that are left would jump where one ends. It is empty where some
    run has no evaluations, or one ends before another begins.
    """
    if not runs or not all(run.steps.size for run in runs):
        return np.empty(0)
    steps = np.unique(np.concatenate([run.steps for run in runs]))
    begin, end = max(run.steps[0] for run in runs), min(run.steps[-1] for run in runs)
    shared: NDArray[np.float64] = steps[(steps >= begin) & (steps <= end)]
    if len(shared) <= MOST_POINTS:
        return shared
    thinned: NDArray[np.float64] = shared[np.linspace(0, len(shared) - 1, MOST_POINTS).round().astype(int)]
    return thinned


def learning_curve(runs: Sequence[Evaluations], bootstrap: Bootstrap | None = None) -> Curve | None:
    """Returns the interquartile mean over the runs at the steps of `common_grid`, or None where that is empty.

    A run's value between two evaluations is that of the earlier one. The interval is pointwise, over whole runs: a
    resample takes the same runs at every step. Costs R sorts of S values a point, 0.04 s for 10 runs of 100 points.
    """
    how, grid = bootstrap or Bootstrap(), common_grid(runs)
    if not grid.size:
        return None
    values = np.stack([held(run.steps, run.values, grid) for run in runs], axis=1)
    if len(runs) < 2:
        return Curve(grid, values[:, 0], None, None)
    drawn = draw_runs(len(runs), how.resamples, np.random.default_rng(how.seed))
    low, high = np.stack([how.ends(iqm(point[drawn])) for point in values], axis=1)
    return Curve(grid, iqm(values), low, high)


def window_means(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Returns `[E - window + 1]`, the mean of every `window` successive values; empty if there are fewer.

    Raises:
        ValueError: If `window` is below 1.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1 evaluation, got {window}.")
    if len(values) < window:
        return np.empty(0)
    means: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
    return means


def cost_to_reach(run: Evaluations, threshold: float, *, window: int = 1, minimize: bool = False) -> Cost | None:
    """Returns what the run had used at its first evaluation that reaches `threshold`; None if none does.

    An evaluation reaches it if the mean of the last `window` values up to it is at least the threshold, or with
    `minimize` at most that. Evaluations before the first whole window do not count. It is about the first time: what a
    run has reached it may lose again.

    Raises:
        ValueError: If `window` is below 1.
    """
    means = window_means(run.values, window)
    reached = np.flatnonzero(means <= threshold if minimize else means >= threshold)
    if not reached.size:
        return None
    at = int(reached[0]) + window - 1
    return Cost(float(run.steps[at]), float(run.seconds[at]))


def median_cost(costs: Sequence[Cost | None]) -> Cost:
    """Returns the median steps and the median seconds over all runs, where a run that never reached it cost infinity.

    So it is finite only where more than half of the runs reached the level, and no run that failed to is averaged away.

    Raises:
        ValueError: If there are no runs.
    """
    if not costs:
        raise ValueError("the median cost needs at least one run.")
    known = np.array([cost or (math.inf, math.inf) for cost in costs], dtype=np.float64)
    steps, seconds = np.median(known, axis=0)
    return Cost(float(steps), float(seconds))

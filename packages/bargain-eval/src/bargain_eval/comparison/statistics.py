"""Aggregates over training runs and their stratified bootstrap intervals.

Legend: `T` tasks (games), the strata; `n` and `m` runs of one algorithm on one task; `R` resamples.

Scores are given as one array `[n]` for each task, so that the runs of a task, and their number, are its own. A resample
draws the n runs of each task anew, with replacement, and never a run of another task. An interval is the range between
two quantiles of the resamples (percentile method). It is absent where a task has one run: nothing is known there about
what another seed would do.

Source: Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice", NeurIPS 2021, https://arxiv.org/abs/2108.13264.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        resamples: R, their number; with 2,000 the level of an end is off by about 0.35 points.
        level: The confidence level, between 0 and 1.
        seed: Of the draws; the same seed gives the same intervals.

    Raises:
        ValueError: If there is no resample, or the level does not lie between 0 and 1.
    """

    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.resamples < 1:
            raise ValueError(f"a bootstrap needs at least 1 resample, got {self.resamples}.")
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {self.level}.")

    def ends(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns `[2, ...]`, the ends of the interval of the statistic that is `draws [R, ...]` in the resamples."""
        ends: NDArray[np.float64] = np.quantile(draws, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return ends


class Estimate(NamedTuple):
    """A number with its confidence interval.

    Attributes:
        value: Of the runs themselves.
        interval: Its lower and upper end, or None where a task has one run.
    """

    value: float
    interval: tuple[float, float] | None


def iqm(values: ArrayLike) -> NDArray[np.float64]:
    """Returns `[...]`, the interquartile means of `values [..., n]`: what is left of the n without both outer quarters.

    Of n values the floor(n / 4) smallest and the floor(n / 4) largest do not count, whole values and no parts of them.
    Up to three values it is the mean. So it is `scipy.stats.trim_mean(values, 0.25, axis=-1)`.

    Raises:
        ValueError: If there are no values.
    """
    rising = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    size = rising.shape[-1]
    if not size:
        raise ValueError("the interquartile mean needs at least one value.")
    middle: NDArray[np.float64] = rising[..., size // 4 : size - size // 4].mean(axis=-1)
    return middle


def interquartile_mean(scores: Sequence[ArrayLike], bootstrap: Bootstrap | None = None) -> Estimate:
    """Returns the interquartile mean over all runs of all tasks; costs one sort of all runs a resample.

    Args:
        scores: For each task `[n]`, the scores of its runs, on one scale for all tasks.
        bootstrap: How its interval is made.

    Raises:
        ValueError: If a task has no runs, or a score is not finite.
    """
    how, tasks = bootstrap or Bootstrap(), _tasks(scores)
    value = float(iqm(np.concatenate(tasks)))
    if min(map(len, tasks)) < 2:
        return Estimate(value, None)
    generator = np.random.default_rng(how.seed)
    drawn = [task[draw_runs(len(task), how.resamples, generator)] for task in tasks]
    low, high = how.ends(iqm(np.concatenate(drawn, axis=1)))
    return Estimate(value, (float(low), float(high)))


def probability_of_improvement(
    first: Sequence[ArrayLike], second: Sequence[ArrayLike], bootstrap: Bootstrap | None = None
) -> Estimate:
    """Returns P(X > Y) + P(X = Y) / 2 of a run X of `first` and a run Y of `second`, both drawn at random.

    It is taken over all n * m pairs of a task (the statistic of Mann and Whitney over n * m), then averaged over tasks.
    It says how often, not by how much. In a resample the runs of both are drawn independently. Where every run of one
    beats every run of the other it is 0 or 1 in all resamples too, and its interval a point, however few the runs.

    Args:
        first: For each task `[n]`, the scores of its runs, the larger the better.
        second: The same of the other algorithm, on the same tasks in the same order.
        bootstrap: How its interval is made.

    Raises:
        ValueError: If the tasks are not equally many, one has no runs, or a score is not finite.
    """
    how, firsts, seconds = bootstrap or Bootstrap(), _tasks(first), _tasks(second)
    if len(firsts) != len(seconds):
        raise ValueError(f"both algorithms need the same tasks, got {len(firsts)} and {len(seconds)}.")
    wins = [_wins(x, y) for x, y in zip(firsts, seconds, strict=True)]
    value = float(np.mean([table.mean() for table in wins]))
    if min(map(len, [*firsts, *seconds])) < 2:
        return Estimate(value, None)
    generator = np.random.default_rng(how.seed)
    draws = np.mean([_resampled_means(table, how.resamples, generator) for table in wins], axis=0)
    low, high = how.ends(draws)
    return Estimate(value, (float(low), float(high)))


def draw_runs(size: int, resamples: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Returns `[R, n]`, which of the `size` runs of a task each resample has."""
    return generator.integers(size, size=(resamples, size))


def _tasks(scores: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    tasks = [np.asarray(task, dtype=np.float64) for task in scores]
    if not tasks or not all(task.ndim == 1 and len(task) for task in tasks):
        raise ValueError("scores must be one array of at least one run for each task.")
    if not all(np.isfinite(task).all() for task in tasks):
        raise ValueError("scores must be finite: leave out the runs that have none.")
    return tasks


def _wins(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns `[n, m]`: 1 where the run of `first` is better, 1/2 where both are equal."""
    difference = first[:, None] - second[None, :]
    wins: NDArray[np.float64] = (np.sign(difference) + 1) / 2
    return wins


def _resampled_means(wins: NDArray[np.float64], resamples: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Returns `[R]`, the mean of `wins [n, m]` over the rows and columns that each resample has, counted as drawn."""
    rows, columns = (generator.multinomial(size, np.full(size, 1 / size), size=resamples) for size in wins.shape)
    means: NDArray[np.float64] = ((rows @ wins) * columns).sum(axis=1) / wins.size
    return means

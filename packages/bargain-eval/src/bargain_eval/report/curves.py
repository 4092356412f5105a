"""What stored runs logged over time: learning curves of a group of seeds, and populations.

Legend: `G` points of a curve's grid, `S` seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_eval.report.runs import Group
from bargain_eval.results.layout import Metadata
from bargain_eval.results.metrics import read_metrics

CURVES = {
    "eval/nash_conv": "NashConv",
    "eval/nash_conv_lower": "NashConv, lower bound",
    "eval/nash_conv_upper": "NashConv, upper bound",
    "total": "total payoff",
    "payoff_0": "payoff of seat 0",
    "payoff_1": "payoff of seat 1",
    "agreement_rate": "agreement rate",
    "mean_decisions": "decisions in a game",
    "entropy": "entropy of the policy (nats)",
}
"""The metrics that have learning curves, and what their axes are called."""
LOGARITHMIC = {"eval/nash_conv", "eval/nash_conv_lower", "eval/nash_conv_upper"}
"""Those of the evaluated policy, on logarithmic axes; what is below `FLOOR` is drawn there."""
FLOOR = 1e-5
GRID = 80
POPULATIONS = ("population_seat_0", "population_seat_1")
"""The metrics that carry a population: an object from the name of each member to its probability."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric of a group over training.

    Attributes:
        steps: `[G]` environment steps.
        seeds: `[S, G]` what the run of each seed had there, NaN where it logged nothing.
    """

    steps: NDArray[np.float64]
    seeds: NDArray[np.float64]

    def mean(self) -> NDArray[np.float64]:
        """Returns `[G]`, the mean over the runs that have the point, NaN where none has."""
        have = np.isfinite(self.seeds)
        total = np.where(have, self.seeds, 0.0).sum(axis=0)
        mean: NDArray[np.float64] = total / np.where(have.any(axis=0), have.sum(axis=0), np.nan)
        return mean

    def band(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns `[G]` and `[G]`, the smallest and the largest run."""
        have = np.isfinite(self.seeds)
        low = np.where(have, self.seeds, np.inf).min(axis=0)
        high = np.where(have, self.seeds, -np.inf).max(axis=0)
        missing = ~have.any(axis=0)
        return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def learning_curves(group: Group) -> dict[str, Curve]:
    """Returns the curves of a group, by metric: those of `CURVES` that the run of any seed logged twice or more.

    The grid divides the steps of the longest run into `GRID` equal parts; a point is the mean of the lines that a run
    logged in that part, and parts without a line lie on the line between their neighbours.
    """
    logs = [read_metrics(Path(run["path"])) for run in group.seeds]
    last = max((int(row["step"]) for log in logs for row in log), default=0)
    edges = np.linspace(0, last, GRID + 1)
    curves = {}
    for name in CURVES:
        seeds = np.stack([_binned(log, name, edges) for log in logs])
        if np.isfinite(seeds).sum(axis=1).max() > 1:
            curves[name] = Curve(edges[1:], seeds)
    return curves


def _binned(log: Sequence[dict[str, Any]], name: str, edges: NDArray[np.float64]) -> NDArray[np.float64]:
    points = [(row["step"], row[name]) for row in log if isinstance(row.get(name), int | float)]
    if not points:
        return np.full(GRID, np.nan)
    steps, values = np.array(points, dtype=np.float64).T
    part = np.clip(np.searchsorted(edges, steps) - 1, 0, GRID - 1)
    counts = np.bincount(part, minlength=GRID)
    have = np.flatnonzero(counts)
    means = np.bincount(part, values, minlength=GRID)[have] / counts[have]
    if name in LOGARITHMIC:
        return np.exp(np.interp(np.arange(GRID), have, np.log(np.maximum(means, FLOOR)), left=np.nan, right=np.nan))
    return np.interp(np.arange(GRID), have, means, left=np.nan, right=np.nan)


def population_timeline(run: Metadata, metric: str) -> tuple[list[int], list[str], NDArray[np.float64]] | None:
    """Returns steps, members in order of entry, and their probabilities `[members, steps]`; None if it logged none.

    The contract: a metric line that has `metric` holds under it an object from the name of each member to its
    probability in the seat's mixture at that step. A member that is not named has probability 0.
    """
    lines = [row for row in read_metrics(Path(run["path"])) if isinstance(row.get(metric), dict)]
    if not lines:
        return None
    members = list(dict.fromkeys(name for row in lines for name in row[metric]))
    shares = np.array([[float(row[metric].get(name) or 0.0) for row in lines] for name in members])
    return [int(row["step"]) for row in lines], members, shares

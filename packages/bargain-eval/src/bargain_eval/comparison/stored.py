"""Stored runs compared: each group of seeds of one contest against the others, by one metric.

Legend: `S` seeds of one group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_eval.comparison.curves import Cost, Curve, Evaluations, cost_to_reach, learning_curve, window_means
from bargain_eval.comparison.statistics import (
    Bootstrap,
    Estimate,
    interquartile_mean,
    iqm,
    probability_of_improvement,
)
from bargain_eval.report.runs import Contest, Group
from bargain_eval.results.layout import Metadata
from bargain_eval.results.metrics import read_metrics
from bargain_eval.results.views import DEFAULT_METRIC, metric_value

_FINAL, _EVALUATED = "final_metrics.", "eval/"


@dataclasses.dataclass(frozen=True)
class Question:
    """What is compared, and how.

    Attributes:
        metric: The dotted name of the final metric; its course is what the evaluations logged of it.
        minimize: Whether the smaller is the better.
        threshold: The level whose cost is wanted; None is that of `default_threshold`.
        window: Evaluations whose mean has to reach it.
        bootstrap: How intervals are made.
    """

    metric: str = DEFAULT_METRIC
    minimize: bool = False
    threshold: float | None = None
    window: int = 1
    bootstrap: Bootstrap = dataclasses.field(default_factory=Bootstrap)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One group of runs, and what its seeds say together.

    Attributes:
        label: The algorithm, with the settings that tell it from the other groups.
        place: Which of the groups of its contest it is, from 0.
        runs: `[S]`, the run of each seed, by seed: the newest that is completed and has the metric.
        left_out: Its runs that are not completed or lack the metric.
        final: `[S]`, the final values.
        score: Their interquartile mean; None without a run.
        logs: `[S]`, what the runs evaluated as they trained, empty where they logged nothing of the metric.
        curve: The curve of those that did; None if none did.
    """

    label: str
    place: int
    runs: tuple[Metadata, ...]
    left_out: tuple[Metadata, ...]
    final: NDArray[np.float64]
    score: Estimate | None
    logs: tuple[Evaluations, ...]
    curve: Curve | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The groups of one contest side by side.

    Attributes:
        contest: The runs that may be compared: one game and, where there is one, one fixed opponent and seat.
        question: What is compared.
        ranked: The groups that have a final value, the best interquartile mean first.
        unranked: Those that have none.
        improvement: By two places, the probability that a run of the first is better than one of the second.
        threshold: The level whose cost is taken; None if no run evaluated the metric often enough.
        costs: By run id, of the runs that did, what it cost to reach the threshold; None where it was never reached.
    """

    contest: Contest
    question: Question
    ranked: tuple[Contender, ...]
    unranked: tuple[Contender, ...]
    improvement: Mapping[tuple[int, int], Estimate]
    threshold: float | None
    costs: Mapping[str, Cost | None]

    def costs_of(self, contender: Contender) -> list[Cost | None]:
        """Returns the costs of the runs of `contender` that have one or never reached the threshold."""
        return [self.costs[run["run_id"]] for run in contender.runs if run["run_id"] in self.costs]


def compare_groups(contest: Contest, question: Question) -> Comparison | None:
    """Returns the comparison of the groups of `contest`; None unless two of them have a final value.

    Reads the metric lines of every run that counts. Costs 0.05 s a group of 10 runs and 3 ms a pair.
    """
    contenders = [_contender(place, group, question) for place, group in enumerate(contest.groups)]
    sign = -1.0 if question.minimize else 1.0
    scored = [(contender.score.value, contender) for contender in contenders if contender.score is not None]
    if len(scored) < 2:
        return None
    ranked = [contender for _, contender in sorted(scored, key=lambda pair: -sign * pair[0])]
    threshold = default_threshold(ranked, question) if question.threshold is None else question.threshold
    costs = {} if threshold is None else _costs(ranked, threshold, question)
    return Comparison(
        contest,
        question,
        ranked=tuple(ranked),
        unranked=tuple(contender for contender in contenders if contender.score is None),
        improvement=_improvement(ranked, sign, question.bootstrap),
        threshold=threshold if costs else None,
        costs=costs,
    )


def default_threshold(contenders: Sequence[Contender], question: Question) -> float | None:
    """Returns where the middle group ends, so that at least half of the groups end there or better; None without any.

    A group ends at the interquartile mean of the last windows of its runs. Of an even number of groups it is the weaker
    of the two in the middle: of two groups the weaker one, whose end the better one reaches sooner.
    """
    windows = [[window_means(log.values, question.window) for log in contender.logs] for contender in contenders]
    lasts = [[float(means[-1]) for means in of_group if means.size] for of_group in windows]
    ends = sorted((float(iqm(last)) for last in lasts if last), reverse=question.minimize)
    return ends[(len(ends) - 1) // 2] if ends else None


def evaluations(run: Metadata, metric: str) -> Evaluations:
    """Returns what the run logged of a final metric as it trained, under `eval/`; empty if `metric` is no such.

    A run's lines say the rate of its steps since the line before, which gives the seconds in between; where that is
    missing, or there were no steps, they are those between the two times of writing. So the time in which a stopped run
    waited to be resumed does not count, save between lines without steps.
    """
    name = _EVALUATED + metric.removeprefix(_FINAL) if metric.startswith(_FINAL) else ""
    points: list[tuple[float, float, float]] = []
    step, elapsed, written = 0, 0.0, datetime.fromisoformat(run["timestamp"])
    for row in read_metrics(Path(run["path"])):
        now, taken = datetime.fromisoformat(row["timestamp"]), row["step"] - step
        rate, value = _number(row, "steps_per_second"), _number(row, name)
        elapsed += taken / rate if rate and taken > 0 else max(0.0, (now - written).total_seconds())
        step, written = row["step"], now
        if value is not None:
            points.append((step, elapsed, value))
    steps, seconds, values = np.array(points, dtype=np.float64).reshape(-1, 3).T
    return Evaluations(steps, seconds, values)


def _contender(place: int, group: Group, question: Question) -> Contender:
    values = {run["run_id"]: metric_value(run, question.metric) for run in group.runs if run["status"] == "completed"}
    known = {run_id: value for run_id, value in values.items() if value is not None}
    rising = sorted((run for run in group.runs if run["run_id"] in known), key=lambda run: run["timestamp"])
    of_seed = {run["seed"]: run for run in rising}
    runs = tuple(of_seed[seed] for seed in sorted(of_seed))
    final = np.array([known[run["run_id"]] for run in runs], dtype=np.float64)
    logs = tuple(evaluations(run, question.metric) for run in runs)
    return Contender(
        group.label,
        place,
        runs,
        left_out=tuple(run for run in group.runs if run["run_id"] not in known),
        final=final,
        score=interquartile_mean([final], question.bootstrap) if runs else None,
        logs=logs,
        curve=learning_curve([log for log in logs if log.values.size], question.bootstrap),
    )


def _improvement(ranked: Sequence[Contender], sign: float, how: Bootstrap) -> dict[tuple[int, int], Estimate]:
    """Each pair is estimated once; the other way round it is what is left to 1."""
    found = {}
    for k, first in enumerate(ranked):
        for second in ranked[k + 1 :]:
            value, interval = probability_of_improvement([sign * first.final], [sign * second.final], how)
            turned = None if interval is None else (1 - interval[1], 1 - interval[0])
            found[first.place, second.place] = Estimate(value, interval)
            found[second.place, first.place] = Estimate(1 - value, turned)
    return found


def _costs(ranked: Sequence[Contender], threshold: float, question: Question) -> dict[str, Cost | None]:
    return {
        run["run_id"]: cost_to_reach(log, threshold, window=question.window, minimize=question.minimize)
        for contender in ranked
        for run, log in zip(contender.runs, contender.logs, strict=True)
        if len(log.values) >= question.window
    }


def _number(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

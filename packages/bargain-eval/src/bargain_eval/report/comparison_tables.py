"""The tables of a comparison, for the page and for the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from bargain_eval.comparison.curves import median_cost
from bargain_eval.comparison.statistics import Estimate
from bargain_eval.comparison.stored import Comparison, Contender
from bargain_eval.report.content import Cell, Table, count, number, seconds, text
from bargain_eval.results.layout import Metadata

MOST_COMPARED = 12
"""Groups that are compared pair by pair and drawn: the best ones."""
_MOST_NAMED = 4
_NOT_REACHED = Cell("not reached", sys.float_info.max)  # sorted behind every cost


def interval_text(estimate: Estimate, digits: int = 4) -> str:
    """Returns `value [low, high]`, without the interval where there is none."""
    value, interval = estimate
    shown = number(value, digits=digits).text
    ends = [] if interval is None else [number(end, digits=digits).text for end in interval]
    return f"{shown} [{', '.join(ends)}]" if ends else shown


def comparison_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Returns the tables of final values, of probabilities of improvement, and of costs if there are any."""
    tables = final_table(comparison), improvement_table(comparison)
    return tables if comparison.threshold is None else (*tables, cost_table(comparison, comparison.threshold))


def final_table(comparison: Comparison) -> Table:
    """Returns the final values of every group, the best first, and below them the groups that have none."""
    rows = []
    for rank, contender in enumerate([*comparison.ranked, *comparison.unranked], 1):
        several = bool(contender.runs)
        rows.append(
            (
                count(rank) if several else text(None),
                text(contender.label),
                count(len(contender.runs)),
                count(len(contender.left_out)),
                number(float(contender.final.mean())) if several else text(None),
                _estimate(contender.score),
                _mean_count([run["actual_timesteps"] for run in contender.runs]),
                seconds(float(np.mean([run["training_time_seconds"] for run in contender.runs])))
                if several
                else text(None),
            )
        )
    level = f"{comparison.question.bootstrap.level:.0%}"
    headers = ("rank", "settings", "seeds", "left out", "mean", f"IQM [{level} interval]", "steps", "time")
    return Table(headers, rows, f"Final values: {comparison.contest.name}", " ".join(_final_notes(comparison)))


def improvement_table(comparison: Comparison) -> Table:
    """Returns the probability that a run of the row is better than one of the column, of the `MOST_COMPARED` best."""
    ranked = comparison.ranked[:MOST_COMPARED]
    rows = []
    for rank, first in enumerate(ranked, 1):
        pairs = [None if first is second else comparison.improvement[first.place, second.place] for second in ranked]
        rows.append((count(rank), text(first.label), *(_estimate(pair, 2) for pair in pairs)))
    headers = ("rank", "settings", *(f"over {rank}" for rank in range(1, len(ranked) + 1)))
    note = (
        "The chance that a run of the row is better than one of the group of that rank, ties counted half. There is no "
        "interval where either has one seed; where every run of one beats every run of the other it is a point, "
        "however few the seeds."
    )
    if len(comparison.ranked) > MOST_COMPARED:
        note += f" Shown are the best {MOST_COMPARED} of {len(comparison.ranked)} groups."
    return Table(headers, rows, f"Probability of improvement: {comparison.contest.name}", note)


def cost_table(comparison: Comparison, threshold: float) -> Table:
    """Returns what it cost the runs of each group to reach `threshold`, that of the comparison."""
    rows = []
    for rank, contender in enumerate(comparison.ranked, 1):
        costs = comparison.costs_of(contender)
        reached = sum(cost is not None for cost in costs)
        steps, time = median_cost(costs) if costs else (math.nan, math.nan)
        missing = _NOT_REACHED if costs else text(None)
        rows.append(
            (
                count(rank),
                text(contender.label),
                Cell(f"{reached} of {len(costs)}", reached / len(costs)) if costs else text(None),
                count(round(steps)) if math.isfinite(steps) else missing,
                seconds(time) if math.isfinite(time) else missing,
            )
        )
    question = comparison.question
    what = "the evaluation" if question.window == 1 else f"the mean of {question.window} evaluations"
    relation = "at most" if question.minimize else "at least"
    source = (
        "as given"
        if question.threshold is not None
        else "where the middle group ends (of two groups the weaker), so that half of them or more end there or better"
    )
    note = (
        f"Up to the first time that {what} is {relation} {threshold:.4f}: {source}. Medians over the seeds, where one "
        "that never got there counts as infinite. The time includes evaluations."
    )
    if not all(comparison.costs_of(contender) for contender in comparison.ranked):
        note += " Blank are groups that did not evaluate it often enough in training."
    headers = ("rank", "settings", "seeds that reached it", "steps", "time")
    return Table(headers, rows, f"Cost to reach {threshold:.4f}: {comparison.contest.name}", note)


def _final_notes(comparison: Comparison) -> Iterator[str]:
    better = "the smaller the better" if comparison.question.minimize else "the larger the better"
    metric = comparison.question.metric.removeprefix("final_metrics.")
    yield f"{metric}, {better}. Steps and time are means over the seeds."
    contenders: Sequence[Contender] = [*comparison.ranked, *comparison.unranked]
    left_out = [run for contender in contenders for run in contender.left_out]
    unfinished = [run for run in left_out if run["status"] != "completed"]
    lacking = [run for run in left_out if run["status"] == "completed"]
    if unfinished:
        yield f"Left out because they did not finish: {_named(unfinished)}."
    if lacking:
        yield f"Left out because they lack the metric: {_named(lacking)}."
    if comparison.threshold is None:
        often = "" if comparison.question.window == 1 else f" {comparison.question.window} times"
        yield f"No run evaluated it in training{often}, so nothing is said of what a level costs."


def _named(runs: Sequence[Metadata]) -> str:
    names = [f"{run['run_id']} ({run['status']})" for run in runs[:_MOST_NAMED]]
    more = len(runs) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _estimate(estimate: Estimate | None, digits: int = 4) -> Cell:
    return text(None) if estimate is None else Cell(interval_text(estimate, digits), estimate.value)


def _mean_count(values: Sequence[int]) -> Cell:
    return count(round(float(np.mean(values)))) if values else text(None)

"""`bargain-eval compare`: algorithms against each other over several seeds each, as tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.table import Table

from bargain_eval.commands.common import console
from bargain_eval.files import dump_json
from bargain_eval.results import DEFAULT_METRIC
from bargain_eval.results.layout import Metadata
from bargain_eval.results.views import (
    LOWER_BOUND_WARNING,
    final_metric_names,
    game_name,
    metric_value,
    opponent_and_seat,
)

if TYPE_CHECKING:
    from bargain_eval.comparison.stored import Comparison, Contender
    from bargain_eval.report import content
    from bargain_eval.report.runs import Contest

_LABEL_WIDTH = 28
"""Columns that a label of a group keeps beside many numbers."""
_NAMES = 2
"""The first columns, which say what a row is about: its rank and settings."""
_PADDING = 3
"""Columns that a printed cell takes beside its text."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Compare algorithms, or settings of one, by stored runs of several seeds each.

    Runs that differ in nothing but the seed are one group; a seed counts once, with its newest finished run. Printed
    are the final values of each group with their interquartile mean and its interval, the probability that a run of one
    group is better than one of another, and the steps and seconds that each needed to reach a threshold. Games are
    never mixed: each has tables of its own, and so have runs against one fixed opponent. Runs that did not finish are
    left out, and named.

    For instance
        bargain-eval compare
        bargain-eval compare --game mini-b --metric final_metrics.nash_conv --minimize
        bargain-eval compare --threshold 0.55 --window 3 --json
    """

    inputs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Folders of runs, folders of one run, or run ids (default: everything in --results-dir)."""
    metric: str = DEFAULT_METRIC
    """The dotted name of a number that runs end with; larger is better, unless --minimize. Curves and costs are of the
    evaluations in training, so they are there for final metrics which these measure too."""
    minimize: bool = False
    """The smaller the better, as of final_metrics.nash_conv on small games and final_metrics.nash_conv_upper on large
    ones."""
    threshold: float | None = None
    """The level whose cost is compared (default: where the middle group ends, of two groups the weaker one, so that at
    least half of the groups end there or better)."""
    window: Annotated[int, Field(ge=1)] = 1
    """Successive evaluations whose mean has to reach the threshold; more than 1 does not count a lucky one."""
    game: str | None = None
    """Only this game, as `bargain-eval results --list` shows it, e.g. default (default: every game, one by one)."""
    bootstrap: Annotated[int, Field(ge=1)] = 2000
    """Resamples of the seeds behind the intervals."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence level of the intervals."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the resamples."""
    results_dir: Path = Path("results")
    """The folder of stored runs, for run ids, and for everything if no input is named."""
    json: bool = False
    """Print one JSON object, with the curves, instead of tables."""


def compare(options: CompareOptions) -> int:
    """Compares the runs that `options` names, contest by contest, and prints the result; returns the exit code 0.

    Raises:
        ValueError: If an input is no run and no folder of runs, or in no contest two groups have finished runs.
    """
    from bargain_eval.comparison.statistics import Bootstrap
    from bargain_eval.comparison.stored import Question, compare_groups
    from bargain_eval.report.comparison_tables import comparison_tables
    from bargain_eval.report.data import find_runs
    from bargain_eval.report.runs import contests

    question = Question(
        options.metric,
        options.minimize,
        options.threshold,
        options.window,
        Bootstrap(options.bootstrap, options.level, options.seed),
    )
    runs = find_runs(options.inputs, options.results_dir)
    listed = contests(run for run in runs if options.game in (None, game_name(run)))
    found = {contest.name: compare_groups(contest, question) for contest in listed}
    comparisons = [comparison for comparison in found.values() if comparison is not None]
    if not comparisons:
        raise ValueError(_nothing(options, runs, listed))
    skipped = [name for name, comparison in found.items() if comparison is None]
    if options.json:
        outcome = {
            **{name: getattr(options, name) for name in ("metric", "minimize", "window", "bootstrap", "level", "seed")},
            "contests": [_outcome(comparison) for comparison in comparisons],
            "skipped": skipped,
        }
        sys.stdout.write(dump_json(outcome) + "\n")
        return 0
    screen = console()
    for comparison in comparisons:
        for table in comparison_tables(comparison):
            for part in _printed(table, screen.width):
                screen.print(part)
            screen.print(table.note, soft_wrap=False)
            screen.print()
    if options.minimize and options.metric == "final_metrics.nash_conv_lower":
        screen.print(LOWER_BOUND_WARNING)
    for name in skipped:
        screen.print(f"Not compared: {name}, where less than two groups have finished runs with {options.metric}.")
    return 0


def _nothing(options: CompareOptions, runs: Sequence[Metadata], listed: Sequence[Contest]) -> str:
    """Returns why nothing can be compared."""
    where = ", ".join(options.inputs) or str(options.results_dir)
    if not runs:
        return f"there is no stored run in {where}."
    if not listed:
        games = ", ".join(sorted({game_name(run) for run in runs}))
        return f"there is no run of game {options.game!r} in {where}; those there play {games}."
    finished = [run for contest in listed for run in contest.runs if run["status"] == "completed"]
    known = final_metric_names(finished)
    if known and all(metric_value(run, options.metric) is None for run in finished):
        return f"no finished run in {where} has the metric {options.metric}; those there have {', '.join(known)}."
    return (
        f"nothing can be compared in {where}: a comparison needs finished runs with {options.metric} of two algorithms "
        "or settings on one game."
    )


def _printed(table: content.Table, width: int) -> Iterator[Table]:
    """Yields the table in as many parts as fit into `width` columns, each with the ranks and settings."""
    texts = [(header, *(row[k].text for row in table.rows)) for k, header in enumerate(table.headers)]
    most = [width if numeric else _LABEL_WIDTH for numeric in table.numeric]
    longest = [min(max(map(len, column)), limit) for column, limit in zip(texts, most, strict=True)]
    parts: list[list[int]] = [[]]
    for k in range(_NAMES, len(table.headers)):
        beside = (*range(_NAMES), *parts[-1], k)
        if parts[-1] and sum(longest[j] + _PADDING for j in beside) >= width:
            parts.append([])
        parts[-1].append(k)
    for part in parts:
        printed = Table(title=table.title, title_justify="left")
        shown = (*range(_NAMES), *part)
        for k in shown:
            numeric = table.numeric[k]
            printed.add_column(
                table.headers[k],
                justify="right" if numeric else "left",
                overflow="fold",
                min_width=None if numeric else longest[k],
            )
        for row in table.rows:
            printed.add_row(*(row[k].text for k in shown))
        yield printed


def _outcome(comparison: Comparison) -> dict[str, Any]:
    """Returns a comparison in JSON's types, the best group first."""
    run = comparison.contest.runs[0]
    opponent, seat = opponent_and_seat(run)
    ranked = [contender.place for contender in comparison.ranked]
    pairs = [[comparison.improvement.get((first, second)) for second in ranked] for first in ranked]
    return {
        "contest": comparison.contest.name,
        "game": game_name(run),
        "opponent": opponent,
        "seat": seat,
        "threshold": comparison.threshold,
        "groups": [_group(contender, comparison) for contender in (*comparison.ranked, *comparison.unranked)],
        "improvement": [[None if pair is None else pair.value for pair in row] for row in pairs],
        "improvement_ci": [[None if pair is None else pair.interval for pair in row] for row in pairs],
    }


def _group(contender: Contender, comparison: Comparison) -> dict[str, Any]:
    from bargain_eval.comparison.curves import median_cost

    score, curve, costs = contender.score, contender.curve, comparison.costs_of(contender)
    median = median_cost(costs) if costs else None
    return {
        "label": contender.label,
        "algorithm": comparison.contest.groups[contender.place].runs[0]["algorithm"],
        "mean": contender.final.mean() if contender.runs else None,
        "iqm": None if score is None else score.value,
        "iqm_ci": None if score is None else score.interval,
        "evaluated": len(costs),
        "reached": sum(cost is not None for cost in costs),
        "median_steps": None if median is None else median.steps,
        "median_seconds": None if median is None else median.seconds,
        "runs": [
            {
                "run_id": run["run_id"],
                "seed": run["seed"],
                "final": value,
                "steps_to_threshold": None if (cost := comparison.costs.get(run["run_id"])) is None else cost.steps,
                "seconds_to_threshold": None if cost is None else cost.seconds,
            }
            for run, value in zip(contender.runs, contender.final, strict=True)
        ],
        "left_out": {run["run_id"]: run["status"] for run in contender.left_out},
        "curve": None if curve is None else vars(curve),
    }

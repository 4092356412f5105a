"""The sections that compare groups of runs: final values, probability of improvement, curves, and cost to a level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bargain_eval.comparison.curves import held
from bargain_eval.comparison.stored import Comparison, Contender, Question, compare_groups
from bargain_eval.report import comparison_drawings
from bargain_eval.report.comparison_tables import MOST_COMPARED, cost_table, final_table, improvement_table
from bargain_eval.report.content import Cell, Figure, Section, Table, count, number, text
from bargain_eval.report.runs import contests
from bargain_eval.results.layout import Metadata

_UNIT = "payoff"
_TABLE_STEPS = 8


def comparison_sections(runs: Sequence[Metadata], threshold: float | None = None) -> Iterator[Section]:
    """Yields a section for each contest in which two or more groups have finished runs, by the leaderboard's metric.

    Args:
        runs: The stored runs.
        threshold: The level whose cost is shown; None is that of `comparison.stored.default_threshold`.
    """
    question = Question(threshold=threshold)
    found = [compared for contest in contests(runs) if (compared := compare_groups(contest, question)) is not None]
    for index, comparison in enumerate(found, 1):
        title = f"Comparison: {comparison.contest.name}" if len(found) > 1 else "Comparison"
        yield _section(f"comparison-{index}", title, comparison)


def _section(name: str, title: str, comparison: Comparison) -> Section:
    bootstrap = comparison.question.bootstrap
    words = (
        "By the payoff that the leaderboard ranks by, one finished run for each seed. IQM: interquartile mean, of the "
        "middle half of the seeds (of n, floor(n / 4) are cut at either end, so up to three it is the mean). "
        f"Intervals and bands: {bootstrap.level:.0%}, by {bootstrap.resamples:,} resamples of the seeds. With fewer "
        "than five seeds they are too narrow: of three they hold about three times in four, of two every other time, "
        "and of one there are none.",
    )
    figures = [_final_figure(f"{name}-final", comparison)]
    drawn = [contender for contender in comparison.ranked[:MOST_COMPARED] if _has_curve(contender)]
    if drawn:
        figures.append(_curves_figure(f"{name}-curves", comparison, drawn))
    tables = [improvement_table(comparison)]
    if comparison.threshold is not None:
        tables.append(cost_table(comparison, comparison.threshold))
    return Section(name, title, words, (final_table(comparison),), tuple(figures), tuple(tables))


def _has_curve(contender: Contender) -> bool:
    return contender.curve is not None and len(contender.curve.steps) > 1


def _final_figure(name: str, comparison: Comparison) -> Figure:
    ranked = comparison.ranked[:MOST_COMPARED]
    best = ranked[0]
    alt = (
        f"Final payoffs of {len(ranked)} groups of runs on {comparison.contest.name}, with intervals; the best is "
        f"{best.label}."
    )
    caption = "Dots: the seeds. Diamond: their IQM. Bar: its interval."
    picture = comparison_drawings.final_values(name, alt, ranked, _UNIT)
    rows = [
        (text(contender.label), count(run["seed"]), number(value))
        for contender in comparison.ranked
        for run, value in zip(contender.runs, contender.final.tolist(), strict=True)
    ]
    return Figure(name, "Seeds and intervals", caption, alt, picture, Table(("settings", "seed", _UNIT), rows))


def _curves_figure(name: str, comparison: Comparison, drawn: Sequence[Contender]) -> Figure:
    alt = f"Curves of the evaluated payoff over training of {len(drawn)} groups of runs on {comparison.contest.name}."
    caption = (
        "Line: IQM over the seeds, on the validation deals; band: its pointwise interval. A curve ends where the first "
        "of its seeds ends."
    )
    picture = comparison_drawings.compared_curves(name, alt, drawn, _UNIT, comparison.threshold)
    return Figure(name, "Evaluations over training", caption, alt, picture, _curves_table(drawn))


def _curves_table(drawn: Sequence[Contender]) -> Table:
    """Returns the curves at the same steps for all; empty where a curve has not begun or has ended."""
    curves = [(contender.label, contender.curve) for contender in drawn if contender.curve is not None]
    last = max(curve.steps[-1] for _, curve in curves)
    rows = []
    for step in np.unique(np.linspace(0, last, _TABLE_STEPS + 1)[1:].round()):
        cells = []
        for _, curve in curves:
            lines = (curve.iqm, curve.low, curve.high)
            value, low, high = (None if line is None else float(held(curve.steps, line, [step])[0]) for line in lines)
            cells.append(_with_band(value, low, high))
        rows.append((count(int(step)), *cells))
    return Table(
        ("steps", *(label for label, _ in curves)), rows, note="IQM [interval], of the last evaluation until then."
    )


def _with_band(value: float | None, low: float | None, high: float | None) -> Cell:
    cell, ends = number(value), [number(end).text for end in (low, high)]
    return Cell(f"{cell.text} [{', '.join(ends)}]", cell.key) if all(ends) else cell

"""The sections about stored runs: leaderboard, learning curves, populations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from bargain_env.spec import GameSpec

from bargain_eval.arena import FIRST_BEST_TOTAL
from bargain_eval.measures import walk_value
from bargain_eval.report import run_drawings
from bargain_eval.report.content import Cell, Figure, Section, Table, count, number, text
from bargain_eval.report.curves import CURVES, LOGARITHMIC, POPULATIONS, Curve, learning_curves, population_timeline
from bargain_eval.report.runs import Contest, contests, leaderboards
from bargain_eval.results.layout import Metadata
from bargain_eval.results.views import is_one_seat

_TABLE_STEPS = 8
_LEADERBOARD_WORDS = (
    "Payoff: share of the own total, mean over both seats against the fixed pool (of runs against one opponent: "
    "against it), on the same held-out deals for every run of a game. Its error is over seeds, or over deals where "
    "there is one seed; of several runs of one seed the newest finished one counts. NashConv: what both seats together "
    "could still gain by a best response, exact on small games, else from a lower to an upper bound (each holds with "
    "95 %), or >= a lower bound where there is no upper one; 0 in an equilibrium, a dash where it was not measured. "
    "Seat 0 to decisions: in self-play. A click on a heading sorts by it."
)


def run_sections(runs: Sequence[Metadata]) -> Iterator[Section]:
    """Yields the sections about `runs`; a section with nothing to show is left out."""
    if not runs:
        return
    listed = contests(runs)
    tables = [table for contest in listed for table in leaderboards(contest) if table.rows]
    yield Section(
        "leaderboard",
        "Leaderboard",
        (_LEADERBOARD_WORDS,),
        tables=tuple(tables),
    )
    figures = [figure for index, contest in enumerate(listed) if (figure := _curves_figure(index, contest))]
    if figures:
        yield Section("learning-curves", "Learning curves", figures=tuple(figures))
    populations = [figure for run in runs if (figure := _population_figure(run))]
    if populations:
        words = "Who is in the population of each seat, and how much of the seat's mixture each member is."
        yield Section("population", "Populations over time", (words,), figures=tuple(populations))


def _curves_figure(index: int, contest: Contest) -> Figure | None:
    groups = {group.label: curves for group in contest.groups if (curves := learning_curves(group))}
    if not groups:
        return None
    seeds = {group.label: len(group.seeds) for group in contest.groups}
    labelled = {f"{label} ({_seeds(seeds[label])})": curves for label, curves in groups.items()}
    name = f"learning-curves-{index + 1}"
    alt = f"Learning curves of {len(groups)} groups of runs on {contest.name}."
    caption = (
        "Line: mean over the seeds; band: from the smallest to the largest seed; of several runs of one seed the "
        "newest finished one counts. In training games, averaged over equal parts of the budget. Dotted: what both "
        "seats earn by walking at once, and benchmarks of the game."
    )
    if any(LOGARITHMIC & curves.keys() for curves in groups.values()):
        caption += " NashConv: of the evaluated policies, on a logarithmic axis; less than 0.00001 is drawn as that."
    picture = run_drawings.learning_curves(name, alt, labelled, _levels(contest))
    return Figure(name, contest.name.capitalize(), caption, alt, picture, _curves_table(groups))


def _seeds(number_of_runs: int) -> str:
    return "1 seed" if number_of_runs == 1 else f"{number_of_runs} seeds"


def _levels(contest: Contest) -> dict[str, dict[str, float]]:
    spec = GameSpec.from_dict(contest.runs[0].get("env_config") or {})
    walk, _ = walk_value(spec)
    levels = {"total": {"walk": 2 * walk}, "payoff_0": {"walk": walk}, "payoff_1": {"walk": walk}}
    if spec.same_game(GameSpec()) and not is_one_seat(contest.runs[0]):
        levels["total"] |= {"TIOLI": 1.22168, "first-best": FIRST_BEST_TOTAL}
        levels["payoff_0"]["TIOLI"], levels["payoff_1"]["TIOLI"] = 0.634137, 0.58754
        levels["agreement_rate"] = {"TIOLI": 0.34549}
    return levels


def _curves_table(groups: dict[str, dict[str, Curve]]) -> Table:
    metrics = [metric for metric in CURVES if any(metric in curves for curves in groups.values())]
    rows = []
    for label, curves in groups.items():
        grid = next(iter(curves.values())).steps
        for point in np.linspace(0, len(grid) - 1, _TABLE_STEPS).round().astype(int).tolist():
            cells = [
                _mean_and_range(curves.get(metric), point, 4 if metric in LOGARITHMIC else 3) for metric in metrics
            ]
            rows.append((text(label), count(round(grid[point])), *cells))
    return Table(("settings", "steps", *(CURVES[metric] for metric in metrics)), rows, note="Mean (smallest, largest).")


def _mean_and_range(curve: Curve | None, point: int, digits: int) -> Cell:
    if curve is None:
        return text(None)
    mean, (low, high) = curve.mean()[point], curve.band()
    cell = number(float(mean), digits=digits)
    several = len(curve.seeds) > 1 and cell.text
    return Cell(f"{cell.text} ({low[point]:.{digits}f}, {high[point]:.{digits}f})", cell.key) if several else cell


def _population_figure(run: Metadata) -> Figure | None:
    timelines: dict[str, Any] = {}
    for seat, metric in enumerate(POPULATIONS):
        if (timeline := population_timeline(run, metric)) is not None:
            timelines[f"seat {seat}"] = timeline
    if not timelines:
        return None
    name = f"population-{run['run_id']}"
    alt = f"Shares of the members of the population of {run['run_id']} over time."
    caption = "Each band is one member, the oldest at the bottom and darkest; its height is its share in the mixture."
    rows = [
        (text(seat), text(member), count(steps[int(np.argmax(shares[k] > 0))]), number(float(shares[k, -1])))
        for seat, (steps, members, shares) in timelines.items()
        for k, member in enumerate(members)
    ]
    table = Table(("seat", "member", "entered at step", "last share"), rows)
    return Figure(name, run["run_id"], caption, alt, run_drawings.population(name, alt, timelines), table)

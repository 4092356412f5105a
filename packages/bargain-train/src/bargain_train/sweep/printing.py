"""What `bargain-train sweep` says."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bargain_eval.commands.common import console
from rich.box import SIMPLE_HEAD
from rich.table import Table

from bargain_train.sweep.plan import Plan
from bargain_train.sweep.study import TRIALS, Study

if TYPE_CHECKING:
    from bargain_train.sweep.comparison import Ended

_BEST_SHOWN = 10


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def shown(values: Mapping[str, Any]) -> str:
    """Returns the values of a trial in one line."""
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def print_trials(plan: Plan, study: Study, folder: Path, best_file: Path) -> None:
    """Prints the best trials, the command that trains with the best, and how many trials are not complete."""
    rows, best = study.rows(), study.best_first()
    if best:
        table = Table(title=f"The best {min(_BEST_SHOWN, len(best))} of {len(best)} complete trials", box=SIMPLE_HEAD)
        for heading in ("trial", plan.objective, "settings"):
            table.add_column(heading, justify="left" if heading == "settings" else "right", overflow="fold")
        for row in best[:_BEST_SHOWN]:
            table.add_row(str(row["trial"]), f"{row['objective']:.4f}", shown(row["values"]))
        console().print(table)
        say(f"The best is run {' and '.join(best[0]['runs'].values())}.")
        say(f"Train with its settings: bargain-train {plan.algorithm} --config {shlex.quote(str(best_file))}")
    pruned, running, failed = (sum(row["state"] == state for row in rows) for state in ("pruned", "running", "failed"))
    if pruned:
        say(f"Pruned trials: {pruned}; their runs are stored as interrupted.")
    if running:
        say(f"Trials in the hands of other processes: {running}.")
    if failed:
        say(f"Failed trials: {failed}; {folder / TRIALS} says why.")


def print_comparison(ended: Sequence[Ended]) -> None:
    """Prints a line for each algorithm: means over its complete runs, with the standard deviation between seeds."""
    table = Table(title="Mean over seeds, ± standard deviation between them", box=SIMPLE_HEAD)
    for heading in ("algorithm", "runs", "payoff", "total", "deals", "NashConv", "steps", "minutes"):
        table.add_column(heading, justify="left" if heading == "algorithm" else "right", no_wrap=True)
    for algorithm in dict.fromkeys(one.cell.algorithm for one in ended):
        own = [one for one in ended if one.cell.algorithm == algorithm]
        runs = [one.run for one in own if one.state == "complete" and one.run is not None]
        metrics = [run["final_metrics"] for run in runs]
        steps = [run["actual_timesteps"] for run in runs]
        minutes = [run["training_time_seconds"] / 60 for run in runs]
        table.add_row(
            algorithm,
            f"{len(runs)} of {len(own)}",
            _mean(metrics, "pool_payoff"),
            _mean(metrics, "total"),
            _mean(metrics, "agreement_rate"),
            _nash_conv(metrics),
            f"{statistics.fmean(steps):,.0f}" if steps else "",
            f"{statistics.fmean(minutes):.1f}" if minutes else "",
        )
    console().print(table)


def _mean(metrics: Sequence[Mapping[str, Any]], name: str) -> str:
    """Returns the mean of a metric over the runs; "" if one of them has none."""
    numbers = [one.get(name) for one in metrics]
    if not numbers or None in numbers:
        return ""
    known = [float(number) for number in numbers if number is not None]
    between = f" ± {statistics.stdev(known):.4f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.4f}{between}"


def _nash_conv(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Returns the mean NashConv, else those of its bounds."""
    if exact := _mean(metrics, "nash_conv"):
        return exact
    lower, upper = (_mean(metrics, f"nash_conv_{end}").partition(" ")[0] for end in ("lower", "upper"))
    return f"{lower} .. {upper}" if upper else (f">= {lower}" if lower else "")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

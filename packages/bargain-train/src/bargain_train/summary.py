"""What a training command says when it ends."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bargain_train.run import Run

_PIPE_WIDTH = 120


def print_summary(run: Run) -> None:
    """Prints the final evaluation against each baseline and its NashConv, and where the run lies."""
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    say = functools.partial(console.print, markup=False)
    record, minutes = run.record, run.record.metadata["training_time_seconds"] / 60
    say(f"\n{run.step:,} steps, {run.updates} updates, {minutes:.1f} minutes.")
    folder = "" if run.config.results_dir == "results" else f" --results-dir {run.config.results_dir}"
    if not run.finished:
        say(f"Interrupted. Go on with: bargain-train {run.algorithm} --resume {record.run_id}{folder}")
    if run.evaluation is not None:
        console.print(_table(run.evaluation))
        play = run.evaluation["self_play"]
        if play is not None:
            say(
                f"Self-play: seat 0 {play['payoff_0']:.4f}, seat 1 {play['payoff_1']:.4f}, total {play['total']:.4f}"
                f" ± {play['total_se'] or 0:.4f}; {play['agreement_rate']:.1%} of games end in a deal."
            )
        if found := nash_conv_sentence(run.evaluation["nash_conv"]):
            say(found)
        if "nash_conv_lower" in run.evaluation["nash_conv"]:
            say(
                f"Tighter bounds, or why there is none: bargain-eval best-response --policy run:{record.run_id}{folder}"
            )
        for name, reason in run.evaluation["left_out"].items():
            say(f"Without {name}: {reason}")
    say(f"Run {record.run_id} in {record.path}")
    say(f"Look at it with: bargain-eval results --show {record.run_id}{folder}")


def nash_conv_sentence(found: Mapping[str, float | None]) -> str:
    """Returns what `measure_nash_conv` found as one sentence; nothing if nothing was measured."""
    exact, lower, upper = (found.get(f"nash_conv{end}") for end in ("", "_lower", "_upper"))
    if exact is not None:
        return f"NashConv {exact:.4f} (exact)."
    if lower is None:
        return ""
    bounds = f"at least {lower:.4f}" if upper is None else f"between {lower:.4f} and {upper:.4f}"
    return f"NashConv {bounds} (95 %)."


def _table(evaluation: dict[str, Any]) -> Table:
    seats = evaluation["seats"]
    table = Table(title=f"Payoff (share of own total) on {evaluation['num_games']:,} held-out deals")
    table.add_column("opponent")
    for seat in seats:
        table.add_column(f"as seat {seat}", justify="right")
        table.add_column("(opponent)", justify="right")
    for name, cells in evaluation["opponents"].items():
        numbers = []
        for seat in seats:
            cell = cells[f"seat_{seat}"]
            numbers.append(f"{cell['payoff']:.4f} ± {cell['payoff_se'] or 0:.4f}")
            numbers.append(f"{cell['opponent_payoff']:.4f}")
        table.add_row(Text(name), *numbers)
    table.add_section()
    table.add_row("mean", f"{evaluation['pool_payoff']:.4f} ± {evaluation['pool_payoff_se'] or 0:.4f}")
    return table

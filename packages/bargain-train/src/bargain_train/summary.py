"""What a training command says when it ends."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bargain_train.run import Run


def print_summary(run: Run) -> None:
    """Prints the final evaluation against each baseline, and where the run lies."""
    console = Console(highlight=False, soft_wrap=True)
    record, minutes = run.record, run.record.metadata["training_time_seconds"] / 60
    console.print(f"\n{run.step:,} steps, {run.updates} updates, {minutes:.1f} minutes.")
    if run.stopped:
        console.print(f"Interrupted. Go on with: bargain-train {run.algorithm} --resume {record.run_id}")
    if run.evaluation is not None:
        console.print(_table(run.evaluation))
        play = run.evaluation["self_play"]
        if play is not None:
            console.print(
                f"Self-play: seat 0 {play['payoff_0']:.4f}, seat 1 {play['payoff_1']:.4f}, total {play['total']:.4f}"
                f" ± {play['total_se']:.4f}; {play['agreement_rate']:.1%} of games end in a deal."
            )
        for name, reason in run.evaluation["left_out"].items():
            console.print(f"Without {name}: {reason}")
    console.print(f"Run {record.run_id} in {record.path}")
    console.print(f"Look at it with: bargain-eval results --show {record.run_id} --results-dir {run.config.results_dir}")


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
        table.add_row(name, *numbers)
    table.add_section()
    table.add_row("mean", f"{evaluation['pool_payoff']:.4f} ± {evaluation['pool_payoff_se'] or 0:.4f}")
    return table

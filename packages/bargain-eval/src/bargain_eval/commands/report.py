"""`bargain-eval report`: stored runs and cross-play matrices as one HTML page."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from bargain_eval.commands.common import console, progress, silent_libraries
from bargain_eval.files import dump_json, replace_file


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Write stored runs and cross-play matrices as one HTML page to look at.

    The page needs nothing but a browser: no network, no other file. It shows, as far as the inputs have it: the
    leaderboard, learning curves with bands over seeds, populations over time, algorithms compared over seeds; and of
    each cross-play file the payoffs of both seats, welfare against fairness with what the game allows, equilibrium
    mixtures, regrets, agreement rates, game lengths, and a sample of the games to read move by move. Every figure has
    its numbers beside it. The same inputs give the same file, byte for byte.

    For instance
        bargain-eval report results/report.html
        bargain-eval report page.html results/crossplay_matrix.json
        bargain-eval report page.html ppo_20260101_120000_seed1 ppo_20260101_120000_seed2
    """

    out: tyro.conf.Positional[Path]
    """The HTML file to write; an existing one is replaced."""
    inputs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Cross-play files, folders of runs, folders of one run, or run ids (default: everything in --results-dir)."""
    results_dir: Path = Path("results")
    """The folder of stored runs, for run ids, and for everything if no input is named."""
    title: str = "Bargaining report"
    """The heading of the page."""
    games: Annotated[int, Field(ge=2, le=1000)] = 20
    """Games to read of each pair of policies; matrices of many policies show fewer."""
    solvers: tuple[str, ...] = ()
    """How the meta-game is solved, e.g. max_welfare cce; regrets are those of the first (default: all, mene first,
    which can take a minute with 20 policies)."""
    threshold: float | None = None
    """The payoff of evaluations whose cost in steps and seconds is compared (default: where the middle group of runs
    ends, of two groups the weaker one)."""
    json: bool = False
    """Print one JSON object instead of a sentence."""


def report(options: ReportOptions) -> int:
    """Writes the page that `options` asks for and says where; returns the exit code 0.

    Raises:
        ValueError: If an input is nothing that can be shown, or the file cannot be written there.
    """
    _check_out(options.out)
    from bargain_eval.report.crossplay_sections import Choices
    from bargain_eval.report.data import find
    from bargain_eval.report.page import report_page

    source = find(options.inputs, options.results_dir)
    choices = Choices(options.games, options.solvers, progress)
    with silent_libraries():
        text = report_page(
            source, title=options.title, command=_command(options), choices=choices, threshold=options.threshold
        )
    page = text.encode()
    with replace_file(options.out) as file:
        file.write(page)
    path = options.out.resolve()
    if options.json:
        outcome = {"path": path, "bytes": len(page), "runs": len(source.runs), "crossplays": len(source.crossplays)}
        sys.stdout.write(dump_json(outcome) + "\n")
    else:
        console().print(
            f"Wrote {path} ({len(page) / 1e3:,.0f} kB): {len(source.runs)} runs, {len(source.crossplays)} cross-plays."
        )
    return 0


def _check_out(out: Path) -> None:
    if out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"the report cannot be written to {out}: name a file in an existing folder.")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"the report is an HTML page: {str(out)!r} must end in '.html'.")


def _command(options: ReportOptions) -> str:
    """Returns the command line, without the name of the file, so that the page does not depend on it."""
    words = ["bargain-eval", "report", "OUT.html", *options.inputs]
    flags = {
        "--results-dir": Path("results"),
        "--title": "Bargaining report",
        "--games": 20,
        "--solvers": (),
        "--threshold": None,
    }
    for flag, default in flags.items():
        value = getattr(options, flag[2:].replace("-", "_"))
        if value != default:
            words += [flag, *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)

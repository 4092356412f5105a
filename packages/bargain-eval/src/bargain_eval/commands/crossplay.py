"""`bargain-eval crossplay`: every policy against every policy, as tables and files."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bargain_eval.commands.common import PlayOptions, console, progress
from bargain_eval.commands.model_tables import estimate_summary, print_estimate, print_models
from bargain_eval.crossplay import CallOptions, Crossplay, CrossplayFailed, estimate_calls, make_plan
from bargain_eval.crossplay import crossplay as play_crossplay
from bargain_eval.crossplay.matrix import calls_path
from bargain_eval.crossplay.plan import Plan
from bargain_eval.files import dump_json, replace_file
from bargain_eval.llm.prices import read_prices

_DEFAULT = ("random", "greedy", "always_walk", "fair_split", "tioli")
_DIGITS, _PADDING = 6, 3  # widths of "0.1234" and of what stands between two columns


@dataclass(frozen=True, kw_only=True)
class CrossplayOptions(PlayOptions):
    """Play every ordered pair of policies on the same deals, and write the payoff table and all games.

    A policy plays both seats against all policies, itself included, so n policies give n * n cells. Any policy string
    may stand in any of the three lists, which only group the policies in the output. Without any list the simple
    policies play: random greedy always_walk fair_split tioli.

    The table is written to OUTPUT as JSON, the games to a file beside it, and finished cells are stored at once: a run
    that was killed goes on with the same command and plays nothing twice. The same policies, game and seed give the
    same files, byte for byte, on any number of workers. `bargain-eval metagame` and `bargain-eval report` read them.

    Language models are policies too: gpt-5.2-pro, o3, or openai:MODEL?base_url=... of any server. Their answers are
    kept, so that nothing is paid for twice; look at --dry-run before, and limit what is spent by --max-cost.

    For instance
        bargain-eval crossplay
        bargain-eval crossplay --policies pretrained tioli aspiration?beta=.2 --num-games 10000 --workers 2
        bargain-eval crossplay --rl-checkpoints a/best.pt b/best.pt --baselines random greedy fair_split
        bargain-eval crossplay --policies run:RUN_ID --output ours.json --output-csv ours.csv
        bargain-eval crossplay --executor ray --workers 8 --num-games 100000
        bargain-eval crossplay --policies gpt-4o o3?effort=low --baselines random fair_split --num-games 50 --dry-run
    """

    policies: tuple[str, ...] = ()
    """Policy strings NAME[:ARGUMENT][?key=value], e.g. pretrained, tioli, run:RUN_ID."""
    rl_checkpoints: tuple[str, ...] = ()
    """Checkpoint files, e.g. checkpoints/ppo/best.pt."""
    baselines: tuple[str, ...] = ()
    """Simple policies to compare with, e.g. random greedy fair_split."""
    num_games: Annotated[int, Field(ge=1)] = 500
    """Games in each cell."""
    output: Path = Path("results/crossplay_matrix.json")
    """The JSON file to write, X.json; the games go to X.rows.npz."""
    output_csv: Path | None = None
    """Also write the means as CSV: Y.csv gives Y_p0.csv, Y_p1.csv (payoffs of seat 0 and 1) and Y_welfare.csv."""
    executor: Literal["local", "ray", "submitit", "dask"] = "local"
    """Where the cells are played: processes of this machine, a Ray cluster, SLURM, or a Dask cluster."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Cells played at the same time."""
    dry_run: bool = False
    """Ask language models nothing, and print what their calls would cost beside what is stored; writes nothing."""
    max_cost: Annotated[float, Field(ge=0)] | None = None
    """Limit in dollars of what OUTPUT pays for calls, over all its runs; a larger one goes on."""
    max_calls: Annotated[int, Field(ge=0)] | None = None
    """Limit of the calls that OUTPUT pays for, in the same way."""
    calls: Path | None = None
    """The file in which calls are kept, and not paid for again; without it llm_calls.sqlite in --results-dir."""
    prices: Path | None = None
    """A file of prices; without it the one that comes with the package."""
    concurrency: Annotated[int, Field(ge=1)] = 8
    """Calls to one server at the same time, over all workers."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds that a server may be silent before a call is repeated."""


def crossplay(options: CrossplayOptions) -> int:
    """Plays what is missing, prints the tables and returns 0, or 1 if a cell failed or a limit is reached.

    Raises:
        ValueError: If a policy string, a file or an executor does not fit, or calls cannot be made.
    """
    arguments: dict[str, Any] = {
        "policies": options.policies,
        "num_games": options.num_games,
        "seed": options.seed,
        "rl_checkpoints": options.rl_checkpoints,
        "baselines": options.baselines or (() if options.policies or options.rl_checkpoints else _DEFAULT),
        "output": options.output,
        "spec": options.spec(),
        "device": options.device,
        "results_dir": options.results_dir,
        "executor": options.executor,
        "workers": options.workers,
        "calls": CallOptions(
            options.calls, options.max_calls, options.max_cost, options.prices, options.concurrency, options.timeout
        ),
    }
    try:
        if options.dry_run:
            return _dry_run(make_plan(**arguments), options)
        matrix = play_crossplay(**arguments, loop=progress)
    except CrossplayFailed as error:
        sys.stderr.write(f"bargain-eval crossplay: {error}\n")
        return 1
    files = [matrix.path, matrix.rows, *([] if matrix.llm is None else [calls_path(matrix.path)])]
    files += [] if options.output_csv is None else write_csv(matrix, options.output_csv)
    if options.json:
        sys.stdout.write(dump_json(_summary(matrix, files)) + "\n")
    else:
        _print(matrix, files, console())
    return 0


def _dry_run(plan: Plan, options: CrossplayOptions) -> int:
    """Prints what the calls would cost, and returns 0."""
    summary = estimate_summary(estimate_calls(plan, progress), read_prices(options.prices))
    if options.json:
        sys.stdout.write(dump_json(summary) + "\n")
    else:
        print_estimate(summary, console())
    return 0


def write_csv(matrix: Crossplay, path: Path) -> list[Path]:
    """Writes Y_p0.csv, Y_p1.csv and Y_welfare.csv for Y.csv, and returns their paths."""
    mean = matrix.table.mean
    tables = {"p0": mean[:, :, 0], "p1": mean[:, :, 1], "welfare": mean.sum(axis=2)}
    paths = []
    for suffix, table in tables.items():
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["seat 0 \\ seat 1", *matrix.names])
        writer.writerows([name, *row] for name, row in zip(matrix.names, table.tolist(), strict=True))
        paths.append(path.with_name(f"{path.stem}_{suffix}{path.suffix or '.csv'}"))
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        with replace_file(paths[-1]) as file:
            file.write(text.getvalue().encode())
    return paths


def _summary(matrix: Crossplay, files: Sequence[Path]) -> dict[str, Any]:
    averages = matrix.averages()
    return {
        "files": files,
        "game": matrix.spec.to_dict(),
        "seed": matrix.seed,
        "num_games": matrix.num_games,
        "policies": matrix.policies,
        "payoff_matrix": matrix.table.mean,
        "payoff_se": matrix.table.standard_error,
        "averages": {
            name: {
                key: number
                for view, (mean, error) in averages.items()
                for key, number in ((view, mean[k]), (f"{view}_se", error[k]))
            }
            for k, name in enumerate(matrix.names)
        },
        **({} if matrix.llm is None else {"llm": matrix.llm}),
    }


def _print(matrix: Crossplay, files: Sequence[Path], out: Console) -> None:
    first, total = matrix.table.mean[:, :, 0], matrix.table.mean.sum(axis=2)
    games = f"{matrix.num_games:,} games a cell, seed {matrix.seed}"
    out.print(f"Payoff of seat 0 (row) against seat 1 (column); {games}")
    for table in _tables(matrix.names, first, out.width):
        out.print(table)
    out.print("Total payoff of both seats")
    for table in _tables(matrix.names, total, out.width):
        out.print(table)
    out.print("Mean payoff against all policies")
    out.print(_averages(matrix))
    if matrix.llm is not None:
        print_models(matrix.llm, matrix.names, out)
    out.print(f"Written: {', '.join(map(str, files))}")


def _tables(names: Sequence[str], numbers: NDArray[np.float64], width: int) -> Iterator[Table]:
    """Yields a matrix as tables that fit the width; columns that do not fit with their names are numbered."""
    labels = [f"{k} {name}" for k, name in enumerate(names, 1)]
    left = max(map(len, labels)) + _PADDING
    named = left + sum(max(len(name), _DIGITS) + _PADDING for name in names) <= width
    columns = max((width - left) // (_DIGITS + _PADDING), 1) if not named else len(names)
    for start in range(0, len(names), columns):
        part = range(start, min(start + columns, len(names)))
        table = Table(box=SIMPLE_HEAD)
        table.add_column("", no_wrap=True)
        for k in part:
            table.add_column(names[k] if named else str(k + 1), justify="right", no_wrap=True)
        for label, row in zip(labels, numbers, strict=True):
            table.add_row(label, *(f"{row[k]:.4f}" for k in part))
        yield table


def _averages(matrix: Crossplay) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("")
    averages = matrix.averages()
    for view in averages:
        table.add_column(view.replace("_", " "), justify="right", no_wrap=True)
    for k, name in enumerate(matrix.names):
        table.add_row(f"{k + 1} {name}", *(_with_error(mean[k], error[k]) for mean, error in averages.values()))
    return table


def _with_error(mean: float, error: float) -> str:
    return f"{mean:.4f}" if np.isnan(error) else f"{mean:.4f} ± {error:.4f}"

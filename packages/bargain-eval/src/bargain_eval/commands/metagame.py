"""`bargain-eval metagame`: who holds up in equilibrium, what the equilibrium is worth, and who makes it so."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from bargain_eval.commands.common import console, progress, silent_libraries
from bargain_eval.files import dump_json, plain, replace_file, write_json


@dataclass(frozen=True, kw_only=True)
class MetagameOptions:
    """Analyse a cross-play as a game between policies: its equilibrium, everyone's regret, welfare and contribution.

    The policies of a cross-play are the strategies of a game with two seats. In its equilibrium nobody gains by
    changing the policy; the NE-regret of a policy is what a seat loses by playing it instead, 0 for those that the
    equilibrium plays. Printed are the policies by NE-regret, what the equilibrium is worth (welfare, fairness and
    efficiency, measured per game), how other solvers judge, what each policy brings to its partners and to the
    equilibrium of the rest, its Shapley and Banzhaf value, and the negotiation mistakes it makes. Intervals come from
    a bootstrap over training runs (--groups) and deals that solves the game anew each time.

    Everything is written to X.metagame.json, and one line per policy to X.metagame.csv, beside the input X.json. A
    plain table will do as well, without what only games can tell: JSON with policy_names and payoff_matrix, or CSV
    with the columns row, column, payoff_0, payoff_1.

    For instance
        bargain-eval metagame results/crossplay_matrix.json
        bargain-eval metagame results/crossplay_matrix.json --solver max_welfare --bootstrap 0
        bargain-eval metagame matrix.json --groups "ppo=run:ppo*" "nfsp=run:nfsp*" --symmetric --json
    """

    path: tyro.conf.Positional[Path]
    """A cross-play file, or a plain table of payoffs in JSON or CSV."""
    solver: str = "mene"
    """How the equilibrium is chosen, e.g. mene (of largest entropy), max_welfare, replicator, cce, uniform."""
    compare: tuple[str, ...] = ("max_welfare", "cce", "uniform")
    """Further solvers to compare with."""
    bootstrap: Annotated[int, Field(ge=0)] = 200
    """Resamples behind the confidence intervals; 0 for none. Each solves the game anew."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Confidence level of the intervals."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the resamples and of sampled coalitions."""
    groups: tuple[str, ...] = ()
    """NAME=PATTERN: the policies whose names match (* and ? are wild) are training runs of one algorithm NAME."""
    symmetric: bool = False
    """Average both seatings of each pair, so that a policy must hold up in both seats at once."""
    exact_coalitions: Annotated[int, Field(ge=0, le=20)] = 12
    """Policies up to which Shapley and Banzhaf values are exact, solving all 2^n coalitions."""
    coalition_samples: Annotated[int, Field(ge=0)] = 100
    """Samples behind these values beyond that; 0 for none of these values at all."""
    coalition_solver: str = "max_welfare"
    """The equilibrium that a coalition's worth is taken at; the best one of each set by default, which is fast."""
    output: Path | None = None
    """A folder for X.metagame.json and X.metagame.csv, or the name of the JSON file (default: beside the input)."""
    json: bool = False
    """Print one JSON object instead of tables."""


def metagame(options: MetagameOptions) -> int:
    """Analyses `options.path`, writes and prints the result; returns the exit code 0.

    Raises:
        ValueError: If the input is no complete payoff table, a solver is unknown or fails, or the output cannot be
            written there.
    """
    from bargain_eval.commands.metagame_input import read_input
    from bargain_eval.commands.metagame_tables import csv_rows, tables
    from bargain_eval.measures import efficiency
    from bargain_eval.metagame.study import study

    json_path = _output(options)
    read = read_input(options.path, with_samples=options.bootstrap > 0, groups=options.groups, loop=progress)
    result: dict[str, Any] = {
        "format": "bargain-metagame",
        "format_version": 1,
        "input": options.path.name,
        "game": None if read.spec is None else read.spec.to_dict(),
        "num_games": read.num_games,
    }
    with silent_libraries():
        result |= study(
            read.game,
            solver=options.solver,
            symmetric=options.symmetric,
            num_resamples=options.bootstrap,
            level=options.level,
            seed=options.seed,
            exact_limit=options.exact_coalitions,
            coalition_samples=options.coalition_samples,
            coalition_solver=options.coalition_solver,
            sensitivity=options.compare,
            loop=progress,
        )
    result["bounds"] = read.bounds or None
    result["efficiency"] = None
    if read.bounds:
        result["efficiency"] = {
            kind: efficiency(
                result["welfare"][f"utilitarian{suffix}"]["value"],
                read.bounds[f"first_best{suffix}"],
                read.bounds[f"walk{suffix}"],
            )
            for kind, suffix in (("normalised", ""), ("points", "_points"))
        }
    result["mistakes"] = read.mistakes
    result = plain(result)
    write_json(json_path, result)
    _write_csv(json_path.with_suffix(".csv"), csv_rows(result))
    if options.json:
        sys.stdout.write(dump_json(result) + "\n")
    else:
        for table in tables(result):
            console().print(table)
        console().print(f"Wrote {json_path} and {json_path.with_suffix('.csv')}.")
    return 0


def _output(options: MetagameOptions) -> Path:
    """Returns the JSON file to write; the CSV file has the same name."""
    name, output = f"{options.path.stem}.metagame.json", options.output
    path = options.path.with_name(name) if output is None else output / name if output.is_dir() else output
    if not path.parent.is_dir():
        raise ValueError(f"--output {path} lies in no existing folder.")
    if path.suffix != ".json":
        raise ValueError(f"--output must name a folder or a JSON file (NAME.json), got {path}.")
    if path == options.path:
        raise ValueError(f"--output {path} would overwrite the input.")
    return path


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replace_file(path) as file:
        file.write(text.getvalue().encode())

"""`bargain-eval baselines`: every pair of the simple policies, as a table."""

from __future__ import annotations

import sys
from typing import Annotated

from bargain_env.spec import GAMES
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.table import Table

from bargain_eval.arena import play
from bargain_eval.commands.common import PlayOptions, console, progress, refuse_language_models
from bargain_eval.files import dump_json
from bargain_eval.game_rows import Summary
from bargain_eval.registry import load_policy, resolve_device


@dataclass(frozen=True, kw_only=True)
class BaselinesOptions(PlayOptions):
    """Play every pair of the simple policies and print the table of payoffs.

    Rows take seat 0 (which moves first), columns seat 1. Each cell shows the payoff of seat 0, the payoff of seat 1
    (both as a share of the own total, so that walking at once earns about .501) and the share of games that end in a
    deal, each with its standard error. All cells are played on the same deals, each game to its end, so that the same
    seed gives the same table on any number of threads.

    For instance
        bargain-eval baselines
        bargain-eval baselines --policies tioli fair_split?accept_threshold=.5 --num-games 100000 --threads 2
        bargain-eval baselines --quantities 2 1 --max-value 3 --rounds 2 --json
    """

    policies: tuple[str, ...] = ("random", "greedy", "always_walk", "fair_split")
    """Policy strings NAME[:ARGUMENT][?key=value], e.g. random, tioli, checkpoint:policy.pt, run:RUN_ID."""
    num_games: Annotated[int, Field(ge=1)] = 10_000
    """Games in each cell."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Blocks of games played at the same time; the result does not depend on it."""


def baselines(options: BaselinesOptions) -> int:
    """Plays all ordered pairs of `options.policies` and prints them; returns the exit code 0.

    Raises:
        ValueError: If a policy string does not fit, stands twice, or names a language model.
    """
    names, spec, device = options.policies, options.spec(), resolve_device(options.device)
    if len(set(names)) < len(names):
        raise ValueError(f"--policies names a policy twice: {' '.join(names)}.")
    refuse_language_models(*names)
    policies = {
        name: load_policy(name, spec, seed=options.seed, device=device, results_dir=options.results_dir)
        for name in names
    }
    cells: dict[str, dict[str, Summary]] = {name: {} for name in names}
    pairs = [(first, second) for first in names for second in names]
    for first, second in progress(pairs, "Playing"):
        rows = play(
            (policies[first], policies[second]),
            options.num_games,
            options.seed,
            spec=spec,
            device=device,
            threads=options.threads,
        )
        cells[first][second] = rows.summary()
    if options.json:
        outcome = {"game": spec.to_dict(), "seed": options.seed, "num_games": options.num_games, "cells": cells}
        sys.stdout.write(dump_json(outcome) + "\n")
    else:
        console().print(_table(cells, options))
    return 0


def _table(cells: dict[str, dict[str, Summary]], options: BaselinesOptions) -> Table:
    named = next((name for name, spec in GAMES.items() if spec == options.spec()), "custom")
    title = f"payoff of seat 0, payoff of seat 1, agreement rate; {options.num_games} games a cell, game {named}"
    table = Table("seat 0 \\ seat 1", *cells, title=title, show_lines=True)
    for first, row in cells.items():
        table.add_row(first, *(_cell(summary) for summary in row.values()))
    return table


def _cell(summary: Summary) -> str:
    return "\n".join(
        f"{summary[name]:.4f}" + (f" ± {error:.4f}" if (error := summary[f"{name}_se"]) is not None else "")
        for name in ("payoff_0", "payoff_1", "agreement_rate")
    )

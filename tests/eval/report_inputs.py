"""Stored runs and cross-play files for the tests of the report."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.crossplay.run import crossplay
from bargain_eval.results import ResultsManager

SPECS = ("random", "greedy", "always_walk", "fair_split", "tioli")


def store_run(
    root: Path,
    seed: int,
    lr: float = 0.001,
    *,
    spec: GameSpec | None = None,
    payoff: float | None = None,
    opponent: str | None = None,
    lines: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """Stores a completed run of a hundred metric lines, or of `lines`, and returns its id."""
    spec = spec or GameSpec()
    settings = {"lr": lr, "seed": seed, "opponent": opponent, "hidden_dims": [64, 64], "device": f"cuda:{seed}"}
    run = ResultsManager(root).create_run("ppo", seed, settings, env_config=spec.to_dict())
    noise = np.random.default_rng(seed)
    for k in range(1, 101):
        level = 0.5 + 0.1 * (1 - np.exp(-k * lr * 30)) + 0.01 * noise.standard_normal()
        line = {"total": 2 * level, "payoff_0": level + 0.02, "payoff_1": level - 0.02, "agreement_rate": level - 0.2}
        if lines is None:
            run.log_metrics(1000 * k, line | {"mean_decisions": 4.0 + level, "entropy": 4.0 * np.exp(-k * lr)})
    for k, given in enumerate(lines or (), 1):
        run.log_metrics(1000 * k, given)
    payoff = 0.5 + lr if payoff is None else payoff
    final = {"pool_payoff": payoff, "pool_payoff_se": 0.002, "seat": None if opponent is None else 0}
    if opponent is None:
        final |= {"payoff_0": payoff + 0.1, "payoff_1": payoff, "total": 2 * payoff + 0.1, "agreement_rate": 0.3}
    run.set_final_metrics(final)
    run.set_progress(100_000, 100, 12.5 * seed)
    run.complete()
    return run.run_id


def store_crossplay(
    path: Path,
    policies: Sequence[str] = SPECS,
    names: Sequence[str] = (),
    *,
    game: str = "default",
    num_games: int = 200,
    cells: int | None = None,
) -> None:
    """Plays all ordered pairs; with `names` the policies are called so, and after `cells` cells the work is cut off."""

    def cut_off(played: Iterable[tuple[int, int]], title: str, total: int) -> Iterator[tuple[int, int]]:
        yield from itertools.islice(played, cells)
        raise KeyboardInterrupt(f"{title} ended after {cells} of {total} cells")

    options: dict[str, Any] = {"output": path, "spec": GAMES[game], "seed": 7}
    if cells is None:
        crossplay(policies, num_games, **options)
    else:
        with contextlib.suppress(KeyboardInterrupt):
            crossplay(policies, num_games, loop=cut_off, **options)
    if names:
        stored = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(stored | {"policy_names": list(names)}), encoding="utf-8")

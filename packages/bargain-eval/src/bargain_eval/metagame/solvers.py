"""The solvers of meta-games by name, for one game, a symmetric game, or a batch of games.

Legend: `S` games, `M` rows, `N` columns; payoffs are `[M, N, 2]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bargain_eval.metagame.alpharank import alpha_rank
from bargain_eval.metagame.dynamics import fictitious_play, regularised_replicator, replicator
from bargain_eval.metagame.joint import coarse_correlated, correlated_equilibrium, nash_bargaining
from bargain_eval.metagame.milp import max_entropy_nash, max_welfare_nash, symmetric_nash
from bargain_eval.metagame.solution import Floats, Solution, check_payoffs, correlated, independent


def uniform(payoffs: Floats) -> Solution:
    """Returns uniform play of both seats, which solves nothing; its regret says so."""
    table = check_payoffs(payoffs)
    row, column = (np.full(size, 1.0 / size) for size in table.shape[:2])
    return independent("uniform", table, row, column, converged=True, iterations=0)


_BATCHED: dict[str, Callable[..., list[Solution]]] = {
    "fictitious_play": fictitious_play,
    "replicator": replicator,
    "rrd": regularised_replicator,
}


def _single(name: str) -> Callable[..., Solution]:
    def solver(payoffs: Floats, **options: Any) -> Solution:
        return _BATCHED[name](check_payoffs(payoffs)[None], **options)[0]

    solver.__doc__ = _BATCHED[name].__doc__
    return solver


SOLVERS: dict[str, Callable[..., Solution]] = {
    "mene": max_entropy_nash,
    "max_welfare": max_welfare_nash,
    "fictitious_play": _single("fictitious_play"),
    "replicator": _single("replicator"),
    "rrd": _single("rrd"),
    "nbs": nash_bargaining,
    "cce": coarse_correlated,
    "ce": correlated_equilibrium,
    "alpharank": alpha_rank,
    "uniform": uniform,
}
"""Each takes payoffs `[M, N, 2]` and its own options."""

SYMMETRIC = ("mene", "max_welfare", "fictitious_play", "replicator", "rrd", "cce", "ce", "uniform")
"""The solvers whose solution of a symmetric game is symmetric."""


def solve(payoffs: Floats, solver: str = "mene", **options: Any) -> Solution:
    """Solves a bimatrix game; the seats are not interchangeable.

    Args:
        payoffs: `[M, N, 2]`, what seat 0 and seat 1 earn.
        solver: A name in `SOLVERS`.
        **options: The solver's own.

    Raises:
        ValueError: If the name is unknown, a payoff is missing, or an option is out of range.
    """
    return _named(solver, tuple(SOLVERS))(payoffs, **options)


def solve_symmetric(payoff: Floats, solver: str = "mene", **options: Any) -> Solution:
    """Solves a symmetric game and returns a symmetric solution.

    Args:
        payoff: `[N, N]`, what the row's policy earns against the column's, for instance averaged over both seatings.
        solver: A name in `SYMMETRIC`.
        **options: The solver's own.

    Raises:
        ValueError: If the name is unknown or has no symmetric form, a payoff is missing, or the table is not square.
    """
    function, table = _named(solver, SYMMETRIC), np.asarray(payoff, dtype=np.float64)
    if solver in ("mene", "max_welfare"):
        return symmetric_nash(table, "max_entropy" if solver == "mene" else "max_welfare", **options)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"a symmetric game needs a square table [N, N], got shape {table.shape}.")
    payoffs = np.stack([table, table.T], axis=2)
    found = function(payoffs, **options)
    if solver not in ("cce", "ce"):
        return found
    joint = (found.joint + found.joint.T) / 2  # its mirror is a solution too, and solutions are convex
    return correlated(
        solver, payoffs, joint, converged=found.converged, iterations=found.iterations, coarse=solver == "cce"
    )


def solve_batch(payoffs: Floats, solver: str = "mene", **options: Any) -> list[Solution]:
    """Solves the games `payoffs` `[S, M, N, 2]`: at once where the solver iterates, one after the other elsewhere.

    Raises:
        ValueError: As `solve` does.
    """
    function = _named(solver, tuple(SOLVERS))
    if solver in _BATCHED:
        return _BATCHED[solver](payoffs, **options)
    return [function(game, **options) for game in payoffs]


def _named(solver: str, names: tuple[str, ...]) -> Callable[..., Solution]:
    if solver not in names:
        raise ValueError(f"solver must be one of {', '.join(names)}, got {solver!r}.")
    return SOLVERS[solver]

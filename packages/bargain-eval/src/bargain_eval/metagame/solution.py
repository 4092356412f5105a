"""What a solver of a meta-game returns, and how far it is from what it claims.

Legend: `M` rows (policies of seat 0), `N` columns (policies of seat 1); payoffs are `[M, N, 2]`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NOISE = 1e-12
"""Payoffs that differ by less than this share of their size are equal, but for rounding."""


@dataclasses.dataclass(frozen=True)
class Solution:
    """A solution of a bimatrix game.

    Attributes:
        solver: Its name in `solvers.SOLVERS`.
        row: `[M]` seat 0's mixture; the marginal of `joint`.
        column: `[N]` seat 1's mixture.
        joint: `[M, N]`; the product of both where the seats mix independently.
        payoff: Expected payoffs of seat 0 and seat 1 under `joint`.
        regret: The largest gain of each seat by its solution's own kind of deviation, at least 0: from independent
            mixtures to a fixed policy (Nash), from the joint to a fixed policy (coarse correlated), or from a
            recommendation to another one (correlated).
        converged: False if the solver stopped short of its own criterion.
        iterations: Steps of an iterative solver, equilibria compared or programs solved of the others.
    """

    solver: str
    row: Floats
    column: Floats
    joint: Floats
    payoff: tuple[float, float]
    regret: tuple[float, float]
    converged: bool
    iterations: int

    @property
    def nash_conv(self) -> float:
        """The sum of both seats' regrets."""
        return self.regret[0] + self.regret[1]


def check_payoffs(payoffs: ArrayLike) -> Floats:
    """Returns `payoffs` as float64.

    Raises:
        ValueError: If the shape is not `[M, N, 2]`, or a payoff is missing.
    """
    table = np.asarray(payoffs, dtype=np.float64)
    if table.ndim != 3 or table.shape[2] != 2 or table.size == 0:
        raise ValueError(f"payoffs must have shape [M, N, 2], got {table.shape}.")
    if not np.isfinite(table).all():
        raise ValueError("payoffs must all be known and finite; play the missing pairs first.")
    return table


def unit_payoffs(payoffs: Floats) -> Floats:
    """Returns the payoffs of each seat shifted and scaled to 0 .. 1, which changes no equilibrium.

    A seat whose payoffs are all equal, but for rounding, gets zeros.
    """
    low, high = payoffs.min(axis=(0, 1)), payoffs.max(axis=(0, 1))
    differ = high - low > NOISE * np.maximum(np.abs(low), np.abs(high))
    return np.asarray(np.where(differ, (payoffs - low) / np.where(differ, high - low, 1.0), 0.0))


def nash_regret(payoffs: Floats, row: Floats, column: Floats) -> tuple[float, float]:
    """Returns each seat's gain from the best fixed policy against the other's mixture."""
    first, second = payoffs[:, :, 0] @ column, row @ payoffs[:, :, 1]
    return max(0.0, float(first.max() - row @ first)), max(0.0, float(second.max() - second @ column))


def independent(
    solver: str, payoffs: Floats, row: Floats, column: Floats, *, converged: bool, iterations: int
) -> Solution:
    """Returns the solution of two independent mixtures, which are cleaned of rounding to sum to 1."""
    row, column = (np.maximum(mixture, 0.0) / np.maximum(mixture, 0.0).sum() for mixture in (row, column))
    joint = np.outer(row, column)
    first, second = np.einsum("ij,ijp->p", joint, payoffs).tolist()
    regret = nash_regret(payoffs, row, column)
    return Solution(solver, row, column, joint, (first, second), regret, converged, iterations)


def correlated(
    solver: str, payoffs: Floats, joint: Floats, *, converged: bool, iterations: int, coarse: bool = True
) -> Solution:
    """Returns the solution of a joint distribution, with its coarse correlated or correlated regret."""
    joint = np.maximum(joint, 0.0) / np.maximum(joint, 0.0).sum()
    first, second = np.einsum("ij,ijp->p", joint, payoffs).tolist()
    return Solution(
        solver=solver,
        row=joint.sum(axis=1),
        column=joint.sum(axis=0),
        joint=joint,
        payoff=(first, second),
        regret=coarse_regret(payoffs, joint) if coarse else correlated_regret(payoffs, joint),
        converged=converged,
        iterations=iterations,
    )


def coarse_regret(payoffs: Floats, joint: Floats) -> tuple[float, float]:
    """Returns each seat's gain from a policy fixed before the recommendation (Moulin and Vial 1978)."""
    expected = np.einsum("ij,ijp->p", joint, payoffs)
    fixed = payoffs[:, :, 0] @ joint.sum(axis=0), joint.sum(axis=1) @ payoffs[:, :, 1]
    gains = [max(0.0, float(fixed[seat].max() - expected[seat])) for seat in range(2)]
    return gains[0], gains[1]


def correlated_regret(payoffs: Floats, joint: Floats) -> tuple[float, float]:
    """Returns each seat's gain from answering every recommendation as it pleases (Aumann 1974)."""
    gains = []
    for table, shares in ((payoffs[:, :, 0], joint), (payoffs[:, :, 1].T, joint.T)):
        worth = shares @ table.T  # [recommended, played]
        gains.append(float((worth.max(axis=1) - np.diagonal(worth)).sum()))
    return max(0.0, gains[0]), max(0.0, gains[1])

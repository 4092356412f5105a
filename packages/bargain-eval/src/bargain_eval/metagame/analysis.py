"""What an equilibrium says about the policies: regrets, scores, welfare, best responses, and how the solver matters.

Legend: `M` policies of seat 0 (rows), `N` policies of seat 1 (columns), 2 seats. `payoffs` is `[M, N, 2]`, the mean
payoff of seat 0 and of seat 1 in each cell. A solution has a `joint [M, N]` distribution over cells, which is the
product of its mixtures for a Nash equilibrium and need not be for a correlated one; every value here is taken under it.

Sources: NE-regret and the uniform score are those of Li and Wellman, "A Meta-Game Evaluation Framework for Deep
Multiagent Reinforcement Learning" (2024); the sign is `u(sigma) - u(s, sigma) >= 0`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bargain_eval.metagame.solution import Solution

Solver = Callable[[NDArray[np.float64]], Solution]
"""A solver with its options bound, e.g. `functools.partial(solve, solver="mene")`; takes payoffs `[M, N, 2]`."""


PROVEN_BY_REGRET = 1e-6
"""Regret, in units of each seat's payoff range, from which on a solution is one whatever its solver says."""


class BySeat(NamedTuple):
    """One array for the policies of each seat.

    Attributes:
        row: About seat 0, first dimension `M`.
        column: About seat 1, first dimension `N`.
    """

    row: NDArray[np.float64]
    column: NDArray[np.float64]

    @property
    def average(self) -> NDArray[np.float64]:
        """The mean over both seats, where both have the same policies."""
        mean: NDArray[np.float64] = (self.row + self.column) / 2
        return mean


class CellMeasure(NamedTuple):
    """The mean of a per-game measure in each cell, with its denominator.

    Attributes:
        amount: `[M, N]`, mean over all games of the measure, zero in games that it does not count.
        counted: `[M, N]`, share of the games that it counts; ones for most measures.
    """

    amount: NDArray[np.float64]
    counted: NDArray[np.float64]

    def under(self, joint: NDArray[np.float64]) -> float:
        """Returns the measure when the cells are played with probabilities `joint`; NaN if none of it is counted."""
        counted = float((joint * self.counted).sum())
        return float((joint * self.amount).sum()) / counted if counted > 0 else float("nan")


def is_solved(payoffs: NDArray[np.float64], solution: Solution) -> bool:
    """Tells whether a solution may be used: its solver converged, or its regret is 0 up to rounding.

    A solver that selects among equilibria can hold one in hand without proof that it is the one to select.
    """
    if solution.converged:
        return True
    return bool(np.all(np.asarray(solution.regret) <= PROVEN_BY_REGRET * np.ptp(payoffs, axis=(0, 1))))


def welfare(measures: Mapping[str, CellMeasure], joint: NDArray[np.float64]) -> dict[str, float]:
    """Returns each measure under `joint [M, N]`, by name."""
    return {name: measure.under(joint) for name, measure in measures.items()}


def policy_values(payoffs: NDArray[np.float64], solution: Solution) -> BySeat:
    """Returns what each policy earns against the other seat's marginal mixture: `u(s, sigma)`, `[M]` and `[N]`."""
    return BySeat(payoffs[:, :, 0] @ solution.joint.sum(axis=0), payoffs[:, :, 1].T @ solution.joint.sum(axis=1))


def solution_values(payoffs: NDArray[np.float64], solution: Solution) -> NDArray[np.float64]:
    """Returns `u(sigma)` of both seats, `[2]`, under the joint distribution."""
    values: NDArray[np.float64] = (solution.joint[:, :, None] * payoffs).sum(axis=(0, 1))
    return values


def deviation_gains(payoffs: NDArray[np.float64], solution: Solution) -> BySeat:
    """Returns `u(s, sigma) - u(sigma)`, what a seat gains by always playing s: at most 0 in an equilibrium."""
    regrets = ne_regrets(payoffs, solution)
    return BySeat(-regrets.row, -regrets.column)


def ne_regrets(payoffs: NDArray[np.float64], solution: Solution) -> BySeat:
    """Returns the NE-regret `u(sigma) - u(s, sigma)` of each policy in each seat, `[M]` and `[N]`.

    Nothing is clipped: it is at least minus the solution's own regret, and within that of 0 for every policy that a
    Nash equilibrium plays. Low is good.
    """
    own, values = solution_values(payoffs, solution), policy_values(payoffs, solution)
    return BySeat(own[0] - values.row, own[1] - values.column)


def uniform_scores(payoffs: NDArray[np.float64]) -> BySeat:
    """Returns the mean payoff of each policy against the uniform mixture of the other seat, `[M]` and `[N]`."""
    return BySeat(payoffs[:, :, 0].mean(axis=1), payoffs[:, :, 1].mean(axis=0))


def leave_one_out(payoffs: NDArray[np.float64], solve: Solver) -> list[Solution]:
    """Returns for each policy the solution of the game without it, in all `N` policies' numbering (its mass is 0).

    Costs `N` solves of `[N - 1, N - 1, 2]`.

    Raises:
        ValueError: If the table is not square (the same policies in both seats), or has a single policy.
    """
    size = payoffs.shape[0]
    if payoffs.shape[1] != size or size < 2:
        raise ValueError(f"leaving one policy out needs a square table of two or more, got {payoffs.shape[:2]}.")
    return [solve_among(payoffs, np.delete(np.arange(size), policy), solve) for policy in range(size)]


def solve_among(payoffs: NDArray[np.float64], members: NDArray[np.int64], solve: Solver) -> Solution:
    """Returns the solution of the square game restricted to `members` in both seats, with mass 0 on all others."""
    inner = solve(payoffs[np.ix_(members, members)])
    row, column, joint = np.zeros(len(payoffs)), np.zeros(len(payoffs)), np.zeros(payoffs.shape[:2])
    row[members], column[members], joint[np.ix_(members, members)] = inner.row, inner.column, inner.joint
    return dataclasses.replace(inner, row=row, column=column, joint=joint)


def leave_one_out_regrets(payoffs: NDArray[np.float64], solutions: list[Solution]) -> BySeat:
    """Returns the regret of each policy against the solution of the game without it, `[N]` and `[N]`.

    `solutions` come from `leave_one_out`. Unlike the NE-regret it can be negative: by entering, the policy would gain.
    So it also ranks the policies that the equilibrium plays, which all have NE-regret 0.
    """
    regrets = [ne_regrets(payoffs, solution) for solution in solutions]
    each = range(len(solutions))
    return BySeat(np.array([regrets[k].row[k] for k in each]), np.array([regrets[k].column[k] for k in each]))


def best_response_graph(payoffs: NDArray[np.float64]) -> BySeat:
    """Returns who answers whom: `row [M, N]` and `column [N, M]`.

    `row[i, j]` is 1 if i is seat 0's best response to j of seat 1 and 0 otherwise; `column[j, i]` likewise for seat 1.
    Ties within 1e-12 of the payoff range share the 1 equally, so that each column sums to 1. Averaged over bootstrap
    resamples it is the probability of each edge.
    """
    tie = 1e-12 * float(np.ptp(payoffs))
    edges = [payoffs[:, :, 0], payoffs[:, :, 1].T]
    best = [table >= table.max(axis=0) - tie for table in edges]
    return BySeat(*(answers / answers.sum(axis=0) for answers in best))


def solver_sensitivity(
    payoffs: NDArray[np.float64], measures: Mapping[str, CellMeasure], solvers: Mapping[str, Solver]
) -> dict[str, dict[str, Any]]:
    """Returns for each solver its mixtures, payoffs, regret and welfare, and the welfare's difference to the first's.

    A conclusion that changes with the solver is a conclusion about the solver.
    """
    result: dict[str, dict[str, Any]] = {}
    first: dict[str, float] = {}
    for name, solve in solvers.items():
        solution = solve(payoffs)
        reached = welfare(measures, solution.joint)
        first = first or reached
        result[name] = {
            "row": solution.row,
            "column": solution.column,
            "payoff": solution_values(payoffs, solution),
            "regret": solution.regret,
            "converged": solution.converged,
            "welfare": reached,
            "welfare_difference": {key: reached[key] - first[key] for key in reached},
        }
    return result

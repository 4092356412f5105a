"""Of all Nash equilibria one of maximal entropy or maximal welfare: all are compared, or a mixed-integer program picks.

Up to about 10 x 10 undominated policies all equilibria are found and compared, see `selection`. Larger games need the
program. It is formulation 1 of Sandholm, Gilpin and Conitzer (2005): a binary variable says of each policy that it is
no best response, and then its probability is 0. Entropy is bounded from above by tangents of x log x, and a tangent is
added at each solution until the bound is met. The last program fixes the binary variables and is solved to 1e-9. Exact
copies of a policy are one policy in both: an even split among `k` copies raises the entropy by log k.

Legend: `M` rows, `N` columns, payoffs `[M, N, 2]`. Variables are x `[M]`, y `[N]`, both seats' values, b `[M]`,
c `[N]` (1 = no best response), and t `[M + N]`, a lower bound of x log x.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from bargain_eval.metagame.selection import equilibria, of_most_entropy, of_most_welfare
from bargain_eval.metagame.solution import NOISE, Floats, Solution, check_payoffs, independent, unit_payoffs
from bargain_eval.metagame.supports import TIE

Objective = Literal["max_entropy", "max_welfare"]
Method = Literal["auto", "program"]

_SMALLEST = 1e-8  # a tangent there misses x log x at 0 by as much, for each best response that is not played
_TANGENTS = (_SMALLEST, 1e-3, *np.geomspace(0.01, 1.0, 12).tolist())
_ENTROPY_GAP = 1e-4  # nats between the entropy found and its upper bound
_POLISH_GAP = 1e-6  # more than `_SMALLEST` times the number of policies
_MAX_PROGRAMS = 25
_MAX_POLISH = 100
_GOOD_REGRET = 1e-6  # in units of each seat's payoff range
_TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def max_entropy_nash(payoffs: Floats, *, method: Method = "auto", node_limit: int = 20_000) -> Solution:
    """Returns the Nash equilibrium of maximal entropy, to 1e-4 nats (MENE, Ortiz et al. 2007).

    The entropy is the sum of both mixtures'. Scaling or shifting a seat's payoffs changes nothing. Of equals, such as
    pure equilibria, the one of largest total payoff counts where all are compared, and any where the program picks. A
    copy of a policy draws probability to its kind.

    Dominated policies cost nearly nothing. Of the others, random payoffs cost 1 ms at 5 x 5, 5 ms at 8 x 8 and 0.1 s
    at 10 x 10; payoffs with ties 2 to 8 ms, 30 ms and 0.4 s. Beyond, the program costs 1 to 2 seconds for 20 policies
    that differ in skill and style, one of which always walks away. Random payoffs are harder: 3 s at 12 x 12, 30 s at
    16 x 16, and at 20 x 20 the search may end at `node_limit` after 90 s.

    Args:
        payoffs: `[M, N, 2]`.
        method: "program" takes the mixed-integer program at any size, to check one method by the other.
        node_limit: Nodes of each program's search; at the limit the best equilibrium found is returned, not converged.

    Raises:
        ValueError: If a payoff is missing, or the shape or the method is wrong.
    """
    return _solve(payoffs, "max_entropy", method, node_limit)


def max_welfare_nash(payoffs: Floats, *, method: Method = "auto", node_limit: int = 20_000) -> Solution:
    """Returns a Nash equilibrium of maximal total payoff; its payoffs do not depend on copies of policies.

    Costs as much as `max_entropy_nash`, and less where it takes the program. Arguments and errors are the same.
    """
    return _solve(payoffs, "max_welfare", method, node_limit)


def symmetric_nash(
    payoff: Floats, objective: Objective = "max_entropy", *, method: Method = "auto", node_limit: int = 20_000
) -> Solution:
    """Returns the symmetric equilibrium of a symmetric game that has maximal entropy or welfare.

    Args:
        payoff: `[N, N]`, what the row's policy earns against the column's; the column's payoffs are the transpose.
        objective: What is maximal among symmetric equilibria.
        method: As in `max_entropy_nash`.
        node_limit: As in `max_entropy_nash`.

    Raises:
        ValueError: If a payoff is missing, the matrix is not square, or the method is wrong.
    """
    table = np.asarray(payoff, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise ValueError(f"a symmetric game needs a square table [N, N], got shape {table.shape}.")
    return _solve(np.stack([table, table.T], axis=2), objective, method, node_limit, symmetric=True)


def undominated(payoffs: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the rows and columns left after removing strictly dominated policies again and again.

    Payoffs have range 0 .. 1; those that differ by less than 1e-9 are equal.
    """
    rows, columns = np.arange(payoffs.shape[0]), np.arange(payoffs.shape[1])
    while True:
        inner = payoffs[np.ix_(rows, columns)]
        worse_rows = (inner[None, :, :, 0] < inner[:, None, :, 0] - TIE).all(axis=2).any(axis=0)
        worse_columns = (inner[:, None, :, 1] < inner[:, :, None, 1] - TIE).all(axis=0).any(axis=0)
        if not worse_rows.any() and not worse_columns.any():
            return rows, columns
        rows, columns = rows[~worse_rows], columns[~worse_columns]


def _solve(payoffs: Floats, objective: Objective, method: Method, node_limit: int, symmetric: bool = False) -> Solution:
    if method not in ("auto", "program"):
        raise ValueError(f'method must be "auto" or "program", got {method!r}.')
    table = check_payoffs(payoffs)
    scaled, worth = unit_payoffs(table), np.ptp(table, axis=(0, 1))
    rows, columns = undominated(scaled)
    inner = scaled[np.ix_(rows, columns)]
    row_of, first_rows, row_copies = _copies(inner.reshape(len(rows), -1))
    column_of, first_columns, column_copies = _copies(inner.transpose(1, 0, 2).reshape(len(columns), -1))
    distinct = inner[np.ix_(first_rows, first_columns)]
    components = equilibria(distinct, symmetric) if method == "auto" else None
    if components is None:
        copies = np.concatenate([row_copies, column_copies])
        program = _Program(distinct, copies, worth, objective, symmetric, node_limit)
        x, y, proven = program.solve()
        steps = program.programs
    else:
        if objective == "max_entropy":
            split = row_copies.astype(np.float64), column_copies.astype(np.float64)
            x, y = of_most_entropy(components, distinct * worth, split)
        else:
            x, y = of_most_welfare(components, distinct * worth, symmetric)
        proven, steps = True, len(components)
    row, column = np.zeros(table.shape[0]), np.zeros(table.shape[1])
    row[rows], column[columns] = (x / row_copies)[row_of], (y / column_copies)[column_of]
    name = "mene" if objective == "max_entropy" else "max_welfare"
    found = independent(name, table, row, column, converged=proven, iterations=steps)
    good = _GOOD_REGRET * worth + NOISE * np.abs(table).max(axis=(0, 1))
    exact = bool((np.array(found.regret) <= good).all())
    return dataclasses.replace(found, converged=proven and exact)


def _copies(vectors: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns which distinct vector each one is, where each distinct one first stands, and how often it occurs.

    The distinct ones are in the order in which they first stand, so that rows and columns of a symmetric game agree.
    """
    _, first, inverse, counts = np.unique(vectors, axis=0, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    return np.argsort(order)[inverse.reshape(-1)], first[order], counts[order]


class _Program:
    def __init__(
        self,
        payoffs: Floats,
        copies: NDArray[np.int64],
        worth: Floats,
        objective: Objective,
        symmetric: bool,
        node_limit: int,
    ) -> None:
        self.num_rows, self.num_columns = payoffs.shape[:2]
        size = self.num_rows + self.num_columns
        self.mix, self.values, self.idle = slice(0, size), slice(size, size + 2), slice(size + 2, 2 * size + 2)
        self.entropy = slice(2 * size + 2, 3 * size + 2)
        self.length, self.objective, self.node_limit, self.programs = 3 * size + 2, objective, node_limit, 0
        self.cost = np.zeros(self.length)
        if objective == "max_welfare":
            self.cost[self.values] = -worth / max(float(worth.max()), 1e-300)
        else:
            self.cost[self.entropy] = 1.0
            self.cost[self.mix] = -np.log(copies)
        self.rows: list[Floats] = []
        self.low: list[float] = []
        self.high: list[float] = []
        self._add_equilibrium(payoffs, symmetric)
        if objective == "max_entropy":
            for point in _TANGENTS:
                self._add_tangents(np.full(size, point))

    def _add(self, row: Floats, low: float, high: float) -> None:
        self.rows.append(row)
        self.low.append(low)
        self.high.append(high)

    def _add_equilibrium(self, payoffs: Floats, symmetric: bool) -> None:
        identity, first = np.eye(self.length), self.num_rows
        tables = payoffs[:, :, 0], payoffs[:, :, 1].T
        others, offsets = (slice(first, first + self.num_columns), slice(0, first)), (0, first)
        for seat, (table, other, offset) in enumerate(zip(tables, others, offsets, strict=True)):
            self._add(identity[offset : offset + len(table)].sum(axis=0), 1.0, 1.0)
            largest = (table.max(axis=0) - table).max(axis=1)
            for policy in range(len(table)):
                short = identity[self.values][seat].copy()  # the seat's value less what this policy earns
                short[other] -= table[policy]
                self._add(short, 0.0, np.inf)
                idle = identity[self.idle.start + offset + policy]
                self._add(short - largest[policy] * idle, -np.inf, 0.0)
                self._add(identity[offset + policy] + idle, -np.inf, 1.0)
        if symmetric:
            for policy in range(first):
                self._add(identity[policy] - identity[first + policy], 0.0, 0.0)

    def _add_tangents(self, points: Floats) -> None:
        """Adds t >= (1 + log p) x - p (1 - b), a tangent of x log x where the policy may be played, 0 where not."""
        for index, point in enumerate(np.maximum(points, _SMALLEST)):
            row = np.zeros(self.length)
            row[self.entropy.start + index] = 1.0
            row[index] = -(1.0 + np.log(point))
            row[self.idle.start + index] = -point
            self._add(row, -point, np.inf)

    def _bounds(self) -> tuple[Floats, Floats]:
        low, high = np.zeros(self.length), np.ones(self.length)
        low[self.entropy], high[self.entropy] = -1.0, 0.0
        return low, high

    def solve(self) -> tuple[Floats, Floats, bool]:
        """Returns both mixtures, and whether they are proven to be best."""
        integrality = np.zeros(self.length)
        integrality[self.idle] = 1
        best, best_entropy, proven = None, -np.inf, False
        while self.programs < _MAX_PROGRAMS:
            self.programs += 1
            options = {"node_limit": self.node_limit, "mip_rel_gap": 1e-5}
            constraint = LinearConstraint(np.array(self.rows), self.low, self.high)
            result = milp(
                self.cost,
                constraints=constraint,
                integrality=integrality,
                bounds=Bounds(*self._bounds()),
                options=options,
            )
            if result.x is None:
                break
            x = self._polish(result.x)
            if self._entropy(x) > best_entropy:
                best, best_entropy = x, self._entropy(x)
            if self.objective == "max_welfare":
                proven = result.status == 0
                break
            if result.status != 0:
                break
            if -result.fun - best_entropy <= _ENTROPY_GAP:
                proven = True
                break
            self._add_tangents(result.x[self.mix])
            self._add_tangents(x)
        if best is None:  # numerical trouble or the time limit: uniform play, which does not claim to be a solution
            best = np.r_[np.full(self.num_rows, 1 / self.num_rows), np.full(self.num_columns, 1 / self.num_columns)]
        return best[: self.num_rows], best[self.num_rows :], proven

    def _entropy(self, mix: Floats) -> float:
        """Returns the entropy of both mixtures, those of copies split evenly."""
        played = mix[mix > 0]
        return float(-(played * np.log(played)).sum() - self.cost[self.mix] @ mix)

    def _polish(self, found: Floats) -> Floats:
        """Returns the mixtures of the best equilibrium with the same best responses, to 1e-9."""
        low, high = self._bounds()
        idle = np.round(found[self.idle])
        low[self.idle] = high[self.idle] = idle
        best, best_entropy, kept = found[self.mix], -np.inf, len(self.rows)
        for _ in range(1 if self.objective == "max_welfare" else _MAX_POLISH):
            result = self._linear_program(low, high)
            if result.x is None:
                break
            mix = result.x[self.mix]
            if self._entropy(mix) > best_entropy:
                best, best_entropy = mix, self._entropy(mix)
            if -result.fun - best_entropy <= _POLISH_GAP:
                break
            self._add_tangents(mix)
        del self.rows[kept:], self.low[kept:], self.high[kept:]
        return best

    def _linear_program(self, low: Floats, high: Floats) -> Any:
        rows, lows, highs = np.array(self.rows), np.array(self.low), np.array(self.high)
        equal, above, below = lows == highs, np.isfinite(lows) & (lows < highs), np.isfinite(highs) & (lows < highs)
        return linprog(
            self.cost,
            A_ub=np.concatenate([rows[below], -rows[above]]),
            b_ub=np.concatenate([highs[below], -lows[above]]),
            A_eq=rows[equal],
            b_eq=lows[equal],
            bounds=np.stack([low, high], axis=1),
            method="highs",
            options=_TIGHT,
        )

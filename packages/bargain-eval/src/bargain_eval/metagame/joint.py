"""Solutions that are joint distributions: coarse correlated and correlated equilibria, and the Nash bargaining point.

Legend: `M` rows, `N` columns; payoffs are `[M, N, 2]`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy.optimize import linprog

from bargain_eval.metagame.solution import Floats, Solution, check_payoffs, correlated, unit_payoffs

Objective = Literal["max_welfare", "max_entropy"]

_TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
_TANGENTS = (1e-3, 0.01, 0.03, 0.07, 0.15, 0.3, 0.6, 1.0)
_ENTROPY_GAP = 1e-5
_MAX_PROGRAMS = 50


def coarse_correlated(payoffs: Floats, *, objective: Objective = "max_welfare") -> Solution:
    """Returns a coarse correlated equilibrium (Moulin and Vial 1978) by linear programming.

    Its welfare is that of the joint distribution, not of the product of its marginals. Costs one program of `M * N`
    variables and `M + N` constraints for welfare (milliseconds for 20 x 20), some tens of them for entropy.

    Args:
        payoffs: `[M, N, 2]`.
        objective: What is maximal: the total payoff, or the entropy of the joint distribution, found by tangents.

    Raises:
        ValueError: If a payoff is missing or the objective unknown.
    """
    table = check_payoffs(payoffs)
    first, second = unit_payoffs(table)[:, :, 0], unit_payoffs(table)[:, :, 1]
    rows = first[:, None, :] - first[None, :, :]  # [fixed, recommended, column]
    columns = second.T[:, None, :] - second.T[None, :, :]
    gains = np.concatenate([rows.reshape(len(rows), -1), columns.transpose(0, 2, 1).reshape(len(columns), -1)])
    return _solve("cce", table, gains, objective, coarse=True)


def correlated_equilibrium(payoffs: Floats, *, objective: Objective = "max_welfare") -> Solution:
    """Returns a correlated equilibrium (Aumann 1974) by linear programming; `M**2 + N**2` constraints.

    Arguments and errors are those of `coarse_correlated`.
    """
    table = check_payoffs(payoffs)
    scaled, constraints = unit_payoffs(table), []
    for seat, own in enumerate((scaled[:, :, 0], scaled[:, :, 1].T)):
        for told in range(len(own)):
            for played in range(len(own)):
                if played != told:
                    gain = np.zeros_like(own)
                    gain[told] = own[played] - own[told]
                    constraints.append((gain if seat == 0 else gain.T).ravel())
    gains = np.array(constraints).reshape(-1, table.shape[0] * table.shape[1])
    return _solve("ce", table, gains, objective, coarse=False)


def _solve(solver: str, table: Floats, gains: Floats, objective: Objective, coarse: bool) -> Solution:
    shape, cells = table.shape[:2], table.shape[0] * table.shape[1]
    if objective == "max_welfare":
        worth = table.sum(axis=2).ravel()
        scale = max(float(np.ptp(worth)), 1e-300)
        result = _program((worth.min() - worth) / scale, gains, np.zeros((0, cells)), np.zeros(0))
        joint, converged, programs = result.x.reshape(shape), result.status == 0, 1
    elif objective == "max_entropy":
        joint, converged, programs = _most_mixed(gains, cells)
        joint = joint.reshape(shape)
    else:
        raise ValueError(f'objective must be "max_welfare" or "max_entropy", got {objective!r}.')
    return correlated(solver, table, joint, converged=converged, iterations=programs, coarse=coarse)


def _most_mixed(gains: Floats, cells: int) -> tuple[Floats, bool, int]:
    points = [np.full(cells, point) for point in _TANGENTS]
    best, best_entropy = np.full(cells, 1.0 / cells), -np.inf
    padded = np.concatenate([gains, np.zeros_like(gains)], axis=1)
    cost = np.r_[np.zeros(cells), np.ones(cells)]
    for program in range(1, _MAX_PROGRAMS + 1):
        tangents = [np.concatenate([np.diag(1.0 + np.log(p)), -np.eye(cells)], axis=1) for p in points]
        result = _program(cost, padded, np.concatenate(tangents), np.concatenate(points))
        mix = np.maximum(result.x[:cells], 0.0)
        entropy = float(-(mix[mix > 0] * np.log(mix[mix > 0])).sum())
        if entropy > best_entropy:
            best, best_entropy = mix, entropy
        if -result.fun - best_entropy <= _ENTROPY_GAP:
            return best, True, program
        points.append(np.maximum(mix, 1e-9))
    return best, False, _MAX_PROGRAMS


def _program(cost: Floats, gains: Floats, tangents: Floats, points: Floats) -> Any:
    cells = gains.shape[1] if not len(tangents) else gains.shape[1] // 2
    total = np.zeros((1, len(cost)))
    total[0, :cells] = 1.0
    bounds = [(0.0, 1.0)] * cells + [(-1.0, 0.0)] * (len(cost) - cells)
    return linprog(
        cost,
        A_ub=np.concatenate([gains, tangents]),
        b_ub=np.r_[np.zeros(len(gains)), points],
        A_eq=total,
        b_eq=[1.0],
        bounds=bounds,
        method="highs",
        options=_TIGHT,
    )


def nash_bargaining(payoffs: Floats, *, disagreement: tuple[float, float] | None = None) -> Solution:
    """Returns the joint distribution that maximises the product of both seats' gains over disagreement (Nash 1950).

    The best point lies on the upper hull of the payoff pairs, so it mixes at most two cells and is found exactly. It is
    no equilibrium: its regret (the coarse one) says how far it is from being one. Costs a sort of `M * N` points.

    Args:
        payoffs: `[M, N, 2]`.
        disagreement: What the seats earn if they agree on nothing; None = what each can secure by a fixed policy.

    Raises:
        ValueError: If a payoff is missing.
    """
    table = check_payoffs(payoffs)
    if disagreement is None:
        disagreement = float(table[:, :, 0].min(axis=1).max()), float(table[:, :, 1].min(axis=0).max())
    gains = table.reshape(-1, 2) - np.asarray(disagreement)
    hull = _upper_hull(gains)
    best, joint = -np.inf, np.zeros(len(gains))
    for start, end in zip(hull, [*hull[1:], hull[-1]], strict=True):
        share = _best_share(gains[start], gains[end])
        point = (1 - share) * gains[start] + share * gains[end]
        value = float(point[0] * point[1]) if (point >= 0).all() else float(point.min()) - 1e9
        if value > best:
            best, joint = value, np.zeros(len(gains))
            joint[start] += 1 - share
            joint[end] += share
    found = joint.reshape(table.shape[:2])
    return correlated("nbs", table, found, converged=best >= 0, iterations=1)


def _upper_hull(points: Floats) -> list[int]:
    """Returns the indices of the undominated corners of the hull, from the left; the lowest index of equals."""
    order = np.lexsort((np.arange(len(points)), -points[:, 1], -points[:, 0]))
    hull: list[int] = []
    for index in order.tolist():  # from the right, rising
        if hull and points[index, 1] <= points[hull[-1], 1]:
            continue
        while len(hull) > 1 and _turns_inward(points[hull[-2]], points[hull[-1]], points[index]):
            hull.pop()
        hull.append(index)
    return hull[::-1]


def _turns_inward(first: Floats, middle: Floats, last: Floats) -> bool:
    ahead, further = middle - first, last - first
    return bool(ahead[0] * further[1] - ahead[1] * further[0] <= 0)


def _best_share(start: Floats, end: Floats) -> float:
    """Returns the share of `end` that maximises the product of the coordinates along the way, in [0, 1]."""
    step = end - start
    if step[0] * step[1] == 0:
        return 0.0
    return float(np.clip(-(start[0] * step[1] + start[1] * step[0]) / (2 * step[0] * step[1]), 0.0, 1.0))

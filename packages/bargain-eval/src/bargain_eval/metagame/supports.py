"""All Nash equilibria of a small game without ties, by trying every pair of supports of equal size at once.

Without ties every equilibrium is isolated and has supports of equal size (Porter, Nudelman and Shoham 2008, whose test
of conditional dominance comes first). A tie that matters betrays itself: an extreme equilibrium that is not isolated
solves the equations of some pair of equal size, where the equations are singular, a probability is 0, or a policy
outside pays the same. Then the answer is None; `vertices` finds such equilibria.

Legend: `M` rows, `N` columns, `k` the size of a support, `R` and `C` the supports of that size, `P` pairs of them; `K`
policies of one seat, `L` of the other. Payoffs are of range 0 .. 1.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bargain_eval.metagame.solution import Floats

TIE = 1e-9
"""Probabilities and payoff differences below this count as 0."""

_SINGULAR = 1e-9  # determinants below this count as 0


def isolated_equilibria(payoffs: Floats) -> list[tuple[Floats, Floats]] | None:
    """Returns all equilibria of `payoffs [M, N, 2]` as pairs of mixtures, or None if one may not be isolated."""
    own, other = payoffs[:, :, 0], payoffs[:, :, 1].T
    found: list[tuple[Floats, Floats]] = []
    for size in range(1, min(own.shape) + 1):
        rows, columns = supports(len(own), size), supports(len(other), size)
        useless = dominated(own, columns)[rows].any(axis=1), dominated(other, rows)[columns].any(axis=1)
        row_index, column_index = np.nonzero(~(useless[0] | useless[1].T))
        mine, theirs = rows[row_index], columns[column_index]
        (x, regular_x), (y, regular_y) = indifferent(other, theirs, mine), indifferent(own, mine, theirs)
        if not (regular_x & regular_y).all():
            return None
        for pair in np.flatnonzero((x.min(axis=1) >= -TIE) & (y.min(axis=1) >= -TIE)):
            row, column = np.zeros(len(own)), np.zeros(len(other))
            row[mine[pair]], column[theirs[pair]] = x[pair], y[pair]
            margin = min(_margin(own @ column, row, mine[pair]), _margin(other @ row, column, theirs[pair]))
            if abs(margin) <= TIE:
                return None
            if margin > 0:
                found.append((row, column))
    return found if len(found) % 2 else None  # without ties their number is odd (Wilson 1971)


def isolated_symmetric_equilibria(payoff: Floats) -> list[Floats] | None:
    """Returns all symmetric equilibria of `payoff [K, K]` as mixtures, or None if one may not be isolated."""
    found: list[Floats] = []
    for size in range(1, len(payoff) + 1):
        played = supports(len(payoff), size)
        mixtures, regular = indifferent(payoff, played, played)
        if not regular.all():
            return None
        for index in np.flatnonzero(mixtures.min(axis=1) >= -TIE):
            mixture = np.zeros(len(payoff))
            mixture[played[index]] = mixtures[index]
            margin = _margin(payoff @ mixture, mixture, played[index])
            if abs(margin) <= TIE:
                return None
            if margin > 0:
                found.append(mixture)
    return found if len(found) % 2 else None


@lru_cache(maxsize=256)
def supports(policies: int, size: int) -> NDArray[np.int64]:
    """Returns all supports of this size, `[C, k]`, in the order of their indices."""
    return np.array(list(combinations(range(policies), size)))


def dominated(earned: Floats, played: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns `[L, C]`: True if another policy earns more against everybody in the support `played [C, k]`.

    Args:
        earned: `[L, K]`, what the policies of a seat earn against each of the other seat's.
        played: Supports of the other seat.
    """
    worth = earned[:, played]  # [L, C, k]
    everywhere = np.all(worth[None] > worth[:, None] + TIE, axis=3)
    return np.asarray(np.any(everywhere, axis=1))


def indifferent(
    earned: Floats, answers: NDArray[np.int64], played: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.bool_]]:
    """Returns the weights `[P, k]` of `played` under which all `answers` earn the same, and where they are unique.

    Args:
        earned: `[L, K]`, what the policies of a seat earn against each of the other seat's.
        answers: `[P, k]`, policies of the seat.
        played: `[P, k]`, policies of the other seat.
    """
    pairs, size = played.shape
    equations = np.zeros((pairs, size + 1, size + 1))
    equations[:, :size, :size] = earned[answers[:, :, None], played[:, None, :]]
    equations[:, :size, size] = -1.0
    equations[:, size, :size] = 1.0
    regular = np.abs(np.linalg.det(equations)) > _SINGULAR
    equations[~regular] = np.eye(size + 1)
    right = np.broadcast_to(np.eye(size + 1)[:, size:], (pairs, size + 1, 1))
    weights = np.asarray(np.linalg.solve(equations, right)[:, :size, 0], dtype=np.float64)
    return weights, np.asarray(regular)


def _margin(earned: Floats, mixture: Floats, played: NDArray[np.int64]) -> float:
    """Returns the least of the probabilities in the support and of the losses by playing outside."""
    outside = np.ones(len(earned), dtype=bool)
    outside[played] = False
    loss = earned[played].max() - earned[outside]
    return float(min(mixture[played].min(), loss.min(initial=np.inf)))

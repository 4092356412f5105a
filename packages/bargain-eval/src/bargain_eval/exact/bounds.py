"""What both seats could earn together if they knew each other's types.

Legend: `T` types, `K` offers.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bargain_eval.exact.game import FloatArray, TabularGame

_PAIRS = 2**20  # pairs of types looked at together


@dataclasses.dataclass(frozen=True)
class WelfareBounds:
    """Expected totals of both payoffs, each as a share of the own total.

    Attributes:
        walk: If both walk at once.
        first_best: Of the better of walking and any split, under full information; nobody earns more.
        rational: Of the best split that pays each seat at least its outside offer; walking where there is none.
        feasible: The probability that there is such a split.
    """

    walk: float
    first_best: float
    rational: float
    feasible: float


def welfare_bounds(game: TabularGame) -> WelfareBounds:
    """Computes the bounds at the first decision, where nothing is discounted yet: `K * T * T` additions."""
    rows = max(1, _PAIRS // game.num_types)
    sums = np.zeros(4)
    for start in range(0, game.num_types, rows):
        sums += _sums(game, slice(start, start + rows))
    walk, first_best, rational, feasible = sums.tolist()
    return WelfareBounds(walk, first_best, rational, feasible)


def _sums(game: TabularGame, first: slice) -> FloatArray:
    """Returns the parts `[4]` of the bounds in which seat 0 has one of the types `first`."""
    walk = game.walk[first, None] + game.walk
    best, rational = walk.copy(), np.full_like(walk, -np.inf)
    kept = np.asarray(game.spec.item_quantities) - game.spec.offers
    for offer in range(game.spec.num_offers):
        total = game.shares[0, offer, first, None] + game.shares[1, offer]
        np.maximum(best, total, out=best)
        agrees = game.values[first] @ kept[offer] >= game.outside[first]
        also = game.values @ game.spec.offers[offer] >= game.outside
        np.maximum(rational, total, out=rational, where=agrees[:, None] & also)
    feasible = rational > -np.inf
    tables = walk, best, np.where(feasible, rational, walk), feasible.astype(np.float64)
    return np.array([game.chance[first] @ table @ game.chance for table in tables])

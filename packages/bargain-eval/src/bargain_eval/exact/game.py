"""The game as tables: every deal of a seat, every public history, and what each ending pays, exactly.

Only offers continue a game, so the public histories before decision `d` are the `K**d` sequences of offers. A history's
number has its offers as digits in base `K`, the standing offer last. An information set of the seat to move is a pair
of a public history and an own type.

Legend: `T` types of a seat, `V` value vectors, `I` item types, `K` offers, `H` histories before a decision, `A` its
legal actions, 2 seats.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from bargain_env.reference import outside_bounds
from bargain_env.spec import OUTSIDE_UNITS, GameSpec
from numpy.typing import NDArray

MAX_BYTES = 2**29
"""The largest profile that `tabular_game` admits by default, in bytes."""

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class TabularGame:
    """A small game, enumerated; build it with `tabular_game`.

    Both seats draw their types independently from one law. Payoffs are payoff / own total in float64, correct to
    rounding: unlike the engine's rewards they are not rounded to float32.

    Attributes:
        spec: The game.
        values: `[T, I]` int64, the type's value of one unit of each item, in points; types are sorted by values, then
            by outside offer.
        outside: `[T]` int64, the type's outside offer, in points.
        total: `[T]` int64, the type's value of everything, in points.
        chance: `[T]` float64, the probability of the type; sums to 1.
        shares: `[2, K, T]` float64, what offer k pays each seat, by its type, as a share of the own total.
        walk: `[T]` float64, the outside offer as a share of the own total.
        first_type: `[V]` int64, the first type of each value vector.
    """

    spec: GameSpec
    values: NDArray[np.int64]
    outside: NDArray[np.int64]
    total: NDArray[np.int64]
    chance: FloatArray
    shares: FloatArray
    walk: FloatArray
    first_type: NDArray[np.int64]

    @property
    def num_types(self) -> int:
        """Types `T` of a seat."""
        return len(self.outside)

    def num_histories(self, decision: int) -> int:
        """Returns the public histories `H` before a decision."""
        return int(self.spec.num_offers**decision)

    def actions(self, decision: int) -> NDArray[np.int64]:
        """Returns the legal actions `[A]` of a decision, ascending: offers, accept and walk as far as legal.

        The last column is always walk; the one before is accept, except at decision 0, where it is an offer.
        """
        return np.flatnonzero(legal_mask(self.spec, decision))

    def discount(self, decision: int) -> float:
        """Returns the factor on payoffs of a game that ends with this decision."""
        return float(self.spec.discount ** (decision // 2))

    def shape(self, decision: int) -> tuple[int, int, int]:
        """Returns `(H, T, A)`, the shape of a decision's table."""
        return self.num_histories(decision), self.num_types, int(legal_mask(self.spec, decision).sum())

    def num_information_sets(self, seat: int) -> int:
        """Returns the information sets of a seat: its types times the public histories before its decisions."""
        return self.num_types * sum(self.num_histories(decision) for decision in range(seat, self.spec.max_turns, 2))


def tabular_game(spec: GameSpec, max_bytes: int = MAX_BYTES) -> TabularGame:
    """Enumerates a game.

    Args:
        spec: The game; its observation kind does not matter.
        max_bytes: The most memory that one profile of the game may take. Evaluating takes about twice as much in all,
            CFR seven times.

    Raises:
        ValueError: If a profile of the game would take more.
    """
    width = spec.max_value - spec.min_value + 1
    vectors = width**spec.num_items
    if profile_bytes(spec, vectors) > max_bytes:  # each vector is at least one type
        mean_total = sum(spec.item_quantities) * (spec.min_value + spec.max_value) // 2
        low, high = spec.outside_units
        raise ValueError(_too_large(spec, vectors * max(1, mean_total * (high - low) // OUTSIDE_UNITS), max_bytes))
    grid = np.indices([width] * spec.num_items).reshape(spec.num_items, -1).T + spec.min_value
    totals, inverse = np.unique(grid @ np.asarray(spec.item_quantities), return_inverse=True)
    low, high = np.array([outside_bounds(spec, total) for total in totals.tolist()]).T
    counts = (high - low + 1)[inverse]
    num_types = int(counts.sum())
    if profile_bytes(spec, num_types) > max_bytes:
        raise ValueError(_too_large(spec, num_types, max_bytes))

    first_type = np.cumsum(counts) - counts
    vector = np.repeat(np.arange(vectors), counts)
    values, total = grid[vector], totals[inverse[vector]]
    outside = np.arange(num_types) - first_type[vector] + low[inverse[vector]]
    kept = np.asarray(spec.item_quantities) - spec.offers
    return TabularGame(
        spec=spec,
        values=values,
        outside=outside,
        total=total,
        chance=1.0 / (vectors * counts[vector]),
        shares=np.stack([kept @ values.T, spec.offers @ values.T]) / total,
        walk=outside / total,
        first_type=first_type,
    )


def legal_mask(spec: GameSpec, decision: int) -> NDArray[np.bool_]:
    """Returns `[num_actions]` bool, the legal actions of a decision, which do not depend on what was offered."""
    return np.repeat([decision < spec.max_turns - 1, decision > 0, True], [spec.num_offers, 1, 1])


def profile_bytes(spec: GameSpec, num_types: int) -> int:
    """Returns the bytes of one profile of a game with that many types a seat."""
    decisions = range(spec.max_turns)
    rows: int = sum(spec.num_offers**d * int(legal_mask(spec, d).sum()) for d in decisions)
    return 8 * num_types * rows


def _too_large(spec: GameSpec, num_types: int, max_bytes: int) -> str:
    histories = spec.num_offers ** (spec.max_turns - 1)
    return (
        f"this game is too large for tables: some {_size(num_types)} types a seat and {_size(histories)} public "
        f"histories make a profile of {_size(profile_bytes(spec, num_types))} bytes, the limit is {_size(max_bytes)}; "
        "bargain-eval best-response bounds the best responses of large games."
    )


def _size(number: int) -> str:
    """Returns a number of any size in a few characters; float would overflow."""
    digits = str(number)
    return digits if len(digits) < 6 else f"{digits[0]}.{digits[1]}e{len(digits) - 1}"

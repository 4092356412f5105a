"""Exact equilibria of the game as policies.

Legend: `B` rows, `I` item types, `K` offers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.baselines import offer_value
from bargain_eval.policy import NumpyPolicy, UnsupportedGame


class TioliPolicy(NumpyPolicy):
    """Take it or leave it by seat 0: a Nash equilibrium whose halves this policy plays in either seat.

    Seat 0 makes the empty offer until the last round, whatever was countered, and there the offer `x` (items to seat 1)
    that maximises `q(x) * (own value kept - own outside)`, the lowest index on ties; `q(x) = x . w` is exactly the
    probability that seat 1 accepts, with `w = acceptance_weights(spec)`. Seat 1 asks for everything until the last
    round, and there accepts what is worth at least its outside offer, else walks.

    The closed form needs outside offers uniform on 1 .. own total, which make `q` linear. It also needs delay to be
    free: with a discount and several rounds, a type of seat 0 whose outside offer is its own total can gain nothing
    later and walks at once. A game of one round is never discounted, so there any discount will do.

    Args:
        spec: The game; the standard one if None.
        seed: Unused by this deterministic policy.

    Raises:
        UnsupportedGame: (a ValueError) if the closed form does not hold on this game.
    """

    def __init__(self, spec: GameSpec | None = None, seed: int = 0) -> None:
        super().__init__(spec, seed)
        if self.spec.outside_range != (0.0, 1.0):
            raise UnsupportedGame(
                f"tioli needs outside_range (0, 1), so that acceptance is linear; got {self.spec.outside_range}."
            )
        if self.spec.discount < 1.0 and self.spec.max_rounds > 1:
            raise UnsupportedGame(
                f"tioli needs discount 1, because it delays to the last round for free; got {self.spec.discount}."
            )
        self._acceptance = self.spec.offers @ acceptance_weights(self.spec)

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        spec = self.spec
        seen = spec.read_observation(obs)
        stall = np.where(seen.seat == 0, 0, spec.num_offers - 1)
        answer = np.where(offer_value(seen) >= seen.outside, spec.accept_action, spec.walk_action)
        last = seen.round == spec.max_rounds - 1
        action = np.where(last, answer, stall)
        proposing = last & (seen.seat == 0)
        action[proposing] = self._last_offer(
            seen.values[proposing], seen.total[proposing, None], seen.outside[proposing, None]
        )
        return action

    def _last_offer(
        self, values: NDArray[np.int64], total: NDArray[np.int64], outside: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        gain = self._acceptance * (total - values @ self.spec.offers.T - outside)
        best = gain.max(axis=1, keepdims=True)
        offer: NDArray[np.int64] = np.argmax(gain >= best - 1e-12 * total, axis=1)
        return offer


@lru_cache
def acceptance_weights(spec: GameSpec) -> NDArray[np.float64]:
    """Returns `E[value of one unit / own total]` for each item type, `[I]` float64, correct to rounding.

    An outside offer uniform on 1 .. own total is at most the value of the bundle x with probability `x . weights`.
    Computed from the distribution of the rest of the total, by convolving the items one at a time: about
    `I * I * (max_value - min_value + 1) * max_total` additions (1 million for the standard game, a few milliseconds).
    """
    values = range(spec.min_value, spec.max_value + 1)
    weights = np.empty(spec.num_items)
    for item, quantity in enumerate(spec.item_quantities):
        rest = np.ones(1)
        for other, amount in enumerate(spec.item_quantities):
            if other != item:
                rest = _add_item(rest, amount, values)
        totals = np.arange(len(rest))
        weights[item] = np.mean([np.sum(rest * (value / (quantity * value + totals))) for value in values])
    weights.flags.writeable = False
    return weights


def _add_item(distribution: NDArray[np.float64], quantity: int, values: range) -> NDArray[np.float64]:
    """Returns the distribution of a sum plus `quantity` units at a value uniform on `values`."""
    result = np.zeros(len(distribution) + quantity * values[-1])
    for value in values:
        result[quantity * value : quantity * value + len(distribution)] += distribution
    return result / len(values)

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
        _check_closed_form("tioli", self.spec)
        self._acceptance = self.spec.offers @ acceptance_weights(self.spec)

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        spec = self.spec
        seen = spec.read_observation(obs)
        stall = np.where(seen.seat == 0, 0, spec.num_offers - 1)
        answer = np.where(offer_value(seen) >= seen.outside, spec.accept_action, spec.walk_action)
        last = seen.round == spec.max_rounds - 1
        action = np.where(last, answer, stall)
        proposing = last & (seen.seat == 0)
        total = seen.total[proposing]
        kept = total[:, None] - seen.values[proposing] @ spec.offers.T
        action[proposing] = _best_offer(self._acceptance, kept, seen.outside[proposing], total)
        return action


class TioliSecondPolicy(NumpyPolicy):
    """Take it or leave it by seat 1: a Nash equilibrium whose halves this policy plays in either seat.

    Seat 1 asks for everything until the last round but one, whatever was offered. There it makes the offer `x` (items
    to itself) that maximises `q(y) * (own value of x - own outside)`, the lowest index on ties, where `y` is the rest
    and `q(y) = y . w` is exactly the probability that seat 0 accepts, with `w = acceptance_weights(spec)`. In the last
    round it walks, whatever is offered: the threat that makes its offer the last one. Seat 0 makes the empty offer
    until the last round, and there accepts what is worth at least its outside offer, else walks.

    The threat is not credible (a good last offer would be refused), so this is Nash and not sequentially rational. The
    closed form has the conditions of `TioliPolicy`, and needs a second round to answer in.

    Args:
        spec: The game; the standard one if None.
        seed: Unused by this deterministic policy.

    Raises:
        UnsupportedGame: (a ValueError) if the equilibrium or its closed form does not exist on this game.
    """

    def __init__(self, spec: GameSpec | None = None, seed: int = 0) -> None:
        super().__init__(spec, seed)
        if self.spec.max_rounds < 2:
            raise UnsupportedGame("tioli-second needs max_rounds 2 or more: seat 0 answers its offer a round later.")
        _check_closed_form("tioli-second", self.spec)
        self._acceptance = (np.asarray(self.spec.item_quantities) - self.spec.offers) @ acceptance_weights(self.spec)

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        spec = self.spec
        seen = spec.read_observation(obs)
        first, last = seen.seat == 0, seen.round == spec.max_rounds - 1
        accept = last & first & (offer_value(seen) >= seen.outside)
        ending = np.where(accept, spec.accept_action, spec.walk_action)
        action = np.where(last, ending, np.where(first, 0, spec.num_offers - 1))
        proposing = ~first & (seen.round == spec.max_rounds - 2)
        worth = seen.values[proposing] @ spec.offers.T
        action[proposing] = _best_offer(self._acceptance, worth, seen.outside[proposing], seen.total[proposing])
        return action


def _check_closed_form(name: str, spec: GameSpec) -> None:
    if spec.outside_range != (0.0, 1.0):
        raise UnsupportedGame(
            f"{name} needs outside_range (0, 1), so that acceptance is linear; got {spec.outside_range}."
        )
    if spec.discount < 1.0 and spec.max_rounds > 1:
        raise UnsupportedGame(f"{name} needs discount 1, because it delays its offer for free; got {spec.discount}.")


def _best_offer(
    acceptance: NDArray[np.float64], worth: NDArray[np.int64], outside: NDArray[np.int64], total: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns the offers `[B]` with the largest expected gain over walking, the lowest index on ties.

    Args:
        acceptance: `[K]`, the probability that the other seat accepts.
        worth: `[B, K]`, what the proposer keeps, in points.
        outside: `[B]`, the proposer's outside offer, in points.
        total: `[B]`, the proposer's own total, in points; the tolerance is 1e-12 of it.
    """
    gain = acceptance * (worth - outside[:, None])
    best = gain.max(axis=1, keepdims=True)
    offer: NDArray[np.int64] = np.argmax(gain >= best - 1e-12 * total[:, None], axis=1)
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

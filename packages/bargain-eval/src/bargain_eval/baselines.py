"""The four simple policies behind the reference table; every comparison of values is made in integers.

Legend: `B` rows, `I` item types, `A` actions, `K` offers. Each costs a few vector operations on `[B, A]`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Self

import numpy as np
from bargain_env.spec import GameSpec, ObservedState
from numpy.typing import NDArray

from bargain_eval.policy import NumpyPolicy, PolicyRequest

_MAX_DENOMINATOR = 1_000_000  # keeps value * denominator within int64 for every game


class RandomPolicy(NumpyPolicy):
    """Plays uniformly over the legal actions."""

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        probs: NDArray[np.float64] = action_mask / action_mask.sum(axis=1, keepdims=True)
        return probs


class AlwaysWalkPolicy(NumpyPolicy):
    """Walks at once."""

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        return np.full(len(obs), self.spec.walk_action, dtype=np.int64)


class GreedyPolicy(NumpyPolicy):
    """Seat 0 always offers nothing (action 0); seat 1 accepts what is worth at least its outside offer, else walks."""

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        seen = self.spec.read_observation(obs)
        accept = offer_value(seen) >= seen.outside
        return np.where(seen.seat == 0, 0, np.where(accept, self.spec.accept_action, self.spec.walk_action))


class FairSplitPolicy(NumpyPolicy):
    """Seat 0 always offers seat 1 about half, by its own values; seat 1 accepts from a share of `accept_threshold` on.

    Seat 0 offers the bundle minimising `|2 * value - total|`, the lowest index on ties; seat 1 walks unless it accepts.

    Args:
        spec: The game; the standard one if None.
        seed: Unused by this deterministic policy.
        accept_threshold: Share of its own total that satisfies seat 1, in [0, 1]; compared as an exact decimal.

    Raises:
        ValueError: If the threshold lies outside [0, 1].
    """

    def __init__(self, spec: GameSpec | None = None, seed: int = 0, accept_threshold: float = 0.4) -> None:
        super().__init__(spec, seed)
        if not 0 <= accept_threshold <= 1:
            raise ValueError(f"accept_threshold must lie in [0, 1], got {accept_threshold}.")
        self.accept_threshold = accept_threshold
        self._threshold = Fraction(str(accept_threshold)).limit_denominator(_MAX_DENOMINATOR)

    @classmethod
    def from_request(cls, request: PolicyRequest) -> Self:
        """Builds the policy of `fair_split` or `fair_split?accept_threshold=.3`."""
        request.refuse_argument()
        return cls(request.spec, request.seed, **request.read_options(accept_threshold=float))

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        seen = self.spec.read_observation(obs)
        accept = offer_value(seen) * self._threshold.denominator >= seen.total * self._threshold.numerator
        action = np.where(accept, self.spec.accept_action, self.spec.walk_action)
        first = seen.seat == 0
        value = seen.values[first] @ self.spec.offers.T
        action[first] = np.argmin(np.abs(2 * value - seen.total[first, None]), axis=1)
        return action


def offer_value(seen: ObservedState) -> NDArray[np.int64]:
    """Returns what the standing offer is worth to the observer `[...]`, in points; 0 if no offer stands."""
    value: NDArray[np.int64] = (seen.offer * seen.values).sum(axis=-1)
    return value

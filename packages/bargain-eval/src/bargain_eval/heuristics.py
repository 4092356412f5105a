"""Negotiation heuristics of the literature: deterministic rules for both seats of any game.

Every comparison of values is made in integers, and ties go to the lowest action index. A seat that can make no offer
(seat 1 in the last round) accepts or walks.

Legend: `B` rows, `K` offers, `D` = `max_turns` decisions. Each costs a few vector operations on `[B, K]`.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from bargain_env.spec import GameSpec, ObservedState
from numpy.typing import NDArray

from bargain_eval.baselines import offer_value
from bargain_eval.policy import NumpyPolicy, PolicyRequest

_UNIT = 1_000_000  # concessions are counted in millionths, which keeps every product within int64


class MyopicPolicy(NumpyPolicy):
    """Accepts whatever is worth at least its outside offer, and otherwise asks for everything.

    It compares each offer with walking at once and looks no further ahead, hence the name. It never concedes. Both
    seats play by this rule; seat 1 walks in the last round unless it accepts. An empty offer is never accepted, because
    an outside offer is at least 1 point.
    """

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        spec = self.spec
        seen = spec.read_observation(obs)
        everything = np.where(seen.seat == 0, 0, spec.num_offers - 1)
        counter = np.where(action_mask[:, 0], everything, spec.walk_action)
        return np.where(offer_value(seen) >= seen.outside, spec.accept_action, counter)


class SoftPolicy(NumpyPolicy):
    """Accepts any offer, whatever it is worth; without one it offers half.

    Half is the offer that is worth least to itself among those worth at least half of its own total. The rule is that
    of the "soft" agent in Smithline et al. (2025), which opens with a random split instead.
    """

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        seen = self.spec.read_observation(obs)
        action = np.full(len(obs), self.spec.accept_action)
        opening = ~seen.has_offer
        action[opening] = _least_reaching(_own_worth(self.spec, seen, opening), (seen.total[opening] + 1) // 2)
        return action


class ToughPolicy(NumpyPolicy):
    """Never accepts: at every move it gives away one unit of the item type it values least, and keeps the rest.

    That is the offer worth most to itself among those that give the other seat anything. It walks where it can make no
    offer. The rule is that of the rigid "tough" agent in Smithline et al. (2025).
    """

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        seen = self.spec.read_observation(obs)
        worth = _own_worth(self.spec, seen, slice(None))
        given = np.where(worth < seen.total[:, None], worth, -1)
        offer: NDArray[np.int64] = given.argmax(axis=1)
        return offer


class AspirationPolicy(NumpyPolicy):
    """Lowers what it aspires to from everything to its outside offer as the deadline comes near.

    A time-dependent tactic (Faratin, Sierra and Jennings 1998, section 4.1). Before decision `t` of `0 .. T`, with
    `T = max_turns - 1`, the concession is `alpha(t) = k + (1 - k) * (t / T) ** (1 / beta)`, rounded to millionths, and
    the aspiration `outside + (total - outside) * (1 - alpha(t))` points. It accepts what is worth at least its
    aspiration. Otherwise it makes the offer that is worth least to itself among those that reach its aspiration, or
    walks where it can make no offer. So it accepts exactly what is worth at least what it would ask for, the paper's
    rule of acceptance.

    Args:
        spec: The game; the standard one if None.
        seed: Unused by this deterministic policy.
        beta: How early it concedes: below 1 late (Boulware), 1 evenly, above 1 early (conceder); positive.
        k: The concession before the first decision, in [0, 1].

    Raises:
        ValueError: If `beta` or `k` is out of range.
    """

    def __init__(self, spec: GameSpec | None = None, seed: int = 0, beta: float = 1.0, k: float = 0.0) -> None:
        super().__init__(spec, seed)
        if not (math.isfinite(beta) and beta > 0):
            raise ValueError(f"beta must be positive and finite, got {beta}.")
        if not 0 <= k <= 1:
            raise ValueError(f"k must lie in [0, 1], got {k}.")
        self.beta, self.k = beta, k
        last = self.spec.max_turns - 1
        conceded = [k + (1 - k) * (decision / last) ** (1 / beta) for decision in range(last + 1)]
        self._kept = _UNIT - np.rint(np.array(conceded) * _UNIT).astype(np.int64)  # [D]

    @classmethod
    def from_request(cls, request: PolicyRequest) -> Self:
        """Builds the policy of `aspiration` or `aspiration?beta=.2&k=.1`."""
        request.refuse_argument()
        return cls(request.spec, request.seed, **request.read_options(beta=float, k=float))

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        spec = self.spec
        seen = spec.read_observation(obs)
        aspiration = seen.outside * _UNIT + (seen.total - seen.outside) * self._kept[2 * seen.round + seen.seat]
        accept = seen.has_offer & (offer_value(seen) * _UNIT >= aspiration)
        action = np.where(accept, spec.accept_action, spec.walk_action)
        offering = ~accept & action_mask[:, 0]
        needed = -(-aspiration[offering] // _UNIT)
        action[offering] = _least_reaching(_own_worth(spec, seen, offering), needed)
        return action


def _own_worth(spec: GameSpec, seen: ObservedState, rows: NDArray[np.bool_] | slice) -> NDArray[np.int64]:
    """Returns what each offer is worth to the observers of `rows`, `[B, K]` points."""
    to_seat_1 = seen.values[rows] @ spec.offers.T
    return np.where(seen.seat[rows, None] == 0, seen.total[rows, None] - to_seat_1, to_seat_1)


def _least_reaching(worth: NDArray[np.int64], level: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the offers `[B]` worth least among those worth at least `level` `[B]`; `worth` is `[B, K]`."""
    offer: NDArray[np.int64] = np.where(worth >= level[:, None], worth, np.iinfo(np.int64).max).argmin(axis=1)
    return offer

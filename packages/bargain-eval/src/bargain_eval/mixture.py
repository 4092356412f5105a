"""A mixture of policies: each game is played by one member, drawn when the game begins."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from bargain_env.spec import GameSpec, ObservationKind

from bargain_eval.policy import HasMemory, Policy, like, sample_actions, to_numpy


class Mixture:
    """Draws one member per game in `begin` and keeps it until that game begins again.

    The draw is kept by game id, seat and calling thread, so that one mixture may play both seats, and several matches
    of the same games at once. A game must begin and be played in one thread. Costs one small dict entry per game and
    one call of each member per decision.

    Args:
        policies: The members, at least one.
        weights: Their probabilities, one each, with sum 1.
        spec: The game; the standard one if None.
        seed: Seed of the generator used when `begin` or `get_action` is called without one.

    Attributes:
        policies: The members.
        weights: `[len(policies)]` float64.
        observation: "history" if a member reads it.
        device: The first member's.

    Raises:
        ValueError: If the numbers of members and weights differ, or the weights are no distribution.
    """

    def __init__(
        self,
        policies: Sequence[Policy],
        weights: Sequence[float],
        spec: GameSpec | None = None,
        seed: int = 0,
    ) -> None:
        self.policies = tuple(policies)
        self.weights = np.asarray(weights, dtype=np.float64)
        self.spec = spec or GameSpec()
        if self.weights.shape != (len(self.policies),) or not self.policies:
            raise ValueError(f"a mixture needs one weight per policy, got {len(self.policies)} and {len(weights)}.")
        if not (np.all(self.weights >= 0) and abs(self.weights.sum() - 1) <= 1e-6):
            raise ValueError(f"mixture weights must be nonnegative with sum 1, got {self.weights.tolist()}.")
        reads_history = any(policy.observation == "history" for policy in self.policies)
        self.observation: ObservationKind = "history" if reads_history else "standing"
        self.device = self.policies[0].device
        self._rng = np.random.default_rng(seed)
        self._local = threading.local()

    def begin(self, game_ids: Any, seat: int, rng: np.random.Generator | None = None) -> None:
        """Draws the member of each game for `seat`; see `HasMemory.begin`."""
        rng = self._rng if rng is None else rng
        ids = to_numpy(game_ids)
        members = sample_actions(np.broadcast_to(self.weights, (len(ids), len(self.weights))), rng)
        self._drawn(seat).update(zip(ids.tolist(), members.tolist(), strict=True))
        for index, policy in enumerate(self.policies):
            if isinstance(policy, HasMemory) and np.any(members == index):
                policy.begin(ids[members == index], seat, rng)

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        """See `Policy.get_action`; each row is answered by its game's member, one call per member.

        Raises:
            ValueError: If `game_ids` is missing or a game has not begun.
        """
        if game_ids is None:
            raise ValueError("a mixture needs game_ids, because it keeps one member per game.")
        if len(obs.shape) == 1:
            return self.get_action(obs[None], action_mask[None], rng, np.reshape(to_numpy(game_ids), 1))[0]
        ids = to_numpy(game_ids)
        members = self._members(ids, to_numpy(obs[:, self.spec.slices["state"]])[:, 2] > 0.5)
        actions = np.empty(len(ids), dtype=np.int64)
        for index in np.unique(members):
            policy, rows = self.policies[index], np.flatnonzero(members == index)
            width = self.spec.standing_dim if policy.observation == "standing" else obs.shape[1]
            chosen = policy.get_action(
                obs[rows, :width], action_mask[rows], self._rng if rng is None else rng, ids[rows]
            )
            actions[rows] = to_numpy(chosen)
        return like(obs, actions)

    def _drawn(self, seat: int) -> dict[int, int]:
        if not hasattr(self._local, "drawn"):
            self._local.drawn = ({}, {})
        drawn: dict[int, int] = self._local.drawn[seat]
        return drawn

    def _members(self, ids: np.ndarray[Any, Any], seats: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        drawn = self._drawn(0), self._drawn(1)
        try:
            pairs = zip(ids.tolist(), seats.tolist(), strict=True)
            return np.array([drawn[seat][game] for game, seat in pairs], dtype=np.int64)
        except KeyError as error:
            raise ValueError(f"game {error} has not begun for this mixture; call begin(game_ids, seat, rng).") from None


def members(policy: Policy) -> list[Policy]:
    """Returns the policies that a mixture may draw, however deep, or the policy itself."""
    return [member for member, _ in weighted_members(policy)]


def weighted_members(policy: Policy) -> list[tuple[Policy, float]]:
    """Returns `members` with their probabilities, which sum to 1; those of probability 0 are left out."""
    if not isinstance(policy, Mixture):
        return [(policy, 1.0)]
    parts = zip(policy.policies, policy.weights.tolist(), strict=True)
    return [(leaf, share * own) for part, share in parts if share > 0 for leaf, own in weighted_members(part)]

"""A policy made of two: one for each seat."""

from __future__ import annotations

from typing import Any

import numpy as np
from bargain_env.spec import GameSpec, ObservationKind

from bargain_eval.policy import HasMemory, Policy, like, to_numpy


class BySeat:
    """Plays seat 0 with one policy and seat 1 with another, such as a mixture for each.

    A decision costs one call of each policy on the rows of its seat.

    Args:
        policies: The policies of seat 0 and seat 1.
        spec: The game; the standard one if None.

    Attributes:
        policies: The policies.
        observation: "history" if one of them reads it.
        device: The first one's.
    """

    def __init__(self, policies: tuple[Policy, Policy], spec: GameSpec | None = None) -> None:
        self.policies = policies
        self.spec = spec or GameSpec()
        reads_history = any(policy.observation == "history" for policy in policies)
        self.observation: ObservationKind = "history" if reads_history else "standing"
        self.device = policies[0].device

    def begin(self, game_ids: Any, seat: int, rng: np.random.Generator | None = None) -> None:
        """Starts games for the policy of `seat`; see `HasMemory.begin`."""
        policy = self.policies[seat]
        if isinstance(policy, HasMemory):
            policy.begin(game_ids, seat, rng)

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        """See `Policy.get_action`; each row is answered by the policy of its seat."""
        if len(obs.shape) == 1:
            ids = None if game_ids is None else np.reshape(to_numpy(game_ids), 1)
            return self.get_action(obs[None], action_mask[None], rng, ids)[0]
        ids = None if game_ids is None else to_numpy(game_ids)
        seats = to_numpy(obs[:, self.spec.slices["state"]])[:, 2] > 0.5
        actions = np.empty(len(seats), dtype=np.int64)
        for seat, policy in enumerate(self.policies):
            rows = np.flatnonzero(seats == bool(seat))
            if not len(rows):
                continue
            width = self.spec.standing_dim if policy.observation == "standing" else obs.shape[1]
            own = None if ids is None else ids[rows]
            actions[rows] = to_numpy(policy.get_action(obs[rows, :width], action_mask[rows], rng, own))
        return like(obs, actions)


def policy_of_seat(policy: Policy, seat: int) -> Policy:
    """Returns who plays `seat` when `policy` does."""
    return policy.policies[seat] if isinstance(policy, BySeat) else policy

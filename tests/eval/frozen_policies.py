"""Policies with an arbitrary fixed behaviour, for tests of what evaluates policies."""

from __future__ import annotations

from typing import Any

import numpy as np
from bargain_env.spec import GameSpec
from bargain_eval.baselines import offer_value
from bargain_eval.policy import NumpyPolicy
from numpy.typing import NDArray


class ArbitraryPolicy(NumpyPolicy):
    """Plays every action with a probability that depends on everything it sees, by random weights.

    It likes to accept what is worth its outside offer, and seldom accepts anything else.
    """

    def __init__(self, spec: GameSpec, seed: int, temperature: float = 0.5) -> None:
        super().__init__(spec, seed)
        rng = np.random.default_rng(seed)
        self._weights = rng.normal(size=(spec.standing_dim, spec.num_actions)) / temperature

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        seen = self.spec.read_observation(obs)
        logits = np.tanh(obs[:, : len(self._weights)] @ self._weights) * 3
        logits[:, self.spec.accept_action] = np.where(offer_value(seen) >= seen.outside, 4.0, -4.0)
        logits = np.where(action_mask, logits, -np.inf)
        probs: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs /= probs.sum(axis=1, keepdims=True)
        return probs

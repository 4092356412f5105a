"""Trains sb3-contrib's MaskablePPO in both seats against an opponent that offers half and accepts two fifths.

It needs `pip install ./packages/bargain-env sb3-contrib`, from the repository's root. `GamesForSB3` is all that
Stable-Baselines3 needs to train on many games at once; for one game, `MaskablePPO("MlpPolicy",
gymnasium.make("bargain_env:Bargain-v0"))` does without it.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from bargain_env import BargainVectorEnv, GameSpec
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecEnv

SPEC = GameSpec()


def opponent(observation: Any, action_mask: Any) -> Any:
    """Accepts two fifths of its own total, else offers the bundle nearest to half of it; walks at its last move."""
    seen = SPEC.read_observation(observation)
    offer = np.abs(2 * seen.values @ SPEC.offers.T - seen.total[:, None]).argmin(axis=1)
    accept = seen.has_offer & (5 * (seen.values * seen.offer).sum(axis=1) >= 2 * seen.total)
    return np.select([accept, ~action_mask[:, 0]], [SPEC.accept_action, SPEC.walk_action], offer)


class GamesForSB3(VecEnv):
    """A `BargainVectorEnv` with automatic reset in the same step as a Stable-Baselines3 `VecEnv`."""

    def __init__(self, games: BargainVectorEnv) -> None:
        self.games = games
        super().__init__(games.num_envs, games.single_observation_space, games.single_action_space)

    def reset(self) -> Any:
        return self.games.reset(seed=self._seeds[0])[0]

    def step_async(self, actions: Any) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        observations, rewards, terminated, _, infos = self.games.step(self.actions)
        listed: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(terminated):
            listed[row] = {"terminal_observation": infos["final_obs"][row], "TimeLimit.truncated": False}
        return observations, rewards, terminated, listed

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.games, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.games, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        return list(getattr(self.games, method_name)(*args, **options))

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def close(self) -> None:
        self.games.close()


def payoff(model: MaskablePPO, num_games: int, seed: int) -> tuple[float, float]:
    """Returns the mean payoff over one game of every row, and its standard error."""
    games = BargainVectorEnv(SPEC, num_games, seat="alternate", opponent=opponent, seed=seed)
    observation, _ = games.reset()
    earned, going = np.zeros(num_games), np.ones(num_games, bool)
    while going.any():
        actions, _ = model.predict(observation, action_masks=games.action_masks())
        observation, rewards, terminated, _, _ = games.step(actions)
        earned[going] += rewards[going]
        going &= ~terminated
    return float(earned.mean()), float(earned.std() / np.sqrt(num_games))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timesteps", type=int, default=60_000)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the networks are small
    games = BargainVectorEnv(SPEC, num_envs=64, seat="alternate", opponent=opponent)
    settings: dict[str, Any] = {"n_steps": 64, "batch_size": 1024, "learning_rate": 1e-3, "gamma": 1.0}
    model = MaskablePPO("MlpPolicy", GamesForSB3(games), **settings, seed=0, device="cpu")
    for when in ("before", "after"):
        mean, error = payoff(model, 4_000, seed=1)
        print(f"{when} training: mean payoff {mean:.4f} +- {error:.4f} of the own total")
        if when == "before":
            model.learn(options.timesteps)


if __name__ == "__main__":
    main()

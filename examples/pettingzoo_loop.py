"""Plays 1,024 games at once through the vectorised PettingZoo environment, uniformly random legal actions."""

from __future__ import annotations

import numpy as np
from bargain_env import parallel_env


def main() -> None:
    env, rng = parallel_env(num_envs=1024), np.random.default_rng(0)
    observations, _ = env.reset(seed=0)
    earned, games = np.zeros(2), 0
    for _ in range(100):
        actions = {
            agent: np.argmax(rng.random(view["action_mask"].shape) * view["action_mask"], axis=1)
            for agent, view in observations.items()
        }
        observations, rewards, terminations, _, _ = env.step(actions)
        earned += [rewards[agent].sum() for agent in env.possible_agents]
        games += int(terminations["player_0"].sum())
    print(f"{games} games; mean payoff of each seat: {earned / games}")


if __name__ == "__main__":
    main()

"""PPO by self-play in one file, in the manner of CleanRL, over SuperSuit's vector of PettingZoo games.

It needs `pip install ./packages/bargain-env torch supersuit`, from the repository's root. Every game gives two rows,
one a seat. Both see every step, so a row is one seat's whole game and advantages need no stitching; but a seat that
waits has the single action `noop`, so only the rows that act are averaged in the policy's loss.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from bargain_env import parallel_env
from supersuit import concat_vec_envs_v1, pettingzoo_env_to_vec_env_v1
from torch import nn
from torch.distributions import Categorical


class Agent(nn.Module):
    """One network for both seats: the observation says which seat it is."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        self.actor, self.critic = nn.Linear(128, actions), nn.Linear(128, 1)
        nn.init.zeros_(self.actor.weight)  # uniform over the legal actions at first

    def forward(self, seen: dict[str, torch.Tensor]) -> tuple[Categorical, torch.Tensor]:
        hidden = self.trunk(seen["observation"])
        logits = self.actor(hidden).masked_fill(seen["action_mask"] == 0, -1e9)
        return Categorical(logits=logits), self.critic(hidden).squeeze(-1)


def to_tensors(seen: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(np.array(array)) for name, array in seen.items()}


def advantages(rewards: torch.Tensor, dones: torch.Tensor, values: torch.Tensor, gae_lambda: float) -> torch.Tensor:
    """Returns generalised advantages `[T, rows]` with discount 1; `values` is `[T + 1, rows]`."""
    result, following = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        going_on = 1 - dones[t]
        delta = rewards[t] + going_on * values[t + 1] - values[t]
        result[t] = following = delta + going_on * gae_lambda * following
    return result


def main(timesteps: int, num_games: int = 64, num_steps: int = 32, seed: int = 0) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # faster for small networks
    envs: Any = concat_vec_envs_v1(pettingzoo_env_to_vec_env_v1(parallel_env()), num_games)
    agent = Agent(envs.observation_space["observation"].shape[0], envs.action_space.n)
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3, eps=1e-5)
    seen = to_tensors(envs.reset(seed=seed)[0])  # without a seed all copies would play the same games
    rows = len(seen["observation"])
    for iteration in range(max(timesteps // (rows * num_steps), 1)):
        story: dict[str, list[torch.Tensor]] = {name: [] for name in (*seen, "action", "log_prob", "reward", "done")}
        values, payoffs = [], []
        for _ in range(num_steps):
            with torch.no_grad():
                policy, value = agent(seen)
            action = policy.sample()
            after, reward, terminated, _, _ = envs.step(action.numpy())
            payoffs.extend(reward[np.asarray(terminated, dtype=bool)])
            step = {"action": action, "log_prob": policy.log_prob(action), "reward": torch.as_tensor(reward)}
            step["done"] = torch.as_tensor(terminated, dtype=torch.float32)
            for name, tensor in (seen | step).items():
                story[name].append(tensor)
            values.append(value)
            seen = to_tensors(after)
        with torch.no_grad():
            values.append(agent(seen)[1])
        batch = {name: torch.stack(tensors) for name, tensors in story.items()}
        value = torch.stack(values)
        batch["advantage"] = advantages(batch["reward"], batch["done"], value, gae_lambda=0.95)
        batch["return"] = batch["advantage"] + value[:-1]
        batch = {name: tensor.flatten(0, 1) for name, tensor in batch.items()}
        update(agent, optimizer, batch)
        if iteration % 5 == 0 or not payoffs:
            print(f"after {(iteration + 1) * rows * num_steps:8d} steps a seat earned {np.mean(payoffs):.3f}")
    print(f"in the end a seat earned {np.mean(payoffs):.3f} in {len(payoffs) // 2} games")
    envs.close()


def update(agent: Agent, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> None:
    """Four epochs of clipped PPO; the value learns from every row, the policy from those that act."""
    acts = batch["action_mask"][:, :-1].any(dim=1)
    mean, deviation = batch["advantage"][acts].mean(), batch["advantage"][acts].std()
    for chosen in (part for _ in range(4) for part in torch.randperm(len(acts)).chunk(4)):
        rows = {name: tensor[chosen] for name, tensor in batch.items()}
        policy, value = agent(rows)
        ratio = (policy.log_prob(rows["action"]) - rows["log_prob"]).exp()
        advantage = (rows["advantage"] - mean) / (deviation + 1e-8)
        gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        policy_loss = -(gain + 0.01 * policy.entropy())[acts[chosen]].mean()
        loss = policy_loss + 0.5 * (value - rows["return"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
        optimizer.step()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=400_000, help="steps of a row; two rows a game")
    main(parser.parse_args().timesteps)

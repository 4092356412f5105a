"""Peers of our PPO: the same network, schedule and games, one seat through the Gymnasium vector environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from bargain_env import BargainVectorEnv
from timing import Work
from torch import nn
from torch.distributions import Categorical

sys.path.append(str(Path(__file__).parents[1]))  # for examples/


class Schedule(NamedTuple):
    """Games x steps of a rollout, epochs over it, rows of a minibatch."""

    games: int
    steps: int
    epochs: int
    minibatch: int

    @property
    def frames(self) -> int:
        """Decisions of a rollout."""
        return self.games * self.steps


def trunk(features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())


def sb3_ppo(schedule: Schedule) -> Work:
    from stable_baselines3 import PPO

    return _sb3(PPO, schedule)


def sb3_maskable_ppo(schedule: Schedule) -> Work:
    from sb3_contrib import MaskablePPO

    return _sb3(MaskablePPO, schedule)


def _sb3(algorithm: Any, schedule: Schedule) -> Work:
    """Any of the two, actor and critic on one trunk."""
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

    from examples.maskable_ppo import GamesForSB3

    class Trunk(BaseFeaturesExtractor):
        def __init__(self, observation_space: Any) -> None:
            super().__init__(observation_space, features_dim=256)
            self.layers = trunk(observation_space.shape[0])

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = self.layers(observations)
            return features

    model = algorithm(
        "MlpPolicy",
        GamesForSB3(BargainVectorEnv(num_envs=schedule.games, seed=0)),
        n_steps=schedule.steps,
        batch_size=schedule.minibatch,
        n_epochs=schedule.epochs,
        gamma=1.0,
        policy_kwargs={"features_extractor_class": Trunk, "net_arch": []},
        seed=0,
        device="cpu",
    )

    def work() -> int:
        model.learn(schedule.frames, reset_num_timesteps=False)
        return schedule.frames

    return work


class _Agent(nn.Module):
    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.trunk, self.actor, self.critic = trunk(features), nn.Linear(256, actions), nn.Linear(256, 1)

    def forward(self, observation: torch.Tensor, mask: torch.Tensor) -> tuple[Categorical, torch.Tensor]:
        hidden = self.trunk(observation)
        return Categorical(logits=self.actor(hidden).masked_fill(~mask, -1e8)), self.critic(hidden).squeeze(-1)


def as_tensors(observation: Any, infos: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(observation), torch.from_numpy(infos["action_mask"].astype(np.bool_))


def cleanrl_style(schedule: Schedule) -> Work:
    """A rollout into preallocated tensors, advantages, epochs of minibatches; plain torch, written out."""
    games = BargainVectorEnv(num_envs=schedule.games, seed=0)
    spec, shape = games.spec_of_game, (schedule.steps, schedule.games)
    torch.manual_seed(0)
    agent = _Agent(spec.observation_dim, spec.num_actions)
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-4, eps=1e-5)
    seen, masks = torch.zeros(*shape, spec.observation_dim), torch.zeros(*shape, spec.num_actions, dtype=torch.bool)
    actions = torch.zeros(shape, dtype=torch.int64)
    log_probs, rewards, dones, values = (torch.zeros(shape) for _ in range(4))
    shown = games.reset()

    def work() -> int:
        nonlocal shown
        for step in range(schedule.steps):
            observation, mask = as_tensors(*shown)
            with torch.no_grad():
                policy, values[step] = agent(observation, mask)
            seen[step], masks[step], actions[step] = observation, mask, policy.sample()
            log_probs[step] = policy.log_prob(actions[step])
            after, reward, terminated, _, infos = games.step(actions[step].numpy())
            rewards[step], dones[step] = torch.from_numpy(reward), torch.from_numpy(terminated)
            shown = after, infos
        advantages, following = torch.zeros(shape), torch.zeros(schedule.games)
        with torch.no_grad():
            value = agent(*as_tensors(*shown))[1]
        for step in reversed(range(schedule.steps)):
            delta = rewards[step] + value * (1 - dones[step]) - values[step]
            advantages[step] = following = delta + 0.95 * (1 - dones[step]) * following
            value = values[step]
        rows = [rows.flatten(0, 1) for rows in (seen, masks, actions, log_probs, advantages, advantages + values)]
        for _ in range(schedule.epochs):
            for chosen in torch.randperm(schedule.frames).chunk(schedule.frames // schedule.minibatch):
                _gradient_step(agent, optimizer, *(row[chosen] for row in rows))
        return schedule.frames

    return work


def _gradient_step(
    agent: _Agent,
    optimizer: torch.optim.Optimizer,
    observation: torch.Tensor,
    mask: torch.Tensor,
    action: torch.Tensor,
    log_prob: torch.Tensor,
    advantage: torch.Tensor,
    target: torch.Tensor,
) -> None:
    policy, value = agent(observation, mask)
    ratio = (policy.log_prob(action) - log_prob).exp()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
    loss = 0.5 * (value - target).square().mean() - gain - 0.01 * policy.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
    optimizer.step()

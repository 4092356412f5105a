"""Trains RLlib's PPO by self-play, with masks, over the turn-based PettingZoo environment.

It needs `pip install ./packages/bargain-env "ray[rllib]==2.60.0"`, from the repository's root. RLlib's
`PettingZooEnv` shows each seat its own decisions only and pays it what came in between, the last payoff included, so
every seat's rows are a whole game by themselves.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from bargain_env import GameSpec, env
from pettingzoo.utils import BaseWrapper
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.env.wrappers.pettingzoo_env import PettingZooEnv
from ray.rllib.utils.torch_utils import FLOAT_MIN
from ray.tune.registry import register_env

MASK = GameSpec().slices["mask"]


class MaskInside(BaseWrapper):
    """Shows the 92 features alone: the last 82 are the mask."""

    def observation_space(self, agent: str) -> Any:
        return super().observation_space(agent)["observation"]

    def observe(self, agent: str) -> Any:
        return super().observe(agent)["observation"]


class MaskedPPO(DefaultPPOTorchRLModule):
    """PPO's own networks, with the illegal actions' logits lowered."""

    def _forward(self, batch: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self._masked(super()._forward(batch, **options), batch)

    def _forward_train(self, batch: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self._masked(super()._forward_train(batch, **options), batch)

    @staticmethod
    def _masked(out: dict[str, Any], batch: dict[str, Any]) -> dict[str, Any]:
        illegal = batch[Columns.OBS][..., MASK] == 0
        out[Columns.ACTION_DIST_INPUTS] = out[Columns.ACTION_DIST_INPUTS].masked_fill(illegal, FLOAT_MIN)
        return out


def main(iterations: int, batch_size: int) -> None:
    register_env("bargain", lambda _: PettingZooEnv(MaskInside(env())))
    config = (
        PPOConfig()
        .environment("bargain")
        .framework("torch")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        .multi_agent(policies={"both"}, policy_mapping_fn=lambda *_, **__: "both")
        .rl_module(rl_module_spec=RLModuleSpec(module_class=MaskedPPO, model_config={"fcnet_hiddens": [128, 128]}))
        .training(gamma=1.0, lr=1e-3, train_batch_size_per_learner=batch_size, minibatch_size=256, num_epochs=4)
        .training(entropy_coeff=0.01, vf_clip_param=1.0)
        .debugging(seed=0)
    )
    torch.set_num_threads(1)  # faster for small networks
    algorithm = config.build_algo()
    for iteration in range(iterations):
        result = algorithm.train()["env_runners"]
        earned = sorted(result["agent_episode_returns_mean"].items())
        payoffs = ", ".join(f"{agent} {payoff:.3f}" for agent, payoff in earned)
        print(f"iteration {iteration + 1}: {payoffs}")
    algorithm.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=2000, help="moves of each seat an iteration")
    arguments = parser.parse_args()
    main(arguments.iterations, arguments.batch_size)

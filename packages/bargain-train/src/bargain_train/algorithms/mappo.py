"""MAPPO: PPO self-play with a critic for each seat that sees both hands, and actors that see their own.

Yu et al. 2022, with a payoff and a critic for each seat in place of a common one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from bargain_train.config import STRICT, MappoOptions, NetworkOptions, Positive, PpoOptions, Space, StepConfig

if TYPE_CHECKING:
    from bargain_eval.policy import Policy

    from bargain_train.run import Run


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MAPPOConfig(MappoOptions, PpoOptions, NetworkOptions, StepConfig):
    """Train by MAPPO: self-play with decentralised actors and centralised critics.

    Each seat learns by PPO. Its critic sees the hands of both seats while training, so that less chance is left in the
    advantages; its actor sees what the game shows it. What is evaluated and stored are the actors alone.

    For instance
        bargain-train mappo
        bargain-train mappo --share-actor --total-timesteps 2000000
        bargain-train mappo --no-centralized-critic --no-value-norm
        bargain-train mappo --game mini-b --hidden-dims 64 64 --critic-hidden-dims 64 64 --observation history
        bargain-train mappo --resume mappo_20260101_120000_seed42
    """

    num_envs: Positive = 512
    """Games played at once."""
    rollout_steps: Annotated[int, Field(ge=2)] = 64
    """Decisions of each game in a rollout; games go on from one rollout to the next."""
    minibatch_size: Positive = 2048
    """Rows of a gradient step; what a rollout holds of an actor's seats is split into equal minibatches of at most this
    size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_kl_rollout(self.num_envs * self.rollout_steps)


SPACE: Space = {
    "lr": {"distribution": "log_uniform_values", "min": 3e-5, "max": 3e-3},
    "clip_eps": {"distribution": "uniform", "min": 0.1, "max": 0.3},
    "entropy_coef": {"distribution": "log_uniform_values", "min": 0.003, "max": 0.3},
    "ppo_epochs": {"values": [2, 4, 8]},
    "num_envs": {"values": [256, 512, 1024, 2048]},
    "rollout_steps": {"values": [16, 32, 64, 128]},
    "share_actor": {"values": [True, False]},
    "centralized_critic": {"values": [True, False]},
}
"""What a sweep searches unless it is told otherwise."""


def train(config: MAPPOConfig, run: Run) -> Policy:
    """Trains until the budget is spent or the run is stopped; returns the actors' policy and stores it in the run.

    Raises:
        ValueError: If a setting does not fit; no run is stored then.
    """
    from bargain_train import ppo_run
    from bargain_train.critics import build_actor_critics
    from bargain_train.evaluation import Evaluator
    from bargain_train.updates import Learner

    spec = config.spec().with_observation("history")
    actors, networks = build_actor_critics(config.network_config(), config.spec(), config)
    networks = [network.to(run.device) for network in networks]
    seats = ((0, 1),) if config.share_actor else ((0,), (1,))
    learners = [Learner(network, own, config) for network, own in zip(networks, seats, strict=True)]
    return ppo_run.lead(
        run,
        learners,
        (networks[0], networks[-1]),
        spec,
        lambda: (actors[0], actors[-1]),
        Evaluator(run),
        num_envs=config.num_envs,
        rollout_steps=config.rollout_steps,
    )

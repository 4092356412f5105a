"""PPO: self-play with one network for both seats or one each, or a best response to a fixed opponent.

Schulman et al. 2017, with credit assigned per seat (`bargain_train.advantage`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from bargain_train.config import STRICT, NetworkOptions, PpoOptions, Space, StepConfig

if TYPE_CHECKING:
    from bargain_eval.policy import Policy

    from bargain_train.run import Run


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOConfig(PpoOptions, NetworkOptions, StepConfig):
    """Train by PPO self-play, or (with --opponent) train a best response.

    Both seats learn at once on the same games; every decision is credited with its own seat's payoff. The run is
    stored in --results-dir with its metrics, checkpoints and final evaluation against the fixed pool of baselines.

    For instance
        bargain-train ppo
        bargain-train ppo --num-envs 4096 --total-timesteps 5000000
        bargain-train ppo --opponent greedy --seat 0 --total-timesteps 1000000
        bargain-train ppo --game mini-b --total-timesteps 500000 --observation history
        bargain-train ppo --config settings.json --seed 7
        bargain-train ppo --resume ppo_20260101_120000_seed42
    """

    num_envs: Annotated[int, Field(ge=1)] = 512
    """Games played at once."""
    rollout_steps: Annotated[int, Field(ge=2)] = 64
    """Decisions of each game in a rollout; games go on from one rollout to the next."""
    share: bool = True
    """One network for both seats; --no-share trains one a seat."""
    opponent: str | None = None
    """Train a best response to this fixed policy, e.g. greedy, fair_split, checkpoint:policy.pt, run:RUN_ID."""
    seat: Literal[0, 1] | None = None
    """The learner's seat, with --opponent (default 0)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seat is not None and self.opponent is None:
            raise ValueError("--seat names the learner's seat against an --opponent; without one both seats learn.")
        if self.opponent is not None and not self.share:
            raise ValueError("--no-share trains two networks; with --opponent only one seat learns.")
        self.check_kl_rollout(self.num_envs * self.rollout_steps)

    @property
    def learning_seats(self) -> tuple[int, ...]:
        """The seats that learn."""
        return (0, 1) if self.opponent is None else (self.seat or 0,)


SPACE: Space = {
    "lr": {"distribution": "log_uniform_values", "min": 3e-5, "max": 3e-3},
    "clip_eps": {"distribution": "uniform", "min": 0.1, "max": 0.3},
    "entropy_coef": {"distribution": "log_uniform_values", "min": 0.003, "max": 0.3},
    "ppo_epochs": {"values": [2, 4, 8]},
    "num_envs": {"values": [256, 512, 1024, 2048]},
    "rollout_steps": {"values": [16, 32, 64, 128]},
    "hidden_dims": {"values": [[128, 128], [256, 256], [512, 512]]},
    "share": {"values": [True, False]},
}
"""What a sweep searches unless it is told otherwise."""


def train(config: PPOConfig, run: Run) -> Policy:
    """Trains until the budget is spent or the run is stopped; returns the policy and stores it in the run.

    Raises:
        ValueError: If a setting does not fit; no run is stored then.
    """
    from bargain_train import ppo_run
    from bargain_train.collect import Player
    from bargain_train.evaluation import Evaluator
    from bargain_train.networks import build_network
    from bargain_train.updates import Learner

    seats, spec = config.learning_seats, config.spec()
    networks = [build_network(config.network_config(), spec).to(run.device) for _ in range(1 if config.share else 2)]
    by_seat = networks[0], networks[-1]
    learners = [Learner(network, seats if config.share else (seat,), config) for seat, network in enumerate(networks)]
    players: list[Player] = list(by_seat)
    opponents = {}
    if config.opponent is not None:
        opponents = {"opponents": (config.opponent,)}
        players[1 - seats[0]] = opponent = run.load_opponent(config.opponent)
        if opponent.observation == "history":
            spec = spec.with_observation("history")
    return ppo_run.lead(
        run,
        learners,
        (players[0], players[1]),
        spec,
        lambda: by_seat,
        Evaluator(run, seats=seats, **opponents),
        num_envs=config.num_envs,
        rollout_steps=config.rollout_steps,
    )

"""NFSP: neural fictitious self-play, a best response and the average of all best responses for each seat.

Heinrich & Silver 2016.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from bargain_train.config import STRICT, FictitiousOptions, NetworkOptions, Positive, Space, StepConfig

if TYPE_CHECKING:
    from bargain_eval.policy import Policy

    from bargain_train.run import Run


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NFSPConfig(FictitiousOptions, NetworkOptions, StepConfig):
    """Train by neural fictitious self-play.

    Each seat learns a best response to the other by deep Q-learning, and imitates the average of all its best
    responses so far. In each game it plays the first with probability --eta and the second otherwise. What is evaluated
    and stored are the average strategies of both seats.

    For instance
        bargain-train nfsp
        bargain-train nfsp --num-envs 4096 --total-timesteps 5000000 --eta 0.1
        bargain-train nfsp --game mini-b --hidden-dims 64 64 --total-timesteps 1000000
        bargain-train nfsp --observation standing --avg-memory window
        bargain-train nfsp --resume nfsp_20260101_120000_seed42
    """

    observation: Literal["standing", "history"] = "history"
    """standing: the offer on the table; history: every offer made so far as well (perfect recall, as NFSP assumes)."""
    total_timesteps: Positive = 5_000_000
    """Budget in environment steps; one step is one decision of one game."""
    num_envs: Positive = 512
    """Games played at once."""
    rollout_steps: Annotated[int, Field(ge=2)] = 16
    """Decisions of each game between two updates; games go on from one rollout to the next."""

    def epsilon(self, step: int) -> float:
        """Returns the share of random actions in best response mode after `step` environment steps."""
        decay = self.epsilon_decay_steps or max(1, 2 * self.total_timesteps // 5)
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * min(step / decay, 1.0)


SPACE: Space = {
    "eta": {"distribution": "uniform", "min": 0.05, "max": 0.5},
    "br_lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    "avg_lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    "epsilon_start": {"distribution": "log_uniform_values", "min": 0.02, "max": 0.5},
    "br_train_freq": {"values": [128, 256, 512]},
    "br_target_update_freq": {"values": [100, 300, 1000]},
    "num_envs": {"values": [128, 256, 512, 1024]},
}
"""What a sweep searches unless it is told otherwise."""


def train(config: NFSPConfig, run: Run) -> Policy:
    """Trains until the budget is spent or the run is stopped; returns the average policy and stores it in the run.

    Raises:
        ValueError: If a setting does not fit; no run is stored then.
    """
    from bargain_train.evaluation import Evaluator, conduct
    from bargain_train.learner import game_metrics
    from bargain_train.modes import ModePlayers, ModeRollouts, mode_metrics
    from bargain_train.q_updates import FictitiousLearner

    spec = config.spec()
    first, second = learners = [
        FictitiousLearner(seat, config, config.network_config(), spec, seed=config.seed, device=run.device)
        for seat in range(2)
    ]
    averages = first.average, second.average
    place: dict[str, Any] = {"seed": config.seed, "device": run.device}
    responses = first.response, second.response
    players = ModePlayers(spec, responses, averages, num_envs=config.num_envs, eta=config.eta, **place)
    rollouts = ModeRollouts(spec, players, length=config.rollout_steps, threads=run.threads, **place)
    if run.resumed is not None:
        for learner, stored in zip(learners, run.resumed["learners"], strict=True):
            learner.load_state_dict(stored)
        rollouts.load_state_dict(run.resumed["rollouts"])

    def updates() -> Iterator[dict[str, float]]:
        while not run.should_stop():
            epsilon, before = config.epsilon(run.step), run.step
            rollout, transitions = rollouts.collect(epsilon)
            run.advance(rollouts.frames)
            metrics = game_metrics(spec, rollout) | mode_metrics(rollout) | {"epsilon": epsilon}
            for seat, learner in enumerate(learners):
                learner.keep(transitions)
                learner.anneal(before / config.total_timesteps)
                found = learner.improve_response(run.step // config.br_train_freq - before // config.br_train_freq)
                found |= learner.improve_average(run.step // config.avg_train_freq - before // config.avg_train_freq)
                found |= {"replay": float(len(learner.replay)), "reservoir": float(len(learner.reservoir))}
                metrics |= {f"{name}_{seat}": value for name, value in found.items()}
            yield metrics

    def state() -> dict[str, Any]:
        return {"learners": [learner.state_dict() for learner in learners], "rollouts": rollouts.state_dict()}

    policy = conduct(run, updates(), lambda: averages, state, Evaluator(run))
    rollouts.close()
    return policy

"""Fictitious co-play: a response for each seat to a frozen pool of independent self-play pairs of several skills.

Strouse et al. 2021, who play a game of common payoffs; with payoffs of one's own it is a response to a fixed mixture,
and no equilibrium.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from bargain_train.config import STRICT, CoPlayConfig, Space

if TYPE_CHECKING:
    from bargain_eval.policy import Policy

    from bargain_train.run import Run


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FCPConfig(CoPlayConfig):
    """Train by fictitious co-play: half of the budget trains partners, the other half responses to them.

    The first half is shared by --population-size pairs, each one network in self-play with a seed of its own, of which
    an early, a middle and the final snapshot are kept. Then each seat's response trains against the pool of all
    snapshots, one of which plays a whole game. The numbers of a PPO update hold for each of these trainings.

    For instance
        bargain-train fcp
        bargain-train fcp --num-envs 4096 --total-timesteps 10000000 --population-size 10 --snapshot-interval 10000
        bargain-train fcp --game mini-b --total-timesteps 1000000 --population-size 4 --hidden-dims 64 64
        bargain-train fcp --prioritized --workers 2
        bargain-train fcp --resume fcp_20260101_120000_seed42
    """


SPACE: Space = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    "entropy_coef": {"distribution": "log_uniform_values", "min": 0.003, "max": 0.3},
    "population_size": {"values": [5, 10, 20]},
    "snapshot_interval": {"values": [5_000, 10_000, 20_000]},
    "prioritized": {"values": [True, False]},
    "num_envs": {"values": [1024, 2048, 4096]},
    "rollout_steps": {"values": [16, 32, 64]},
}
"""What a sweep searches unless it is told otherwise."""


def train(config: FCPConfig, run: Run) -> Policy:
    """Trains both stages, or what is missing of them; returns the responses as a policy and stores it in the run.

    Raises:
        ValueError: If a setting does not fit; no run is stored then.
    """
    from bargain_train.co_play import CoPlay
    from bargain_train.evaluation import Evaluator, finish, validate
    from bargain_train.jobs import Jobs
    from bargain_train.networks import build_pair
    from bargain_train.policies import networks_policy, policy_checkpoint

    networks = build_pair(config.network_config(), config.spec(), run.device)
    evaluator = Evaluator(run)
    with Jobs(run, config.executor, config.workers) as jobs:
        stages = CoPlay(config, run, jobs)
        run.start()
        if run.unsaved:
            run.save(policy_checkpoint(run.algorithm, networks, run.step, resume={}))
        partners = stages.partners()
        responses = None if partners is None else stages.responses(partners)
        if responses is None:
            return networks_policy(networks, device=run.device)
        validate(run, responses, evaluator)
        policy = finish(run, responses, evaluator)
        if run.finished:
            run.save(policy_checkpoint(run.algorithm, responses, run.step, resume={}), is_best=True)
            jobs.forget()
    return policy

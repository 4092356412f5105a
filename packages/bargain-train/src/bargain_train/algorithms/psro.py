"""PSRO: populations that grow by responses to the solution of the game between their members.

Lanctot et al. 2017, with a population per seat and general-sum solvers (Muller et al. 2020).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass

from bargain_train.config import STRICT, JobOptions, NetworkOptions, OracleConfig, PpoOptions, Space

if TYPE_CHECKING:
    from bargain_eval.policy import Policy

    from bargain_train.run import Run


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PSROConfig(OracleConfig):
    """Train by PSRO (policy space response oracles).

    Each iteration trains, for each seat, a response to the other seat's mixture of policies, one of which plays a whole
    game; plays the new pairs; and solves the game between all policies for the next mixtures.

    For instance
        bargain-train psro
        bargain-train psro --psro-iterations 20 --br-training-steps 100000 --nash-solver replicator
        bargain-train psro --game mini-a --nash-solver max_welfare --oracle exact --psro-iterations 3
        bargain-train psro --workers 2
        bargain-train psro --resume psro_20260101_120000_seed42
    """

    oracle: Literal["ppo", "exact"] = "ppo"
    """Where responses come from: trained by PPO; or computed, and payoffs too, on small games."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.oracle != "exact":
            return
        fields = type(self).__dataclass_fields__
        unused = [
            field.name for options in (PpoOptions, NetworkOptions, JobOptions) for field in dataclasses.fields(options)
        ]
        unused += ["num_envs", "br_training_steps", "br_rollout_steps", "warm_start", "self_play_share"]
        unused += ["num_eval_games"] if self.nash_solver != "nbs" else []
        for name in unused:
            if getattr(self, name) != fields[name].default:
                raise ValueError(f"--{name.replace('_', '-')} has no effect with --oracle exact.")
        if self.observation != "history":
            raise ValueError("--oracle exact computes responses that remember every offer: --observation history.")


SPACE: Space = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    "entropy_coef": {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0},
    "br_training_steps": {"values": [50_000, 100_000, 200_000]},
    "br_rollout_steps": {"values": [8, 16, 32]},
    "nash_solver": {"values": ["replicator", "fictitious_play", "rrd", "uniform"]},
    "max_policies": {"values": [10, 20]},
    "num_eval_games": {"values": [500, 1000, 2000]},
    "warm_start": {"values": [True, False]},
}
"""What a sweep searches unless it is told otherwise."""


def train(config: PSROConfig, run: Run) -> Policy:
    """Trains until the budget is spent or the run is stopped; returns the policy and stores it in the run.

    Raises:
        ValueError: If a setting does not fit; no run is stored then.
    """
    from bargain_train.exact_oracle import ExactOracle
    from bargain_train.exact_play import ExactPlay, exact_measure
    from bargain_train.jobs import Jobs
    from bargain_train.networks import build_pair
    from bargain_train.oracle_run import lead
    from bargain_train.population_jobs import CellPlayer, PpoResponder

    with Jobs(run, config.executor, config.workers) as jobs:
        if config.oracle == "exact":
            oracle = ExactOracle(config.spec(), device=run.device)
            exact, initial = ExactPlay(oracle), (oracle.initial(), oracle.initial())
            return lead(config, run, jobs, initial, exact.respond, exact.simulate, exact.measure)
        measure = exact_measure(config.spec(), device=run.device)
        respond, simulate = PpoResponder(config, run, jobs), CellPlayer(config, run, jobs)
        initial = build_pair(config.network_config(), config.spec(), run.device)
        return lead(config, run, jobs, initial, respond, simulate, measure)

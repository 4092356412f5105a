"""Ex2PSRO: PSRO whose responses explore near what was good for both, and whose solver prefers it.

Nguyen, Gu and Wellman 2025 ("explicit exploration for high-welfare equilibria").
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass

from bargain_train.config import STRICT, ExplorationOptions, OracleConfig, Space

if TYPE_CHECKING:
    from bargain_eval.policy import Policy

    from bargain_train.oracle import Metrics
    from bargain_train.population import Populations
    from bargain_train.run import Run


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Ex2PSROConfig(ExplorationOptions, OracleConfig):
    """Train by Ex2PSRO: PSRO that explores for equilibria of high welfare.

    From the second iteration on, each seat's response is held close to an exploration policy, which imitates the games
    of highest welfare among those already played, relative to what their deals allow. The pull fades over the
    iterations, and the solver picks the equilibrium of highest welfare. With --kl-coef 0 it is PSRO with that solver.

    For instance
        bargain-train ex2psro
        bargain-train ex2psro --psro-iterations 20 --br-training-steps 100000 --welfare-fn utilitarian --kl-coef 0.1
        bargain-train ex2psro --welfare-fn egalitarian --exploration-top-k 5 --use-adaptive-kl
        bargain-train ex2psro --game mini-c --psro-iterations 8 --hidden-dims 64 64
        bargain-train ex2psro --resume ex2psro_20260101_120000_seed42
    """

    nash_solver: Literal["replicator", "fictitious_play", "mene", "max_welfare", "rrd", "nbs", "uniform"] = (
        "max_welfare"
    )
    """How the game between the policies is solved; see the page on PSRO."""

    def __post_init__(self) -> None:
        super().__post_init__()
        conditions = {
            "kl_coef": (
                self.kl_coef > 0,
                "a --kl-coef above 0",
                [field.name for field in dataclasses.fields(ExplorationOptions) if field.name not in _WITHOUT_KL],
            ),
            "use_adaptive_kl": (self.use_adaptive_kl, "--use-adaptive-kl", ["kl_target", "kl_horizon"]),
            "use_welfare_weighted_sampling": (
                self.use_welfare_weighted_sampling,
                "--use-welfare-weighted-sampling",
                ["exploration_temperature"],
            ),
        }
        defaults = type(self).__dataclass_fields__
        for met, needed, names in conditions.values():
            for name in names:
                if not met and getattr(self, name) != defaults[name].default:
                    raise ValueError(f"--{name.replace('_', '-')} needs {needed}.")


SPACE: Space = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    "kl_coef": {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0},
    "use_adaptive_kl": {"values": [True, False]},
    "welfare_fn": {"values": ["utilitarian", "nash", "egalitarian"]},
    "nash_solver": {"values": ["max_welfare", "mene", "nbs", "replicator"]},
    "exploration_top_k": {"distribution": "int_uniform", "min": 1, "max": 10},
    "exploration_temperature": {"distribution": "uniform", "min": 0.1, "max": 2.0},
    "imitation_lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    "imitation_epochs": {"values": [3, 5, 10]},
    "imitation_data_size": {"values": [500, 1000, 5000]},
    "br_training_steps": {"values": [50_000, 100_000, 200_000]},
    "max_policies": {"values": [10, 20]},
}
"""What a sweep searches unless it is told otherwise."""


_WITHOUT_KL = ("kl_coef", "welfare_fn")


def train(config: Ex2PSROConfig, run: Run) -> Policy:
    """Trains until the budget is spent or the run is stopped; returns the policy and stores it in the run.

    Raises:
        ValueError: If a setting does not fit; no run is stored then.
    """
    from bargain_train.exact_play import exact_measure
    from bargain_train.explorer import Explorer, equilibrium_welfare
    from bargain_train.jobs import Jobs
    from bargain_train.networks import build_pair
    from bargain_train.oracle_run import lead
    from bargain_train.population_jobs import CellPlayer, PpoResponder

    explorer = Explorer(config, config, run) if config.kl_coef else None

    def more(populations: Populations) -> Metrics:
        found = {} if explorer is None else explorer.metrics
        return {"welfare": equilibrium_welfare(populations, config.welfare_fn), **found}

    with Jobs(run, config.executor, config.workers) as jobs:
        respond = PpoResponder(config, run, jobs, explorer)
        simulate = CellPlayer(config, run, jobs, keep_plays=True)
        measure = exact_measure(config.spec(), device=run.device)
        initial = build_pair(config.network_config(), config.spec(), run.device)
        return lead(config, run, jobs, initial, respond, simulate, measure, more)

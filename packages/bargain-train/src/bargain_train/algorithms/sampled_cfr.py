"""Sampled CFR: counterfactual regret minimisation with networks in place of tables (deep CFR).

Brown, Lerer, Gross, Sandholm 2019; read out as SD-CFR (Steinberger 2019) or by a strategy network.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from bargain_train.config import STRICT, IterationConfig, NetworkOptions, Positive, RegretOptions, Space

if TYPE_CHECKING:
    from bargain_eval.policy import Policy

    from bargain_train.policies import SeatNetworks
    from bargain_train.run import Run


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SampledCFRConfig(RegretOptions, NetworkOptions, IterationConfig):
    """Train by sampled (deep) counterfactual regret minimisation.

    Each iteration traverses deals for seat 0 and fits a new network to all advantages that were ever sampled, then does
    the same for seat 1. A seat plays in proportion to its positive advantages. What is evaluated and stored is the
    average over the iterations, in which iteration t weighs t.

    For instance
        bargain-train sampled-cfr
        bargain-train sampled-cfr --num-envs 4096 --iterations 1000 --lr 1e-3
        bargain-train sampled-cfr --game mini-b --hidden-dims 64 64
        bargain-train sampled-cfr --readout network --observation standing
        bargain-train sampled-cfr --resume sampled_cfr_20260101_120000_seed42
    """

    observation: Literal["standing", "history"] = "history"
    """standing: the offer on the table; history: every offer made so far as well (perfect recall, as CFR assumes)."""
    num_envs: Positive = 512
    """Deals traversed for each seat in each iteration."""
    sampled_offers: Annotated[int, Field(ge=2)] = 4
    """Offers followed at each own decision, drawn half by the strategy and half uniformly; all if there are no more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fields = type(self).__dataclass_fields__
        for name in ("strategy_memory_size", "strategy_batch_size", "strategy_train_steps"):
            if self.readout != "network" and getattr(self, name) != fields[name].default:
                raise ValueError(f"--{name.replace('_', '-')} needs --readout network.")
        if self.readout == "network" and self.stored_networks != fields["stored_networks"].default:
            raise ValueError("--stored-networks needs --readout sd-cfr.")


SPACE: Space = {
    "lr": {"distribution": "log_uniform_values", "min": 3e-4, "max": 3e-2},
    "max_grad_norm": {"distribution": "log_uniform_values", "min": 0.1, "max": 10.0},
    "advantage_train_steps": {"values": [400, 800, 1600]},
    "advantage_batch_size": {"values": [256, 512, 1024]},
    "num_envs": {"values": [256, 512, 1024]},
    "sampled_offers": {"values": [2, 4, 8]},
    "reinitialise": {"values": [True, False]},
}
"""What a sweep searches unless it is told otherwise."""


def train(config: SampledCFRConfig, run: Run) -> Policy:
    """Trains until the budget is spent or the run is stopped; returns the average policy and stores it in the run.

    Raises:
        ValueError: If a setting does not fit; no run is stored then.
    """
    from bargain_train.evaluation import Evaluator, conduct
    from bargain_train.regret import RegretLearner
    from bargain_train.traversal import Traverser

    spec = config.spec()
    learners = [
        RegretLearner(seat, config, config.network_config(), spec, seed=config.seed, device=run.device)
        for seat in range(2)
    ]
    traverser = Traverser(
        spec,
        config.num_envs,
        offers=config.sampled_offers,
        seed=config.seed,
        device=run.device,
        threads=run.threads,
    )
    if run.resumed is not None:
        for learner, stored in zip(learners, run.resumed["learners"], strict=True):
            learner.load_state_dict(stored)
        traverser.load_state_dict(run.resumed["traverser"])

    def iterations() -> Iterator[dict[str, float]]:
        while not run.should_stop():
            number, nodes = run.updates + 1, 0
            metrics: dict[str, float] = {}
            for seat, learner in enumerate(learners):
                traversal = traverser.traverse(seat, (learners[0].strategy, learners[1].strategy))
                nodes += traversal.nodes
                found = learner.keep_advantages(traversal.advantages, number) | {"payoff": traversal.value}
                learners[1 - seat].keep_strategies(traversal.strategies, number)
                found |= learner.improve(number)
                metrics |= {f"{name}_{seat}": value for name, value in found.items()}
            run.advance(nodes)
            yield metrics | {"total": metrics["payoff_0"] + metrics["payoff_1"]}

    def averages() -> SeatNetworks:
        return learners[0].average(), learners[1].average()

    def state() -> dict[str, Any]:
        return {"learners": [learner.state_dict() for learner in learners], "traverser": traverser.state_dict()}

    policy = conduct(run, iterations(), averages, state, Evaluator(run))
    traverser.close()
    return policy

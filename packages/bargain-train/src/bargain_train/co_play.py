"""The two stages of fictitious co-play, as jobs: partners in self-play, then responses to all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bargain_train.config import CoPlayConfig
from bargain_train.jobs import Job, Jobs
from bargain_train.networks import Network
from bargain_train.policies import read_network
from bargain_train.responses import (
    ResponseTask,
    SelfPlayTask,
    Stored,
    learner_metrics,
    train_pair,
    train_response,
)
from bargain_train.run import Run
from bargain_train.seeds import derive_seed

UNIFORM_PROB = 0.5


class Partner(NamedTuple):
    """A frozen snapshot of a pair.

    Attributes:
        pair: Its number.
        skill: "early", "middle" or "final".
        network: Stored; it plays both seats.
        payoffs: What the seats earned in self-play then.
    """

    pair: int
    skill: str
    network: Stored
    payoffs: tuple[float, float]


class CoPlay:
    """Trains partners and responses; metrics are logged as each job is finished.

    Args:
        config: The settings.
        run: Where metrics and steps go.
        jobs: Does the work.
    """

    def __init__(self, config: CoPlayConfig, run: Run, jobs: Jobs) -> None:
        self._config, self._run, self._jobs = config, run, jobs

    def partners(self) -> list[Partner] | None:
        """Returns the snapshots of all pairs, in their order; None if the run was stopped."""
        config = self._config
        tasks = [
            SelfPlayTask(**self._common(f"pair-{pair}", config.pair_steps), snapshot_interval=config.snapshot_interval)
            for pair in range(config.population_size)
        ]
        found: dict[str, list[Partner]] = {}
        for name, result in self._jobs.each({f"pair-{pair}": Job(train_pair, task) for pair, task in enumerate(tasks)}):
            pair = int(name.removeprefix("pair-"))
            self._log(result["curve"], {"pair": pair})
            skills = zip(("early", "middle", "final"), result["snapshots"], strict=True)
            found[name] = [Partner(pair, skill, one["network"], tuple(one["payoffs"])) for skill, one in skills]
        if len(found) < config.population_size:
            return None
        return [partner for pair in range(config.population_size) for partner in found[f"pair-{pair}"]]

    def responses(self, partners: Sequence[Partner]) -> tuple[Network, Network] | None:
        """Returns each seat's response to the pool of `partners`; None if the run was stopped."""
        config, networks = self._config, dict[str, Network]()
        jobs = {}
        for seat in range(2):
            uniform = UNIFORM_PROB if config.uniform_prob is None else config.uniform_prob
            weights = partner_weights(
                [partner.payoffs[1 - seat] for partner in partners], uniform if config.prioritized else 1.0
            )
            task = ResponseTask(
                **self._common(f"response-{seat}", config.response_steps),
                seat=seat,
                opponents=[(one.network, weight) for one, weight in zip(partners, weights.tolist(), strict=True)],
            )
            jobs[f"response-{seat}"] = Job(train_response, task)
        for name, result in self._jobs.each(jobs):
            seat = int(name.removeprefix("response-"))
            curve = [
                {name: line[name] for name in ("step", "updates")}
                | {f"br_{key}_{seat}": value for key, value in learner_metrics(seat, line).items()}
                for line in result["curve"]
            ]
            self._log(curve, {})
            networks[name] = read_network(result["network"], config.spec()).to(self._run.device)
        return (networks["response-0"], networks["response-1"]) if len(networks) == len(jobs) else None

    def _common(self, name: str, steps: int) -> dict[str, Any]:
        config, run = self._config, self._run
        return {
            "spec": config.spec(),
            "network": config.network_config(),
            "options": config,
            "steps": steps,
            "num_envs": config.num_envs,
            "rollout_steps": config.rollout_steps,
            "seed": derive_seed(config.seed, name),
            "device": run.device,
            "threads": max(1, run.threads // config.workers),
        }

    def _log(self, curve: Sequence[Mapping[str, float]], more: Mapping[str, float]) -> None:
        step, updates = 0, 0
        for line in curve:
            self._run.advance(int(line["step"]) - step, int(line["updates"]) - updates)
            step, updates = int(line["step"]), int(line["updates"])
            self._run.log({name: value for name, value in line.items() if name not in ("step", "updates")} | dict(more))


def partner_weights(payoffs: Sequence[float], uniform_prob: float) -> NDArray[np.float64]:
    """Returns the probability of meeting each partner, `[len(payoffs)]`.

    A share `uniform_prob` of the games draws from all alike, the others in proportion to the partner's rank by what it
    earned, 1 for the least.
    """
    ranks = np.argsort(np.argsort(payoffs, kind="stable"), kind="stable") + 1.0
    return uniform_prob / len(ranks) + (1.0 - uniform_prob) * ranks / ranks.sum()

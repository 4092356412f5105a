"""What a double oracle asks for, as jobs: pairs of members to play, and responses to train by PPO."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from bargain_env.reference import DEAL
from bargain_env.spec import GameSpec
from bargain_eval.arena import play
from bargain_eval.baselines import AlwaysWalkPolicy
from bargain_eval.game_rows import GameRows

from bargain_train.config import OracleConfig
from bargain_train.jobs import Job, Jobs, Result
from bargain_train.networks import Network
from bargain_train.oracle import Played, Response
from bargain_train.policies import NetworkPolicy, read_network, stored_network
from bargain_train.population import Cell, Member, Populations
from bargain_train.responses import ResponseTask, Stored, TogetherTask, learner_metrics, train_response, train_together
from bargain_train.run import Run, torch_threads
from bargain_train.seeds import derive_seed

MakeGuides = Callable[[Populations, int], Sequence[dict[str, Any] | None]]
"""What each seat's response is held close to in iteration `number`, as in `ResponseTask`; None = nothing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellTask:
    """A pair to play.

    Attributes:
        spec: The game.
        networks: Who plays seat 0 and seat 1.
        num_games: Deals.
        seed: Key of the deals; the same for all pairs.
        keep_plays: Hand back every game's payoffs and actions too.
        device: Where to play.
        threads: CPU threads.
    """

    spec: GameSpec
    networks: tuple[Stored, Stored]
    num_games: int
    seed: int
    keep_plays: bool
    device: str
    threads: int


def play_cell(task: CellTask) -> Result:
    """Plays a pair; a `Job`. Returns the fields of a `Cell`, and the `steps` it took."""
    first, second = (read_network(stored, task.spec) for stored in task.networks)
    policies = [NetworkPolicy((network, network), device=task.device) for network in (first, second)]
    with torch_threads(1):
        rows = play(policies, task.num_games, task.seed, spec=task.spec, device=task.device, threads=task.threads)
    return cell_fields(rows, keep_plays=task.keep_plays) | {"steps": int(rows.decisions.sum())}


def cell_fields(rows: GameRows, *, keep_plays: bool) -> dict[str, Any]:
    """Returns the fields of the `Cell` of these games, at least two, as plain values and tensors."""
    mean, error = rows.payoff.mean(axis=0), rows.payoff.std(axis=0, ddof=1) / len(rows) ** 0.5
    plays = {
        "payoff": torch.from_numpy(rows.payoff).float(),
        "actions": torch.from_numpy(rows.actions).to(torch.int16),
    }
    return {
        "mean": tuple(mean.tolist()),
        "standard_error": tuple(error.tolist()),
        "agreement_rate": float((rows.outcome == DEAL).mean()),
        "games": len(rows),
        "plays": plays if keep_plays else None,
    }


def deals_seed(seed: int) -> int:
    """Returns the key of the deals on which all pairs of a run are played."""
    return derive_seed(seed, "payoffs")


def walks(config: OracleConfig) -> GameRows:
    """Returns the deals on which all pairs are played, and what walking at once pays in them."""
    walk = AlwaysWalkPolicy(config.spec())
    return play((walk, walk), config.num_eval_games, deals_seed(config.seed), spec=config.spec())


class CellPlayer:
    """Plays the pairs that are new, each a job, all on the same deals; a `Simulate`.

    Args:
        config: The game, the number of deals and the seed.
        run: Gives device and threads.
        jobs: Does the work.
        keep_plays: Keep every game.
    """

    def __init__(self, config: OracleConfig, run: Run, jobs: Jobs, *, keep_plays: bool = False) -> None:
        self._config, self._run, self._jobs, self._keep_plays = config, run, jobs, keep_plays

    def __call__(self, pairs: Sequence[tuple[Member, Member]], number: int) -> list[Played] | None:
        """Returns the cells of `pairs`; None if the run was stopped."""
        config, run = self._config, self._run
        tasks = {
            f"{number:04d}-cell-{first.number}-{second.number}": CellTask(
                spec=config.spec(),
                networks=(stored_network(first.network), stored_network(second.network)),
                num_games=config.num_eval_games,
                seed=deals_seed(config.seed),
                keep_plays=self._keep_plays,
                device=run.device,
                threads=max(1, run.threads // config.workers),
            )
            for first, second in pairs
        }
        results = self._jobs.do({name: Job(play_cell, task) for name, task in tasks.items()})
        if results is None:
            return None
        return [
            Played(Cell(**{name: result[name] for name in Cell._fields}), result["steps"])
            for result in results.values()
        ]


class PpoResponder:
    """Trains both seats' responses, each a job; a `Respond`.

    Args:
        config: The game, the budget and the seed.
        run: Gives device and threads.
        jobs: Does the work.
        guides: What responses are held close to; None = nothing.
    """

    def __init__(self, config: OracleConfig, run: Run, jobs: Jobs, guides: MakeGuides | None = None) -> None:
        self._config, self._run, self._jobs, self._guides = config, run, jobs, guides

    def __call__(self, populations: Populations, number: int) -> tuple[Response, Response] | None:
        """Returns the responses to the solution of `populations`; None if the run was stopped."""
        guides = (None, None) if self._guides is None else self._guides(populations, number)
        tasks = self._task(populations, number, 0, guides[0]), self._task(populations, number, 1, guides[1])
        if (results := self._train(tasks, number)) is None:
            return None
        first, second = (self._response(seat, result) for seat, result in enumerate(results))
        return first, second

    def _train(self, tasks: tuple[ResponseTask, ResponseTask], number: int) -> list[Result] | None:
        if share := self._config.self_play_share:
            name = f"{number:04d}-responses"
            done = self._jobs.do({name: Job(train_together, TogetherTask(tasks, share))})
            return None if done is None else [done[name]["0"], done[name]["1"]]
        done = self._jobs.do({f"{number:04d}-response-{task.seat}": Job(train_response, task) for task in tasks})
        return None if done is None else list(done.values())

    def _task(self, populations: Populations, number: int, seat: int, guide: dict[str, Any] | None) -> ResponseTask:
        config, run = self._config, self._run
        others = populations.mixtures()[1 - seat]
        newest = populations.members[seat][-1].network
        return ResponseTask(
            spec=config.spec(),
            network=config.network_config(),
            options=config,
            steps=config.br_training_steps,
            num_envs=config.num_envs,
            rollout_steps=config.br_rollout_steps,
            seed=derive_seed(config.seed, f"response-{number}-{seat}"),
            device=run.device,
            threads=max(1, run.threads // config.workers),
            seat=seat,
            opponents=[(stored_network(member.network), weight) for member, weight in others],
            start=stored_network(newest) if config.warm_start else None,
            guide=guide,
        )

    def _response(self, seat: int, result: Result) -> Response:
        network: Network = read_network(result["network"], self._config.spec()).to(self._run.device)
        return Response(network.requires_grad_(False), learner_metrics(seat, result["metrics"]), result["steps"])

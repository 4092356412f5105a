"""Jobs that train a network by PPO: a best response to a pool of frozen opponents, and a pair in self-play.

Legend: `N` games at once, `T` decisions of each in a rollout.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from bargain_env.spec import GameSpec

from bargain_train.collect import Player, Rollouts
from bargain_train.config import PpoOptions, games_at_once
from bargain_train.guide import Guide
from bargain_train.jobs import Result
from bargain_train.learner import Budget, ppo_phase
from bargain_train.networks import Network, build_network
from bargain_train.policies import read_network, stored_network
from bargain_train.pool import Pool
from bargain_train.run import torch_threads
from bargain_train.seeds import derive_seed
from bargain_train.updates import Learner

CURVE = 20
"""Points of the learning curve that a job hands back."""

Stored = dict[str, Any]
"""What `stored_network` returns."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """What training jobs have in common.

    Attributes:
        spec: The game, with the observation of all networks.
        network: Config of the network that learns.
        options: The numbers of its updates.
        steps: Environment steps, of both seats together.
        num_envs: The most games to play at once.
        rollout_steps: Decisions of each game in a rollout.
        seed: Seed of the first weights, the deals and every random draw.
        device: Where to play and train.
        threads: CPU threads.
    """

    spec: GameSpec
    network: dict[str, Any]
    options: PpoOptions
    steps: int
    num_envs: int
    rollout_steps: int
    seed: int
    device: str = "cpu"
    threads: int = 1

    @property
    def games(self) -> int:
        """Games played at once, fewer than `num_envs` where `steps` would pay for few updates."""
        return games_at_once(self.num_envs, self.rollout_steps, self.steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResponseTask(Training):
    """A best response to train.

    Attributes:
        seat: The learner's.
        opponents: Who plays the other seat, and with what weight; one is drawn a game.
        start: What to start from; None = new weights.
        guide: What the response is held close to, as the arguments of `Guide` with its network stored; None = nothing.
    """

    seat: int
    opponents: Sequence[tuple[Stored, float]]
    start: Stored | None = None
    guide: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfPlayTask(Training):
    """A pair to train in self-play with one network.

    Attributes:
        snapshot_interval: Keep the network whenever this many steps more are done, at most once an update.
    """

    snapshot_interval: int


@dataclasses.dataclass(frozen=True)
class TogetherTask:
    """Both seats' responses, to train at the same time.

    Attributes:
        seats: The task of each.
        self_play_share: Share of the games of each that are played against the other one as it is then.
    """

    seats: tuple[ResponseTask, ResponseTask]
    self_play_share: float


def train_response(task: ResponseTask) -> Result:
    """Trains a response to one opponent a game; a `Job`.

    Returns:
        `network`, stored; `steps` taken; `metrics`, means over the last tenth of the updates (of `ppo_phase`); and
        `curve`, at most `CURVE` of the updates' metrics, the last one too, each with its `step` and `updates`.
    """
    with torch_threads(task.threads):
        network = _first_network(task)
        lines = list(_response_phase(task, network, _opponents(task)))
    return _trained(network, lines)


def train_together(task: TogetherTask) -> Result:
    """Trains both seats' responses in turns, one update each; a `Job`.

    It follows the self-play of SP-PSRO (McAleer et al. 2022): a response also meets who will answer it.

    Returns:
        What `train_response` does of each seat, by "0" and "1".
    """
    first, second = task.seats
    with torch_threads(first.threads):
        networks = _first_network(first), _first_network(second)
        phases = [
            _response_phase(
                one,
                networks[one.seat],
                [(network, weight * (1 - task.self_play_share)) for network, weight in _opponents(one)]
                + [(networks[1 - one.seat], task.self_play_share)],
            )
            for one in task.seats
        ]
        lines = list(zip(*phases, strict=True))
    return {str(seat): _trained(networks[seat], [pair[seat] for pair in lines]) for seat in range(2)}


def _response_phase(
    task: ResponseTask, network: Network, opponents: Sequence[tuple[Network, float]]
) -> Iterator[dict[str, float]]:
    guide = None
    if task.guide is not None:
        guide = Guide(**{**task.guide, "network": read_network(task.guide["network"], task.spec).to(task.device)})
    learner = Learner(network, (task.seat,), task.options, guide)
    pool = Pool(opponents)
    return _phase(task, learner, (network, pool) if task.seat == 0 else (pool, network))


def _opponents(task: ResponseTask) -> list[tuple[Network, float]]:
    """Returns who plays the other seat, with probabilities that sum to 1."""
    total = sum(weight for _, weight in task.opponents)
    return [(read_network(stored, task.spec).to(task.device), weight / total) for stored, weight in task.opponents]


def _trained(network: Network, lines: list[dict[str, float]]) -> Result:
    return {"network": stored_network(network), "steps": int(lines[-1]["step"]), **_summary(lines)}


def learner_metrics(seat: int, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the metrics of `ppo_phase` from the view of the one who learned in `seat`: with `payoff`, its own."""
    others = ("payoff_0", "payoff_1", "total", "games", "step", "updates")
    own = {"payoff": metrics[f"payoff_{seat}"]} if "payoff_0" in metrics else {}
    return own | {name: value for name, value in metrics.items() if name not in others}


def train_pair(task: SelfPlayTask) -> Result:
    """Trains one network for both seats in self-play; a `Job`.

    Returns:
        As `train_response`, without `network`; and `snapshots`, the early (first), the middle and the final one, each
        with its `step`, its `network`, stored, and its `payoffs`, what the seats earned in its update. The middle one
        is that whose total is nearest to half-way from the early one's to the final one's (Strouse et al. 2021).

    Raises:
        ValueError: If fewer than three snapshots were taken.
    """
    with torch_threads(task.threads):
        network = new_network(task.network, task.spec, task.seed).to(task.device)
        learner = Learner(network, (0, 1), task.options)
        lines, taken, marks = [], [], 0.0
        for line in _phase(task, learner, (network, network)):
            lines.append(line)
            if line["step"] // task.snapshot_interval > marks:
                marks = line["step"] // task.snapshot_interval
                taken.append(_snapshot(line, network))
        if taken and taken[-1]["step"] != lines[-1]["step"]:
            taken.append(_snapshot(lines[-1], network))
    if len(taken) < 3:
        raise ValueError(f"--snapshot-interval {task.snapshot_interval} takes {len(taken)} of 3 snapshots of a pair.")
    early, final = taken[0], taken[-1]
    half = (sum(early["payoffs"]) + sum(final["payoffs"])) / 2
    middle = min(taken[1:-1], key=lambda snapshot: abs(sum(snapshot["payoffs"]) - half))
    return {"snapshots": [early, middle, final], "steps": lines[-1]["step"], **_summary(lines)}


def new_network(config: Mapping[str, Any], spec: GameSpec, seed: int) -> Network:
    """Returns a network whose first weights depend on `seed` alone."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(derive_seed(seed, "networks"))
        return build_network(config, spec)


def _first_network(task: ResponseTask) -> Network:
    if task.start is not None:
        return read_network(task.start, task.spec).to(task.device)
    return new_network(task.network, task.spec, task.seed).to(task.device)


def _phase(task: Training, learner: Learner, players: tuple[Player, Player]) -> Iterator[dict[str, float]]:
    """Yields the metrics of each update, with its `step`."""
    rollouts = Rollouts(
        task.spec,
        players,
        num_envs=task.games,
        length=task.rollout_steps,
        seed=task.seed,
        device=task.device,
        threads=task.threads,
    )
    generator = torch.Generator(device=task.device).manual_seed(derive_seed(task.seed, "shuffle"))
    clock = Budget()
    for metrics in ppo_phase([learner], rollouts, task.spec, task.steps, clock, generator):
        yield metrics | {"step": clock.step, "updates": clock.updates}
    rollouts.close()


def _snapshot(line: dict[str, float], network: Network) -> dict[str, Any]:
    stored = stored_network(network)
    weights = {name: tensor.cpu().clone() for name, tensor in stored["policy_state_dict"].items()}
    payoffs = [line.get(f"payoff_{seat}", 0.0) for seat in range(2)]
    return {"step": line["step"], "payoffs": payoffs, "network": stored | {"policy_state_dict": weights}}


def _summary(lines: list[dict[str, float]]) -> dict[str, Any]:
    tail = lines[-max(1, len(lines) // 10) :]
    found = {name: [line[name] for line in tail if name in line] for name in tail[-1]}
    means = {name: sum(values) / len(values) for name, values in found.items()}
    return {"metrics": means, "curve": lines[:: -math.ceil(len(lines) / CURVE)][::-1]}

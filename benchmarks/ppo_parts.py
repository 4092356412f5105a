"""What each part of one iteration of our PPO costs: timers around the very objects that training runs."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from bargain_env import GameSpec
from bargain_train.collect import Rollouts
from bargain_train.learner import game_metrics, learner_rows
from bargain_train.updates import Learner, ppo_update
from tensordict import TensorDictBase
from timing import Clock
from torch.profiler import ProfilerActivity, profile

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


class Stopwatch:
    """Adds up seconds of `clock` by name."""

    def __init__(self, clock: Clock) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Times the body of a `with` statement."""
        start = self._clock()
        yield
        self.seconds[name] += self._clock() - start

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `function`, every call of which is timed."""

        def call(*args: Any, **options: Any) -> Any:
            with self.measure(name):
                return function(*args, **options)

        return call


def instrument(watch: Stopwatch, rollouts: Rollouts, learner: Learner) -> None:
    """Puts timers around the engine, the network and the players of `rollouts`."""
    engine, collector, network = rollouts._env.engine, rollouts._collector, learner.network
    collector._recorder = SimpleNamespace(record=watch.timed("record", collector._recorder.record))
    for owner, method, name in (
        (engine, "step", "engine"),
        (rollouts._players, "forward", "players"),
        (network, "forward", "network"),
        (network, "values", "head values"),
    ):
        setattr(owner, method, watch.timed(name, getattr(owner, method)))


def product_share(learner: Learner, rows: TensorDictBase, generator: torch.Generator) -> float:
    """Returns the share of an update's time that matrix products take."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        start = time.perf_counter()
        ppo_update(learner, rows, generator)
        elapsed = time.perf_counter() - start
    microseconds = sum(event.self_cpu_time_total for event in profiled.key_averages() if event.key in PRODUCTS)
    return float(microseconds) / 1e6 / elapsed


def iteration(
    watch: Stopwatch, rollouts: Rollouts, learner: Learner, spec: GameSpec, generator: torch.Generator
) -> dict[str, float]:
    """Runs one iteration as training does; returns the seconds of its parts, which add up to the whole."""
    watch.seconds.clear()
    with watch.measure("collect"):
        rollout = rollouts.collect()
    with watch.measure("metrics"):
        game_metrics(spec, rollout.rows)
    with watch.measure("credit"):
        rows = learner_rows(rollout, learner)[1]
    collected = dict(watch.seconds)
    with watch.measure("update"):
        ppo_update(learner, rows, generator)
    update = watch.seconds["update"]
    products = update * product_share(learner, rows, generator)
    played = collected["engine"] + collected["record"] + collected["players"] + collected["head values"]
    return {
        "collect: engine steps": collected["engine"],
        "collect: views written into the rollout": collected["record"],
        "collect: network": collected["network"] + collected["head values"],
        "collect: masks, sampling, log-probabilities": collected["players"] - collected["network"],
        "collect: storing the rest": collected["collect"] - played,
        "metrics of the games": collected["metrics"],
        "credit, and the rows to learn from": collected["credit"],
        "update: matrix products": products,
        "update: the rest": update - products,
    }


def print_parts(rollouts: Rollouts, learner: Learner, spec: GameSpec, repetitions: int, clock: Clock) -> None:
    """Prints the median time of each part over `repetitions` iterations."""
    watch, generator = Stopwatch(clock), torch.Generator().manual_seed(0)
    instrument(watch, rollouts, learner)
    iteration(watch, rollouts, learner, spec, generator)
    rounds = [iteration(watch, rollouts, learner, spec, generator) for _ in range(repetitions)]
    medians = {name: statistics.median(seconds[name] for seconds in rounds) for name in rounds[0]}
    whole = sum(medians.values())
    print("| part of an iteration | ms | share |\n|---|---|---|")
    for name, seconds in medians.items():
        print(f"| {name} | {1e3 * seconds:,.1f} | {seconds / whole:.1%} |")
    print(f"| together | {1e3 * whole:,.1f} | {rollouts.frames / whole:,.0f} steps/s |")

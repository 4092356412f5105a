"""PPO from end to end against its limit and its peers, in one run: `python benchmarks/ppo.py [--parts]`.

The schedule is MLP 256-256, 1,024 games x 64 steps, 4 epochs, minibatch 4,096, float32, one thread. The limit is the
bare matrix products of that schedule: forward for every decision; forward and backward for every epoch. A step is one
decision that is learned from: self-play learns from both seats', the peers, which play one seat through the Gymnasium
vector environment, from the learner's. The table says which peers are not installed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.collect import Rollouts
from bargain_train.learner import ppo_phase
from bargain_train.networks import build_network
from bargain_train.run import Run
from bargain_train.updates import Learner
from ppo_parts import print_parts
from ppo_peers import Schedule, cleanrl_style, sb3_maskable_ppo, sb3_ppo
from timing import Work, machine, median, rates, ratio, readable

OURS, LIMIT = "bargain-train ppo", "limit: bare matrix products"


def matrix_products(schedule: Schedule) -> Work:
    """The products of one update: three layers, forward for collection, forward and backward for the epochs."""
    sizes = [(92, 256), (256, 256), (256, 83)]
    weights = [torch.randn(m, n) for m, n in sizes]
    small = [torch.randn(schedule.games, m) for m, _ in sizes]
    large = [torch.randn(schedule.minibatch, m) for m, _ in sizes]
    errors = [torch.randn(schedule.minibatch, n) for _, n in sizes]

    def work() -> int:
        for _ in range(schedule.steps):
            for rows, weight in zip(small, weights, strict=True):
                rows @ weight
        for _ in range(schedule.epochs * schedule.frames // schedule.minibatch):
            for index, (rows, weight, error) in enumerate(zip(large, weights, errors, strict=True)):
                rows @ weight
                rows.T @ error
                if index:
                    error @ weight.T
        return schedule.frames

    return work


def build(config: PPOConfig) -> tuple[Rollouts, Learner]:
    torch.manual_seed(0)
    spec = config.spec()
    network = build_network(config.network_config(), spec)
    rollouts = Rollouts(spec, (network, network), num_envs=config.num_envs, length=config.rollout_steps, seed=0)
    return rollouts, Learner(network, (0, 1), config)


def training(config: PPOConfig, run: Run) -> Work:
    rollouts, learner = build(config)
    generator = torch.Generator().manual_seed(0)
    updates = ppo_phase([learner], rollouts, config.spec(), config.total_timesteps, run, generator)

    def work() -> int:
        next(updates)
        return rollouts.frames

    return work


Peers = dict[str, Callable[[Schedule], Work]]


def compare(config: PPOConfig, schedule: Schedule, peers: Peers, **settings: Any) -> None:
    missing = []
    with Run("ppo", config, console=False) as run:
        contestants = {LIMIT: matrix_products(schedule)} if config.network == "mlp" else {}
        contestants[OURS] = training(config, run)
        for name, make in peers.items():
            try:
                contestants[name] = make(schedule)
            except ImportError:
                missing.append(name)
        measured = rates(contestants, seconds=0.0, **settings)
        run.stopped = True
    print("| | steps/s | share of the limit | ours is so many times as fast |\n|---|---|---|---|")
    for name in contestants:
        share = f"{ratio(measured, name, LIMIT):.2f}" if LIMIT in measured else ""
        print(f"| {name} | {readable(median(measured, name))} | {share} | {ratio(measured, OURS, name):.2f} |")
    for name in missing:
        print(f"| {name} | not installed | | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--games", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--minibatch", type=int, default=4096)
    parser.add_argument("--network", choices=["mlp", "transformer"], default="mlp", help="of ours; a peer has an mlp")
    parser.add_argument("--alone", action="store_true", help="leave the peers out")
    parser.add_argument("--parts", action="store_true", help="print what each part of our iterations costs")
    parser.add_argument("--cpu-time", action="store_true", help="of the process, instead of the time that passes")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    settings: dict[str, Any] = {"repetitions": options.repetitions, "clock": clock}
    torch.set_num_threads(1)
    schedule = Schedule(options.games, options.steps, 4, options.minibatch)
    print(f"{machine()}, torch {torch.__version__}, one thread; {options.network}")
    print(f"per second of {'CPU time' if options.cpu_time else 'time'}\n")
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            network=options.network,
            num_envs=schedule.games,
            rollout_steps=schedule.steps,
            ppo_epochs=schedule.epochs,
            minibatch_size=schedule.minibatch,
            total_timesteps=10**9,
            results_dir=folder,
            checkpoint_dir=str(Path(folder) / "mirror"),
            threads=1,
        )
        if options.parts:
            print_parts(*build(config), config.spec(), **settings)
            return
        peers: Peers = {
            "Stable-Baselines3 PPO, shared trunk": sb3_ppo,
            "sb3-contrib MaskablePPO, shared trunk": sb3_maskable_ppo,
            "CleanRL style, torch eager, shared trunk": cleanrl_style,
        }
        compare(config, schedule, {} if options.alone else peers, **settings)


if __name__ == "__main__":
    main()

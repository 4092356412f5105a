"""PPO from end to end against its limit, in one run: `python benchmarks/ppo.py`.

The schedule of MLP 256-256, 1,024 games x 64 steps, 4 epochs, minibatch 4,096, float32. The limit is the bare matrix
products of that schedule (forward for every decision; forward and backward for every epoch), measured between the
repetitions.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.collect import Rollouts
from bargain_train.learner import ppo_phase
from bargain_train.networks import build_network
from bargain_train.run import Run
from bargain_train.updates import Learner
from timing import machine, rates

GAMES, STEPS, EPOCHS, MINIBATCH = 1024, 64, 4, 4096
FRAMES = GAMES * STEPS


def matrix_products() -> Callable[[], int]:
    """The products of one update: three layers, forward for collection, forward and backward for the epochs."""
    sizes = [(92, 256), (256, 256), (256, 83)]
    weights = [torch.randn(m, n) for m, n in sizes]
    small = [torch.randn(GAMES, m) for m, _ in sizes]
    large = [torch.randn(MINIBATCH, m) for m, _ in sizes]
    errors = [torch.randn(MINIBATCH, n) for _, n in sizes]

    def work() -> int:
        for _ in range(STEPS):
            for rows, weight in zip(small, weights, strict=True):
                rows @ weight
        for _ in range(EPOCHS * FRAMES // MINIBATCH):
            for index, (rows, weight, error) in enumerate(zip(large, weights, errors, strict=True)):
                rows @ weight
                rows.T @ error
                if index:
                    error @ weight.T
        return FRAMES

    return work


def training(config: PPOConfig, run: Run) -> Iterator[Any]:
    torch.manual_seed(0)
    spec = config.spec()
    network = build_network(config.network_config(), spec)
    rollouts = Rollouts(spec, (network, network), num_envs=GAMES, length=STEPS, seed=0)
    learner = Learner(network, (0, 1), config)
    return ppo_phase([learner], rollouts, spec, config.total_timesteps, run, torch.Generator().manual_seed(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--network", choices=["mlp", "transformer"], default="mlp")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        config = PPOConfig(
            network=options.network,
            num_envs=GAMES,
            rollout_steps=STEPS,
            ppo_epochs=EPOCHS,
            minibatch_size=MINIBATCH,
            total_timesteps=10**9,
            results_dir=folder,
            threads=1,
        )
        with Run("ppo", config, console=False) as run:
            updates = training(config, run)

            def train() -> int:
                next(updates)
                return FRAMES

            contestants = {"bargain-train ppo": train}
            if options.network == "mlp":
                contestants["limit: bare matrix products"] = matrix_products()
            measured = rates(contestants, repetitions=options.repetitions, seconds=0.1)
            run.stopped = True
    print(f"{machine()}, torch {torch.__version__}, one thread; steps per second\n")
    for name, rate in measured.items():
        print(f"| {name} | {rate:,.0f} |")
    if len(measured) == 2:
        ours, limit = measured.values()
        print(f"\nshare of the limit: {ours / limit:.2f}")


if __name__ == "__main__":
    main()

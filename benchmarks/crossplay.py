"""Cross-play of 20 policies on two cores, and how its time grows: `python benchmarks/crossplay.py`.

First what one game costs each kind of policy, both seats played by it. Then 20 policies (the simple ones, equilibria,
heuristics, the shipped network and freshly initialised MLPs 256-256 as checkpoints) with one worker process and two,
from loading the policies to the last file. Then the growth, in seconds of one processor, which other programs disturb
less: twice the games may take twice the time, twice the policies (of the same kinds) four times.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from bargain_env import GameSpec
from bargain_eval.arena import play
from bargain_eval.checkpoint import write_checkpoint
from bargain_eval.crossplay import crossplay
from bargain_eval.registry import load_policy
from bargain_train.networks import build_network
from bargain_train.policies import policy_checkpoint
from timing import Clock, machine

SIMPLE = ("random", "greedy", "always_walk", "fair_split")
EQUILIBRIA = ("tioli", "tioli-second")
HEURISTICS = ("myopic", "soft", "tough", "aspiration", "aspiration?beta=.2")
NETWORKS = 8
"""Checkpoints among the 20 policies."""


def write_networks(folder: Path, number: int) -> list[str]:
    paths = []
    for seed in range(number):
        torch.manual_seed(seed)
        network = build_network({"network": "mlp", "hidden_dims": [256, 256]}, GameSpec())
        paths.append(str(folder / f"network_{seed}.pt"))
        write_checkpoint(paths[-1], policy_checkpoint("ppo", (network, network), step=0))
    return paths


def same_kinds(networks: Sequence[str], each: int) -> list[str]:
    """Returns `each` policies of three kinds."""
    aspirations = [f"aspiration?beta={1 + k / 100}" for k in range(each)]
    splits = [f"fair_split?accept_threshold={0.4 + k / 100}" for k in range(each)]
    return [*networks[:each], *aspirations, *splits]


def seconds(policies: Sequence[str], num_games: int, workers: int, clock: Clock = time.perf_counter) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = clock()
        crossplay(policies, num_games, 0, output=Path(folder) / "matrix.json", workers=workers)
        return clock() - start


def print_kinds(policies: Sequence[str], num_games: int) -> None:
    print(
        f"| policy against itself | microseconds a game | decisions a game | microseconds a decision |\n{'|---' * 4}|"
    )
    for name in policies:
        policy = load_policy(name)
        play((policy, policy), num_games, 0)
        start = time.perf_counter()
        rows = play((policy, policy), num_games, 0)
        game = 1e6 * (time.perf_counter() - start) / num_games
        length = float(rows.decisions.mean())
        shown = Path(name).stem if name.endswith(".pt") else name
        print(f"| {shown} | {game:.2f} | {length:.2f} | {game / length:.2f} |", flush=True)


def print_goal(policies: Sequence[str], num_games: int) -> None:
    print(f"\n| policies | games a cell | workers | seconds | games a second |\n{'|---' * 5}|")
    for workers in (1, 2):
        taken = seconds(policies, num_games, workers)
        total = len(policies) ** 2 * num_games
        print(f"| {len(policies)} | {num_games:,} | {workers} | {taken:.1f} | {total / taken:,.0f} |", flush=True)


def print_growth(networks: Sequence[str], num_games: int, each: int) -> None:
    print(f"\n| policies | games a cell | processor seconds | growth |\n{'|---' * 4}|")
    first = 0.0
    for number, games in ((each, num_games), (each, 2 * num_games), (2 * each, num_games)):
        policies = same_kinds(networks, number)
        taken = seconds(policies, games, 1, time.process_time)
        first = first or taken
        print(f"| {len(policies)} | {games:,} | {taken:.1f} | {taken / first:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-games", type=int, default=10_000, help="of a cell of the 20 policies")
    parser.add_argument("--policies", type=int, default=20, help="so many of the 20")
    parser.add_argument("--growth-games", type=int, default=5_000, help="of a cell where the growth starts")
    parser.add_argument("--each", type=int, default=3, help="policies of each of three kinds where the growth starts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        networks = write_networks(Path(folder), NETWORKS)
        kinds = [*SIMPLE, *EQUILIBRIA, *HEURISTICS, "pretrained", networks[0]]
        print_kinds(kinds, options.num_games)
        print_goal([*kinds[:-1], *networks][: options.policies], options.num_games)
        print_growth(networks, options.growth_games, options.each)


if __name__ == "__main__":
    main()

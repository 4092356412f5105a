"""How fast the games are played, each way in one run: `python benchmarks/env.py [--games 256 4096 65536]`.

One step is one action of one game, uniformly random legal actions, automatic reset. The probe writes the same rows
without playing; "of probe" is the column to compare between machines.
"""

from __future__ import annotations

import argparse
import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from bargain_env import BargainEnv, GameSpec, make_engine, parallel_env
from timing import machine, rates
from torchrl.collectors import Collector

Work = Callable[[], int]


def compile_probe(folder: Path) -> Any:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise SystemExit("the benchmark needs a C++ compiler for its probe.")
    library = folder / "probe.so"
    source = Path(__file__).with_name("probe.cpp")
    subprocess.run([compiler, "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    function = ctypes.CDLL(str(library)).write_rows
    function.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 3
    function.restype = None
    return function


def probe(function: Any, spec: GameSpec, games: int) -> Work:
    observation = np.zeros((games, spec.observation_dim), np.float32)
    mask = np.zeros((games, spec.num_actions), np.bool_)
    actions = np.random.default_rng(0).integers(0, 80, games)

    def work() -> int:
        rows = (array.ctypes.data for array in (observation, mask, actions))
        function(*rows, games, spec.observation_dim, spec.num_actions)
        return games

    return work


def engine_step(spec: GameSpec, games: int, **options: Any) -> Work:
    """Steps alone: the actions were drawn in an earlier run of the same engine, so they are the legal ones."""
    length = 60
    recorded = []
    engine = make_engine(spec, games, **options)
    for _ in range(length):
        recorded.append(engine.random_actions())
        engine.step(recorded[-1])

    def work() -> int:
        engine.reset(seed=0)
        for actions in recorded:
            engine.step(actions)
        return games * length

    return work


def engine_random(spec: GameSpec, games: int) -> Work:
    engine, actions = make_engine(spec, games), np.empty(games, np.int64)

    def work() -> int:
        for _ in range(10):
            engine.random_actions(out=actions)
            engine.step(actions)
        return 10 * games

    return work


def parallel(spec: GameSpec, games: int) -> Work:
    env = parallel_env(spec, num_envs=games)
    env.reset(seed=0)
    first = np.random.default_rng(0).integers(0, 80, games)
    actions = dict.fromkeys(env.possible_agents, first)

    def work() -> int:
        for _ in range(10):
            env.step(actions)
        return 10 * games

    return work


def collector(spec: GameSpec, games: int) -> Work:
    env = BargainEnv(spec, games)
    length = 32
    batches = iter(
        Collector(
            env,
            env.rand_action,
            frames_per_batch=games * length,
            total_frames=-1,
            track_traj_ids=False,
            compact_obs=True,
            return_same_td=True,
            no_cuda_sync=True,
            trust_policy=True,
            auto_register_policy_transforms=False,
        )
    )

    def work() -> int:
        next(batches)
        return games * length

    return work


def cartpole(games: int) -> Work:
    env = gymnasium.make_vec("CartPole-v1", num_envs=games, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 2, games)

    def work() -> int:
        for _ in range(10):
            env.step(actions)
        return 10 * games

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", type=int, nargs="+", default=[256, 4096, 65536])
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = GameSpec()
    print(f"{machine()}; millions of steps per second, and the share of the probe\n")
    print("| | " + " | ".join(f"{games:,} games" for games in options.games) + " |")
    print("|---|" + "---|" * len(options.games))
    with tempfile.TemporaryDirectory() as folder:
        function = compile_probe(Path(folder))
        columns = []
        for games in options.games:
            contestants = {
                "probe: rows written, nothing played": probe(function, spec, games),
                "Engine.step": engine_step(spec, games),
                "Engine.step, 2 threads": engine_step(spec, games, threads=2),
                "Engine.step, history observation": engine_step(spec.with_observation("history"), games),
                "Engine.random_actions + step": engine_random(spec, games),
                "ParallelEnv.step": parallel(spec, games),
                "TorchRL Collector, random actions": collector(spec, games),
                "Gymnasium CartPole, vector entry point": cartpole(games),
            }
            columns.append(rates(contestants, repetitions=options.repetitions))
    base = "probe: rows written, nothing played"
    for name in columns[0]:
        cells = (f"{column[name] / 1e6:.2f} M ({column[name] / column[base]:.2f})" for column in columns)
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

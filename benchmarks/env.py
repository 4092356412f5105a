"""How fast the games are played, each way in one run: `python benchmarks/env.py [--games 256 4096]`.

One step is one action of one game, uniformly random legal actions, automatic reset, one thread unless it says
otherwise. The probe writes the same rows without playing; the game in PufferLib 3's style is the peer that plays the
same rules. Behind the steps per second stand the share of the probe and the multiple of that peer, which are what to
compare between machines: medians over the rounds of what was measured in the same round. On a machine that others use
too, `--cpu-time` measures what the process itself computed; several threads then add up, and are no faster than one.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bargain_env import GameSpec
from c_games import Probe, PufferGame, ScalarGame, compile_library
from contestants import (
    agents_view,
    cartpole,
    collector,
    engine_random,
    engine_rollout,
    engine_step,
    network_rollouts,
    one_game,
    parallel,
    probe,
    puffer,
    scalar,
    time_major,
    vector_env,
)
from timing import Work, machine, median, rates, ratio, readable

PROBE, PEER = "probe: rows written, nothing played", "the game in PufferLib 3's style, C, -O3, rand()"
FLAGS = ((), ("-march=native",), ("-DLIBC_RAND",))


def batched(
    spec: GameSpec, games: int, portable: ctypes.CDLL, native: ctypes.CDLL, libc: ctypes.CDLL
) -> dict[str, Work]:
    """Returns the contestants that play `games` games together."""
    return {
        PROBE: probe(Probe(native, games)),
        PEER: puffer(PufferGame(libc, games)),
        "the same with xorshift for rand()": puffer(PufferGame(portable, games)),
        "the same with xorshift, -march=native": puffer(PufferGame(native, games)),
        "scalar C, actions drawn inside, -O3": scalar(ScalarGame(portable, games)),
        "Engine.step": engine_step(spec, games),
        "Engine.step, 2 threads": engine_step(spec, games, threads=2),
        "Engine.step, history observation": engine_step(spec.with_observation("history"), games),
        "Engine.random_actions + step": engine_random(spec, games),
        "Engine.random_rollout": engine_rollout(spec, games),
        "Gymnasium vector env, copy=False, both seats' moves": vector_env(spec, games, copy=False),
        "Gymnasium vector env, both seats' moves": vector_env(spec, games, copy=True),
        "parallel_env, copy=False, both seats' views": parallel(spec, games, copy=False),
        "parallel_env, both seats' views": parallel(spec, games, copy=True),
        "TorchRL, agents' view, random actions": agents_view(spec, games),
        "TorchRL Collector, random actions": collector(spec, games),
        "TimeMajorCollector, random actions": time_major(spec, games),
        "TimeMajorCollector, network 256-256": network_rollouts(spec, games),
        "Gymnasium CartPole, vector entry point": cartpole(games),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, nargs="+", default=[256, 1024, 4096, 65536])
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="shortest time of one measurement")
    parser.add_argument("--cpu-time", action="store_true", help="of the process, instead of the time that passes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if options.cpu_time else time.perf_counter
    settings: dict[str, Any] = {"repetitions": options.repetitions, "seconds": options.seconds, "clock": clock}
    spec = GameSpec()
    with tempfile.TemporaryDirectory() as folder:
        libraries = [compile_library(Path(folder), *flags) for flags in FLAGS]
        columns = [rates(batched(spec, games, *libraries), **settings) for games in options.games]
    kind = "second of CPU time" if options.cpu_time else "second"
    print(f"{machine()}; steps per {kind} / share of the probe / multiple of the PufferLib-style game\n")
    print("| | " + " | ".join(f"{games:,} games" for games in options.games) + " |")
    print("|---|" + "---|" * len(options.games))
    for name in columns[0]:
        cells = (
            f"{readable(median(column, name))} / {ratio(column, name, PROBE):.2f} / {ratio(column, name, PEER):.2f}"
            for column in columns
        )
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| one game at a time | steps/s |\n|---|---|")
    single = rates(one_game(spec, length=2000), **settings)
    for name in single:
        print(f"| {name} | {readable(median(single, name))} |")


if __name__ == "__main__":
    main()

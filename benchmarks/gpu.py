"""How fast a GPU plays, against its own memory: `python benchmarks/gpu.py [--games 4096 65536 1048576]`.

One step is one action of one game with automatic reset: uniformly random legal actions, or, where Engine.step stands
alone, offer 0 until the last decision, which makes it a walk. A CUDA graph replays many steps; random_rollout plays
them in one kernel. The share of the bound is that of the rate at which a copy on the device, measured in the same run,
moves the bytes that a step has to move. Exits with code 2 where no GPU can be used.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from bargain_env import GameSpec, make_engine
from bargain_env.cuda_device import find_cuda_device
from bargain_env.layout import buffer_layout, rollout_layout, state_layout

LENGTH = 32
"""Steps of one measurement."""

ROLLOUT_BYTES = 2**32
"""Memory for the arrays of a rollout, which is shorter than LENGTH where they would need more."""

Work = Callable[[], Any]


def row_bytes(layout: Mapping[str, tuple[tuple[int, ...], type]], *names: str) -> int:
    """Returns the bytes that the named arrays (all of them by default) hold for one game."""
    chosen = names or tuple(layout)
    return sum(int(np.prod(layout[name][0])) * np.dtype(layout[name][1]).itemsize for name in chosen)


def step_bytes(spec: GameSpec) -> int:
    """Returns what a step of one game at least reads and writes: action, state, view, mask and rewards."""
    state, buffers = state_layout(spec, 1), buffer_layout(spec, 1)
    shown = row_bytes(buffers, "observation", "action_mask", "mover", "reward", "terminated", "illegal")
    return 8 + row_bytes(state) + row_bytes(state, "offer", "turn", "finished") + shown


def milliseconds(work: Work, repetitions: int) -> float:
    """Returns the median time of `work` by the GPU's clock."""
    import torch

    times: list[float] = []
    for _ in range(repetitions + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[2:])


def copy_bandwidth(device: str, repetitions: int) -> float:
    """Returns the bytes per second, read and written, of a copy of 1 GiB on the device."""
    import torch

    source = torch.zeros(2**30, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * 2**30 / (milliseconds(lambda: target.copy_(source), repetitions) / 1000)


def captured(play: Work) -> Work:
    """Returns the replay of a CUDA graph of `LENGTH` times `play`."""
    import torch

    play()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LENGTH):
            play()
    return graph.replay


def contestants(spec: GameSpec, games: int, device: str) -> dict[str, tuple[Work, int]]:
    """Returns each way to play `LENGTH` steps of `games` games, and the bytes that one step of one game moves."""
    import torch

    engine = make_engine(spec, games, device)
    actions = torch.zeros(games, dtype=torch.int64, device=device)

    def step() -> None:
        engine.step(actions)

    def random_step() -> None:
        engine.random_actions(out=actions)
        engine.step(actions)

    def eager() -> None:
        for _ in range(LENGTH):
            random_step()

    length = min(LENGTH, max(1, ROLLOUT_BYTES // (games * row_bytes(rollout_layout(spec, 1, 1)))))
    out = {
        name: torch.from_numpy(np.zeros((), dtype)).to(device).expand(shape).contiguous()
        for name, (shape, dtype) in rollout_layout(spec, games, length).items()
    }

    def rollout() -> None:
        for _ in range(LENGTH // length):
            engine.random_rollout(out)

    size = step_bytes(spec)
    drawing = size + row_bytes(state_layout(spec, 1), "offer", "turn", "finished", "game", "episode") + 8
    return {
        "Engine.step, CUDA graph": (captured(step), size),
        "Engine.random_actions + step, CUDA graph": (captured(random_step), drawing),
        "Engine.random_actions + step, one call each": (eager, drawing),
        "Engine.random_rollout, many steps a kernel": (rollout, row_bytes(rollout_layout(spec, 1, 1))),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--games", type=int, nargs="+", default=[4096, 65_536, 1_048_576])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    try:
        device = f"cuda:{find_cuda_device(options.device)}"
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"benchmarks/gpu.py: {error}\n")
        return 2
    import torch

    torch.cuda.set_device(device)
    spec = GameSpec()
    bandwidth = copy_bandwidth(device, options.repetitions)
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}; a copy moves {bandwidth / 1e12:.2f} TB/s")
    print("Billions of steps per second, and the share of the bound\n")
    print("| | " + " | ".join(f"{games:,} games" for games in options.games) + " |")
    print("|---|" + "---|" * len(options.games))
    rows: dict[str, list[str]] = {}
    for games in options.games:
        for name, (work, size) in contestants(spec, games, device).items():
            steps = games * LENGTH / (milliseconds(work, options.repetitions) / 1000)
            rows.setdefault(name, []).append(f"{steps / 1e9:.3f} G ({steps * size / bandwidth:.2f})")
        torch.cuda.empty_cache()
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

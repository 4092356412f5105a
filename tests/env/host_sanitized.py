"""Plays every kernel through the host stand-in, compiled with the sanitizers that the arguments ask for.

Run by test_cuda_sanitizers.py in a process of its own, since a sanitizer ends the process that it finds a fault in.
"""

from __future__ import annotations

import sys

import torch
from bargain_env import GameSpec
from bargain_env.cuda_engine import CudaEngine
from bargain_env.cuda_source import kernel_source
from bargain_env.layout import rollout_layout, seat_views_layout
from host_launcher import HostLauncher, compiled, filled

SPEC = GameSpec(item_quantities=(1, 2), max_rounds=2, observation="history")


def play(threads: int, num_envs: int, flags: list[str]) -> None:
    launcher = HostLauncher(SPEC, threads, processors=2)
    launcher.library = compiled(kernel_source(SPEC), *flags)
    engine = CudaEngine(SPEC, num_envs, launcher=launcher)
    for step in range(6):
        actions = engine.random_actions(step)
        engine.step(actions if step % 2 else actions.int())
    for offset in range(4):
        rollout = filled(rollout_layout(SPEC, num_envs, 3), offset)
        engine.random_rollout(rollout)
        engine.recorder({name: rollout[name] for name in ("observation", "action_mask", "mover")}).record(1)
        engine.seat_views(**filled(seat_views_layout(SPEC, num_envs), offset))
    engine.reset(options={"reset_mask": torch.arange(num_envs) % 2 == 0})
    engine.set_state(engine.get_state())


if __name__ == "__main__":
    for threads, num_envs in ((1, 5), (4, 37)):
        play(threads, num_envs, sys.argv[1:])
    print("clean")

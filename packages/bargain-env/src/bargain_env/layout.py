"""The arrays of an engine by name, shape and dtype, and the numbers that its native code takes from a spec.

Legend: `B` games, `I` item types, `A` actions, `O` features, `D` = `max_turns` decisions, `T` steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_env.spec import GameSpec

Layout = dict[str, tuple[tuple[int, ...], type]]
"""Shape and numpy dtype by name."""


def state_layout(spec: GameSpec, num_envs: int) -> Layout:
    """Returns the arrays of `Engine.get_state`: the whole state of every game."""
    return {
        "values": ((num_envs, 2, spec.num_items), np.int32),
        "outside": ((num_envs, 2), np.int32),
        "actions": ((num_envs, spec.max_turns), np.int16),
        "offer": ((num_envs,), np.int16),
        "turn": ((num_envs,), np.int8),
        "finished": ((num_envs,), np.bool_),
        "game": ((num_envs,), np.int64),
        "episode": ((num_envs,), np.int64),
    }


def buffer_layout(spec: GameSpec, num_envs: int, views: bool = True) -> Layout:
    """Returns the arrays of `Engine.buffers`: what an engine, with or without `views`, shows after every step."""
    state = state_layout(spec, num_envs)
    layout = {name: state[name] for name in ("offer", "actions", "values", "outside", "game", "episode")}
    if views:
        layout["observation"] = (num_envs, spec.observation_dim), np.float32
        layout["action_mask"] = (num_envs, spec.num_actions), np.bool_
    return layout | {
        "mover": ((num_envs,), np.int8),
        "reward": ((num_envs, 2), np.float32),
        "terminated": ((num_envs,), np.bool_),
        "illegal": ((num_envs,), np.bool_),
        "outcome": ((num_envs,), np.int8),
        "decisions": ((num_envs,), np.int8),
    }


def mover_views_layout(spec: GameSpec, num_envs: int) -> Layout:
    """Returns the arrays that `Engine.mover_views` writes."""
    buffers = buffer_layout(spec, num_envs)
    return {name: buffers[name] for name in ("observation", "action_mask")}


def seat_views_layout(spec: GameSpec, num_envs: int) -> Layout:
    """Returns the arrays that `Engine.seat_views` writes."""
    return {
        "observation": ((2, num_envs, spec.observation_dim), np.float32),
        "action_mask": ((2, num_envs, spec.num_actions + 1), np.int8),
    }


def rollout_layout(spec: GameSpec, num_envs: int, num_steps: int) -> Layout:
    """Returns the arrays that `Engine.random_rollout` can write, time first."""
    buffers = buffer_layout(spec, num_envs)
    shown = ("observation", "action_mask", "mover", "reward", "terminated")
    layout: Layout = {name: ((num_steps, *buffers[name][0]), buffers[name][1]) for name in shown}
    return layout | {"action": ((num_steps, num_envs), np.int64)}


def observation_bounds(spec: GameSpec) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the lowest and the highest value of every feature of an observation, `[O]` each."""
    low = np.zeros(spec.observation_dim, dtype=np.float32)
    for name in ("offer", "history"):
        low[spec.slices[name]] = -1.0
    return low, np.ones_like(low)


def spec_fields(spec: GameSpec) -> dict[str, Any]:
    """Returns the members of the native `Spec` by name: integers, `quantities` and `discount` as lists.

    `discount[r]` is float32(discount ** r), as a Python float; `discounted` is 0 where the discount is 1.
    """
    low, high = spec.outside_units
    return {
        "num_items": spec.num_items,
        "max_rounds": spec.max_rounds,
        "min_value": spec.min_value,
        "max_value": spec.max_value,
        "outside_low": low,
        "outside_high": high,
        "history": int(spec.observation == "history"),
        "num_offers": spec.num_offers,
        "num_actions": spec.num_actions,
        "max_turns": spec.max_turns,
        "standing_dim": spec.standing_dim,
        "observation_dim": spec.observation_dim,
        "quantities": list(spec.item_quantities),
        "discount": [float(np.float32(spec.discount**r)) for r in range(spec.max_rounds)],
        "discounted": int(spec.discount != 1.0),
    }

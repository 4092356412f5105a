"""Checks of the arguments that reach an engine: each failure is one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_env.spec import GameSpec

VIEW_KEYS = ("observation", "action_mask", "mover")
"""The arrays that `Engine.recorder` writes."""

ROLLOUT_KEYS = (*VIEW_KEYS, "action", "reward", "terminated")
"""The arrays that `Engine.random_rollout` can write."""

MAX_EPISODE = 2**56  # what the counter of the deals has room for

Deal = tuple[NDArray[np.int64], NDArray[np.int64]]


def check_spec(spec: Any) -> GameSpec:
    """Returns `spec`, or the standard game for None.

    Raises:
        ValueError: If it is no `GameSpec`.
    """
    if spec is None:
        return GameSpec()
    if not isinstance(spec, GameSpec):
        raise ValueError(f"spec must be a GameSpec, such as those in bargain_env.GAMES, got {spec!r}.")
    return spec


def check_flag(name: str, value: Any) -> bool:
    """Returns `value` as a bool.

    Raises:
        ValueError: If it is anything but True or False.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {value!r}.")
    return bool(value)


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """Returns `value` as an int in `low` .. `high`.

    Raises:
        ValueError: If it is no integer or out of range.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} must be an integer, got {value!r}.")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie between {low} and {high}, got {value}.")
    return int(value)


def check_seed(seed: Any, name: str = "seed") -> int:
    """Returns `seed` as an int in 0 .. 2**64 - 1.

    Raises:
        ValueError: If it is no integer or out of range.
    """
    return check_integer(name, seed, 0, 2**64 - 1)


def check_array(name: str, value: Any, shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """Returns `value` as a contiguous array of exactly this shape and dtype.

    Raises:
        ValueError: If it differs.
    """
    array = np.asarray(value)
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ValueError(
            f"{name} must have shape {shape} and dtype {np.dtype(dtype)}, got shape {array.shape} and {array.dtype}."
        )
    return np.ascontiguousarray(array)


def check_deal(spec: GameSpec, num_envs: int, values: Any, outside: Any, selected: NDArray[np.bool_]) -> Deal | None:
    """Returns an explicit deal as int64 arrays `[B, 2, I]` and `[B, 2]`, or None if neither part is given.

    Raises:
        ValueError: If one part is missing, a shape is wrong, or a selected row holds values outside the spec's range
            or an outside offer that is not between 0 and the own total.
    """
    if values is None and outside is None:
        return None
    if values is None or outside is None:
        raise ValueError("an explicit deal needs both values and outside.")
    parts = []
    for name, part, shape in (
        ("values", values, (num_envs, 2, spec.num_items)),
        ("outside", outside, (num_envs, 2)),
    ):
        array = np.asarray(part)
        if array.shape != shape or array.dtype.kind not in "iu":
            raise ValueError(f"{name} must be integers of shape {shape}, got shape {array.shape} of {array.dtype}.")
        parts.append(array.astype(np.int64))
    dealt_values, dealt_outside = parts
    chosen = dealt_values[selected]
    if np.any((chosen < spec.min_value) | (chosen > spec.max_value)):
        raise ValueError(f"values must lie between {spec.min_value} and {spec.max_value}.")
    totals = chosen @ np.asarray(spec.item_quantities)
    if np.any((dealt_outside[selected] < 0) | (dealt_outside[selected] > totals)):
        raise ValueError("outside offers must lie between 0 and the seat's own total.")
    return dealt_values, dealt_outside


def check_reset_options(
    options: Mapping[str, Any] | None, known: Sequence[str] = ("values", "outside", "reset_mask")
) -> dict[str, Any]:
    """Returns a copy of the options of `reset`.

    Raises:
        ValueError: If one is not among `known`.
    """
    given = dict(options or {})
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"unknown reset options: {', '.join(unknown)}; known: {', '.join(known)}.")
    return given


def check_rollout_arrays(out: Mapping[str, Any], known: Sequence[str] = ROLLOUT_KEYS, *, complete: bool = False) -> int:
    """Returns the steps `T` of the arrays `out`, whose names must be among `known`, or all of these if `complete`.

    Raises:
        ValueError: If there is no array, one is unknown or missing, or they differ in their first dimension.
    """
    if not isinstance(out, Mapping):
        raise ValueError(f"out must be a dictionary of arrays, got {type(out).__name__}.")
    if not out or not set(out) <= set(known):
        raise ValueError(f"out may hold the arrays {', '.join(known)}; got {', '.join(out) or 'none'}.")
    if complete and (missing := [name for name in known if name not in out]):
        raise ValueError(f"out lacks {', '.join(missing)}.")
    steps = {name: np.shape(array)[:1] for name, array in out.items()}
    if len(set(steps.values())) != 1 or () in steps.values():
        raise ValueError(f"the arrays of out must share their first dimension T, got {steps}.")
    return int(next(iter(steps.values()))[0])


def check_state(spec: GameSpec, current: Mapping[str, NDArray[Any]], state: Mapping[str, Any]) -> None:
    """Checks that `state` could have come from `get_state` of an engine with arrays like `current`.

    Raises:
        ValueError: If an array is missing, unknown, of the wrong shape or dtype, or the games are impossible.
    """
    if set(state) != set(current):
        raise ValueError(f"a state holds exactly the arrays {', '.join(current)}; got {', '.join(sorted(state))}.")
    state = {name: check_array(f"state {name}", state[name], a.shape, a.dtype.type) for name, a in current.items()}
    everywhere = np.ones(len(state["turn"]), dtype=bool)
    check_deal(spec, len(everywhere), state["values"], state["outside"], everywhere)
    turn, offer, finished, actions = state["turn"], state["offer"], state["finished"], state["actions"]
    offers = turn.astype(np.int64) - finished
    rows, column = np.arange(len(turn)), np.arange(spec.max_turns)
    expected = np.select(
        [column < offers[:, None], column < turn[:, None]],
        [(actions >= 0) & (actions < spec.num_offers), (actions >= spec.num_offers) & (actions < spec.num_actions)],
        actions == -1,
    )
    accepted_nothing = finished & (offers == 0) & (actions[:, 0] == spec.accept_action)
    possible = (
        (offers >= 0)
        & (offers < spec.max_turns)
        & (offer == np.where(offers > 0, actions[rows, np.clip(offers - 1, 0, spec.max_turns - 1)], -1))
        & expected.all(axis=1)
        & ~accepted_nothing
        & (state["episode"] >= 0)
        & (state["episode"] < MAX_EPISODE)
        & (state["game"] >= 0)
    )
    if not possible.all():
        raise ValueError(f"the state of row {int(np.argmin(possible))} cannot occur in this game.")

"""What an environment shows after a reset or a step, in one form for every kind of environment.

Legend: `n` games that one environment plays together, 1 for the scalar kinds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bargain_env.spec import GameSpec
from bargain_env.testing.compare import Arrays


class Seen(NamedTuple):
    """What one seat is shown of one game.

    Attributes:
        seat: The seat.
        observation: `[O]` float32.
        action_mask: `[A]` bool, without any action that exists in a view alone.
    """

    seat: int
    observation: NDArray[np.float32]
    action_mask: NDArray[np.bool_]


@dataclasses.dataclass
class Shown:
    """What an environment shows after a reset or a step.

    Attributes:
        rows: For every game what is shown of it, the one who acts first; of a game just dealt anew, its opening.
        rewards: `[n, 2]` what the step paid each seat, NaN if that is not shown.
        ended: `[n]` bool, the step ended the game.
        opened: `[n]` bool, the row shows the opening of a new game.
        illegal: `[n]` bool, the environment counted the action as illegal; False if it does not tell.
        everything: All that was returned, by path.
    """

    rows: list[list[Seen]]
    rewards: NDArray[np.float64]
    ended: NDArray[np.bool_]
    opened: NDArray[np.bool_]
    illegal: NDArray[np.bool_]
    everything: Arrays


def flatten(value: Any, path: str = "") -> Arrays:
    """Returns the arrays and numbers in nested mappings, sequences and tensordicts, by path."""
    if value is None:
        return {}
    if isinstance(value, str):
        value = list(value.encode())
    if hasattr(value, "items"):
        parts: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.dtype == object):
        parts = enumerate(value)
    else:
        return {path: np.atleast_1d(_numpy(value)).copy()}
    return {name: array for key, part in parts for name, array in flatten(part, f"{path}/{key}").items()}


def see(seat: int, observation: Any, action_mask: Any, spec: GameSpec) -> Seen:
    """Returns what is shown to `seat`, from arrays or tensors; `action_mask` may end with a `noop`.

    Raises:
        AssertionError: If `noop` is legal beside other actions, or nothing is legal where there is a `noop`.
    """
    mask = _numpy(action_mask).astype(bool)
    legal, noop = mask[: spec.num_actions], mask[spec.num_actions :]
    if len(noop) and bool(noop[0]) == bool(legal.any()):
        raise AssertionError(f"seat {int(seat)}: noop must be legal where nothing else is, and nowhere else.")
    return Seen(int(seat), _numpy(observation).copy(), legal)


def _numpy(value: Any) -> NDArray[Any]:
    return value.cpu().numpy() if hasattr(value, "cpu") else np.asarray(value)


def show_one(rows: list[Seen], rewards: Any, ended: bool, illegal: bool, everything: Arrays) -> Shown:
    """Returns what an environment of one game shows; see `show`."""
    return show([rows], np.asarray(rewards)[None], np.array([ended]), np.array([illegal]), everything)


def show(
    rows: list[list[Seen]], rewards: Any, ended: Any, illegal: Any, everything: Arrays, opened: Any = None
) -> Shown:
    """Returns a `Shown`; None stands for "nowhere", and `opened` None for "where a game has ended"."""
    never = np.zeros(len(rows), bool)
    over = never if ended is None else np.array(ended, bool)
    counted = never if illegal is None else np.array(illegal, bool)
    new = over if opened is None else np.array(opened, bool)
    return Shown(rows, np.array(rewards, np.float64), over, new, counted, everything)

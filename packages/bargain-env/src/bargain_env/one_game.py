"""The options of `reset` in the views of one game, which the engine takes with a batch dimension in front.

Legend: `I` item types.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from bargain_env.checks import check_reset_options
from bargain_env.spec import GameSpec


def one_game_options(
    spec: GameSpec, options: Mapping[str, Any] | None, ignored: Collection[str] = ()
) -> dict[str, Any]:
    """Returns the engine's options for one game: `values` `[1, 2, I]` and `outside` `[1, 2]`, if they are given.

    Args:
        spec: The game.
        options: What `reset` was given; a part that is None counts as left out.
        ignored: Names that are let pass.

    Raises:
        ValueError: If an option is unknown, `reset_mask` included, or is not made of integers of the right shape.
    """
    shapes = {"values": (2, spec.num_items), "outside": (2,)}
    given = {name: part for name, part in (options or {}).items() if name not in ignored}
    if given.get("reset_mask", ...) is None:
        del given["reset_mask"]
    batched = {}
    for name, part in check_reset_options(given, tuple(shapes)).items():
        if part is not None:
            array = np.asarray(part)
            if array.shape != shapes[name] or array.dtype.kind not in "iu":
                raise ValueError(
                    f"{name} must be integers of shape {shapes[name]}, got shape {array.shape} of {array.dtype}."
                )
            batched[name] = array[None]
    return batched

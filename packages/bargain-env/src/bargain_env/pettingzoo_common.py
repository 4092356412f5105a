"""What both PettingZoo views share: agents, metadata, the space of an observation, and the entries in the registry.

Importing this module, as every PettingZoo adapter does, lets `pettingzoo.make("aec", "bargain/bargain_v0")` and
`pettingzoo.make("parallel", "bargain/bargain_v0")` find the game, in the versions of PettingZoo that have a registry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pettingzoo
from gymnasium import spaces

from bargain_env.layout import observation_bounds
from bargain_env.rendering import RENDER_MODES
from bargain_env.spec import GameSpec

AGENTS = ("player_0", "player_1")
"""Agent k sits in seat k."""

METADATA: dict[str, Any] = {"name": "bargain_v0", "render_modes": list(RENDER_MODES), "render_fps": 1}

REGISTRY_ID = "bargain/bargain_v0"

IGNORED_OPTIONS = ("options",)
"""What the views of one game let pass in `reset(options=...)`: PettingZoo's own suites give it."""


def observation_space(spec: GameSpec, num_actions: int) -> spaces.Dict:
    """Returns the space of one observation, whose mask has `num_actions` entries."""
    return spaces.Dict(
        {
            "observation": spaces.Box(*observation_bounds(spec)),
            "action_mask": spaces.Box(0, 1, (num_actions,), np.int8),
        }
    )


def state_space(spec: GameSpec) -> spaces.Box:
    """Returns the space of what both seats see together."""
    low, high = (np.tile(bound, len(AGENTS)) for bound in observation_bounds(spec))
    return spaces.Box(low, high)


def seat_of(agent: str) -> int:
    """Returns the seat of `agent`.

    Raises:
        ValueError: If there is no such agent.
    """
    if agent not in AGENTS:
        raise ValueError(f"agent must be one of {', '.join(AGENTS)}, got {agent!r}.")
    return AGENTS.index(agent)


def _register() -> None:
    if not hasattr(pettingzoo, "register"):
        return
    for kind, function in (("aec", "env"), ("parallel", "parallel_env")):
        registry = getattr(pettingzoo, f"{kind}_registry")
        if REGISTRY_ID.replace("_v", "-v") not in registry:
            pettingzoo.register(kind, REGISTRY_ID, entry_point=f"bargain_env.bargain_v0:{function}")


_register()

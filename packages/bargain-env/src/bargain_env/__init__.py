"""Two-player bargaining under incomplete information: one set of rules, thousands of games at once.

`import bargain_env` needs numpy alone; each adapter loads its own framework when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bargain_env.engine import Engine, make_engine
from bargain_env.registration import register_with_gymnasium
from bargain_env.spec import GAMES, GameSpec

if TYPE_CHECKING:
    from bargain_env.aec_env import BargainAECEnv as BargainAECEnv
    from bargain_env.aec_env import env as env
    from bargain_env.aec_env import raw_env as raw_env
    from bargain_env.gymnasium_env import BargainGymEnv as BargainGymEnv
    from bargain_env.gymnasium_vector import BargainVectorEnv as BargainVectorEnv
    from bargain_env.openspiel import openspiel_game as openspiel_game
    from bargain_env.pettingzoo_env import BargainParallelEnv as BargainParallelEnv
    from bargain_env.pettingzoo_env import parallel_env as parallel_env
    from bargain_env.torchrl_env import BargainEnv as BargainEnv

__version__ = "0.1.0"

__all__ = ["GAMES", "Engine", "GameSpec", "make_engine"]  # what needs no framework

_LAZY = {
    "BargainAECEnv": "bargain_env.aec_env",
    "BargainEnv": "bargain_env.torchrl_env",
    "BargainGymEnv": "bargain_env.gymnasium_env",
    "BargainParallelEnv": "bargain_env.pettingzoo_env",
    "BargainVectorEnv": "bargain_env.gymnasium_vector",
    "env": "bargain_env.aec_env",
    "openspiel_game": "bargain_env.openspiel",
    "parallel_env": "bargain_env.pettingzoo_env",
    "raw_env": "bargain_env.aec_env",
}

register_with_gymnasium()


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})

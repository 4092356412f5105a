"""Two-player bargaining under incomplete information: one set of rules, thousands of games at once.

`import bargain_env` needs numpy alone; each adapter loads its own framework when it is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bargain_env.engine import Engine, make_engine
from bargain_env.spec import GAMES, GameSpec

if TYPE_CHECKING:
    from bargain_env.pettingzoo_env import BargainParallelEnv, parallel_env
    from bargain_env.torchrl_env import BargainEnv

__version__ = "0.1.0"

__all__ = [
    "GAMES",
    "BargainEnv",
    "BargainParallelEnv",
    "Engine",
    "GameSpec",
    "make_engine",
    "parallel_env",
]

_LAZY = {
    "BargainEnv": "bargain_env.torchrl_env",
    "BargainParallelEnv": "bargain_env.pettingzoo_env",
    "parallel_env": "bargain_env.pettingzoo_env",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)

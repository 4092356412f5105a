"""Learning algorithms for two-player bargaining under incomplete information.

The public names load their modules when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bargain_train.loggers import create_logger

__version__ = "0.1.0"

__all__ = ["create_logger"]


def __getattr__(name: str) -> Any:
    if name != "create_logger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bargain_train.loggers import create_logger

    return create_logger

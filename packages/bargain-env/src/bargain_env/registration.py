"""Makes `Bargain-v0` known to Gymnasium, without loading Gymnasium.

`gymnasium.make("bargain_env:Bargain-v0")` imports `bargain_env` and then looks the id up, so the id must be registered
whichever of the two was imported first. If Gymnasium is there already, it is registered at once; otherwise right after
Gymnasium has been imported.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

GYMNASIUM_ID = "Bargain-v0"


def register_with_gymnasium() -> None:
    """Registers `Bargain-v0`, now or as soon as Gymnasium is imported; another call changes nothing."""
    if "gymnasium" in sys.modules:
        _register()
    elif not any(isinstance(finder, _AfterGymnasium) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterGymnasium())


def _register() -> None:
    import gymnasium

    if GYMNASIUM_ID not in gymnasium.registry:
        gymnasium.register(
            GYMNASIUM_ID,
            entry_point="bargain_env.gymnasium_env:BargainGymEnv",
            vector_entry_point="bargain_env.gymnasium_vector:BargainVectorEnv",
        )


class _AfterGymnasium:
    """A finder that lets Gymnasium be found as ever, and registers once its module has been executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target) if name == "gymnasium" else None
        if spec is not None and spec.loader is not None:
            self._register_after(spec.loader)
        return spec

    def _register_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            sys.meta_path.remove(self)
            _register()

        loader.exec_module = exec_module

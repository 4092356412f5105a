"""The C contestants of the environment benchmark: the probe, a plain scalar game, and the game in PufferLib's style."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from bargain_env import GameSpec
from numpy.typing import NDArray

SPEC = GameSpec()
"""The C files know the standard game alone."""


def compile_library(folder: Path, *flags: str) -> ctypes.CDLL:
    """Compiles `c/*.c` into `folder` with -O3, as the engine's core is, and `flags`."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("the benchmark needs a C compiler for its probe and its peers.")
    target = folder / f"peers{''.join(flags)}.so"
    sources = [str(path) for path in sorted((Path(__file__).parent / "c").glob("*.c"))]
    subprocess.run([compiler, "-O3", *flags, "-shared", "-fPIC", *sources, "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


def _pointers(*arrays: NDArray[Any]) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(array.ctypes.data) for array in arrays]


class _Rows:
    """What every contestant writes for each game: the mover's observation and mask."""

    def __init__(self, games: int) -> None:
        self.games = games
        self.observation = np.zeros((games, SPEC.observation_dim), np.float32)
        self.mask = np.zeros((games, SPEC.num_actions), np.uint8)


class Probe(_Rows):
    """Writes the rows without playing."""

    def __init__(self, library: ctypes.CDLL, games: int) -> None:
        super().__init__(games)
        self._write = library.probe_write_rows

    def step(self, steps: int) -> None:
        """Writes the rows of `steps` steps in one call."""
        self._write(*_pointers(self.observation, self.mask), ctypes.c_int64(self.games), ctypes.c_int64(steps))


class ScalarGame(_Rows):
    """Plays uniformly random legal actions, drawn inside."""

    def __init__(self, library: ctypes.CDLL, games: int) -> None:
        super().__init__(games)
        self.reward, self.terminated = np.zeros((games, 2), np.float32), np.zeros(games, np.uint8)
        record = [("values", np.int32, (2, 3)), ("outside", np.int32, 2), ("offer", np.int32), ("turn", np.int32)]
        self.state = np.zeros(games, [*record, ("random", np.uint32), ("action", np.int32)])
        if library.scalar_size() != self.state.itemsize:
            raise RuntimeError("the struct of scalar_game.c differs from its numpy dtype.")
        self._step = library.scalar_step
        state, *rows = _pointers(self.state, self.observation, self.mask)
        self._arguments = state, ctypes.c_int64(games), *rows
        library.scalar_reset(*self._arguments)

    def step(self) -> None:
        """Plays one action of every game."""
        self._step(*self._arguments, *_pointers(self.reward, self.terminated))

    def deals(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns the values `[B, 2, I]` and outside offers `[B, 2]` of the games as they stand."""
        return self.state["values"].copy(), self.state["outside"].copy()


class PufferGame(_Rows):
    """Plays the actions given, one C struct per game."""

    def __init__(self, library: ctypes.CDLL, games: int) -> None:
        super().__init__(games)
        self.reward, self.terminated = np.zeros((games, 2), np.float32), np.zeros(games, np.uint8)
        self.actions = np.zeros(games, np.int32)
        arrays = (self.observation, self.mask, self.actions, self.reward, self.terminated)
        self._library, self._count = library, ctypes.c_int64(games)
        library.puffer_make.restype = ctypes.c_void_p
        self._envs = ctypes.c_void_p(library.puffer_make(self._count, *_pointers(*arrays)))
        if not self._envs:
            raise MemoryError(f"no memory for {games} games.")
        self.reset()

    def reset(self) -> None:
        """Deals all games."""
        self._library.puffer_reset(self._envs, self._count)

    def step(self, actions: NDArray[np.int32]) -> None:
        """Copies the actions `[B]` into the buffer that the structs point to, as PufferLib does, and plays them."""
        self.actions[:] = actions
        self._library.puffer_step(self._envs, self._count)

    def deals(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Returns the values `[B, 2, I]` and outside offers `[B, 2]` of the games as they stand."""
        values, outside = np.zeros((self.games, 2, 3), np.int32), np.zeros((self.games, 2), np.int32)
        self._library.puffer_deals(self._envs, self._count, *_pointers(values, outside))
        return values, outside

    def close(self) -> None:
        """Frees the structs."""
        self._library.puffer_close(self._envs, self._count)

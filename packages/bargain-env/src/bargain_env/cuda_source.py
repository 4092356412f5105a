"""The text of the kernels of one game: the rules, the game's numbers as constants, and the kernels over both."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from bargain_env.layout import spec_fields
from bargain_env.spec import GameSpec

BLOCK_THREADS = 128
"""Threads of a block."""

_TILE_BYTES = 44 * 1024  # of the 48 KiB of shared memory that a block may have anywhere


@lru_cache(maxsize=64)
def kernel_source(spec: GameSpec) -> str:
    """Returns the CUDA C++ text of `spec`'s kernels; needs nothing but itself to compile."""
    native = resources.files("bargain_env").joinpath("native")
    rules, tile, kernels = (
        native.joinpath(name).read_text(encoding="utf-8") for name in ("rules.h", "tile.cuh", "kernels.cu")
    )
    return "\n".join((rules, _constants(spec), tile, kernels))


def largest_tile(spec: GameSpec) -> int:
    """Returns the most games that a block plays: as many as it has threads, or fewer where shared memory is short."""
    features = 2 * spec.num_items + 4 + spec.observation_dim - spec.standing_dim
    row_bytes = 4 * (2 * spec.num_items + 3) + 4 * (features + 1) + 24  # see `Tile` in tile.cuh, which checks it
    rows = BLOCK_THREADS
    while rows * row_bytes > _TILE_BYTES:
        rows //= 2
    return rows


def _constants(spec: GameSpec) -> str:
    """Returns a struct with the members of the native `Spec` that the compiler can fold."""
    members = []
    for name, value in (spec_fields(spec) | {"tile": largest_tile(spec)}).items():
        if isinstance(value, list):
            number, suffix = ("float", "f") if isinstance(value[0], float) else ("int", "")
            listed = ", ".join(f"{entry!r}{suffix}" for entry in value)
            members.append(f"static constexpr {number} {name}[{len(value)}] = {{{listed}}};")
        else:
            members.append(f"static constexpr int {name} = {value};")
    return "struct CompiledSpec {\n    " + "\n    ".join(members) + "\n};"

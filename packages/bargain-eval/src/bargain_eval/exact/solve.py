"""The solvers by name, as the command line offers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from bargain_eval.exact.cfr import VARIANTS, cfr
from bargain_eval.exact.fictitious_play import xfp
from bargain_eval.exact.game import TabularGame
from bargain_eval.exact.mmd import mmd
from bargain_eval.exact.values import Profile

Solver = Callable[[TabularGame, Sequence[int]], Iterator[tuple[int, Profile]]]
"""Yields (t, profile) after t iterations for each t of an ascending sequence."""

SOLVERS: dict[str, Solver] = {variant: partial(cfr, variant=variant) for variant in VARIANTS} | {"xfp": xfp, "mmd": mmd}
"""CFR in three variants with alternating updates, fictitious play, and MMD with alpha .1 / sqrt t, eta 5 / sqrt t."""


def powers_of_ten(iterations: int) -> list[int]:
    """Returns 1, 10, 100, ... up to `iterations`, and `iterations` itself."""
    powers = [10**exponent for exponent in range(len(str(iterations)))]
    return powers if powers[-1] == iterations else [*powers, iterations]

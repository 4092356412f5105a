"""The options that every command which plays games has, and how tables are printed."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, TypeVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.progress import track

from bargain_eval.crossplay.entries import asks_language_model
from bargain_eval.game_options import GameOptions

PIPE_WIDTH = 120
"""Width of a table in columns where the output is no terminal."""

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class PlayOptions(GameOptions):
    """Which game is played, from which seed, where, and what is printed."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the deals and of the policies' randomness."""
    device: str = "cpu"
    """Where the games and the policies run: cpu, cuda, cuda:k, or auto, which is a GPU if one can be used."""
    results_dir: str = "results"
    """The folder of stored runs, for policies named run:RUN_ID."""
    json: bool = False
    """Print one JSON object instead of tables."""


def console() -> Console:
    """Returns a console on stdout, `PIPE_WIDTH` wide where that is no terminal, that prints text as it stands."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def progress(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """Yields `items` with a progress bar on stderr, which shows rate and time left; none where that is no terminal."""
    bar = Console(stderr=True)
    return track(items, title, total=total, console=bar, transient=True, disable=not bar.is_terminal)


def refuse_language_models(*policies: str) -> None:
    """Refuses policy strings of language models, for commands that would ask them without a limit.

    Raises:
        ValueError: If there is one.
    """
    for policy in policies:
        if asks_language_model(policy):
            raise ValueError(
                f"{policy} is a language model, which would be asked here for very many moves without a limit; play it "
                "by `bargain-eval crossplay`, which has --dry-run, --max-cost and --max-calls."
            )


@contextmanager
def silent_libraries() -> Iterator[None]:
    """Drops what compiled libraries write to stdout: HiGHS leaves debugging lines there, where --json must be alone."""
    if os.name != "posix":
        yield
        return
    flush = ctypes.CDLL(None).fflush
    sys.stdout.flush()
    flush(None)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        flush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)

"""The jobs of a cross-play: which pieces are missing, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from itertools import islice

from bargain_eval.crossplay.pieces import Outcome, Piece, one_line, play_piece
from bargain_eval.crossplay.writer import Cell, Writer


class CrossplayFailed(RuntimeError):
    """A cross-play is not complete; what was played is kept."""


def play_cells(
    cells: Mapping[Cell, Mapping[str, Piece]], writer: Writer, pool: Executor, window: int, failed: dict[Cell, str]
) -> Iterator[Cell]:
    """Plays the pieces that are not stored, stores them, and yields each cell as it is played or has failed.

    A piece that several cells share, because a policy takes part more than once, is played once.

    Args:
        cells: The pieces of each cell by the names of their files.
        writer: Stores them.
        pool: Plays them.
        window: Pieces under way at the same time.
        failed: Gets the cells that failed, with one line about why.

    Raises:
        CrossplayFailed: If a worker process died.
    """
    todo = {name: piece for pieces in cells.values() for name, piece in pieces.items()}
    todo = {name: piece for name, piece in todo.items() if not writer.has_piece(name)}
    missing = {cell: set(pieces) & set(todo) for cell, pieces in cells.items()}
    users: dict[str, list[Cell]] = {name: [] for name in todo}
    for cell, names in missing.items():
        for name in names:
            users[name].append(cell)
        if not names:
            writer.add_cell(cell)
            yield cell
    for name, outcome in _outcomes(todo, pool, window):
        if not isinstance(outcome, str):
            writer.store_piece(name, outcome)
        for cell in users[name]:
            missing[cell].remove(name)
            if isinstance(outcome, str):
                failed.setdefault(cell, outcome)
            if missing[cell]:
                continue
            if cell not in failed:
                writer.add_cell(cell)
            yield cell


def _outcomes(todo: Mapping[str, Piece], pool: Executor, window: int) -> Iterator[tuple[str, Outcome]]:
    running: dict[Future[Outcome], str] = {}
    pieces = iter(todo.items())
    try:
        while True:
            for name, piece in islice(pieces, window - len(running)):
                running[pool.submit(play_piece, piece)] = name
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    raise error
                yield running.pop(future), one_line(error) if error else future.result()
    except BrokenExecutor as error:
        raise CrossplayFailed(
            "a worker process died, perhaps for lack of memory; what was played is kept, and the same command goes on."
        ) from error

"""What the calls of language models in a cross-play would cost: it is played without asking them anything."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bargain_eval.crossplay.entries import asks_language_model
from bargain_eval.crossplay.jobs import CrossplayFailed
from bargain_eval.crossplay.matrix import cells_folder
from bargain_eval.crossplay.pieces import Piece, forget_policies, play_piece
from bargain_eval.crossplay.plan import Plan
from bargain_eval.crossplay.run import Loop
from bargain_eval.crossplay.writer import Cell
from bargain_eval.llm.session import Planned, Session, SessionOptions, session


class ModelEstimate(NamedTuple):
    """What one model would be asked.

    Attributes:
        games: Games with it that are left to play.
        decisions: Its moves in them.
        planned: The calls that these need, without those that are stored.
    """

    games: int
    decisions: int
    planned: Planned


def estimate_calls(plan: Plan, loop: Loop = lambda cells, title, total: cells) -> list[ModelEstimate]:
    """Returns what each model of a cross-play would be asked, in the order of the entries; nothing is sent or written.

    The games that are left are played with the stored answers, and where there is none with the moves of the policy
    `tough`, which bargains to the last move. So games are as long as the other player lets them be. Each call counts
    once, however many games share it, and replies that cannot be played, which take a second call, are not foreseen.
    Costs about 0.5 ms for each move of a language model.

    Raises:
        ValueError: If the file of calls or of prices cannot be read.
        CrossplayFailed: If a policy fails.
    """
    models = {k: policy.model_name for k, policy in plan.models.items()}
    games, decisions = Counter[str](), Counter[str]()
    if plan.session is None or plan.is_finished():
        planned = []
    else:
        todo = _todo(plan)
        with _nothing_sent(plan.session) as opened:
            for cell in loop(todo, "Counting", len(todo)):
                for piece in todo[cell]:
                    _count(piece, [models.get(k) for k in cell], games, decisions)
            planned = opened.planned()
    found = {missing.model: missing for missing in planned}
    names = dict.fromkeys([*models.values(), *found])
    return [ModelEstimate(games[name], decisions[name], found.get(name, Planned(name))) for name in names]


def _todo(plan: Plan) -> dict[Cell, list[Piece]]:
    """Returns the pieces with language models that are not stored, each in the first cell that it belongs to."""
    asking = {k for k, entry in enumerate(plan.entries) if asks_language_model(entry.policy)}
    done = {file.name for file in cells_folder(plan.path).glob("*.npz")}
    todo: dict[Cell, list[Piece]] = {}
    for cell in (cell for cell in plan.cells if asking & set(cell)):
        todo[cell] = [piece for name, piece in plan.cells[cell].items() if name not in done]
        done |= plan.cells[cell].keys()
    return todo


@contextmanager
def _nothing_sent(options: SessionOptions) -> Iterator[Session]:
    """Makes a session of a dry run the current one; where there is no store yet, none is made."""
    with tempfile.TemporaryDirectory() as folder:
        store = options.store if Path(options.store).exists() else str(Path(folder) / "none.sqlite")
        with session(dataclasses.replace(options, store=store, dry_run=True)) as opened:
            try:
                yield opened
            finally:
                forget_policies()


def _count(piece: Piece, models: Sequence[str | None], games: Counter[str], decisions: Counter[str]) -> None:
    """Plays a piece in the current session, and counts its games and moves by model, None = no language model."""
    played = play_piece(piece._replace(session=None))
    if isinstance(played, str):
        raise CrossplayFailed(f"{piece.policies[0]} against {piece.policies[1]} cannot be played: {played}.")
    games.update(dict.fromkeys(filter(None, models), piece.num_games))
    for seat, model in enumerate(models):
        if model is not None:
            decisions[model] += int(((played["decisions"] + 1 - seat) // 2).sum())

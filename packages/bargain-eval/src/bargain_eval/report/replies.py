"""What language models said before their moves, for the games to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bargain_eval.crossplay import Crossplay
from bargain_eval.crossplay.entries import pair_key

_MAX_CHARACTERS = 4_000


class Replies:
    """The replies behind the moves of some games, each text once.

    Args:
        matrix: The cross-play.
        shown: The games of each pair of policies that are shown.

    Attributes:
        texts: For each reply `[what it says, the reasoning that the server tells, why it ended]`; null where there is
            none. Texts of more than 4,000 characters are cut.

    Raises:
        ValueError: If the file of calls is damaged.
    """

    def __init__(self, matrix: Crossplay, shown: Mapping[tuple[int, int], set[int]]) -> None:
        self.texts: list[list[str | None]] = []
        self._numbers: dict[str, int] = {}
        self._moves: dict[tuple[str, int], dict[int, list[Any]]] = {}
        self._names = matrix.names
        games = {self._key(*pair): numbers for pair, numbers in shown.items()}
        path = None if matrix.llm is None else matrix.path.parent / matrix.llm["calls"]
        if path is None or not path.is_file():
            return
        with path.open(encoding="utf-8") as lines:
            try:
                for move in map(json.loads, lines):
                    if move["game"] in games.get(move["cell"], ()):
                        said = [move["how"], [[self._number(call), call["problem"]] for call in move["calls"]]]
                        self._moves.setdefault((move["cell"], move["game"]), {})[move["move"]] = said
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path} is damaged: {error!r}.") from error

    def of_game(self, pair: tuple[int, int], game: int, moves: int) -> list[Any] | None:
        """Returns for each move `[how, [[number of a text, what was wrong with it], ...]]`; None if no model moved.

        A move of another policy is null.
        """
        found = self._moves.get((self._key(*pair), game))
        return None if found is None else [found.get(move) for move in range(1, moves + 1)]

    def _key(self, i: int, j: int) -> str:
        return pair_key(self._names[i], self._names[j])

    def _number(self, call: Mapping[str, Any]) -> int:
        key = call["key"]
        if key not in self._numbers:
            self._numbers[key] = len(self.texts)
            self.texts.append([_shortened(call["text"]), _shortened(call["reasoning"]), call["finish"]])
        return self._numbers[key]


def _shortened(text: str | None) -> str | None:
    if text is None or len(text) <= _MAX_CHARACTERS:
        return text
    return f"{text[:_MAX_CHARACTERS]} … ({len(text) - _MAX_CHARACTERS:,} more characters)"

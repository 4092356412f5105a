"""One game on its way through OpenSpiel's tree: the numbers dealt so far, then the reference rules.

Legend: `I` item types.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from bargain_env.reference import DEAL, WALK, ReferenceGame, outside_bounds, own_total
from bargain_env.spec import GameSpec


class Table:
    """A game from the first number dealt to the end; a copy shares what no longer changes.

    Attributes:
        spec: The game.
        game: The rules, once all is dealt.
    """

    def __init__(self, spec: GameSpec) -> None:
        self.spec = spec
        self.game: ReferenceGame | None = None
        self._numbers: tuple[int, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Table:
        twin = copy.copy(self)
        if self.game is not None:
            twin.game = copy.copy(self.game)
            twin.game.moves = list(self.game.moves)
        return twin

    def values(self, seat: int) -> tuple[int, ...]:
        """Returns the values dealt to `seat` so far, in points."""
        items = self.spec.num_items
        return self._numbers[seat * items : (seat + 1) * items]

    def outside(self) -> tuple[int, ...]:
        """Returns the outside offers dealt so far, in points."""
        return self._numbers[2 * self.spec.num_items :]

    def bounds(self) -> tuple[int, int]:
        """Returns the smallest and the largest value of the next number, in points."""
        if len(self._numbers) < 2 * self.spec.num_items:
            return self.spec.min_value, self.spec.max_value
        return outside_bounds(self.spec, own_total(self.spec, self.values(len(self.outside()))))

    def next_number(self) -> str:
        """Returns what the next number is."""
        seat, item = divmod(len(self._numbers), self.spec.num_items)
        return f"value {item} of seat {seat}:" if seat < 2 else f"outside offer of seat {len(self.outside())}:"

    def deal(self, number: int) -> None:
        """Takes the next number; the last one opens the game."""
        self._numbers += (number,)
        if len(self.outside()) == 2:
            self.game = ReferenceGame(self.spec, values=[self.values(0), self.values(1)], outside=self.outside())

    def describe(self, seat: int) -> str:
        """Returns the deal of `seat` as a string."""
        return f"seat {seat} values {_words(self.values(seat))} outside {_words(self.outside()[seat : seat + 1])}"

    def describe_moves(self) -> str:
        """Returns all moves as a string."""
        return "".join(f" | {move_name(self.spec, move)}" for move in (self.game.moves if self.game else ()))

    def describe_standing(self) -> str:
        """Returns how many decisions were made and how the game stands as a string."""
        if self.game is None:
            return ""
        names = {0: "no offer" if self.game.offer < 0 else move_name(self.spec, self.game.offer)}
        return f" | decisions {self.game.turn} | {(names | {DEAL: 'accepted', WALK: 'walked'})[self.game.outcome]}"


def move_name(spec: GameSpec, action: int) -> str:
    """Returns `action` as a string; an offer is named by what seat 1 would get."""
    if action < spec.num_offers:
        return f"offer {_words(spec.offers[action])}"
    return "accept" if action == spec.accept_action else "walk"


def _words(numbers: Iterable[Any]) -> str:
    return " ".join(map(str, numbers))

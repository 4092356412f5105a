"""The command line's way of naming a game."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from bargain_env.spec import GAMES, GameSpec
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GameOptions:
    """Which game is played: a named one, or the standard one with some of its numbers replaced.

    Raises:
        ValueError: If a name is combined with a number, or the numbers make no game.
    """

    game: Literal["default", "mini-a", "mini-b", "mini-c"] | None = None
    """A game by name: the standard one, or one of three small enough to solve exactly."""
    quantities: tuple[int, ...] = ()
    """Units of each item type, e.g. 2 1 (the standard game has 7 4 1)."""
    min_value: int | None = None
    """Smallest private value of a unit (standard: 1)."""
    max_value: int | None = None
    """Largest private value of a unit (standard: 100)."""
    rounds: int | None = None
    """Rounds of one move a seat (standard: 3)."""
    discount: float | None = None
    """Factor on the payoff for every round completed (standard: 1)."""
    outside_range: tuple[float, float] | None = None
    """The outside offer is uniform between these fractions of the own total (standard: 0 1)."""

    def __post_init__(self) -> None:
        self.spec()

    def spec(self) -> GameSpec:
        """Returns the game that the options describe."""
        numbers: dict[str, Any] = {
            "item_quantities": self.quantities or None,
            "min_value": self.min_value,
            "max_value": self.max_value,
            "max_rounds": self.rounds,
            "discount": self.discount,
            "outside_range": self.outside_range,
        }
        given = {name: number for name, number in numbers.items() if number is not None}
        if self.game is not None and given:
            raise ValueError("--game names a whole game; leave out --quantities, --rounds and the other numbers.")
        return dataclasses.replace(GAMES[self.game or "default"], **given)

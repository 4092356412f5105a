"""What a player is told, in words: the rules, and the state of the game as that player sees it.

Everything is said from the speaker's side: bundles are what "you" would get, values and outside offers are points, and
moves are numbered from 1. A player is told every fact that it has and none that it has not: not the other player's
values, outside offer or total. Pure functions of the view, hence the same text for the same position.

Legend: `I` item types, `D` = `max_turns` moves, `O` features of the history observation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from bargain_env.spec import OUTSIDE_UNITS, GameSpec
from numpy.typing import ArrayLike

PROMPT_VERSION = "1"
"""Changes whenever a text of this module does, so that stored results say which words were used."""


@dataclasses.dataclass(frozen=True)
class PlayerView:
    """What one player knows of a game.

    Attributes:
        spec: The game.
        seat: The player's seat, 0 or 1.
        values: What one unit of each item type is worth to the player, in points.
        outside: The player's outside offer, in points.
        offers: The moves so far, which are all offers, as indices (the bundle that seat 1 receives).
    """

    spec: GameSpec
    seat: int
    values: tuple[int, ...]
    outside: int
    offers: tuple[int, ...] = ()

    @classmethod
    def from_observation(cls, spec: GameSpec, observation: ArrayLike) -> Self:
        """Reads the view from one history observation `[O]`.

        Raises:
            ValueError: If it is no history observation of this game, or that of a finished game.
        """
        spec = spec.with_observation("history")
        row = np.asarray(observation, dtype=np.float64)
        if row.shape != (spec.observation_dim,):
            raise ValueError(
                f"observation must be one history observation of {spec.observation_dim} features, got {row.shape}."
            )
        seen = spec.read_observation(row)
        if not seen.total:
            raise ValueError("observation is that of a finished game, which nobody plays on.")
        slots = row[spec.slices["history"]].reshape(-1, spec.num_items)
        received = np.rint(slots[slots[:, 0] >= 0] * spec.item_quantities).astype(np.int64)
        seat = int(seen.seat)
        to_seat_1 = received if seat else np.asarray(spec.item_quantities) - received
        offers = tuple(spec.encode_offer(to_seat_1).tolist())
        return cls(spec, seat, tuple(seen.values.tolist()), int(seen.outside), offers)

    @property
    def total(self) -> int:
        """What everything on the table is worth to the player, in points."""
        return self.worth(self.spec.item_quantities)

    @property
    def my_turn(self) -> bool:
        """True if the player is to move."""
        return len(self.offers) % 2 == self.seat

    @property
    def can_offer(self) -> bool:
        """True if the move to come may be an offer: it is not the last of the game."""
        return len(self.offers) < self.spec.max_turns - 1

    def worth(self, bundle: Sequence[int]) -> int:
        """Returns what `bundle` `[I]` is worth to the player, in points."""
        return sum(value * count for value, count in zip(self.values, bundle, strict=True))

    def bundle(self, offer: int) -> tuple[int, ...]:
        """Returns the units `[I]` that the player gets under `offer`."""
        to_seat_1 = self.spec.offers[offer].tolist()
        return tuple(to_seat_1) if self.seat else self.rest(to_seat_1)

    def offer_keeping(self, bundle: Sequence[int]) -> int:
        """Returns the offer under which the player gets `bundle` `[I]`.

        Raises:
            ValueError: If it holds more of an item type than there is, or less than nothing.
        """
        return int(self.spec.encode_offer(bundle if self.seat else self.rest(bundle)))

    def rest(self, bundle: Sequence[int]) -> tuple[int, ...]:
        """Returns the units `[I]` that `bundle` leaves on the table."""
        return tuple(q - count for q, count in zip(self.spec.item_quantities, bundle, strict=True))


def item_names(spec: GameSpec) -> tuple[str, ...]:
    """Returns the names of the item types: A, B, C and so on."""
    return tuple("ABCDEFGH"[: spec.num_items])


def bundle_text(spec: GameSpec, bundle: Sequence[int]) -> str:
    """Returns a bundle `[I]` in words, such as "5 A, 3 B and 1 C"; types of which it holds none are left out."""
    if tuple(bundle) == spec.item_quantities:
        return "everything"
    parts = [f"{count} {name}" for count, name in zip(bundle, item_names(spec), strict=True) if count]
    return _listed(parts) if parts else "nothing"


def rules(spec: GameSpec, seat: int) -> str:
    """Returns the rules as the player in `seat` is told them once, before the first move."""
    items = _listed([f"{q} of item {name}" for q, name in zip(spec.item_quantities, item_names(spec), strict=True)])
    own, other = ("the odd", "the even") if seat == 0 else ("the even", "the odd")
    last = "The other player makes" if seat == 0 else "You make"
    order = "You move first." if seat == 0 else "The other player moves first."
    range_text = f"a whole number of points from {spec.min_value} to {spec.max_value}"
    paragraphs = [
        f"You bargain with one other player over a pool of items: {items}.",
        f"Values. To each player, one unit of each item is worth {range_text}, drawn evenly at random, for each player "
        "and item independently. You know your own values only, and the other player knows its own only.",
        "Outside offers. Each player also has a private outside offer: the points it gets if there is no deal. It is a "
        f"whole number drawn evenly from {_outside_law(spec)}, for each player independently.",
        f"Moves. {order} Then the players take turns. There are at most {_count(spec.max_rounds, 'round')} of one move "
        f"each, hence {spec.max_turns} moves: {own} numbers are yours, {other} numbers are the other player's. {last} "
        f"move {spec.max_turns}, the last one, which can be no offer. In a move, a player does one of three things:\n"
        "- OFFER: propose a split of the whole pool. The other player moves next.\n"
        "- ACCEPT: take the offer that the other player has just made. The game ends, and both get their parts of it.\n"
        "- WALK: walk away without a deal. The game ends, and both get their outside offers.",
        "Aim. Earn as many points for yourself as you can. Your score is your points divided by what the whole pool is "
        "worth to you. The other player's score does not count for yours, for better or worse.",
    ]
    if spec.discount < 1:
        paragraphs.append(
            f"Delay costs. For each round that is over before the game ends, both players' points are multiplied by "
            f"{spec.discount:g}, with or without a deal."
        )
    return "\n\n".join(paragraphs)


def reply_format(spec: GameSpec) -> str:
    """Returns how to say a move; `read_reply` understands it."""
    kept = [math.ceil(0.7 * quantity) for quantity in spec.item_quantities]
    counts = " ".join(map(str, kept))
    named = _listed([f"{count} of item {name}" for count, name in zip(kept, item_names(spec), strict=True)])
    return (
        "Say your move on a line of its own, as the last line of your reply. It is one of:\n"
        f"OFFER {counts}\n"
        "ACCEPT\n"
        "WALK\n"
        f"The numbers of an offer are the units that YOU keep, in the order {' '.join(item_names(spec))}, "
        f"here {named}. "
        "The other player gets the rest."
    )


def describe_state(view: PlayerView) -> str:
    """Returns what a player is told before its move: its own hand, all moves so far, and what it can do now."""
    spec, move = view.spec, len(view.offers) + 1
    pool = _listed([f"{q} {name}" for q, name in zip(spec.item_quantities, item_names(spec), strict=True)])
    each = _listed([f"{value} for each {name}" for value, name in zip(view.values, item_names(spec), strict=True)])
    lines = [
        f"Move {move} of {spec.max_turns}, in round {(move + 1) // 2} of {spec.max_rounds}.",
        f"The pool: {pool}.",
        f"Your values in points: {each}. The whole pool is worth {view.total} to you: your total.",
        f"Your outside offer: {_points(view, view.outside)}.",
        "Moves so far:" if view.offers else "No move has been made yet.",
        *(f"  {number}. {offer_text(view, number)}" for number in range(1, move)),
    ]
    return "\n".join([*lines, *_what_now(view)])


def offer_text(view: PlayerView, number: int) -> str:
    """Returns move `number` (from 1), which was an offer, in the player's words."""
    got = view.bundle(view.offers[number - 1])
    mine = (number - 1) % 2 == view.seat
    verb = "You offered to keep" if mine else "The other player offered you"
    kept, left = bundle_text(view.spec, got), bundle_text(view.spec, view.rest(got))
    listener = "the other player" if mine else "itself"
    return f"{verb} {kept}, worth {_points(view, view.worth(got))}, and {left} for {listener}."


def _what_now(view: PlayerView) -> list[str]:
    spec, move = view.spec, len(view.offers) + 1
    of_mover, of_other = (len(range(first, spec.max_turns + 1, 2)) for first in (move, move + 1))
    if not view.my_turn:
        return [f"The other player is to move; you have {_count(of_other, 'move')} left."]
    lines = []
    if spec.discount < 1:
        factor = spec.discount ** (len(view.offers) // 2)
        lines.append(f"If the game ends with this move, points are multiplied by {factor:.4g}.")
    if of_other:
        lines.append(f"You have {_count(of_mover, 'move')} left, this one included; the other player has {of_other}.")
    else:
        lines.append("This is the last move of the game.")
    choices = ["OFFER a split"] if view.can_offer else []
    if view.offers:
        worth = view.worth(view.bundle(view.offers[-1]))
        choices.append(f"ACCEPT the offer of move {move - 1} (for {_points(view, worth)})")
    choices.append(f"WALK (for {_points(view, view.outside)})")
    return [*lines, f"Your move. You can {_listed(choices, 'or')}."]


def _points(view: PlayerView, points: int) -> str:
    return f"{_count(points, 'point')} or {points / view.total:.0%} of your total"


def _outside_law(spec: GameSpec) -> str:
    whole = "what the whole pool is worth to that player"
    if spec.outside_units == (0, OUTSIDE_UNITS):
        return f"1 to {whole}"
    low, high = (100 * units / OUTSIDE_UNITS for units in spec.outside_units)
    return f"{low:g}% to {high:g}% of {whole}, and at least 1"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(parts: Sequence[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"

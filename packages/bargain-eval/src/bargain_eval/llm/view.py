"""What a player knows of a game, in its own terms: its hand, and every offer as the bundle that it would get itself.

A view holds every fact that its player has and none that it has not: nothing of the other player's values, outside
offer or total. Moves are numbered from 1, values and outside offers are points.

Legend: `I` item types, `O` features of the history observation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import ArrayLike


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
        spec = spec if spec.observation == "history" else spec.with_observation("history")
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
    return listed(parts) if parts else "nothing"


def listed(parts: Sequence[str], word: str = "and") -> str:
    """Returns the parts as a list in words, such as "A, B and C"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"

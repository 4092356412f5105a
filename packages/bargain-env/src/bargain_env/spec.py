"""The size and law of a game: every number that another module needs is computed here, once.

Legend: `I` item types, `A` actions, `O` observation features, seats 0 and 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_ITEM_TYPES = 8
MAX_ROUNDS = 63
MAX_ACTIONS = 32_767
MAX_TOTAL = 2**24  # every payoff up to here is exact in float32
OUTSIDE_UNITS = 10_000

ObservationKind = Literal["standing", "history"]


class ObservedState(NamedTuple):
    """What an observation says, in integers (`[...]` = the batch dimensions of the observation).

    Attributes:
        values: `[..., I]` the observer's value of one unit of each item type, in points.
        total: `[...]` the observer's value of everything, in points.
        outside: `[...]` the observer's outside offer, in points.
        offer: `[..., I]` units the observer would receive; zeros if no offer stands.
        has_offer: `[...]` bool, True if an offer stands.
        round: `[...]` the current round, from 0.
        seat: `[...]` the observer's seat.
    """

    values: NDArray[np.int64]
    total: NDArray[np.int64]
    outside: NDArray[np.int64]
    offer: NDArray[np.int64]
    has_offer: NDArray[np.bool_]
    round: NDArray[np.int64]
    seat: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class GameSpec:
    """One game of the family; the defaults are the standard game (92 features, 82 actions).

    Attributes:
        item_quantities: Units of each item type on the table (1 to 8 types, each at least 1).
        max_rounds: Rounds; a round is one move of each seat (1 to 63).
        min_value: Smallest private value of one unit, in points (at least 1).
        max_value: Largest private value of one unit, in points.
        discount: Factor on the payoff for every round completed before the game ends, in (0, 1].
        outside_range: The outside offer is uniform on this fraction interval of the own total.
            Stored in units of 1/10000.
        observation: "standing" shows the offer on the table; "history" appends every offer made.

    Raises:
        ValueError: If a number lies outside the ranges above, or the game is too large to encode.
    """

    item_quantities: tuple[int, ...] = (7, 4, 1)
    max_rounds: int = 3
    min_value: int = 1
    max_value: int = 100
    discount: float = 1.0
    outside_range: tuple[float, float] = (0.0, 1.0)
    observation: ObservationKind = "standing"

    def __post_init__(self) -> None:
        quantities = tuple(_integer("item_quantities", q) for q in _tuple("item_quantities", self.item_quantities))
        object.__setattr__(self, "item_quantities", quantities)
        for name in ("max_rounds", "min_value", "max_value"):
            object.__setattr__(self, name, _integer(name, getattr(self, name)))
        if not 1 <= len(quantities) <= MAX_ITEM_TYPES:
            raise ValueError(f"item_quantities needs 1 to {MAX_ITEM_TYPES} item types, got {len(quantities)}.")
        if min(quantities) < 1:
            raise ValueError(f"item_quantities must all be at least 1, got {quantities}.")
        if not 1 <= self.max_rounds <= MAX_ROUNDS:
            raise ValueError(f"max_rounds must lie between 1 and {MAX_ROUNDS}, got {self.max_rounds}.")
        if not 1 <= self.min_value <= self.max_value:
            raise ValueError(f"values need 1 <= min_value <= max_value, got {self.min_value} and {self.max_value}.")
        if self.num_actions > MAX_ACTIONS:
            raise ValueError(f"{quantities} make {self.num_actions} actions; the limit is {MAX_ACTIONS}.")
        if self.max_total > MAX_TOTAL:
            raise ValueError(f"the largest possible total is {self.max_total} points; the limit is {MAX_TOTAL}.")
        object.__setattr__(self, "discount", _real("discount", self.discount))
        if not 0.0 < self.discount <= 1.0:
            raise ValueError(f"discount must lie in (0, 1], got {self.discount}.")
        if self.observation not in ("standing", "history"):
            raise ValueError(f'observation must be "standing" or "history", got {self.observation!r}.')
        self._check_outside_range()

    def _check_outside_range(self) -> None:
        fractions = _tuple("outside_range", self.outside_range)
        if len(fractions) != 2:
            raise ValueError(f"outside_range needs two fractions (low, high), got {fractions}.")
        low, high = (_real("outside_range", fraction) for fraction in fractions)
        if not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"outside_range must satisfy 0 <= low <= high <= 1, got {fractions}.")
        stored = round(low * OUTSIDE_UNITS) / OUTSIDE_UNITS, round(high * OUTSIDE_UNITS) / OUTSIDE_UNITS
        object.__setattr__(self, "outside_range", stored)

    # Sizes ------------------------------------------------------------------------------------

    @property
    def num_items(self) -> int:
        """Item types `I`."""
        return len(self.item_quantities)

    @cached_property
    def num_offers(self) -> int:
        """Distinct offers; they are actions 0 to `num_offers` - 1."""
        return math.prod(quantity + 1 for quantity in self.item_quantities)

    @property
    def accept_action(self) -> int:
        """The action that takes the standing offer."""
        return self.num_offers

    @property
    def walk_action(self) -> int:
        """The action that ends the game with both outside offers."""
        return self.num_offers + 1

    @property
    def noop_action(self) -> int:
        """The waiting seat's only legal action; it exists where both seats act at every step."""
        return self.num_offers + 2

    @property
    def num_actions(self) -> int:
        """Actions `A`: offers, accept and walk."""
        return self.num_offers + 2

    @property
    def max_turns(self) -> int:
        """Decisions in the longest game."""
        return 2 * self.max_rounds

    @property
    def max_total(self) -> int:
        """The largest own total any deal can give, in points."""
        return self.max_value * sum(self.item_quantities)

    @property
    def outside_units(self) -> tuple[int, int]:
        """`outside_range` as integers in units of 1/10000."""
        low, high = self.outside_range
        return round(low * OUTSIDE_UNITS), round(high * OUTSIDE_UNITS)

    # Observation ------------------------------------------------------------------------------

    @cached_property
    def slices(self) -> dict[str, slice]:
        """The named parts of an observation, in order: values, outside, offer, state, mask, history.

        `state` holds three features: an offer stands, the round, the observer's seat.
        `history` is empty for `observation="standing"`.
        """
        sizes = {
            "values": self.num_items,
            "outside": 1,
            "offer": self.num_items,
            "state": 3,
            "mask": self.num_actions,
            "history": (self.max_turns - 1) * self.num_items if self.observation == "history" else 0,
        }
        slices, start = {}, 0
        for name, size in sizes.items():
            slices[name] = slice(start, start + size)
            start += size
        return slices

    @property
    def observation_dim(self) -> int:
        """Observation features `O`."""
        return int(self.slices["history"].stop)

    @property
    def standing_dim(self) -> int:
        """Features of the standing observation, which is a prefix of the history observation."""
        return int(self.slices["mask"].stop)

    def read_observation(self, observation: ArrayLike) -> ObservedState:
        """Returns the integers behind `observation` `[..., O]` float32; exact, a few vector operations.

        A zero row (of a finished game) reads as values 0 and outside 0.

        Raises:
            ValueError: If the last dimension is smaller than the standing observation.
        """
        obs = np.asarray(observation, dtype=np.float64)
        features = obs.shape[-1] if obs.ndim else 0
        if features < self.standing_dim:
            raise ValueError(f"observation has {features} features; this game's has {self.standing_dim}.")
        quantities = np.asarray(self.item_quantities)
        values = np.rint(obs[..., self.slices["values"]] * self.max_value).astype(np.int64)
        total = values @ quantities
        outside = np.rint(obs[..., self.slices["outside"].start] * total).astype(np.int64)
        state = obs[..., self.slices["state"]]
        has_offer = state[..., 0] > 0.5
        offer = np.rint(obs[..., self.slices["offer"]] * quantities).astype(np.int64)
        return ObservedState(
            values=values,
            total=total,
            outside=outside,
            offer=np.where(has_offer[..., None], offer, 0),
            has_offer=has_offer,
            round=np.rint(state[..., 1] * max(self.max_rounds - 1, 1)).astype(np.int64),
            seat=np.rint(state[..., 2]).astype(np.int64),
        )

    # Offers -----------------------------------------------------------------------------------

    @cached_property
    def offers(self) -> NDArray[np.int64]:
        """`[num_offers, I]`: row k is the bundle that seat 1 receives under offer k."""
        grid = np.indices([quantity + 1 for quantity in self.item_quantities])
        table = np.ascontiguousarray(grid.reshape(self.num_items, -1).T, dtype=np.int64)
        table.flags.writeable = False
        return table

    def encode_offer(self, bundle: ArrayLike) -> NDArray[np.int64]:
        """Returns the offer index `[...]` of the bundle `[..., I]` that seat 1 receives.

        Raises:
            ValueError: If a count is negative or exceeds its quantity, or the shape is wrong.
        """
        counts = _integers("a bundle", bundle)
        if counts.shape[-1:] != (self.num_items,):
            raise ValueError(f"a bundle needs {self.num_items} counts in its last dimension, got shape {counts.shape}.")
        if np.any((counts < 0) | (counts > np.asarray(self.item_quantities))):
            raise ValueError(f"a bundle must hold between 0 and {self.item_quantities} units, got {counts.tolist()}.")
        index = np.zeros(counts.shape[:-1], dtype=np.int64)
        for item, quantity in enumerate(self.item_quantities):
            index = index * (quantity + 1) + counts[..., item]
        return index

    def decode_offer(self, offer: ArrayLike) -> NDArray[np.int64]:
        """Returns the bundle `[..., I]` that seat 1 receives under the offer index `[...]`.

        Raises:
            ValueError: If an index is not an offer.
        """
        index = _integers("an offer index", offer)
        if np.any((index < 0) | (index >= self.num_offers)):
            raise ValueError(f"an offer index lies between 0 and {self.num_offers - 1}, got {index.tolist()}.")
        return self.offers[index]

    # Variants ---------------------------------------------------------------------------------

    def with_observation(self, observation: ObservationKind) -> GameSpec:
        """Returns the same game seen through another observation."""
        return dataclasses.replace(self, observation=observation)

    def same_game(self, other: GameSpec) -> bool:
        """Tells whether both specs describe one game; the observation kind does not count."""
        return self.with_observation("standing") == other.with_observation("standing")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready values; `from_dict` is the inverse."""
        fields = dataclasses.asdict(self)
        return fields | {"item_quantities": list(self.item_quantities), "outside_range": list(self.outside_range)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> GameSpec:
        """Builds a spec from `to_dict` output.

        Raises:
            ValueError: If a key is unknown or a value is out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(fields) - known)
        if unknown:
            raise ValueError(f"unknown GameSpec fields: {', '.join(unknown)}.")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        return cls(**arguments)


def _integers(what: str, value: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{what} must hold integers, got {value!r}.")
    return array.astype(np.int64)


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a sequence, got {value!r}.")
    return tuple(value)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} must hold integers, got {value!r}.")
    return int(value)


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise ValueError(f"{name} must hold numbers, got {value!r}.")
    return float(value)


GAMES: dict[str, GameSpec] = {
    "default": GameSpec(),
    "mini-a": GameSpec(item_quantities=(1, 1), max_rounds=1, max_value=2),
    "mini-b": GameSpec(item_quantities=(1, 1), max_rounds=2, max_value=2),
    "mini-c": GameSpec(item_quantities=(2, 1), max_rounds=2, max_value=3),
}
"""Named games: the standard one, and three small enough to solve exactly."""

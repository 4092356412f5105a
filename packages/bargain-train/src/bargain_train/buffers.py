"""Memories of experience, and the compact form in which observations are kept there.

Legend: `R` rows, `O` features of an observation, `C` of a packed one, `A` actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from bargain_env import GameSpec
from tensordict import TensorDict, TensorDictBase


class Memory:
    """At most `capacity` rows on one device: the latest (circular) or a uniform sample of all (reservoir).

    The reservoir is algorithm R (Vitter 1985): row n, counted from 0, takes the place of row j, drawn from 0..n, if j
    is below the capacity. So after any number of rows each of them is held with the same probability.

    Keys, shapes, types and device are those of the first rows. Room doubles as rows come, up to the capacity, so a
    memory that never fills costs no more than twice what it holds.

    Args:
        capacity: Rows that are held at most.
        generator: Draws which rows stay and which are sampled; on the device of the rows.
        reservoir: Keep a uniform sample of all rows instead of the latest.

    Attributes:
        seen: Rows offered so far.

    Raises:
        ValueError: If `capacity` is below 1.
    """

    def __init__(self, capacity: int, generator: torch.Generator, *, reservoir: bool) -> None:
        if capacity < 1:
            raise ValueError(f"a memory needs room for at least one row, got {capacity}.")
        self.capacity, self.reservoir = capacity, reservoir
        self.seen = 0
        self._generator = generator
        self._columns: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        """Rows held."""
        return min(self.seen, self.capacity)

    @property
    def rows(self) -> TensorDictBase:
        """All rows `[len]`, in no promised order; a view, valid until the next `extend`."""
        return TensorDict({name: column[: len(self)] for name, column in self._columns.items()}, [len(self)])

    def extend(self, rows: TensorDictBase) -> None:
        """Offers rows `[R]` without nested keys, in their order; the same as one at a time.

        Raises:
            ValueError: If their keys are not those of the first rows.
        """
        count = len(rows)
        if not count:
            return
        if not self._columns:
            self._columns = {name: column[:0] for name, column in rows.items()}
        if self._columns.keys() != set(rows.keys()):
            raise ValueError(f"this memory holds {sorted(self._columns)}, got rows of {sorted(rows.keys())}.")
        self._make_room(min(self.capacity, self.seen + count))
        if self.reservoir:
            self._extend_reservoir(rows)
        else:
            self._extend_circle(rows)
        self.seen += count

    def sample(self, size: int) -> TensorDictBase:
        """Returns `size` rows drawn uniformly with replacement, copied.

        Raises:
            ValueError: If the memory is empty.
        """
        if not self.seen:
            raise ValueError("an empty memory has no rows to sample.")
        device = self._generator.device
        index = torch.randint(len(self), (size,), generator=self._generator, device=device)
        return TensorDict({name: column.index_select(0, index) for name, column in self._columns.items()}, [size])

    def state_dict(self) -> dict[str, Any]:
        """Returns the rows held, the count and the generator's state: all that sampling and extending depend on."""
        return {
            "rows": {name: column[: len(self)].clone() for name, column in self._columns.items()},
            "seen": self.seen,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on exactly where `state_dict` was taken.

        Raises:
            ValueError: If the state has not as many rows as a memory of this capacity would.
        """
        held, expected = {len(column) for column in state["rows"].values()}, min(state["seen"], self.capacity)
        if held != ({expected} if expected else set()):
            raise ValueError(f"a memory of capacity {self.capacity} cannot take up this state.")
        self.seen, self._columns = state["seen"], {}
        for name, stored in state["rows"].items():
            self._columns[name] = stored.to(self._generator.device, copy=True)
        self._generator.set_state(state["generator"].cpu())

    def _make_room(self, size: int) -> None:
        for name, column in self._columns.items():
            if len(column) < size:
                room = min(self.capacity, max(size, 2 * len(column)))
                self._columns[name] = column.new_empty((room, *column.shape[1:]))
                self._columns[name][: len(column)] = column

    def _extend_circle(self, rows: TensorDictBase) -> None:
        skipped = max(0, len(rows) - self.capacity)
        start = (self.seen + skipped) % self.capacity
        turn = skipped + self.capacity - start
        for name, column in self._columns.items():
            new = rows.get(name)
            before, after = new[skipped:turn], new[turn:]
            column[start : start + len(before)] = before
            column[: len(after)] = after

    def _extend_reservoir(self, rows: TensorDictBase) -> None:
        fresh = min(self.capacity - len(self), len(rows))
        for name, column in self._columns.items():
            column[self.seen : self.seen + fresh] = rows.get(name)[:fresh]
        if fresh == len(rows):
            return
        device = self._generator.device
        number = torch.arange(self.seen + fresh, self.seen + len(rows), device=device)
        place = torch.randint(2**62, number.shape, generator=self._generator, device=device) % (number + 1)
        kept = (place < self.capacity).nonzero().squeeze(-1)
        place, order = place[kept].sort(stable=True)
        last = torch.ones_like(place, dtype=torch.bool)  # of the rows that share a place the last stays
        last[:-1] = place[1:] != place[:-1]
        place, source = place[last], fresh + kept[order[last]]
        for name, column in self._columns.items():
            column[place] = rows.get(name)[source]


def pack_observation(spec: GameSpec, observation: torch.Tensor) -> torch.Tensor:
    """Returns `[R, C]`: the observations `[R, O]` of movers without their mask slice, which the state slice implies."""
    mask = spec.slices["mask"]
    return torch.cat([observation[:, : mask.start], observation[:, mask.stop :]], -1)


def unpack_observation(spec: GameSpec, packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns what `pack_observation` packed, bit for bit, `[R, O]`, and the mask of legal actions `[R, A]` bool."""
    start, state = spec.slices["mask"].start, packed[:, spec.slices["state"]]
    last_round = (state[:, 1] * (spec.max_rounds - 1)).round() == spec.max_rounds - 1
    mask = torch.ones(len(packed), spec.num_actions, dtype=torch.bool, device=packed.device)
    mask[:, : spec.num_offers] = ~(last_round & (state[:, 2] > 0.5)).unsqueeze(-1)
    mask[:, spec.accept_action] = state[:, 0] > 0.5
    return torch.cat([packed[:, :start], mask.to(packed.dtype), packed[:, start:]], -1), mask

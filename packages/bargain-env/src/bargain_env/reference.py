"""The rules for one game in plain Python: slow, readable, and the oracle that every engine must equal bit for bit.

Legend: `I` item types, `A` actions, `O` features, `D` = `max_turns` decisions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bargain_env.spec import OUTSIDE_UNITS, GameSpec

DEAL, WALK = 1, 2
"""Values of `outcome`; 0 means the game goes on."""

_DEAL_BLOCKS = _PLAY_BLOCK = 128
_STREAM_STRIDE = 0x9E3779B97F4A7C15
_WORD = 2**32


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]:
    """Returns the Philox4x32-10 block of four 32-bit words (Salmon et al., SC 2011, section 3.3)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 % _WORD, (p0 >> 32) ^ c3 ^ k1, p0 % _WORD
        k0, k1 = (k0 + 0x9E3779B9) % _WORD, (k1 + 0xBB67AE85) % _WORD
    return c0, c1, c2, c3


class _Draws:
    """The words of blocks `first_block`, `first_block` + 1, ... of one (seed, game, episode), in order."""

    def __init__(self, seed: int, game: int, episode: int, first_block: int, num_blocks: int) -> None:
        self._key = seed % _WORD, seed >> 32
        self._counter = game % _WORD, game >> 32, episode % _WORD, (episode >> 32 << 8) % _WORD
        self._first_block = first_block
        self._num_words = 4 * num_blocks
        self._used = 0
        self._words: tuple[int, int, int, int] = (0, 0, 0, 0)

    def below(self, bound: int) -> int:
        """Returns a uniform integer in 0 .. `bound` - 1, without modulo bias (Lemire 2019, algorithm 5)."""
        threshold = _WORD % bound
        while True:
            if self._used % 4 == 0:
                block = self._first_block + self._used // 4
                c0, c1, c2, c3 = self._counter
                self._words = philox4x32((c0, c1, c2, c3 | block), self._key)
            product = self._words[self._used % 4] * bound
            self._used += 1
            if product % _WORD >= threshold or self._used == self._num_words:
                return product >> 32


def deal(spec: GameSpec, seed: int, game: int, episode: int) -> tuple[list[list[int]], list[int]]:
    """Returns the private values `[2][I]` and outside offers `[2]` of a game: a pure function of its arguments."""
    draws = _Draws(seed, game, episode, 0, _DEAL_BLOCKS)
    width = spec.max_value - spec.min_value + 1
    values = [[spec.min_value + draws.below(width) for _ in range(spec.num_items)] for _ in range(2)]
    outside = []
    for seat in range(2):
        low, high = outside_bounds(spec, own_total(spec, values[seat]))
        outside.append(low + draws.below(high - low + 1))
    return values, outside


def own_total(spec: GameSpec, values: Sequence[int]) -> int:
    """Returns what everything on the table is worth to the holder of `values` `[I]`, in points."""
    return sum(quantity * value for quantity, value in zip(spec.item_quantities, values, strict=True))


def outside_bounds(spec: GameSpec, total: int) -> tuple[int, int]:
    """Returns the smallest and largest outside offer for an own total, in points."""
    low_units, high_units = spec.outside_units
    low = max(1, -(-low_units * total // OUTSIDE_UNITS))
    high = max(1, high_units * total // OUTSIDE_UNITS)
    return low, max(low, high)


class ReferenceGame:
    """One game, one mover at a time.

    Args:
        spec: The game.
        seed: Key of the deals, 0 to 2**64 - 1.
        game: Game index.
        episode: How many times this game has been dealt before.
        values: Explicit private values `[2][I]` in points; dealt from the key if None.
        outside: Explicit outside offers `[2]` in points; needed exactly if `values` is given.

    Attributes:
        offer: The standing offer's index, -1 if none.
        turn: Decisions made so far.
        outcome: 0 while the game goes on, then `DEAL` or `WALK`.
        moves: The actions as executed.
        rewards: `(seat 0, seat 1)` float32 payoffs / own total; zeros until the end.
    """

    def __init__(
        self,
        spec: GameSpec,
        seed: int = 0,
        game: int = 0,
        episode: int = 0,
        *,
        values: Sequence[Sequence[int]] | None = None,
        outside: Sequence[int] | None = None,
    ) -> None:
        if (values is None) != (outside is None):
            raise ValueError("an explicit deal needs both values and outside.")
        self.spec = spec
        if values is not None and outside is not None:
            self.values, self.outside = [list(map(int, row)) for row in values], list(map(int, outside))
        else:
            self.values, self.outside = deal(spec, seed, game, episode)
        self.totals = [own_total(spec, self.values[seat]) for seat in range(2)]
        self.offer = -1
        self.turn = 0
        self.outcome = 0
        self.moves: list[int] = []
        self.rewards = (np.float32(0.0), np.float32(0.0))

    @property
    def finished(self) -> bool:
        """True once a seat accepted or walked."""
        return self.outcome != 0

    @property
    def mover(self) -> int:
        """The seat to move; of a finished game, the seat that moved last."""
        return (self.turn - self.finished) % 2

    @property
    def round(self) -> int:
        """Rounds completed before the current decision."""
        return (self.turn - self.finished) // 2

    def is_legal(self, action: int) -> bool:
        """Tells whether the mover may play `action` now."""
        if self.finished:
            return False
        if 0 <= action < self.spec.num_offers:
            return self.turn < self.spec.max_turns - 1
        if action == self.spec.accept_action:
            return self.offer >= 0
        return action == self.spec.walk_action

    def action_mask(self) -> NDArray[np.bool_]:
        """Returns `[A]` bool, True = legal; all False once the game is finished."""
        offers, accept, walk = map(self.is_legal, (0, self.spec.accept_action, self.spec.walk_action))
        return np.repeat([offers, accept, walk], [self.spec.num_offers, 1, 1])

    def play(self, action: int) -> bool:
        """Plays one action of the mover; an illegal one is executed as walk. Returns whether it was illegal.

        A finished game ignores actions and reports them as not illegal.
        """
        if self.finished:
            return False
        illegal = not self.is_legal(action)
        executed = self.spec.walk_action if illegal else action
        self.moves.append(executed)
        if executed == self.spec.accept_action:
            self._end(DEAL)
        elif executed == self.spec.walk_action:
            self._end(WALK)
        else:
            self.offer = executed
        self.turn += 1
        return illegal

    def _end(self, outcome: int) -> None:
        payoffs = [self.bundle_value(seat, self.offer) for seat in range(2)] if outcome == DEAL else self.outside
        factor = np.float32(self.spec.discount**self.round)
        shares = [np.float32(payoffs[seat]) / np.float32(self.totals[seat]) for seat in range(2)]
        self.rewards = (shares[0], shares[1]) if self.spec.discount == 1.0 else (shares[0] * factor, shares[1] * factor)
        self.outcome = outcome

    def bundle(self, seat: int, offer: int) -> list[int]:
        """Returns the units `[I]` that `seat` receives under `offer`."""
        to_seat_1 = [int(count) for count in self.spec.offers[offer]]
        if seat == 1:
            return to_seat_1
        return [q - count for q, count in zip(self.spec.item_quantities, to_seat_1, strict=True)]

    def bundle_value(self, seat: int, offer: int) -> int:
        """Returns what `offer` is worth to `seat`, in points, before any discount."""
        return sum(v * count for v, count in zip(self.values[seat], self.bundle(seat, offer), strict=True))

    def observation(self, seat: int | None = None) -> NDArray[np.float32]:
        """Returns `[O]` float32: the view of `seat` (default the mover); zeros once the game is finished.

        A waiting seat sees its own view with a zero mask slice.
        """
        spec, view = self.spec, np.zeros(self.spec.observation_dim, dtype=np.float32)
        if self.finished:
            return view
        seat = self.mover if seat is None else seat
        view[spec.slices["values"]] = np.array(self.values[seat], np.float32) / np.float32(spec.max_value)
        view[spec.slices["outside"]] = np.float32(self.outside[seat]) / np.float32(self.totals[seat])
        view[spec.slices["offer"]] = self._fractions(seat, self.offer)
        rounds = np.float32(self.round) / np.float32(max(spec.max_rounds - 1, 1))
        view[spec.slices["state"]] = np.array([self.offer >= 0, rounds, seat], np.float32)
        if seat == self.mover:
            view[spec.slices["mask"]] = self.action_mask()
        if spec.observation == "history":
            slots = [self.moves[k] if k < len(self.moves) else -1 for k in range(spec.max_turns - 1)]
            view[spec.slices["history"]] = np.concatenate([self._fractions(seat, offer) for offer in slots])
        return view

    def _fractions(self, seat: int, offer: int) -> NDArray[np.float32]:
        if offer < 0:
            return np.full(self.spec.num_items, -1.0, dtype=np.float32)
        units = np.array(self.bundle(seat, offer), np.float32)
        return np.divide(units, np.array(self.spec.item_quantities, np.float32), dtype=np.float32)


def random_action(game: ReferenceGame, seed: int, stream: int, index: int, episode: int) -> int:
    """Returns the uniform legal action that every engine draws in game `index`; walk if the game is finished."""
    if game.finished:
        return game.spec.walk_action
    key = (seed + stream * _STREAM_STRIDE) % 2**64
    legal = np.flatnonzero(game.action_mask())
    return int(legal[_Draws(key, index, episode, _PLAY_BLOCK + game.turn, 1).below(len(legal))])

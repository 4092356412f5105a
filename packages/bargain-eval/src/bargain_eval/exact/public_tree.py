"""Best responses on public histories: one tree for all own types, because types are independent and values private.

Against a frozen opponent the law of its next move depends on the public history alone, through the weights of its
types. `PublicTree` carries these weights down the tree, maximises at the responder's decisions for all own types at
once, and so finds what the best response would earn against exactly the opponent's types that it was given.

At each node the tree keeps the opponent's likeliest counteroffers. After any other one the responder is told the
opponent's type, which can only help it, so that `upper` is never below what the best response earns.

Legend: `N` types of the opponent, `T` own types, `S` offers, `A` actions, `H` nodes. Weights are unnormalised: a node's
weights sum to its probability, and what it is worth includes that probability.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.exact.opponent import OpponentTables
from bargain_eval.exact.types import Types

Floats = NDArray[np.float32]

WALK = -1
"""The first move of a type that does best to walk at once."""

OPENINGS = 4
"""Openings of seat 0 kept, as a multiple of `counters`: they are one node, not one for each offer."""

_CHUNK_BYTES = 32_000_000  # largest temporary array


@dataclasses.dataclass(frozen=True)
class Children:
    """The counteroffers kept at one decision of the opponent, in order of the offer that they answer.

    Attributes:
        offer: `[H]` the offer answered; 0 at the first decision.
        counter: `[H]` the counteroffer.
        likelihood: `[N, H]` probability of the counteroffer, by type.
        cut: `[S, S]` bool, offer by counteroffer: what is not kept though it happens.
    """

    offer: NDArray[np.int64]
    counter: NDArray[np.int64]
    likelihood: Floats
    cut: NDArray[np.bool_]


class PublicTree:
    """The responder's decision problem against an opponent known by its tables.

    Args:
        spec: The game.
        seat: The responder's seat.
        tables: The opponent's behaviour.
        types: The responder's own types.
        counters: Counteroffers kept at each node.

    Attributes:
        share: `[S, T]` float32, payoff of a deal on each offer / own total.
        outside: `[T]` float32, own outside offer / own total.
        last: The responder's last decision.
        leaf: Its last decision at which it can make an offer; negative if it has none.
    """

    def __init__(self, spec: GameSpec, seat: int, tables: OpponentTables, types: Types, counters: int = 8) -> None:
        self.spec, self.seat, self.tables, self.counters = spec, seat, tables, counters
        bundles = spec.offers if seat else np.asarray(spec.item_quantities) - spec.offers
        total = types.values @ np.asarray(spec.item_quantities)
        self.share: Floats = (bundles @ types.values.T / total).astype(np.float32)
        self.outside: Floats = (types.outside / total).astype(np.float32)
        self.last = spec.max_turns - 2 + seat
        self.leaf = self.last - 2 * seat
        self._whole, self._index = self, np.arange(len(types))
        self.answers = {turn: np.ascontiguousarray(p[:, :, spec.num_offers :]) for turn, p in tables.probs.items()}

    def of_types(self, index: NDArray[np.int64]) -> PublicTree:
        """Returns the same tree for the own types `index` alone; what is computed for all of them is shared."""
        part = copy.copy(self)
        part.share, part.outside = self.share[:, index], self.outside[index]
        part._index = self._index[index]
        return part

    def upper(self) -> tuple[Floats, NDArray[np.int64]]:
        """Returns what the best response earns by own type, or more, `[T]`, and its first move `[T]`.

        The first move is an offer or `WALK`; for seat 1, whose first move answers an offer, it is always `WALK`.
        """
        first = np.full(len(self.outside), WALK, dtype=np.int64)
        if self.seat == 1:
            return self.answered(0, self.tables.weight)[0], first
        scores = self.scores(0, self.tables.weight)
        best, stop = scores.max(axis=0), self.outside
        first[best > stop] = scores.argmax(axis=0)[best > stop]
        return np.maximum(best, stop), first

    # Own decisions ----------------------------------------------------------------------------

    def factor(self, turn: int) -> np.float32:
        """Returns the discount on what is paid at decision `turn`."""
        return np.float32(self.spec.discount ** (turn // 2))

    def stop(self, turn: int, mass: Floats, counter: NDArray[np.int64]) -> Floats:
        """Returns what nodes of probability `mass` `[H]` earn by accepting `counter` `[H]` or walking, `[H, T]`."""
        return self.factor(turn) * mass[:, None] * np.maximum(self.share[counter], self.outside)

    def values(self, turn: int, weight: Floats, counter: NDArray[np.int64]) -> Floats:
        """Returns what nodes with weights `[N, H]` and standing offers `counter` `[H]` are worth, `[H, T]`."""
        mass = weight.sum(axis=0)
        stop = self.stop(turn, mass, counter)
        if turn > self.leaf:
            return stop
        if turn == self.leaf:
            best = self._leaf_values(weight, mass)
        else:
            nodes = [self.scores(turn, weight[:, node]).max(axis=0) for node in range(len(mass))]
            best = np.array(nodes, dtype=np.float32).reshape(stop.shape)
        return np.maximum(stop, best, out=best)

    def scores(self, turn: int, weight: Floats) -> Floats:
        """Returns what each own offer is worth at a node with weights `[N]`, `[S, T]`."""
        if turn == self.leaf and self.seat == 1:
            return np.stack([replies @ weight for replies in self.leaf_replies()], axis=1)
        return self.answered(turn + 1, weight)

    def answered(self, turn: int, weight: Floats) -> Floats:
        """Returns the worth of the opponent's move at decision `turn`, `[S, T]`, by the offer that it answers."""
        total = self._ended(turn, np.tensordot(weight, self.answers[turn], (0, 0)))
        if turn > self.last:
            return total
        if turn in self._whole.told:
            total += np.stack([self._whole.told[turn][own] @ weight for own in self._index], axis=1)
        children = self._whole.children[turn]
        if len(children.offer):
            values = self.values(turn + 1, weight[:, None] * children.likelihood, children.counter)
            offers, starts = np.unique(children.offer, return_index=True)
            total[offers] += np.add.reduceat(values, starts, axis=0)
        return total

    def _ended(self, turn: int, answer: Floats) -> Floats:
        """Returns what the probabilities `[..., S, 2]` that the opponent accepts and walks are worth, `[..., S, T]`."""
        share = self.share if turn else self.share[:1]
        return self.factor(turn) * (answer[..., :1] * share + answer[..., 1:] * self.outside)

    def _leaf_values(self, weight: Floats, mass: Floats) -> Floats:
        """Returns what making the best offer is worth at the last decision with one, or walking, `[H, T]`."""
        offers, types = self.share.shape
        if self.seat == 0:
            accepted = weight.T @ self.answers[self.leaf + 1][:, :, 0]
            best = np.zeros((len(mass), types), dtype=np.float32)
            gain, product = self.share - self.outside, np.empty_like(best)
            for offer in range(offers):
                np.multiply(accepted[:, offer, None], gain[offer], out=product)
                np.maximum(best, product, out=best)
            return self.factor(self.leaf) * (best + mass[:, None] * self.outside)
        replies, pays = self._whole.last_ends, self._payments()
        size = max(1, _CHUNK_BYTES // (4 * offers * max(types, len(pays))))
        parts = (weight[:, first : first + size].T @ replies for first in range(0, len(mass), size))
        worth = ((part.reshape(-1, len(pays)) @ pays).reshape(-1, offers, types) for part in parts)
        return np.concatenate([part.max(axis=1) for part in worth])

    # The opponent's counteroffers -------------------------------------------------------------

    @cached_property
    def children(self) -> dict[int, Children]:
        """The counteroffers kept at each decision of the opponent that has any."""
        turns = [turn for turn in self.tables.probs if turn < self.last]
        return {turn: self._keep(turn) for turn in turns}

    def _keep(self, turn: int) -> Children:
        probs = self.tables.probs[turn][:, :, : self.spec.num_offers]
        mass = np.tensordot(self.tables.weight, probs, (0, 0))
        count = self.counters if turn else OPENINGS * self.counters
        order = np.argsort(-mass, axis=1, kind="stable")[:, :count]
        kept = np.zeros_like(mass, dtype=bool)
        np.put_along_axis(kept, order, True, axis=1)
        offer, counter = np.nonzero(kept & (mass > 0))
        return Children(offer, counter, np.ascontiguousarray(probs[:, offer, counter]), ~kept & (mass > 0))

    @cached_property
    def told(self) -> dict[int, Floats]:
        """The worth `[T, S, N]` of the counteroffers that are cut, to a responder who then knows the type."""
        cut = {turn: children.cut for turn, children in self.children.items() if children.cut.any()}
        return {turn: _types_first(self._counters_when_told(turn, among)) for turn, among in cut.items()}

    def leaf_replies(self) -> Iterator[Floats]:
        """Yields by own type the worth `[S, N]` of seat 1's offers at its last decision with one."""
        return (self._whole.replies_of_all[own] for own in self._index)

    @cached_property
    def replies_of_all(self) -> Floats:
        """What `leaf_replies` yields, for all types, `[T, S, N]`."""
        return _types_first(self._replies_when_told(self.leaf + 1))

    @cached_property
    def last_ends(self) -> Floats:
        """How likely each end is after seat 1's last offer, `[N, S * R]`.

        The `R` ends are: each last offer of seat 0's, seat 0's walk, and for its acceptance the units of each item type
        that seat 1 then receives, so that what an end pays does not depend on the offer.
        """
        probs = self.tables.probs[self.leaf + 1]
        accept, walk = probs[:, :, self.spec.accept_action, None], probs[:, :, self.spec.walk_action, None]
        units = accept * self.spec.offers.astype(np.float32)
        return np.concatenate([probs[:, :, : self.spec.num_offers], walk, units], axis=2).reshape(len(probs), -1)

    def _payments(self) -> Floats:
        """Returns what each of the ends of `last_ends` pays, `[R, T]`; a last offer is accepted if it is worth it."""
        units = self.share[self.spec.encode_offer(np.eye(self.spec.num_items, dtype=np.int64))]
        pays = np.concatenate([np.maximum(self.share, self.outside), self.outside[None], units])
        return self.factor(self.leaf + 1) * pays

    def _replies_when_told(self, turn: int) -> Floats:
        """Returns the worth `[N, S, T]` of the opponent's move to a responder who knows its type."""
        total = self._ended(turn, self.answers[turn])
        if turn < self.spec.max_turns - 1:
            total += self._counters_when_told(turn, None)
        return total

    def _counters_when_told(self, turn: int, among: NDArray[np.bool_] | None) -> Floats:
        """Returns the worth `[N, S, T]` of the counteroffers, those of the offers' `among` `[S, S]` if given."""
        probs = self.tables.probs[turn][:, :, : self.spec.num_offers]
        accepted, known = self.factor(turn + 1) * self.share, self._known(turn + 1)
        worth = np.empty((*probs.shape[:2], len(self.outside)), dtype=np.float32)
        size = max(1, _CHUNK_BYTES // accepted.nbytes)
        for first in range(0, len(probs), size):
            part = slice(first, first + size)
            chosen = probs[part] if among is None else probs[part] * among
            np.matmul(chosen, np.maximum(accepted, known[part, None]), out=worth[part])
        return worth

    def _known(self, turn: int) -> Floats:
        """Returns what going on at own decision `turn` is worth to a responder who knows the type, `[N, T]`."""
        walk = np.broadcast_to(self.factor(turn) * self.outside, (len(self.tables.weight), len(self.outside)))
        return walk if turn > self.leaf else np.maximum(walk, self._replies_when_told(turn + 1).max(axis=1))


def _types_first(worth: Floats) -> Floats:
    """Returns `[N, S, T]` as `[T, S, N]`: own types are picked, and weights `[N]` applied, without a copy."""
    return np.ascontiguousarray(worth.T)

"""What a plan found on one sample of the opponent's types earns against another: never more than the best response.

Legend: `N` types of the opponent, `T` own types, `S` offers, `H` nodes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bargain_eval.exact.public_tree import WALK, Floats, PublicTree

_NEGLIGIBLE = 1e-5  # after a counteroffer less likely than this the plan accepts or walks


def plan_value(tree: PublicTree, fresh: PublicTree, first: NDArray[np.int64]) -> Floats:
    """Returns what the plan of `tree` earns against the types of `fresh`, by own type `[T]`.

    The plan makes the first moves `first`, as `tree.upper` returned them, and later the move that looks best in `tree`
    after the history so far. It never looks at `fresh`, so over independent samples the result is unbiased for what a
    strategy of the responder earns. Only the plan's own moves are followed, but after all answers to them.
    """
    if tree.seat == 1:
        return _follow(tree, fresh, 0, 0, tree.tables.weight, fresh.tables.weight)
    value = tree.outside.copy()
    for offer in np.unique(first[first != WALK]):
        types = np.flatnonzero(first == offer)
        parts = tree.of_types(types), fresh.of_types(types)
        value[types] = _follow(*parts, 1, int(offer), tree.tables.weight, fresh.tables.weight)
    return value


def _follow(tree: PublicTree, fresh: PublicTree, turn: int, offer: int, weight: Floats, actual: Floats) -> Floats:
    """Returns what the opponent's answer to `offer` at decision `turn` is worth, `[T]`.

    `weight` and `actual` are the node's weights in `tree` and in `fresh`.
    """
    accept, walk = actual @ fresh.answers[turn][:, offer]
    total: Floats = tree.factor(turn) * (accept * tree.share[offer] + walk * tree.outside)
    if turn > tree.last:
        return total
    offers = tree.spec.num_offers
    weights = weight[:, None] * tree.tables.probs[turn][:, offer, :offers]
    actuals = actual[:, None] * fresh.tables.probs[turn][:, offer, :offers]
    mass = actuals.sum(axis=0)
    stop = tree.stop(turn + 1, mass, np.arange(offers))
    if turn + 1 > tree.leaf:
        total += stop.sum(axis=0)
        return total
    mine = weights.sum(axis=0)
    planned = (mine > _NEGLIGIBLE) & (mass > 0)
    total += stop[~planned].sum(axis=0)
    counters = np.flatnonzero(planned)
    if turn + 1 == tree.leaf:
        total += _follow_leaf(tree, fresh, weights[:, counters], actuals[:, counters], counters)
        return total
    for counter in counters.tolist():
        total += _follow_node(tree, fresh, turn + 1, counter, weights[:, counter], actuals[:, counter])
    return total


def _follow_node(
    tree: PublicTree, fresh: PublicTree, turn: int, counter: int, weight: Floats, actual: Floats
) -> Floats:
    scores, standing = tree.scores(turn, weight), np.array([counter])
    goes_on = scores.max(axis=0) > tree.stop(turn, weight.sum(keepdims=True), standing)[0]
    value: Floats = tree.stop(turn, actual.sum(keepdims=True), standing)[0]
    chosen = np.where(goes_on, scores.argmax(axis=0), WALK)
    for offer in np.unique(chosen[goes_on]):
        types = np.flatnonzero(chosen == offer)
        value[types] = _follow(tree.of_types(types), fresh.of_types(types), turn + 1, int(offer), weight, actual)
    return value


def _follow_leaf(
    tree: PublicTree, fresh: PublicTree, weights: Floats, actuals: Floats, counters: NDArray[np.int64]
) -> Floats:
    """Returns what the plan earns at nodes `[N, H]` where it makes its last offer, summed over the nodes, `[T]`."""
    turn, (offers, types) = tree.leaf, tree.share.shape
    if tree.seat == 0:
        likely, accepted = (w.T @ t.answers[turn + 1][:, :, 0] for t, w in ((tree, weights), (fresh, actuals)))
        gain, shape = tree.share - tree.outside, (len(counters), types)
        best, earned = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
        for offer in range(offers):
            looks = likely[:, offer, None] * gain[offer]
            better = looks > best
            best = np.where(better, looks, best)
            earned = np.where(better, accepted[:, offer, None] * gain[offer], earned)
        best, earned = (
            tree.factor(turn) * (part + w.sum(axis=0)[:, None] * tree.outside)
            for part, w in ((best, weights), (earned, actuals))
        )
    else:
        best, earned = np.empty((2, len(counters), types), dtype=np.float32)
        for own, (replies, real) in enumerate(zip(tree.leaf_replies(), fresh.leaf_replies(), strict=True)):
            looks = replies @ weights
            chosen = looks.argmax(axis=0)
            best[:, own] = np.take_along_axis(looks, chosen[None], axis=0)[0]
            earned[:, own] = np.einsum("hn,nh->h", real[chosen], actuals)
    stops = tree.stop(turn, weights.sum(axis=0), counters) >= best
    total: Floats = np.where(stops, tree.stop(turn, actuals.sum(axis=0), counters), earned).sum(axis=0)
    return total

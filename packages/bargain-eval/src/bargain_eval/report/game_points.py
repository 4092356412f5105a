"""What the game itself allows, drawn beside what was played: full-information benchmarks on the deals at hand.

Legend: `N` deals, 2 seats, `I` item types, `K` splits; outcome `K` is the walk.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.measures import study_deals

MAX_DEALS = 5_000
"""Deals that the benchmarks are averaged over, the first ones; their standard error is then below 0.005."""
_WEIGHTS = np.clip(np.sin(np.linspace(0.0, np.pi / 2, 33)) ** 2, 1e-6, 1 - 1e-6)  # ties in one go to the other
_BLOCK = 1_024


class GamePoints(NamedTuple):
    """Means over the same deals of (welfare, fairness): the total payoff, and the smaller of both payoffs.

    Attributes:
        frontier: `[F, 2]`, the points that nobody who sees both hands can improve in both, by falling welfare.
        first_best: `[2]`, every deal's outcome of the largest total: the first point of the frontier.
        nash_bargaining: `[2]`, every deal's rational split with the largest product of gains, else the walk.
        walk: `[2]`, every deal ends in a walk.
        deals: How many deals these are means of.
    """

    frontier: NDArray[np.float64]
    first_best: NDArray[np.float64]
    nash_bargaining: NDArray[np.float64]
    walk: NDArray[np.float64]
    deals: int


def game_points(values: NDArray[np.integer], outside: NDArray[np.integer], spec: GameSpec) -> GamePoints:
    """Returns the benchmarks on the first `MAX_DEALS` of the deals `values [N, 2, I]`, `outside [N, 2]`, in points.

    The frontier is exact: for each weight every deal takes its best outcome of `(1 - w) welfare + w fairness`, and the
    means of these are the corners of the upper hull of what full information allows. Outcomes come at once, so that no
    discount applies. About 0.5 s for 5,000 deals of the standard game.
    """
    values, outside = values[:MAX_DEALS], outside[:MAX_DEALS]
    bargained = study_deals(values, outside, spec).nash_bargaining
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(values), _BLOCK)]
    sums = [_sums(values[block], outside[block], bargained[block], spec) for block in blocks]
    means = np.sum(sums, axis=0) / len(values)
    return GamePoints(means[:-2], means[0], means[-2], means[-1], len(values))


def _sums(
    values: NDArray[np.integer], outside: NDArray[np.integer], bargained: NDArray[np.int64], spec: GameSpec
) -> NDArray[np.float64]:
    """Returns `[F + 2, 2]`: the sums over a block of deals for each weight, for Nash bargaining and for the walk."""
    quantities, to_seat_1 = np.asarray(spec.item_quantities), spec.offers
    worth = np.stack([values[:, 0] @ (quantities - to_seat_1).T, values[:, 1] @ to_seat_1.T])
    points = np.concatenate([worth, outside.T[:, :, None]], axis=2)  # [2, N, K + 1]
    payoff = points / (values @ quantities).T[:, :, None]
    welfare, fairness = payoff.sum(axis=0), payoff.min(axis=0)
    chosen = [np.argmax((1.0 - weight) * welfare + weight * fairness, axis=1) for weight in _WEIGHTS]
    chosen += [bargained, np.full(len(values), spec.num_offers)]
    index = np.arange(len(values))
    return np.array([[welfare[index, pick].sum(), fairness[index, pick].sum()] for pick in chosen])

"""What a game was worth beyond its two payoffs: welfare, fairness, efficiency; each per game, and only then averaged.

Legend: `N` games, 2 seats, `I` item types, `K` splits (the offers of the spec). "Normalised" is payoff / own total, "in
points" is not. Measures of an allocation (EF1, Pareto, rational, missed) judge the split or the walk itself: a discount
lowers payoffs, not the judgement. All comparisons of values are made in integers.

Sources: EF1 is Budish (2011) and Lipton et al. (2004); NW+ and EF1+ are those of the empirical studies of this game by
Smithline, Mascioli, Chakraborty and Wellman (2025); Pareto and first-best are textbook.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple, Self

import numpy as np
from bargain_env.reference import DEAL, outside_bounds
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.game_rows import GameRows

_BLOCK = 2048  # deals studied at once; their tables of all splits fit the cache


class Measure(NamedTuple):
    """One measure of each game, and the games that it speaks of.

    Attributes:
        amount: `[N]` float64, zero where the game is not counted.
        counted: `[N]` bool, the games in the denominator.
    """

    amount: NDArray[np.float64]
    counted: NDArray[np.bool_]

    def mean(self) -> float:
        """Returns `sum(amount) / sum(counted)`, NaN if no game is counted."""
        games = int(self.counted.sum())
        return float(self.amount.sum() / games) if games else math.nan

    def standard_error(self) -> float:
        """Returns the standard error of `mean`, linearised where the denominator is random; NaN for too few games."""
        games = int(self.counted.sum())
        if games < 2:
            return math.nan
        residual = self.amount - self.mean() * self.counted
        return float(np.std(residual, ddof=1) * math.sqrt(len(residual)) / games)


@dataclasses.dataclass(frozen=True)
class DealFacts:
    """What somebody who sees both hands knows about each deal, whoever plays it.

    Attributes:
        ef1: `[N, K]` bool, the split is envy-free up to one unit for both seats.
        rational: `[N, K]` bool, the split gives both seats at least their outside offers.
        efficient: `[N, K + 1]` bool, no split and no walk is at least as good for both seats and better for one; the
            last column is the walk.
        strictly_feasible: `[N]` bool, some split gives both seats more than their outside offers.
        nash_bargaining: `[N]` int64, the rational split with the largest product of gains over the outside offers, the
            lowest index on ties; `K` (walk) if no split is rational.
        first_best: `[N]` float64, the largest sum of normalised payoffs of all splits and the walk.
        first_best_points: `[N]` float64, the same in points.
    """

    ef1: NDArray[np.bool_]
    rational: NDArray[np.bool_]
    efficient: NDArray[np.bool_]
    strictly_feasible: NDArray[np.bool_]
    nash_bargaining: NDArray[np.int64]
    first_best: NDArray[np.float64]
    first_best_points: NDArray[np.float64]

    @property
    def feasible(self) -> NDArray[np.bool_]:
        """`[N]`, some split gives both seats at least their outside offers."""
        feasible: NDArray[np.bool_] = np.logical_or.reduce(self.rational, axis=1)
        return feasible

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """Returns the facts of all parts, one after the other."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def study_deals(values: NDArray[np.integer[Any]], outside: NDArray[np.integer[Any]], spec: GameSpec) -> DealFacts:
    """Returns the facts of deals `values [N, 2, I]`, `outside [N, 2]` in points.

    Compares all splits of each deal: about 5 microseconds a deal of the standard game. The deals of a cross-play are
    the same in all its cells, so that one call serves them all.
    """
    hands, offers = values.astype(np.int64), outside.astype(np.int64)
    starts = range(0, len(hands), _BLOCK)
    parts = [_study(hands[a : a + _BLOCK], offers[a : a + _BLOCK], spec) for a in starts]
    return DealFacts.concatenate(parts)


def _study(values: NDArray[np.int64], outside: NDArray[np.int64], spec: GameSpec) -> DealFacts:
    quantities, to_seat_1 = np.asarray(spec.item_quantities), spec.offers
    bundles = quantities - to_seat_1, to_seat_1
    total = values @ quantities
    worth = [values[:, seat] @ bundles[seat].T for seat in range(2)]  # [N, K] each
    gain = [worth[seat] - outside[:, seat, None] for seat in range(2)]

    envy_free = np.ones(worth[0].shape, dtype=np.bool_)
    for seat in range(2):
        best_unit = _best_unit(values[:, seat], bundles[1 - seat])
        envy_free &= 2 * worth[seat] >= total[:, seat, None] - best_unit
    rational = (gain[0] >= 0) & (gain[1] >= 0)
    product = np.where(rational, gain[0] * gain[1], -1)
    normalised = worth[0] / total[:, 0, None] + worth[1] / total[:, 1, None]
    return DealFacts(
        ef1=envy_free,
        rational=rational,
        efficient=_undominated(*(np.hstack([worth[seat], outside[:, seat, None]]) for seat in range(2))),
        strictly_feasible=np.logical_or.reduce((gain[0] > 0) & (gain[1] > 0), axis=1),
        nash_bargaining=np.where(rational.any(axis=1), np.argmax(product, axis=1), spec.num_offers),
        first_best=np.maximum(normalised.max(axis=1), (outside / total).sum(axis=1)),
        first_best_points=np.maximum((worth[0] + worth[1]).max(axis=1), outside.sum(axis=1)).astype(np.float64),
    )


def _best_unit(values: NDArray[np.int64], bundles: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns `[N, K]`: the largest of `values [N, I]` among the types present in each of `bundles [K, I]`, else 0."""
    best = np.zeros((len(values), len(bundles)), dtype=np.int64)
    for item in range(values.shape[1]):
        np.maximum(best, values[:, item, None] * (bundles[:, item] > 0), out=best)
    return best


def _undominated(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns `[N, C]` bool: no other column is at least as large in both arrays `[N, C]` and larger in one.

    Sorted by `first`, then `second`, both falling, whatever dominates a column stands before it. Of the columns before
    it, the one with the largest `second`, then `first`, dominates it exactly if that pair is larger than its own.
    """
    base = int(max(first.max(), second.max())) + 1
    order = np.argsort(-(first * base + second), axis=1, kind="stable")
    key = np.take_along_axis(second * base + first, order, axis=1)
    before = np.maximum.accumulate(key, axis=1)
    sorted_result = np.ones(key.shape, dtype=np.bool_)
    sorted_result[:, 1:] = before[:, :-1] <= key[:, 1:]
    result = np.empty_like(sorted_result)
    np.put_along_axis(result, order, sorted_result, axis=1)
    return result


def game_measures(rows: GameRows, spec: GameSpec, facts: DealFacts | None = None) -> dict[str, Measure]:
    """Returns every measure of every game of `rows`, by name.

    Per game: `utilitarian` u0 + u1; `nash` sqrt(u0 u1); `egalitarian` min(u0, u1); `nash_plus` sqrt((u0-o0)+ (u1-o1)+)
    with the undiscounted outside offers; each normalised, and in points under `NAME_points`; `agreement`, a deal;
    `pareto`, the split or walk is efficient among all splits and the walk; `missed`, a walk although some split was
    better for both; `missed_weak`, a walk although some split was at least as good for both.
    Per deal: `ef1`; `rational`, both seats got at least their outside offers; `irrational_accept`, the accepting seat
    took less than its outside offer. Per deal in games where an EF1 and rational split exists: `ef1_plus`, the split
    is both. A walk is no allocation, so it counts in none of these four.

    Args:
        rows: The games.
        spec: Their game.
        facts: `study_deals` of the games, computed here if None.
    """
    facts = facts or study_deals(rows.values, rows.outside, spec)
    deal = rows.outcome == DEAL
    every = np.ones(len(rows), dtype=np.bool_)
    index = np.arange(len(rows))
    split = np.maximum(rows.offer, 0).astype(np.int64)
    ef1, rational = facts.ef1[index, split], facts.rational[index, split]
    fair_split_exists = (facts.ef1 & facts.rational).any(axis=1)
    accepter = (rows.decisions - 1) % 2
    accepted_points = _split_points(rows, split, spec)[index, accepter]

    result: dict[str, Measure] = {}
    for suffix, payoff, outside in (
        ("", rows.payoff, rows.outside / rows.total),
        ("_points", rows.points.astype(np.float64), rows.outside.astype(np.float64)),
    ):
        gain = np.maximum(payoff - outside, 0.0)
        result[f"utilitarian{suffix}"] = Measure(payoff.sum(axis=1), every)
        result[f"nash{suffix}"] = Measure(np.sqrt(payoff[:, 0] * payoff[:, 1]), every)
        result[f"egalitarian{suffix}"] = Measure(payoff.min(axis=1), every)
        result[f"nash_plus{suffix}"] = Measure(np.sqrt(gain[:, 0] * gain[:, 1]), every)
    result["agreement"] = _share(deal, every)
    result["pareto"] = _share(facts.efficient[index, np.where(deal, split, spec.num_offers)], every)
    result["missed"] = _share(~deal & facts.strictly_feasible, every)
    result["missed_weak"] = _share(~deal & facts.feasible, every)
    result["ef1"] = _share(ef1, deal)
    result["ef1_plus"] = _share(ef1 & rational, deal & fair_split_exists)
    result["rational"] = _share(rational, deal)
    result["irrational_accept"] = _share(accepted_points < rows.outside[index, accepter], deal)
    return result


def _share(event: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Measure:
    return Measure((event & counted).astype(np.float64), counted)


def _split_points(rows: GameRows, split: NDArray[np.int64], spec: GameSpec) -> NDArray[np.int64]:
    """Returns `[N, 2]`: what the offer `split [N]` is worth to each seat, in points, before any discount."""
    points: NDArray[np.int64] = np.einsum("nsi,ni->ns", rows.values, spec.offers[split])
    points[:, 0] = rows.total[:, 0] - points[:, 0]
    return points


def summarise(measures: dict[str, Measure]) -> dict[str, float | None]:
    """Returns JSON-ready means with their standard errors (`NAME_se`); None where no game, or one alone, is counted."""
    result: dict[str, float | None] = {}
    for name, measure in measures.items():
        for key, number in ((name, measure.mean()), (f"{name}_se", measure.standard_error())):
            result[key] = None if math.isnan(number) else number
    return result


def walk_value(spec: GameSpec) -> tuple[float, float]:
    """Returns exactly what a seat earns if a game ends in a walk at once: E[outside / total], and E[outside] in points.

    Computed from the distribution of the own total, which is the sum of independent items: a few milliseconds.
    """
    distribution = np.ones(1)
    for quantity in spec.item_quantities:
        item = np.zeros(quantity * spec.max_value + 1)
        item[quantity * spec.min_value :: quantity] = 1.0 / (spec.max_value - spec.min_value + 1)
        distribution = np.convolve(distribution, item)
    totals = np.flatnonzero(distribution > 0)
    middle = np.array([sum(outside_bounds(spec, int(total))) / 2 for total in totals])
    weights = distribution[totals]
    return float(weights @ (middle / totals)), float(weights @ middle)


def efficiency(utilitarian: float, first_best: float, walk: float) -> float:
    """Returns how much of what bargaining can add was added: 0 for walking at once, 1 for the first-best.

    `(utilitarian - walk) / (first_best - walk)`, with `walk` the expected total of both seats when they walk at once
    (twice `walk_value`), `first_best` the mean of `DealFacts.first_best`; all three normalised, or all in points.
    """
    return (utilitarian - walk) / (first_best - walk)

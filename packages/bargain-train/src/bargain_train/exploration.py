"""Which of the games that were played are worth imitating, and what was decided in them.

Ex2PSRO (Nguyen, Gu and Wellman 2025) imitates the trajectories of highest welfare among those already simulated for the
payoffs, which costs no further simulation. Their welfare is taken here relative to what each deal allows: the raw one
ranks lucky hands, not good play.

Legend: `C` cells (pairs of policies, each played on the same deals), `N` deals, `I` item types, `M` trajectories, `R`
decisions, `O` features, `A` actions, `D` = `max_turns` decisions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from bargain_env.engine import make_engine
from bargain_env.spec import GameSpec
from numpy.typing import ArrayLike, NDArray

Welfare = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
"""The welfare of games, from what each seat earned in them as a share of its own total; arrays of one shape."""


def utilitarian(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Returns the sum."""
    return first + second


def nash(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Returns the geometric mean."""
    product: NDArray[Any] = np.sqrt(first * second)
    return product


def egalitarian(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Returns the smaller one."""
    return np.minimum(first, second)


WELFARES: dict[str, Welfare] = {"utilitarian": utilitarian, "nash": nash, "egalitarian": egalitarian}
"""By name; of each game and then averaged, never of mean payoffs."""

LEVELS = 3
"""Into how many levels `strata` divides each seat's outside offers."""

_TABLE = 2**20  # entries of a table of all splits that are compared at once


class Selection(NamedTuple):
    """The trajectories to imitate.

    Attributes:
        cell: `[M]` int64.
        game: `[M]` int64, the deal.
        weight: `[M]` float64, positive, of sum 1.
    """

    cell: NDArray[np.int64]
    game: NDArray[np.int64]
    weight: NDArray[np.float64]


class Decisions(NamedTuple):
    """What one seat saw and did.

    Attributes:
        observation: `[R, O]` float32.
        mask: `[R, A]` bool, True = legal.
        action: `[R]` int64.
        trajectory: `[R]` int64, which of the trajectories it belongs to.
    """

    observation: torch.Tensor
    mask: torch.Tensor
    action: torch.Tensor
    trajectory: torch.Tensor


def best_welfare(
    spec: GameSpec, values: ArrayLike, outside: ArrayLike, welfare: Welfare, dtype: Any = np.float64
) -> NDArray[Any]:
    """Returns `[N]`: the most welfare that each deal allows, which is that of the best split or of walking.

    Both can be had without discount, a walk at the first decision and any split at the second, so it plays no part.

    Args:
        spec: The game.
        values: `[N, 2, I]` private values in points.
        outside: `[N, 2]` outside offers in points.
        welfare: One of `WELFARES`.
        dtype: What payoffs are rounded to before welfare is computed. With the type of recorded payoffs, welfare is
            exactly this where the best was played, and nowhere above.
    """
    hands, offers = np.asarray(values, dtype=np.int64), np.asarray(outside, dtype=np.int64)
    block = max(1, _TABLE // spec.num_offers)
    starts = range(0, len(hands), block)
    parts = [_best(spec, hands[a : a + block], offers[a : a + block], welfare, dtype) for a in starts]
    return np.concatenate([np.zeros(0, dtype), *parts])


def _best(
    spec: GameSpec, values: NDArray[np.int64], outside: NDArray[np.int64], welfare: Welfare, dtype: Any
) -> NDArray[Any]:
    quantities, to_seat_1 = np.asarray(spec.item_quantities), spec.offers
    total = values @ quantities
    bundles = quantities - to_seat_1, to_seat_1
    points = (np.hstack([values[:, seat] @ bundles[seat].T, outside[:, seat, None]]) for seat in range(2))
    first, second = ((part / total[:, seat, None]).astype(dtype) for seat, part in enumerate(points))
    best: NDArray[Any] = welfare(first, second).max(axis=1)
    return best


def efficiency(
    spec: GameSpec, values: ArrayLike, outside: ArrayLike, payoff: ArrayLike, welfare: Welfare
) -> NDArray[np.float64]:
    """Returns `[C, N]`, from 0 to 1: the welfare of each trajectory as a share of `best_welfare` of its deal.

    It is 1 exactly where nothing better could be had, and does not depend on how good the hands are. What a discount
    took counts as lost.

    Args:
        spec: The game.
        values: `[N, 2, I]` private values in points.
        outside: `[N, 2]` outside offers in points, each at least 1, so that every deal allows some welfare.
        payoff: `[C, N, 2]` payoff / own total, of any floating type.
        welfare: One of `WELFARES`.
    """
    earned = np.asarray(payoff)
    best = best_welfare(spec, values, outside, welfare, earned.dtype)
    return (welfare(earned[..., 0], earned[..., 1]) / best).astype(np.float64)


def strata(spec: GameSpec, values: ArrayLike, outside: ArrayLike) -> NDArray[np.int64]:
    """Returns `[N]`, 0 to `LEVELS`² - 1: the cell of each deal in a grid of both seats' outside offers / own totals.

    The bounds of a seat's levels are quantiles of its shares, so that each level has as many deals.
    """
    total = np.asarray(values, dtype=np.int64) @ np.asarray(spec.item_quantities)
    share = np.asarray(outside) / total
    bounds = np.quantile(share, np.arange(1, LEVELS) / LEVELS, axis=0)
    first, second = (np.searchsorted(bounds[:, seat], share[:, seat], side="right") for seat in range(2))
    return first * LEVELS + second


def select(
    welfare: ArrayLike,
    efficiency: ArrayLike,
    strata: ArrayLike,
    *,
    count: int,
    top_k: int,
    temperature: float = 1.0,
    weighted: bool = True,
) -> Selection:
    """Returns the most efficient trajectories of the best cells, in equal shares from all strata.

    Only the `top_k` cells of highest mean welfare take part; on common deals luck does not tell them apart. From each
    stratum the best is taken, then from each the second best, and so on; a stratum that has no more leaves its share to
    the others. Equals are taken by lowest cell, then lowest game.

    Args:
        welfare: `[C, N]` of each trajectory.
        efficiency: `[C, N]` of each trajectory.
        strata: `[N]` int, of each deal.
        count: Trajectories to take; all if there are fewer.
        top_k: Cells that take part; all if there are fewer.
        temperature: Of the weights.
        weighted: Weigh by softmax(efficiency / temperature) over the trajectories taken; else all alike.

    Returns:
        The trajectories, in the order in which they are taken. All others have no weight.

    Raises:
        ValueError: If `count`, `top_k` or `temperature` is not positive.
    """
    if count < 1 or top_k < 1 or not temperature > 0:
        raise ValueError(f"count, top_k and temperature must be positive, got {count}, {top_k} and {temperature}.")
    earned, score = np.asarray(welfare), np.asarray(efficiency)
    cells = np.sort(np.argsort(-earned.mean(axis=1), kind="stable")[:top_k])
    cell, game = (index.ravel() for index in np.meshgrid(cells, np.arange(score.shape[1]), indexing="ij"))
    stratum, ranked = np.asarray(strata)[game], score[cell, game]

    order = np.lexsort((game, cell, -ranked, stratum))
    sorted_strata = stratum[order]
    turn = np.empty(len(order), dtype=np.int64)
    turn[order] = np.arange(len(order)) - np.searchsorted(sorted_strata, sorted_strata)
    taken = np.lexsort((game, cell, -ranked, turn))[:count]

    weight = np.exp((ranked[taken] - ranked[taken].max()) / temperature) if weighted else np.ones(len(taken))
    return Selection(cell[taken], game[taken], weight / weight.sum())


def decisions(spec: GameSpec, values: ArrayLike, outside: ArrayLike, actions: ArrayLike, seat: int) -> Decisions:
    """Returns the decisions of `seat` in recorded games, in the order of turns and, within each, of trajectories.

    The games are played again on an engine, `D` steps of all of them at once, so that observations are those that the
    seat was shown.

    Args:
        spec: The game, with the kind of observation wanted.
        values: `[M, 2, I]` private values in points.
        outside: `[M, 2]` outside offers in points.
        actions: `[M, D]` int, the moves of each game as executed, then -1; see `GameRows`.
        seat: 0 or 1.

    Raises:
        ValueError: If there are no games, or moves are illegal or end before the game does.
    """
    moves = np.asarray(actions, dtype=np.int64)
    deals = {"values": np.asarray(values, dtype=np.int64), "outside": np.asarray(outside, dtype=np.int64)}
    engine = make_engine(spec, len(moves), autoreset=False)
    engine.reset(options=deals)
    parts = []
    for turn in range(spec.max_turns):
        active = np.flatnonzero(moves[:, turn] >= 0)
        if turn % 2 == seat:
            parts.append((engine.observation[active], engine.action_mask[active], moves[active, turn], active))
        engine.step(np.where(moves[:, turn] >= 0, moves[:, turn], spec.walk_action))
        if engine.illegal[active].any():
            raise ValueError(f"recorded moves are illegal in these deals, at turn {turn}.")
    if (engine.actions != moves).any():
        raise ValueError("recorded moves end before the game does, or go on after it.")
    engine.close()
    return Decisions(*(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)))

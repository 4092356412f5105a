"""Mimic regret: what a seat gains when each of its types plays as if it were the type that suits it best.

The payoff is linear in the own type, so the games of one type tell what any other would have earned by playing like it.
That is a deviation which needs no training, and what it earns is never more than the best response earns.

Legend: `G` types to be mimicked, `T` own types, `S` offers, `N` games, `I` item types.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bargain_env.reference import DEAL
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.arena import play
from bargain_eval.exact.types import Types, sample_types
from bargain_eval.game_rows import GameRows
from bargain_eval.policy import Policy

Ends = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""How the games of each mimicked type end: `[G, S]` in a deal on an offer that its seat takes or may refuse, `[G, S]`
in a deal on an offer of its seat's, `[G]` in a walk. Shares of the games, times the discount."""


def mimic_value(
    policies: Sequence[Policy],
    spec: GameSpec,
    seat: int,
    rng: np.random.Generator,
    *,
    models: int = 256,
    games: int = 64,
    types: int = 2048,
) -> float:
    """Returns the mean payoff of `seat` when its types mimic the best of `models` types, an unbiased estimate.

    Two dominated moves are mended on the way: a mimic walks where its model accepts less than the mimic's own outside
    offer, and at the last decision of the game it accepts what is worth at least that. Each type chooses its model on
    one half of the games and is paid by the other. Costs `2 * models * games` games.

    Args:
        policies: The profile; the policy of `seat` is the one mimicked.
        spec: The game.
        seat: The seat that deviates.
        rng: Source of the types, deals and policies' randomness.
        models: Types `G` to choose from.
        games: Games of each model in each half.
        types: Own types `T`.
    """
    grid, own = sample_types(spec, models, rng), sample_types(spec, types, rng)
    choosing, paying = (
        _payoffs(_ends(_games(policies, spec, seat, grid, games, rng), spec, seat, models), spec, seat, own)
        for _ in range(2)
    )
    return float(paying[choosing.argmax(axis=0), np.arange(types)].mean())


def _games(
    policies: Sequence[Policy], spec: GameSpec, seat: int, grid: Types, games: int, rng: np.random.Generator
) -> GameRows:
    """Returns `games` games of each type of `grid` in `seat`, one type after the other."""
    num_games = len(grid) * games
    other, order = sample_types(spec, num_games, rng), rng.permutation(num_games)
    values = np.empty((num_games, 2, spec.num_items), dtype=np.int64)
    outside = np.empty((num_games, 2), dtype=np.int64)
    values[:, seat], outside[:, seat] = np.repeat(grid.values, games, axis=0), np.repeat(grid.outside, games)
    values[:, 1 - seat], outside[:, 1 - seat] = other.values[order], other.outside[order]
    return play(policies, num_games, int(rng.integers(2**63)), spec=spec, deals=(values, outside))


def _ends(rows: GameRows, spec: GameSpec, seat: int, models: int) -> Ends:
    model = np.repeat(np.arange(models), len(rows) // models)
    weight = spec.discount ** ((rows.decisions - 1) // 2).astype(np.float64) * models / len(rows)
    mover, deal = (rows.decisions - 1) % 2, rows.outcome == DEAL
    standing = rows.actions[np.arange(len(rows)), np.maximum(rows.decisions - 2, 0)]
    at_end = ~deal & (rows.decisions == spec.max_turns) & (mover == seat)  # a refusal at the game's last decision
    taken = (deal & (mover == seat)) | at_end
    given = deal & (mover != seat)
    return (
        _table(taken, model, standing, weight, (models, spec.num_offers)),
        _table(given, model, standing, weight, (models, spec.num_offers)),
        np.bincount(model, np.where(taken | given, 0.0, weight), models).astype(np.float64),
    )


def _table(
    chosen: NDArray[np.bool_],
    model: NDArray[np.int64],
    offer: NDArray[np.int16],
    weight: NDArray[np.float64],
    shape: tuple[int, int],
) -> NDArray[np.float64]:
    index = np.ravel_multi_index((model[chosen], offer[chosen].astype(np.int64)), shape)
    return np.bincount(index, weight[chosen], shape[0] * shape[1]).astype(np.float64).reshape(shape)


def _payoffs(ends: Ends, spec: GameSpec, seat: int, own: Types) -> NDArray[np.float64]:
    """Returns what each own type earns by mimicking each model, `[G, T]`."""
    taken, given, walked = ends
    bundles = spec.offers if seat else np.asarray(spec.item_quantities) - spec.offers
    total = own.values @ np.asarray(spec.item_quantities)
    share, outside = bundles @ own.values.T / total, own.outside / total
    payoffs: NDArray[np.float64] = taken @ np.maximum(share, outside) + given @ share + walked[:, None] * outside[None]
    return payoffs

"""Five mistakes that negotiators make, counted per seat over the chances to make them.

Legend: `N` games, 2 seats, `I` item types, `K` offers, `D` decisions.

The classes are those of Smithline, Mascioli, Chakraborty and Wellman (2025). They are conventions about sensible
bargaining, no proofs of irrationality: the TIOLI equilibrium stalls with all-or-nothing offers (M3), and whoever
concedes makes offers that are worse than its own before (M1). Only M4 is dominated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.game_rows import GameRows


class MistakeCount(NamedTuple):
    """How often each seat made a mistake in each game, and how often it could have.

    Attributes:
        made: `[N, 2]` int64.
        chances: `[N, 2]` int64, at least `made`.
    """

    made: NDArray[np.int64]
    chances: NDArray[np.int64]

    def rates(self) -> tuple[float, float]:
        """Returns `made / chances` over all games for seat 0 and seat 1, NaN for a seat that had no chance."""
        made, chances = self.made.sum(axis=0), self.chances.sum(axis=0)
        first, second = np.divide(made, chances, out=np.full(2, np.nan), where=chances > 0).tolist()
        return first, second


def count_mistakes(rows: GameRows, spec: GameSpec) -> dict[str, MistakeCount]:
    """Returns the mistakes of every game by name; values are the mover's own, in points, without any discount.

    `m1_below_own_offer`: an offer worth less to its maker than the maker's offer before; chances: offers by a seat that
    made one before. `m1_below_standing_offer`: an offer worth less to its maker than the offer that it turns down
    (the reading of the study's own instructions); chances: offers made while one stands.
    `m2_offer_below_outside`: an offer worth less to its maker than its outside offer; chances: offers.
    `m3_all_or_nothing`: an offer of everything to one seat; chances: offers.
    `m4_accept_below_outside`: an accept of less than the own outside offer; chances: accepts.
    `m5_walk_from_better`: a walk from an offer worth more than the own outside offer; chances: walks while an offer
    stands. An illegal action counts as the walk that it was executed as.

    A loop over the `D` decisions of the longest game, each a few vector operations on `[N]`.
    """
    own_before = np.full((len(rows), 2), _NONE)  # what each seat's last offer is worth to itself
    on_table = np.full((len(rows), 2), _NONE)  # what the standing offer is worth to each seat
    made = {name: np.zeros((len(rows), 2), dtype=np.int64) for name in _NAMES}
    chances = {name: np.zeros((len(rows), 2), dtype=np.int64) for name in _NAMES}
    for decision in range(rows.actions.shape[1]):
        seat, action = decision % 2, rows.actions[:, decision].astype(np.int64)
        offers = (action >= 0) & (action < spec.num_offers)
        worth = _worth(rows, np.where(offers, action, 0), spec)
        own, before, standing, outside = worth[:, seat], own_before[:, seat], on_table[:, seat], rows.outside[:, seat]
        for name, chance, mistake in (
            ("m1_below_own_offer", offers & (before >= 0), own < before),
            ("m1_below_standing_offer", offers & (standing >= 0), own < standing),
            ("m2_offer_below_outside", offers, own < outside),
            ("m3_all_or_nothing", offers, (action == 0) | (action == spec.num_offers - 1)),
            ("m4_accept_below_outside", action == spec.accept_action, standing < outside),
            ("m5_walk_from_better", (action == spec.walk_action) & (standing >= 0), standing > outside),
        ):
            chances[name][:, seat] += chance
            made[name][:, seat] += chance & mistake
        own_before[offers, seat] = own[offers]
        on_table[offers] = worth[offers]
    return {name: MistakeCount(made[name], chances[name]) for name in _NAMES}


_NONE = -1
_NAMES = (
    "m1_below_own_offer",
    "m1_below_standing_offer",
    "m2_offer_below_outside",
    "m3_all_or_nothing",
    "m4_accept_below_outside",
    "m5_walk_from_better",
)


def _worth(rows: GameRows, offer: NDArray[np.int64], spec: GameSpec) -> NDArray[np.int64]:
    """Returns `[N, 2]`: what the offers `[N]` are worth to each seat, in points."""
    worth: NDArray[np.int64] = np.einsum("nsi,ni->ns", rows.values, spec.offers[offer])
    worth[:, 0] = rows.total[:, 0] - worth[:, 0]
    return worth

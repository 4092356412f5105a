"""What a match leaves behind: one row per game, and the summary of the rows.

Legend: `N` games, 2 seats, `I` item types, `D` = `max_turns` decisions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from bargain_env.reference import DEAL
from numpy.typing import NDArray

Summary = dict[str, float | int | None]


@dataclasses.dataclass(frozen=True)
class GameRows:
    """Every game of a match, in order of game index.

    Attributes:
        game: `[N]` int64, the game's index.
        payoff: `[N, 2]` float64, payoff / own total after any discount: the engine's reward before its rounding.
        points: `[N, 2]` payoff in points: int64 without a discount, float64 with one.
        values: `[N, 2, I]` int64, private values in points.
        outside: `[N, 2]` int64, outside offers in points.
        total: `[N, 2]` int64, own totals in points.
        outcome: `[N]` int8, 1 deal, 2 walk.
        offer: `[N]` int16, the accepted offer, -1 after a walk.
        decisions: `[N]` int8, moves made.
        illegal: `[N, 2]` int64, illegal actions of each seat (each was executed as walk).
        actions: `[N, D]` int16, the moves as executed, then -1.
    """

    game: NDArray[np.int64]
    payoff: NDArray[np.float64]
    points: NDArray[Any]
    values: NDArray[np.int64]
    outside: NDArray[np.int64]
    total: NDArray[np.int64]
    outcome: NDArray[np.int8]
    offer: NDArray[np.int16]
    decisions: NDArray[np.int8]
    illegal: NDArray[np.int64]
    actions: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.game)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Returns the rows of all parts, one after the other."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def summary(self) -> Summary:
        """Returns JSON-ready means with their standard errors (`*_se`; None for a single game).

        `agreement_rate + walk_rate` is exactly 1; a `first_move_walk` is a walk by seat 0 at the first decision;
        `illegal_rate` is illegal actions per decision.
        """
        deal = self.outcome == DEAL
        columns: dict[str, NDArray[Any]] = {
            "payoff_0": self.payoff[:, 0],
            "payoff_1": self.payoff[:, 1],
            "total": self.payoff.sum(axis=1),
            "points_0": self.points[:, 0],
            "points_1": self.points[:, 1],
            "agreement_rate": deal,
            "first_move_walk_rate": ~deal & (self.decisions == 1),
            "mean_decisions": self.decisions,
        }
        result: Summary = {"num_games": len(self)}
        for name, column in columns.items():
            result[name], result[f"{name}_se"] = float(column.mean()), standard_error(column)
        result["walk_rate"] = 1.0 - float(deal.mean())
        result["illegal_rate"] = float(self.illegal.sum() / self.decisions.sum(dtype=np.int64))
        return result

    def to_rows(self) -> list[dict[str, Any]]:
        """Returns one JSON-ready dict per game; `rounds` counts the rounds begun, `offer` is None after a walk."""
        return [
            {
                "game": int(self.game[n]),
                "outcome": "deal" if self.outcome[n] == DEAL else "walk",
                "offer": int(self.offer[n]) if self.outcome[n] == DEAL else None,
                "decisions": int(self.decisions[n]),
                "rounds": (int(self.decisions[n]) + 1) // 2,
                "actions": self.actions[n, : self.decisions[n]].tolist(),
                **{
                    f"{name}_{seat}": getattr(self, name)[n, seat].tolist()
                    for seat in range(2)
                    for name in ("payoff", "points", "values", "outside", "total", "illegal")
                },
            }
            for n in range(len(self))
        ]


@dataclasses.dataclass(frozen=True)
class PairedRows:
    """The same deals played twice with the seats swapped.

    Attributes:
        a_first: The games with policy A in seat 0.
        b_first: The games with policy A in seat 1.
    """

    a_first: GameRows
    b_first: GameRows

    def summary(self) -> Summary:
        """Returns both policies' means over both seats and `difference` (A - B); standard errors cluster by deal."""
        a = (self.a_first.payoff[:, 0] + self.b_first.payoff[:, 1]) / 2
        b = (self.a_first.payoff[:, 1] + self.b_first.payoff[:, 0]) / 2
        agreement = ((self.a_first.outcome == DEAL) + (self.b_first.outcome == DEAL).astype(np.float64)) / 2
        columns = {"payoff_a": a, "payoff_b": b, "total": a + b, "difference": a - b, "agreement_rate": agreement}
        result: Summary = {"num_deals": len(self.a_first)}
        for name, column in columns.items():
            result[name], result[f"{name}_se"] = float(column.mean()), standard_error(column)
        return result


def standard_error(sample: NDArray[Any]) -> float | None:
    """Returns the standard error of the mean of `sample` `[N]`, None for a single number."""
    return float(np.std(sample, ddof=1) / math.sqrt(len(sample))) if len(sample) > 1 else None

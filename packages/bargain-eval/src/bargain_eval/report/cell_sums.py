"""What the games of every cell of a cross-play say beyond the payoffs.

Legend: `n` policies, `D` bins of game length: 1, 2, ... decisions.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from bargain_env.reference import DEAL
from numpy.typing import NDArray

from bargain_eval.crossplay import Crossplay
from bargain_eval.measures import DealFacts, game_measures

MAX_BINS = 24
"""Longer games than this many decisions are counted in the last bin."""
MEASURES = ("utilitarian", "egalitarian", "agreement", "nash", "nash_plus", "pareto", "missed", "ef1")
"""The measures of `bargain_eval.measures.game_measures` that the report shows."""


@dataclasses.dataclass(frozen=True)
class CellSums:
    """Means over the games of each cell, NaN where a pair was never played.

    Attributes:
        mean: `[n, n]` by measure.
        error: `[n, n]` by measure, the standard errors.
        endings: `[n, n, 2, D]` numbers of deals and of walks by decisions.
    """

    mean: dict[str, NDArray[np.float64]]
    error: dict[str, NDArray[np.float64]]
    endings: NDArray[np.int64]


def cell_sums(matrix: Crossplay, facts: DealFacts) -> CellSums:
    """Goes once through the games of all cells, whose deals `facts` describe; a few milliseconds for 10,000 games."""
    size = len(matrix.names)
    bins = min(matrix.spec.max_turns, MAX_BINS)
    mean, error = np.full((2, len(MEASURES), size, size), np.nan)
    endings = np.zeros((size, size, 2, bins), dtype=np.int64)
    for i, j in np.argwhere(matrix.table.count > 0).tolist():
        rows = matrix.cell(i, j)
        measures = game_measures(rows, matrix.spec, facts)
        mean[:, i, j] = [measures[name].mean() for name in MEASURES]
        error[:, i, j] = [measures[name].standard_error() for name in MEASURES]
        length = np.minimum(rows.decisions, bins) - 1
        for kind, these in enumerate((rows.outcome == DEAL, rows.outcome != DEAL)):
            endings[i, j, kind] = np.bincount(length[these], minlength=bins)
    named = [dict(zip(MEASURES, array, strict=True)) for array in (mean, error)]
    return CellSums(named[0], named[1], endings)

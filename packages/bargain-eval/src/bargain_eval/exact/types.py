"""Private types of a seat: the whole list of a small game, or a sample of evenly spread ones.

Legend: `N` types, `I` item types.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from bargain_env.spec import OUTSIDE_UNITS, GameSpec
from numpy.typing import NDArray

_SOBOL_BITS = 53  # as many as a float64 holds, so that every value is drawn with its probability to 2**-53


@dataclasses.dataclass(frozen=True)
class Types:
    """Types of one seat with their probabilities.

    Attributes:
        values: `[N, I]` int64, points a unit.
        outside: `[N]` int64, points.
        weight: `[N]` float64, with sum 1.
    """

    values: NDArray[np.int64]
    outside: NDArray[np.int64]
    weight: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.outside)


def sample_types(spec: GameSpec, count: int, rng: np.random.Generator) -> Types:
    """Returns `count` types of equal weight, evenly spread (a scrambled Sobol sequence, Owen 1998).

    Each type alone has exactly the law of the deals, so means over the sample are unbiased; taken together they vary
    far less than independent draws. Different states of `rng` give independent samples.
    """
    values, outside = deal_points(spec, _even_points(count, spec.num_items + 1, rng))
    return Types(values, outside, np.full(count, 1.0 / count))


def sample_deals(spec: GameSpec, count: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns `count` evenly spread deals, values `[N, 2, I]` and outside offers `[N, 2]`; see `sample_types`."""
    points = _even_points(count, 2 * (spec.num_items + 1), rng).reshape(2 * count, -1)
    values, outside = deal_points(spec, points)
    return values.reshape(count, 2, -1), outside.reshape(count, 2)


def _even_points(count: int, dimensions: int, rng: np.random.Generator) -> NDArray[np.float64]:
    from scipy.stats import qmc

    sobol = qmc.Sobol(dimensions, scramble=True, bits=_SOBOL_BITS, rng=rng)
    points: NDArray[np.float64] = sobol.random_base2(max(0, math.ceil(math.log2(count))))[:count]
    return points


def deal_points(spec: GameSpec, points: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the values `[N, I]` and outside offers `[N]` that points `[N, I + 1]` of the unit cube stand for."""
    width = spec.max_value - spec.min_value + 1
    values = spec.min_value + np.floor(points[:, :-1] * width).astype(np.int64)
    low, high = outside_limits(spec, values @ np.asarray(spec.item_quantities))
    return values, low + np.floor(points[:, -1] * (high - low + 1)).astype(np.int64)


def outside_limits(spec: GameSpec, total: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the smallest and the largest outside offer `[...]` for own totals `[...]`, in points."""
    low_units, high_units = spec.outside_units
    low = np.maximum(1, -(-low_units * total // OUTSIDE_UNITS))
    high = np.maximum(1, high_units * total // OUTSIDE_UNITS)
    return low, np.maximum(low, high)

"""The payoff table of a meta-game: what each pair of policies earns, and how well that is known.

Legend: `M` policies of seat 0 (rows), `N` policies of seat 1 (columns), 2 seats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclasses.dataclass(frozen=True)
class PayoffTable:
    """A bimatrix of mean payoffs; the seats are not interchangeable, so the rows and the columns may differ.

    Attributes:
        rows: Names of the policies in seat 0, distinct.
        columns: Names of the policies in seat 1, distinct.
        mean: `[M, N, 2]` float64, the mean payoff of seat 0 and of seat 1; NaN where a pair was never played.
        standard_error: `[M, N, 2]` float64, of these means; NaN where unknown.
        count: `[M, N]` int64, games behind each mean.

    Raises:
        ValueError: If a shape does not fit the names, or a name stands twice.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    mean: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    count: NDArray[np.int64]

    def __post_init__(self) -> None:
        shape = len(self.rows), len(self.columns)
        for names in (self.rows, self.columns):
            if len(set(names)) < len(names):
                raise ValueError(f"the names of a payoff table must be distinct, got {', '.join(names)}.")
        for name, wanted in (("mean", (*shape, 2)), ("standard_error", (*shape, 2)), ("count", shape)):
            if getattr(self, name).shape != wanted:
                raise ValueError(f"{name} must have shape {wanted}, got {getattr(self, name).shape}.")

    @classmethod
    def of_means(cls, mean: ArrayLike, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Self:
        """Returns the table of exactly known payoffs `[M, N, 2]`; policies without names are numbered."""
        payoffs = np.asarray(mean, dtype=np.float64)
        if payoffs.ndim != 3 or payoffs.shape[2] != 2:
            raise ValueError(f"payoffs must have shape [M, N, 2], got {payoffs.shape}.")
        named = [
            tuple(names) or tuple(map(str, range(size)))
            for names, size in zip((rows, columns), payoffs.shape[:2], strict=True)
        ]
        count = np.ones(payoffs.shape[:2], dtype=np.int64)
        return cls(named[0], named[1], payoffs, np.zeros_like(payoffs), count)

    @property
    def is_complete(self) -> bool:
        """True if every pair was played."""
        return bool(np.isfinite(self.mean).all())

    @property
    def is_square(self) -> bool:
        """True if both seats have the same policies, in the same order."""
        return self.rows == self.columns

    def complete(self) -> NDArray[np.float64]:
        """Returns `mean`.

        Raises:
            ValueError: If a pair was never played; nothing is ever imputed.
        """
        missing = np.argwhere(~np.isfinite(self.mean).all(axis=2))
        if len(missing):
            row, column = missing[0]
            raise ValueError(
                f"{len(missing)} pairs of the payoff table were never played, the first is "
                f"{self.rows[row]} against {self.columns[column]}."
            )
        return self.mean

    def symmetrised(self) -> NDArray[np.float64]:
        """Returns `[N, N]`: entry (i, j) is what policy i earns against j, averaged over both seatings.

        Raises:
            ValueError: If the seats have different policies, or a pair was never played.
        """
        if not self.is_square:
            raise ValueError("a symmetrised view needs the same policies in both seats.")
        mean = self.complete()
        return (mean[:, :, 0] + mean[:, :, 1].T) / 2

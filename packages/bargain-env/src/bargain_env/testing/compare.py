"""Bit-for-bit comparison of named arrays, with a message that says where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def assert_equal(got: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], when: str) -> None:
    """Compares every array bit for bit; the first dimension counts rows.

    Raises:
        AssertionError: At the first difference, with `when`, its name, row and place.
    """
    if got.keys() != expected.keys():
        raise AssertionError(f"{when}: they show different arrays, {sorted(got.keys() ^ expected.keys())}.")
    for name, array in expected.items():
        other = got[name]
        if other.shape != array.shape or other.dtype != array.dtype:
            raise AssertionError(
                f"{when}: {name} is {other.dtype} {other.shape}, expected {array.dtype} {array.shape}."
            )
        where = first_difference(other, array)
        if where is not None:
            found = f"{name}{list(where)} is {other[where]}, expected {array[where]}"
            raise AssertionError(f"row {where[0]} {when}: {found}.")


def first_difference(got: NDArray[Any], expected: NDArray[Any]) -> tuple[int, ...] | None:
    """Returns the first place where two arrays of one shape and dtype differ in a bit, or None."""
    if got.tobytes() == expected.tobytes():
        return None
    return tuple(int(axis[0]) for axis in np.nonzero(_bits(got) != _bits(expected)))


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")

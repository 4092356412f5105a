"""Philox4x32-10 against the known answers that its authors publish (Random123, file kat_vectors)."""

from __future__ import annotations

import numpy as np
import pytest
from bargain_env import _cpu
from bargain_env.reference import philox4x32

KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: str, key: str, expected: str) -> None:
    assert list(philox4x32(_words(counter), _words(key))) == _words(expected)
    assert _cpu.philox4x32(_words(counter), _words(key)) == _words(expected)


def test_python_and_cpp_agree_on_random_blocks() -> None:
    for row in np.random.default_rng(0).integers(2**32, size=(500, 6)).tolist():
        assert list(philox4x32(row[:4], row[4:])) == _cpu.philox4x32(row[:4], row[4:])

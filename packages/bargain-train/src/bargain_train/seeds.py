"""Independent seeds for the random streams of a run, all from the one seed that the user gives."""

from __future__ import annotations

import numpy as np


def derive_seed(seed: int, stream: str) -> int:
    """Returns the 64-bit seed of the named stream; different names and different seeds give unrelated numbers."""
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(stream.encode()))
    return int(sequence.generate_state(1, np.uint64)[0])

"""The observations of decisions, written from types and offers without an engine, bit for bit the engine's.

Legend: `B` rows, `I` item types, `A` actions, `O` observation features.
"""

from __future__ import annotations

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.exact.game import legal_mask


def decision_views(
    spec: GameSpec,
    values: NDArray[np.int64],
    outside: NDArray[np.int64],
    decision: int,
    offers: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns what the seat to move sees.

    Args:
        spec: The game and the kind of observation.
        values: `[B, I]` the mover's values, in points.
        outside: `[B]` its outside offers, in points.
        decision: The number of the decision, from 0, the same in every row.
        offers: `[B, n]` the offers made so far, in order. A standing observation needs only the last one.

    Returns:
        Observations `[B, O]` float32 and masks `[B, A]` bool.

    Raises:
        ValueError: If `offers` has fewer columns than the observation shows.
    """
    needed = decision if spec.observation == "history" else min(decision, 1)
    if offers.shape[1] < needed:
        raise ValueError(f"decision {decision} shows {needed} offers, got {offers.shape[1]}.")
    quantities = np.asarray(spec.item_quantities)
    seat = decision % 2
    received = spec.offers if seat else quantities - spec.offers
    fractions = received.astype(np.float32) / quantities.astype(np.float32)
    legal = legal_mask(spec, decision)
    rounds = np.float32(decision // 2) / np.float32(max(spec.max_rounds - 1, 1))

    obs = np.zeros((len(values), spec.observation_dim), dtype=np.float32)
    obs[:, spec.slices["values"]] = values.astype(np.float32) / np.float32(spec.max_value)
    obs[:, spec.slices["outside"].start] = outside.astype(np.float32) / (values @ quantities).astype(np.float32)
    obs[:, spec.slices["offer"]] = fractions[offers[:, -1]] if decision else -1.0
    obs[:, spec.slices["state"]] = np.array([decision > 0, rounds, seat], dtype=np.float32)
    obs[:, spec.slices["mask"]] = legal
    if spec.observation == "history":
        history = obs[:, spec.slices["history"]]
        history[:] = -1.0
        history[:, : decision * spec.num_items] = fractions[offers].reshape(len(values), -1)
    return obs, np.broadcast_to(legal, (len(values), spec.num_actions)).copy()

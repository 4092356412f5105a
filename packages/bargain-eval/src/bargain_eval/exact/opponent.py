"""What a frozen policy of the standing observation does, as tables over its types and the offers it may face.

Legend: `N` types, `S` standing offers (one, "none", at the first decision), `A` actions.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.exact.profile import checked_probs
from bargain_eval.exact.types import Types, sample_types
from bargain_eval.exact.views import decision_views
from bargain_eval.mixture import Mixture
from bargain_eval.policy import HasMemory, HasProbabilities, Policy, to_numpy

_ROWS = 16_384  # rows shown to the policy at once
_SMALLEST_SHARE = 64  # types of a mixture's rarest member


@dataclasses.dataclass(frozen=True)
class OpponentTables:
    """The behaviour of one seat at each of its decisions.

    Attributes:
        weight: `[N]` float32, probability of each type; of a mixture, a type includes the member drawn.
        probs: `[N, S, A]` float32 for each decision of the seat, counted over both seats from 0.
    """

    weight: NDArray[np.float32]
    probs: dict[int, NDArray[np.float32]]


def tabulate_sample(policy: Policy, spec: GameSpec, seat: int, count: int, rng: np.random.Generator) -> OpponentTables:
    """Returns the tables of `policy` in `seat` on about `count` sampled types.

    A `Mixture` gets types of its own for each member, as many as its weight asks for, so that what a member does in
    one decision tells which member it is. Costs one query per type, standing offer and decision of the seat.

    Raises:
        ValueError: If the policy reads the history or does not tell its probabilities.
    """
    if isinstance(policy, Mixture):
        sizes = [max(_SMALLEST_SHARE, math.ceil(share * count)) for share in policy.weights.tolist()]
        parts = [
            tabulate_sample(member, spec, seat, size, rng) for member, size in zip(policy.policies, sizes, strict=True)
        ]
        return _joined(parts, policy)
    return tabulate(policy, spec, seat, sample_types(spec, count, rng))


def tabulate(policy: Policy, spec: GameSpec, seat: int, types: Types) -> OpponentTables:
    """Returns the tables of `policy` in `seat` on the given `types`, which are those of each member of a mixture.

    Raises:
        ValueError: As `tabulate_sample` does.
    """
    if isinstance(policy, Mixture):
        return _joined([tabulate(member, spec, seat, types) for member in policy.policies], policy)
    if (why := why_untabulated(policy)) is not None:
        raise ValueError(f"the policy {type(policy).__name__} has no tables: {why}.")
    assert isinstance(policy, HasProbabilities)
    probs = {}
    for decision in range(seat, spec.max_turns, 2):
        offers = np.arange(spec.num_offers)[:, None] if decision else np.zeros((1, 0), dtype=np.int64)
        table = np.empty((len(types) * len(offers), spec.num_actions), dtype=np.float32)
        for first in range(0, len(table), _ROWS):
            row, offer = np.divmod(np.arange(first, min(first + _ROWS, len(table))), len(offers))
            views = decision_views(spec, types.values[row], types.outside[row], decision, offers[offer])
            told = checked_probs(type(policy).__name__, to_numpy(policy.action_probs(*views)), views[1])
            table[first : first + _ROWS] = told / told.sum(axis=1, keepdims=True)
        probs[decision] = table.reshape(len(types), len(offers), -1)
    return OpponentTables(types.weight.astype(np.float32), probs)


def why_untabulated(policy: Policy) -> str | None:
    """Returns why `policy` has no tables, None if it has; of a mixture, why its first such member has none."""
    if isinstance(policy, Mixture):
        return next((why for member in policy.policies if (why := why_untabulated(member))), None)
    if policy.observation != "standing":
        return "it reads the history"
    if isinstance(policy, HasMemory):
        return "it remembers its games"
    return None if isinstance(policy, HasProbabilities) else "it does not tell its action probabilities"


def _joined(parts: list[OpponentTables], mixture: Mixture) -> OpponentTables:
    shares = mixture.weights.astype(np.float32)
    weight = np.concatenate([part.weight * share for part, share in zip(parts, shares, strict=True)])
    probs = {turn: np.concatenate([part.probs[turn] for part in parts]) for turn in parts[0].probs}
    return OpponentTables(weight, probs)

"""A policy that a response is held close to while it learns.

Ex2PSRO (Nguyen, Gu and Wellman 2025): a response maximises J(policy) - weight * KL(guide || policy).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from bargain_train.networks import Network

MIN_COEF, MAX_COEF = 1e-4, 10.0
"""The bounds of a coefficient that adapts."""


class Guide:
    """The guide of one response, with the weight of the divergence from it; the next response gets a new one.

    The weight is `factor * coef`. If it adapts, then after each update, with the mean KL of the last `horizon` updates
    (of all, if they are fewer): `coef` is multiplied by 1.5 if that exceeds twice the target, by 0.5 if it is below
    half of it, and kept within `MIN_COEF` and `MAX_COEF`.

    Args:
        network: What plays as the guide does; it is not changed, and must be none that learns.
        coef: The coefficient at the start, above 0.
        target: The KL in nats that an adaptive coefficient aims at, above 0.
        adaptive: Let the coefficient adapt.
        horizon: Updates that it looks back on, at least 1.
        factor: What annealing leaves of the coefficient, 0 to 1.

    Attributes:
        coef: The coefficient now.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        network: Network,
        coef: float,
        *,
        target: float = 0.01,
        adaptive: bool = True,
        horizon: int = 10,
        factor: float = 1.0,
    ) -> None:
        if not (coef > 0 and target > 0 and horizon >= 1 and 0 <= factor <= 1):
            raise ValueError(
                "a guide needs a positive coefficient, target and horizon, and a factor from 0 to 1; "
                f"got {coef}, {target}, {horizon} and {factor}."
            )
        self.network = network
        self.coef = coef
        self.factor = factor
        self._target = target
        self._adaptive = adaptive
        self._recent: deque[float] = deque(maxlen=horizon)

    @property
    def weight(self) -> float:
        """What the divergence is multiplied by in the loss."""
        return self.factor * self.coef

    def adapt(self, kl: float) -> None:
        """Takes note of the mean KL of an update, and sets the coefficient of the next."""
        if not self._adaptive:
            return
        self._recent.append(kl)
        mean = sum(self._recent) / len(self._recent)
        if mean > 2 * self._target:
            self.coef *= 1.5
        elif mean < self._target / 2:
            self.coef *= 0.5
        self.coef = min(max(self.coef, MIN_COEF), MAX_COEF)

    def state_dict(self) -> dict[str, Any]:
        """Returns the coefficient and what it adapts to; the network is not part of it."""
        return {"coef": self.coef, "recent": list(self._recent)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self.coef = state["coef"]
        self._recent.clear()
        self._recent.extend(state["recent"])

"""The game as pure functions of tensors: what each ending pays, and what a seat sees after any sequence of offers.

All rows stand at one decision, numbered from 0 over both seats, so legality and round are the same in every row.

Legend: `R` rows, `I` item types, `K` offers, `A` actions, `O` observation features, `d` offers made so far.
"""

from __future__ import annotations

import torch
from bargain_env.spec import GameSpec, ObservationKind


class Rules:
    """The rules of `spec` on a device.

    Args:
        spec: The game; its observation kind does not matter.
        device: Where the tensors are.

    Attributes:
        received: `[2, K, I]` int64, the units that each seat receives under each offer.
        last_turn: The number of the last decision.
    """

    def __init__(self, spec: GameSpec, device: str = "cpu") -> None:
        self.spec = spec
        self.device = device
        self.last_turn = spec.max_turns - 1
        self.quantities = torch.tensor(spec.item_quantities, device=device)
        offers = torch.tensor(spec.offers, device=device)
        self.received = torch.stack([self.quantities - offers, offers])
        self._fractions = self.received.float() / self.quantities.float()

    def last_own(self, seat: int) -> int:
        """Returns the number of the last decision of `seat`."""
        return self.last_turn - 1 + seat

    def legal(self, decision: int) -> torch.Tensor:
        """Returns `[A]` bool, the legal actions of a decision."""
        mask = torch.ones(self.spec.num_actions, dtype=torch.bool, device=self.device)
        mask[: self.spec.num_offers] = decision < self.last_turn
        mask[self.spec.accept_action] = decision > 0
        return mask

    def discount(self, decision: int) -> float:
        """Returns the factor on payoffs of a game that ends with this decision."""
        return float(self.spec.discount ** (decision // 2))

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the own totals `[...]` of values `[..., I]`, in points."""
        return (values * self.quantities).sum(-1)

    def points(self, values: torch.Tensor, seat: int) -> torch.Tensor:
        """Returns what each offer is worth to a seat with the values `[..., I]`: `[..., K]` int64 points."""
        return (values[..., None, :] * self.received[seat]).sum(-1)

    def shares(self, values: torch.Tensor, seat: int) -> torch.Tensor:
        """Returns `points` as shares of the own total, `[..., K]` float32."""
        return (self.points(values, seat).double() / self.total(values)[..., None]).float()

    def walks(self, values: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
        """Returns outside offers `[...]` as shares of the own totals, float32."""
        return (outside.double() / self.total(values)).float()

    def view(
        self,
        values: torch.Tensor,
        outside: torch.Tensor,
        decision: int,
        offers: torch.Tensor,
        kind: ObservationKind,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns what the seat to move sees, bit for bit what an engine shows it.

        Args:
            values: `[R, I]` int64, the mover's values in points.
            outside: `[R]` int64, its outside offers in points.
            decision: The decision `d`.
            offers: `[R, d]` int64, the offers made so far.
            kind: The observation to write.

        Returns:
            Observations `[R, O]` float32 and masks `[R, A]` bool.
        """
        spec, seat, rows = self.spec.with_observation(kind), decision % 2, len(values)
        legal = self.legal(decision)
        shown = self._fractions[seat][offers]
        obs = torch.zeros(rows, spec.observation_dim, device=self.device)
        obs[:, spec.slices["values"]] = values.float() / spec.max_value
        obs[:, spec.slices["outside"].start] = outside.float() / self.total(values).float()
        obs[:, spec.slices["offer"]] = shown[:, -1] if decision else -1.0
        obs[:, spec.slices["state"]] = torch.tensor(
            [float(decision > 0), (decision // 2) / max(spec.max_rounds - 1, 1), float(seat)], device=self.device
        )
        obs[:, spec.slices["mask"]] = legal.float()
        if kind == "history":
            history = obs[:, spec.slices["history"]]
            history[:] = -1.0
            history[:, : decision * spec.num_items] = shown.flatten(1)
        return obs, legal.expand(rows, -1)

    def offers_made(self, obs: torch.Tensor, decision: int) -> torch.Tensor:
        """Returns `[R, decision]` int64, the offers that history observations `[R, O]` of a decision show."""
        spec = self.spec.with_observation("history")
        history = obs[:, spec.slices["history"]].reshape(len(obs), -1, spec.num_items)[:, :decision]
        received = torch.round(history * self.quantities).long()
        given = received if decision % 2 else self.quantities - received
        index = torch.zeros(given.shape[:2], dtype=torch.int64, device=obs.device)
        for item, quantity in enumerate(spec.item_quantities):
            index = index * (quantity + 1) + given[:, :, item]
        return index

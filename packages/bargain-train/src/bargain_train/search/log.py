"""What the searches of a policy were like: how fast, how sure of the other seat's hand, and what they promised."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch


@dataclasses.dataclass
class DecisionLog:
    """Sums over the searches from one decision of the game.

    Attributes:
        searches: Their number.
        simulations: Simulations spent.
        root_value: The searcher's expected payoff, summed.
        effective_hands: Effective sample size of the belief as a share of its hands, summed.
    """

    searches: int = 0
    simulations: int = 0
    root_value: float = 0.0
    effective_hands: float = 0.0


@dataclasses.dataclass
class SearchLog:
    """Sums over all searches.

    Attributes:
        seconds: Time spent searching.
        decisions: By number of the decision, over both seats from 0.
    """

    seconds: float = 0.0
    decisions: dict[int, DecisionLog] = dataclasses.field(default_factory=dict)

    def add(
        self, decision: int, value: torch.Tensor, visits: torch.Tensor, effective: torch.Tensor, seconds: float
    ) -> None:
        """Adds searches `R` from one decision.

        Args:
            decision: Its number.
            value: `[R, 2]` expected payoffs, the searcher's first.
            visits: `[R, K]` simulations spent on each offer.
            effective: `[R]` effective sample sizes of the beliefs, as shares of their hands.
            seconds: Time they took.
        """
        sums = self.decisions.setdefault(decision, DecisionLog())
        sums.searches += len(value)
        sums.simulations += int(visits.sum())
        sums.root_value += float(value[:, 0].double().sum())
        sums.effective_hands += float(effective.double().sum())
        self.seconds += seconds

    def to_dict(self) -> dict[str, Any]:
        """Returns means by decision, and simulations a second; JSON-ready."""
        simulations = sum(sums.simulations for sums in self.decisions.values())
        return {
            "seconds": self.seconds,
            "simulations": simulations,
            "simulations_per_second": simulations / self.seconds if self.seconds else None,
            "decisions": {
                number: {
                    "searches": sums.searches,
                    "root_value": sums.root_value / sums.searches,
                    "effective_hands": sums.effective_hands / sums.searches,
                }
                for number, sums in sorted(self.decisions.items())
            },
        }

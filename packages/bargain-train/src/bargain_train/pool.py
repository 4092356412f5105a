"""Frozen networks of which one plays each game.

Legend: `B` rows, `A` actions, `O` features, `K` members.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bargain_train.actors import action_probs, sample_cdf
from bargain_train.networks import Network


class Pool:
    """Opponents for training: whoever holds the pool draws a member for each game and keeps it to the game's end.

    Args:
        members: Networks, and their probabilities up to a factor; those of probability 0 are left out.

    Attributes:
        networks: The `K` members.

    Raises:
        ValueError: If no member has a positive probability.
    """

    def __init__(self, members: Sequence[tuple[Network, float]]) -> None:
        played = [(network, weight) for network, weight in members if weight > 0]
        if not played:
            raise ValueError("a pool needs a member of positive probability.")
        self.networks = [network for network, _ in played]
        weights = torch.tensor([weight for _, weight in played])
        self._weights = weights / weights.sum()

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Returns `[count]` int64 members, on the generator's device."""
        return sample_cdf(self._weights.to(generator.device).expand(count, -1), generator)

    @torch.no_grad()
    def act(
        self, members: torch.Tensor, observation: torch.Tensor, mask: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Returns `[B]` int64 actions, each drawn from its own member; one forward pass per member that plays.

        Args:
            members: `[B]` int64.
            observation: `[B, O]` float32; standing members read the prefix of history rows.
            mask: `[B, A]` bool.
            generator: Draws the actions.
        """
        probs = torch.zeros(mask.shape, device=mask.device)
        for number, network in enumerate(self.networks):
            rows = (members == number).nonzero().squeeze(-1)
            if len(rows):
                legal = mask[rows]
                probs[rows] = action_probs(network, network(observation[rows])[0], legal)
        return sample_cdf(probs, generator)

"""Which offer to try next: UCT, PUCT, and the Gumbel root with sequential halving.

Payoffs lie in [0, 1], so nothing is rescaled: rescaling by the smallest and largest value seen would turn noise into
certainty where few offers have been tried.

Legend: `R` rows, `K` offers, `n` simulations.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import torch

Rule = Literal["uct", "puct", "gumbel"]

_UNTRIED = 1e6  # above every score of an offer that was tried
_TIE = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """The rule and its numbers.

    Attributes:
        rule: "uct" (Kocsis and Szepesvári 2006), "puct" (Rosin 2011, as in AlphaZero) or "gumbel" (Danihelka et al.
            2022) at the root and PUCT below.
        c_uct: Weight of the exploration of UCT.
        c_puct: Weight of the exploration of PUCT.
        considered: Offers that the Gumbel root considers.
        gumbel_scale: Size of the Gumbel noise at the root; 0 makes it deterministic.
        c_visit: Added to the visits in the weight of values against priors, with the Gumbel rule.
        c_scale: Factor on that weight.

    Raises:
        ValueError: If a number is out of range.
    """

    rule: Rule = "puct"
    c_uct: float = 0.5
    c_puct: float = 1.5
    considered: int = 16
    gumbel_scale: float = 1.0
    c_visit: float = 50.0
    c_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.considered < 1:
            raise ValueError(f"considered must be at least 1, got {self.considered}.")
        for name in ("c_uct", "c_puct", "gumbel_scale", "c_visit", "c_scale"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}.")


def scores(
    options: SelectionOptions, visits: torch.Tensor, means: torch.Tensor, prior: torch.Tensor, value: torch.Tensor
) -> torch.Tensor:
    """Returns `[R, K]`: how much each offer of a node deserves the next simulation, below the root of any rule.

    Args:
        options: The rule.
        visits: `[R, K]` how often each offer was tried.
        means: `[R, K]` the mean payoff of each offer, anything where it was never tried.
        prior: `[R, K]` the probabilities of the offers, with sum 1.
        value: `[R]` the node's own evaluation, which stands for offers never tried.
    """
    total = visits.sum(1, keepdim=True)
    known = torch.where(visits > 0, means, value[:, None])
    if options.rule == "uct":
        bonus = options.c_uct * torch.sqrt(2 * torch.log(total.clamp_min(1)) / visits.clamp_min(1))
        return torch.where(visits > 0, known + bonus, _UNTRIED + prior)
    return known + options.c_puct * prior * torch.sqrt(total.clamp_min(1)) / (1 + visits)


def completed(visits: torch.Tensor, means: torch.Tensor, prior: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Returns `[R, K]` mean payoffs, those never tried replaced by the mixed value estimate (ibid. equation 33)."""
    tried = visits > 0
    weight = torch.where(tried, prior.clamp_min(1e-9), 0.0)
    mean = (weight * torch.where(tried, means, 0.0)).sum(1) / weight.sum(1).clamp_min(1e-9)
    total = visits.sum(1)
    mixed = (value + total * mean) / (1 + total)
    return torch.where(tried, means, mixed[:, None])


def _value_weight(options: SelectionOptions, visits: torch.Tensor) -> torch.Tensor:
    return (options.c_visit + visits.amax(1, keepdim=True)) * options.c_scale


class Root:
    """Chooses at the root, where the Gumbel rule halves a set of candidates.

    Args:
        options: The rule.
        prior: `[R, K]` the probabilities of the offers, with sum 1.
        num_simulations: The budget `n`.
        generator: Source of the Gumbel noise and of the order of ties.
    """

    def __init__(
        self, options: SelectionOptions, prior: torch.Tensor, num_simulations: int, generator: torch.Generator
    ) -> None:
        self._options, self._prior = options, prior
        draws = torch.rand(prior.shape, generator=generator, device=prior.device)
        self._order = draws * _TIE
        noise = -torch.log(-torch.log(draws.double().clamp(1e-12, 1 - 1e-12))).float()
        self._logits = prior.clamp_min(1e-9).log() + options.gumbel_scale * noise
        self._visits_wanted = halving(min(options.considered, prior.shape[1]), num_simulations)

    def choose(self, simulation: int, visits: torch.Tensor, means: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Returns the offers `[R]` that this simulation tries; see `scores` for the arguments."""
        if self._options.rule != "gumbel":
            return (scores(self._options, visits, means, self._prior, value) + self._order).argmax(1)
        wanted = visits == self._visits_wanted[simulation]
        return torch.where(wanted, self._gumbel(visits, means, value), -torch.inf).argmax(1)

    def best(self, visits: torch.Tensor, means: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Returns the offers `[R]` to play: the most visited ones, among equals the best."""
        most = visits == visits.amax(1, keepdim=True)
        rank = self._gumbel(visits, means, value) if self._options.rule == "gumbel" else means + self._order
        return torch.where(most, rank, -torch.inf).argmax(1)

    def _gumbel(self, visits: torch.Tensor, means: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        values = completed(visits, means, self._prior, value)
        return self._logits + _value_weight(self._options, visits) * values


def halving(considered: int, num_simulations: int) -> list[int]:
    """Returns the visits that the offer to try must have had, for each simulation (sequential halving).

    The candidates are halved until two are left, and every phase spends about as many simulations (Karnin et al. 2013,
    as in Danihelka et al. 2022, algorithm 2).
    """
    if considered <= 1:
        return list(range(num_simulations))
    phases = math.ceil(math.log2(considered))
    visits, wanted, left = [0] * considered, list[int](), considered
    while len(wanted) < num_simulations:
        for _ in range(max(1, num_simulations // (phases * left))):
            wanted += visits[:left]
            visits[:left] = [count + 1 for count in visits[:left]]
        left = max(2, left // 2)
    return wanted[:num_simulations]

"""What the searcher believes of the other seat's hand: weighted hands, and how the moves made change the weights.

Own moves and the own hand say nothing about the other seat's hand, because hands are independent. So the belief is the
prior times the probability of the other seat's moves (Bayes).

Legend: `R` rows, `H` distinct histories, `N` hands (particles), `I` item types, `M` policies the opponent may be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from bargain_env.spec import GameSpec
from bargain_eval.exact.game import tabular_game
from bargain_eval.exact.types import deal_points, outside_limits, sample_types
from numpy.typing import NDArray

from bargain_train.search.opponent import AskedOpponent, Hands, Opponent

_SMALLEST = 1e-30  # a likelihood of 0 counts as this, so that weights stay finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeliefOptions:
    """How moves change the weights of hands.

    Attributes:
        particles: Hands sampled from the prior; a game with no more hands than that is enumerated instead.
        rejuvenated: Hands of a row whose sample has worn out; they are asked for one by one, so they are few.
        floor: Share of uniformly random moves mixed into the opponent model when it judges moves made, so that no move
            is impossible.
        temper: Power of the likelihood, below 1 for a model that is trusted less.
        least_ess: Below this share of effective hands a row's sample is worn out and rejuvenated; 0 never does.

    Raises:
        ValueError: If a number is out of range.
    """

    particles: int = 1024
    rejuvenated: int = 64
    floor: float = 0.02
    temper: float = 1.0
    least_ess: float = 0.02

    def __post_init__(self) -> None:
        if min(self.particles, self.rejuvenated) < 1:
            raise ValueError(f"a belief needs particles, got {self.particles} and {self.rejuvenated} rejuvenated.")
        shares = {"floor": self.floor, "temper": self.temper, "least_ess": self.least_ess}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {share}.")


def prior_hands(
    spec: GameSpec,
    particles: int,
    shares: Sequence[float],
    rng: np.random.Generator,
    device: str = "cpu",
) -> Hands:
    """Returns the hands of the deals, one set for all rows, with their probabilities.

    A game with at most `particles` hands is enumerated, so that the belief is exact; else `particles` evenly spread
    ones are sampled. An opponent that may be several policies gets hands for each.

    Args:
        spec: The game.
        particles: The number `N` of hands, of each policy.
        shares: `[M]`, the probability of each policy the opponent may be.
        rng: Source of the sample.
        device: Where the tensors are put.
    """
    values, outside, weight = _all_hands(spec, particles) or _sample(spec, particles, rng)
    count, members = len(weight), len(shares)
    weights = np.concatenate([weight * share for share in shares])
    return Hands(
        values=torch.tensor(np.tile(values, (members, 1)), device=device)[None],
        outside=torch.tensor(np.tile(outside, members), device=device)[None],
        member=torch.arange(members, device=device).repeat_interleave(count)[None],
        weight=torch.tensor(weights / weights.sum(), dtype=torch.float32, device=device)[None],
    )


_Sample = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def _all_hands(spec: GameSpec, most: int) -> _Sample | None:
    if (spec.max_value - spec.min_value + 1) ** spec.num_items > most:
        return None
    game = tabular_game(dataclasses.replace(spec, max_rounds=1))  # hands do not depend on the number of rounds
    return (game.values, game.outside, game.chance) if game.num_types <= most else None


def _sample(spec: GameSpec, count: int, rng: np.random.Generator) -> _Sample:
    types = sample_types(spec, count, rng)
    return types.values, types.outside, types.weight


def posterior(opponent: Opponent, offers: torch.Tensor, options: BeliefOptions) -> torch.Tensor:
    """Returns `[H, N]` float32, the weights of the hands after `offers` `[H, d]`, with sum 1 in each row.

    Costs one query of `opponent.likelihood` for each move of the other seat. A history that no hand explains leaves
    the prior as it is.
    """
    prior = opponent.hands.weight.expand(len(offers), -1)
    log, possible = _log_likelihood(opponent, offers, options)
    found = torch.softmax(prior.double().log() + log, dim=1).float()
    return torch.where(possible.any(dim=1, keepdim=True), found, prior)


def effective_sample_size(weight: torch.Tensor) -> torch.Tensor:
    """Returns `[H]`: the number of equally weighted hands that `weight` `[H, N]` is worth (Kong, Liu and Wong 1994)."""
    return weight.sum(1) ** 2 / (weight**2).sum(1)


def policy_weights(opponent: Opponent, weight: torch.Tensor) -> torch.Tensor:
    """Returns `[H, M]`: the posterior probability of each policy the opponent may be, from `posterior`."""
    member = opponent.hands.member.expand(len(weight), -1)
    found = torch.zeros(len(weight), len(opponent.policies), device=weight.device)
    return found.scatter_add(1, member, weight)


def rejuvenate(
    opponent: Opponent,
    offers: torch.Tensor,
    weight: torch.Tensor,
    options: BeliefOptions,
    rng: np.random.Generator,
    sweeps: int = 4,
) -> AskedOpponent:
    """Returns the opponent with new hands of equal weight for each history, drawn from the same belief.

    Hands are resampled by weight and then moved by Metropolis steps that leave the belief as it is: one number of a
    hand at a time (an item's value, keeping the rank of the outside offer, or that rank) is drawn anew from its prior
    and accepted with the ratio of likelihoods (resample-move, Gilks and Berzuini 2001). Costs `sweeps * (I + 1)`
    queries of `H * options.rejuvenated` rows for each move of the other seat.

    Args:
        opponent: The opponent with the hands that have worn out.
        offers: `[H, d]` int64, the offers made so far.
        weight: `[H, N]`, what `posterior` returned.
        options: The options it was given.
        rng: Source of the resampling and of the steps.
        sweeps: How often each number is drawn anew.
    """
    rules, count = opponent.rules, options.rejuvenated
    histories = np.arange(len(offers))[:, None]
    chosen = _systematic(weight.cpu().numpy(), count, rng)
    hands = [part.expand(len(offers), *part.shape[1:]).cpu().numpy()[histories, chosen] for part in opponent.hands[:3]]
    points = _points(rules.spec, hands[0], hands[1], rng)

    def place(points: NDArray[np.float64]) -> tuple[AskedOpponent, NDArray[np.float64]]:
        values, outside = deal_points(rules.spec, points.reshape(-1, points.shape[2]))
        placed = Hands(
            values=torch.tensor(values.reshape(hands[0].shape), device=rules.device),
            outside=torch.tensor(outside.reshape(hands[1].shape), device=rules.device),
            member=torch.tensor(hands[2], device=rules.device),
            weight=torch.full(chosen.shape, 1.0 / count, device=rules.device),
        )
        moved = AskedOpponent(rules, opponent.seat, opponent.policies, placed)
        return moved, _log_likelihood(moved, offers, options)[0].cpu().numpy()

    moved, log = place(points)
    for step in range(sweeps * points.shape[2]):
        proposed = points.copy()
        proposed[:, :, step % points.shape[2]] = rng.random(chosen.shape)
        candidate_log = place(proposed)[1]
        accepted = np.log(rng.random(chosen.shape)) < candidate_log - log
        points = np.where(accepted[:, :, None], proposed, points)
        log = np.where(accepted, candidate_log, log)
    return place(points)[0] if sweeps else moved


def _log_likelihood(
    opponent: Opponent, offers: torch.Tensor, options: BeliefOptions
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns `[H, N]` the tempered log-likelihood of the moves made, and whether a hand can have made them at all."""
    rows = torch.arange(len(offers), device=offers.device)
    log = torch.zeros(len(offers), opponent.num_hands, dtype=torch.float64, device=offers.device)
    possible = torch.ones_like(log, dtype=torch.bool)
    for decision in range(opponent.seat, offers.shape[1], 2):
        told = opponent.likelihood(decision, offers[:, :decision], offers[:, decision], rows).double()
        uniform = 1.0 / int(opponent.rules.legal(decision).sum())
        floored = (1 - options.floor) * told + options.floor * uniform
        possible &= floored > 0
        log += options.temper * floored.clamp_min(_SMALLEST).log()
    return log, possible


def _systematic(weight: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns `[H, count]` hands drawn by weight, each `count * weight` times up to one more or less."""
    cumulative = np.cumsum(weight.astype(np.float64), axis=1)
    cumulative /= cumulative[:, -1:]
    places = (np.arange(count) + rng.random((len(weight), 1))) / count
    return np.stack([np.searchsorted(row, place) for row, place in zip(cumulative, places, strict=True)])


def _points(
    spec: GameSpec, values: NDArray[np.int64], outside: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Returns points `[H, N, I + 1]` of the unit cube, uniform among those that stand for the hands."""
    low, high = outside_limits(spec, values @ np.asarray(spec.item_quantities))
    numbers = np.concatenate([values - spec.min_value, (outside - low)[..., None]], axis=2)
    widths = np.concatenate(
        [np.full_like(values, spec.max_value - spec.min_value + 1), (high - low + 1)[..., None]], axis=2
    )
    found: NDArray[np.float64] = (numbers + rng.random(numbers.shape)) / widths
    return found

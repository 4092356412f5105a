"""Counterfactual regret minimisation on tables: CFR, CFR+ and linear CFR, with alternating or simultaneous updates.

In games of two seats that are not zero-sum the average strategies carry no guarantee of Nash equilibrium; the joint
play approaches a coarse correlated equilibrium. They are references to compare learners with.

Sources: Zinkevich et al. 2007 (CFR), Tammelin 2014 (CFR+), Brown and Sandholm 2019 (linear CFR).

Legend: `H` histories before a decision, `T` types, `A` legal actions of a decision, 2 seats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from bargain_eval.exact.game import FloatArray, TabularGame
from bargain_eval.exact.profile import plan_strategy, uniform_profile
from bargain_eval.exact.values import Flow, Profile, Strategy, action_values, flow, realisation

Variant = Literal["cfr", "cfr+", "linear-cfr"]
VARIANTS: tuple[Variant, ...] = ("cfr", "cfr+", "linear-cfr")


@dataclasses.dataclass(eq=False)
class CFRState:
    """What CFR remembers between two iterations.

    Attributes:
        iterations: Iterations done.
        profile: What both seats play in the next iteration.
        regrets: For each seat an array `[H, T, A]` per round, the cumulative counterfactual regrets.
        sums: For each seat, of the same shapes, the weighted sum of the realisation weights of all profiles played.
    """

    iterations: int
    profile: list[Strategy]
    regrets: tuple[Strategy, Strategy]
    sums: tuple[Strategy, Strategy]

    def average(self) -> Profile:
        """Returns the average profile, which is uniform where no profile has played to."""
        return plan_strategy(self.sums[0]), plan_strategy(self.sums[1])


def cfr_start(game: TabularGame) -> CFRState:
    """Returns the state before the first iteration: uniform play and no regrets."""
    profile = uniform_profile(game)
    zeros = [tuple(np.zeros_like(array) for array in strategy) for strategy in profile * 2]
    return CFRState(0, list(profile), (zeros[0], zeros[1]), (zeros[2], zeros[3]))


def cfr_iteration(game: TabularGame, state: CFRState, variant: Variant = "cfr", alternating: bool = True) -> None:
    """Does one iteration in place.

    Args:
        game: The game.
        state: Is updated.
        variant: "cfr": all iterations weigh alike. "cfr+": cumulative regrets never fall below 0, and iteration t
            weighs t in the average. "linear-cfr": iteration t weighs t in the regrets and in the average.
        alternating: Seat 1 already responds to the strategy that seat 0 plays next. Otherwise both seats respond to
            the profile of the last iteration.
    """
    state.iterations += 1
    weight = 1.0 if variant == "cfr" else float(state.iterations)
    plans = [realisation(game, strategy) for strategy in state.profile]
    flows = [flow(game, plan) for plan in plans]
    for seat in range(2):
        for total, played in zip(state.sums[seat], plans[seat], strict=True):
            total += weight * played
    if alternating:
        state.profile[0] = _respond(game, state, 0, flows[1], variant)
        moved = flow(game, realisation(game, state.profile[0]))
        state.profile[1] = _respond(game, state, 1, moved, variant)
    else:
        state.profile[:] = [_respond(game, state, seat, flows[1 - seat], variant) for seat in range(2)]


def _respond(game: TabularGame, state: CFRState, seat: int, against: Flow, variant: Variant) -> Strategy:
    """Adds the regrets of one seat and returns its next strategy."""
    values, _ = action_values(game, seat, against, state.profile[seat])
    scale = float(state.iterations) if variant == "linear-cfr" else 1.0
    for regret, worth, behaviour in zip(state.regrets[seat], values, state.profile[seat], strict=True):
        regret += scale * (worth - np.einsum("hta,hta->ht", worth, behaviour)[:, :, None])
        if variant == "cfr+":
            np.maximum(regret, 0.0, out=regret)
    return tuple(regret_matching(regret) for regret in state.regrets[seat])


def regret_matching(regrets: FloatArray) -> FloatArray:
    """Returns probabilities proportional to the positive parts of `regrets` `[..., A]`, uniform where none is."""
    positive = np.maximum(regrets, 0.0)
    total = positive.sum(axis=-1, keepdims=True)
    result = np.full_like(positive, 1.0 / positive.shape[-1])
    np.divide(positive, total, out=result, where=total > 0)
    return result


def cfr(
    game: TabularGame, checkpoints: Sequence[int], variant: Variant = "cfr", alternating: bool = True
) -> Iterator[tuple[int, Profile]]:
    """Yields (t, average profile) after t iterations for each t of `checkpoints`, ascending; see `cfr_iteration`.

    Raises:
        ValueError: If the checkpoints do not ascend from 1 or above, or the variant is unknown.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}.")
    state = cfr_start(game)
    for stop in checked_checkpoints(checkpoints):
        while state.iterations < stop:
            cfr_iteration(game, state, variant, alternating)
        yield stop, state.average()


def checked_checkpoints(checkpoints: Sequence[int]) -> Sequence[int]:
    """Returns `checkpoints` if they ascend strictly from 1 or above.

    Raises:
        ValueError: If they do not.
    """
    if list(checkpoints) != sorted(set(checkpoints)) or min(checkpoints, default=1) < 1:
        raise ValueError(f"checkpoints must ascend from 1 or above, got {list(checkpoints)}.")
    return checkpoints

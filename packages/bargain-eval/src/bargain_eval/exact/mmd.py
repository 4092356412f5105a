"""Magnetic mirror descent (MMD) on tables, with a uniform magnet.

With a fixed `alpha` the last iterate approaches an agent quantal response equilibrium in zero-sum games; with a falling
one, a Nash equilibrium. There is no guarantee in other games. Source: Sokota et al. 2023, the behavioural form.

Legend: `H` histories before a decision, `T` types, `A` legal actions of a decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bargain_eval.exact.cfr import checked_checkpoints
from bargain_eval.exact.game import FloatArray, TabularGame
from bargain_eval.exact.profile import uniform_profile
from bargain_eval.exact.values import Flow, Profile, Strategy, action_values, flow, history_weights, realisation

Schedule = Callable[[int], float]
"""A number by iteration, counted from 1."""


def inverse_root(scale: float) -> Schedule:
    """Returns the schedule `scale / sqrt(t)`."""
    return lambda iteration: scale / math.sqrt(iteration)


def mmd(
    game: TabularGame,
    checkpoints: Sequence[int],
    alpha: float | Schedule = inverse_root(0.1),  # noqa: B008 - a function without state
    eta: float | Schedule = inverse_root(5.0),  # noqa: B008
) -> Iterator[tuple[int, Profile]]:
    """Yields (t, last profile) after t iterations for each t of `checkpoints`, ascending.

    Both seats start uniform and move at the same time. An iteration costs about as much as one of CFR.

    Args:
        game: The game.
        checkpoints: Numbers of iterations.
        alpha: Weight of the magnet, at least 0; a number or a schedule.
        eta: Step size, above 0; a number or a schedule.

    Raises:
        ValueError: If the checkpoints do not ascend from 1 or above, or a weight or step is out of range.
    """
    profile = uniform_profile(game)
    done = 0
    for stop in checked_checkpoints(checkpoints):
        while done < stop:
            done += 1
            weight, step = _at(alpha, done), _at(eta, done)
            if not (weight >= 0 and step > 0):
                raise ValueError(f"alpha must be at least 0 and eta above 0, got {weight} and {step}.")
            flows = [flow(game, realisation(game, strategy)) for strategy in profile]
            profile = (
                _moved(game, 0, profile[0], flows[1], weight, step),
                _moved(game, 1, profile[1], flows[0], weight, step),
            )
        yield stop, profile


def _at(number: float | Schedule, iteration: int) -> float:
    return number(iteration) if callable(number) else number


def _moved(game: TabularGame, seat: int, strategy: Strategy, against: Flow, alpha: float, eta: float) -> Strategy:
    values, _ = action_values(game, seat, against, strategy)
    moved = []
    for round_number, (worth, behaviour) in enumerate(zip(values, strategy, strict=True)):
        weight = history_weights(game, 2 * round_number + seat, against)[:, None, None]
        payoff = np.divide(worth, weight, out=np.zeros_like(worth), where=weight > 0)
        moved.append(mmd_step(behaviour, payoff, alpha, eta))
    return tuple(moved)


def mmd_step(behaviour: FloatArray, payoff: FloatArray, alpha: float, eta: float) -> FloatArray:
    """Returns `p'(a) ~ (p(a) * exp(eta * payoff(a))) ** (1 / (1 + alpha * eta))` on the last axis `[..., A]`.

    This maximises `eta * (p' . payoff + alpha * entropy(p')) - KL(p', p)`.

    Args:
        behaviour: Probabilities p.
        payoff: The expected payoff of each action, given that its decision is reached.
        alpha: Weight of the uniform magnet.
        eta: Step size.
    """
    with np.errstate(divide="ignore"):
        logits = (np.log(behaviour) + eta * payoff) / (1 + alpha * eta)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    moved: FloatArray = weights / weights.sum(axis=-1, keepdims=True)
    return moved

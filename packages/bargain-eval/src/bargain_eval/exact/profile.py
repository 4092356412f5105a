"""Strategies as tables: the uniform one, those of policies, mixtures, and back from realisation weights.

Legend: `H` histories before a decision, `T` types, `K` offers, `A` legal actions of a decision, `B` rows, `O` features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.by_seat import policy_of_seat
from bargain_eval.exact.game import FloatArray, TabularGame
from bargain_eval.exact.values import Plan, Profile, Strategy, realisation
from bargain_eval.exact.views import decision_views
from bargain_eval.mixture import Mixture
from bargain_eval.policy import HasMemory, HasProbabilities, Policy, to_numpy

_SUM_ERROR = 1e-4  # float32 probabilities miss 1 by less; more is no distribution


def uniform_strategy(game: TabularGame, seat: int) -> Strategy:
    """Returns the strategy that plays uniformly over the legal actions."""
    shapes = [game.shape(decision) for decision in range(seat, game.spec.max_turns, 2)]
    return tuple(np.full(shape, 1.0 / shape[2]) for shape in shapes)


def uniform_profile(game: TabularGame) -> Profile:
    """Returns both seats' uniform strategies."""
    return uniform_strategy(game, 0), uniform_strategy(game, 1)


def policy_profile(game: TabularGame, first: Policy, second: Policy | None = None, batch_size: int = 65536) -> Profile:
    """Returns what `first` plays in seat 0 and `second` (the same policy if None) in seat 1; see `policy_strategy`."""
    second = first if second is None else second
    return policy_strategy(game, first, 0, batch_size), policy_strategy(game, second, 1, batch_size)


def policy_strategy(game: TabularGame, policy: Policy, seat: int, batch_size: int = 65536) -> Strategy:
    """Asks a policy for its probabilities in every information set of a seat.

    A policy of the standing observation is asked once for each own type and standing offer, one of the history
    observation once for each own type and history. Its probabilities are scaled to sum 1 in float64.

    A `Mixture` draws one member a game, so its members' realisation weights are averaged rather than their
    probabilities (Kuhn 1953): see `mix_strategies`. It costs what its members cost together.

    Args:
        game: The game.
        policy: A policy with `action_probs` and without memory, or a mixture of such.
        seat: The seat it plays.
        batch_size: Observations in one call.

    Raises:
        ValueError: If the policy is of another game, does not tell its probabilities, or tells impossible ones.
    """
    policy = policy_of_seat(policy, seat)
    own = getattr(policy, "spec", None)
    if isinstance(own, GameSpec) and not own.same_game(game.spec):
        raise ValueError(f"the policy of seat {seat} was made for another game: {own}, not {game.spec}.")
    if isinstance(policy, Mixture):
        members = [policy_strategy(game, member, seat, batch_size) for member in policy.policies]
        return mix_strategies(game, members, policy.weights)
    name = type(policy).__name__
    if isinstance(policy, HasMemory):
        raise ValueError(f"the policy of seat {seat}, {name}, remembers its games and has no table of probabilities.")
    if not isinstance(policy, HasProbabilities):
        raise ValueError(f"the policy of seat {seat}, {name}, has no action_probs, so its tables cannot be filled.")
    return tuple(_ask(game, policy, decision, batch_size) for decision in range(seat, game.spec.max_turns, 2))


def _ask(game: TabularGame, policy: Policy, decision: int, batch_size: int) -> FloatArray:
    assert isinstance(policy, HasProbabilities)
    spec = game.spec.with_observation(policy.observation)
    num_types, num_offers = game.num_types, spec.num_offers
    standing = spec.observation == "standing"
    if standing:
        offers = np.arange(num_offers)[:, None] if decision else np.zeros((1, 0), dtype=np.int64)
    else:
        offers = history_offers(num_offers, decision)
    table = np.empty((len(offers) * num_types, len(game.actions(decision))))
    for start in range(0, len(table), batch_size):
        history, kind = np.divmod(np.arange(start, min(start + batch_size, len(table))), num_types)
        views = decision_views(spec, game.values[kind], game.outside[kind], decision, offers[history])
        told = to_numpy(policy.action_probs(*views)).astype(np.float64)
        table[start : start + batch_size] = checked_probs(type(policy).__name__, told, views[1])[
            :, game.actions(decision)
        ]
    table /= table.sum(axis=1, keepdims=True)
    strategy = table.reshape(len(offers), num_types, -1)
    return np.tile(strategy, (game.num_histories(decision) // len(offers), 1, 1)) if standing else strategy


def checked_probs(name: str, told: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Returns `told` `[B, A]`, what a policy called `name` answered to the legal actions `mask`, if it is possible.

    Raises:
        ValueError: If it has another shape, a row is no distribution, or an illegal action has a probability.
    """
    if told.shape != mask.shape:
        raise ValueError(f"{name}.action_probs returned shape {told.shape} for a mask of shape {mask.shape}.")
    if not (np.all(told >= 0) and np.all(np.abs(told.sum(axis=1) - 1) <= _SUM_ERROR)):
        raise ValueError(f"{name}.action_probs returned a row that is no probability distribution.")
    if np.any(told[~mask]):
        raise ValueError(f"{name}.action_probs gave an illegal action a positive probability.")
    return told


def history_offers(num_offers: int, decision: int) -> NDArray[np.int64]:
    """Returns `[H, decision]`: the offers made in each history before a decision, in order."""
    return np.indices([num_offers] * decision).reshape(decision, num_offers**decision).T


def mix_strategies(
    game: TabularGame, strategies: Sequence[Strategy], weights: Sequence[float] | FloatArray
) -> Strategy:
    """Returns the behaviour that plays like drawing one strategy per game: realisation weights are averaged.

    Where the mixture never goes by its own choice, the probabilities are averaged.

    Args:
        game: The game.
        strategies: Strategies of one seat, at least one.
        weights: Their probabilities, one each; scaled to sum 1.

    Raises:
        ValueError: If the numbers differ, or the weights are no distribution.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != (len(strategies),) or not strategies:
        raise ValueError(f"a mixture needs one weight per strategy, got {len(strategies)} and {len(shares)}.")
    if not (np.all(shares >= 0) and abs(shares.sum() - 1) <= 1e-6):
        raise ValueError(f"mixture weights must be nonnegative with sum 1, got {shares.tolist()}.")
    shares = shares / shares.sum()
    plan = mean_plan([realisation(game, strategy) for strategy in strategies], shares)
    return plan_strategy(plan, unreached=mean_plan(strategies, shares))


def mean_plan(plans: Sequence[Plan], weights: Sequence[float] | FloatArray) -> Plan:
    """Returns the weighted sum of plans (or flows, or strategies), array by array."""
    return tuple(
        np.sum([weight * array for weight, array in zip(weights, arrays, strict=True)], axis=0)
        for arrays in zip(*plans, strict=True)
    )


def plan_strategy(plan: Plan, unreached: Strategy | None = None) -> Strategy:
    """Returns the behaviour with the realisation weights of `plan`, up to a factor for each information set.

    Args:
        plan: Nonnegative weights.
        unreached: What is played in information sets without any weight; uniformly over the legal actions if None.
    """
    strategy = []
    for round_number, weights in enumerate(plan):
        reach = weights.sum(axis=2, keepdims=True)
        behaviour = (
            np.full_like(weights, 1.0 / weights.shape[2]) if unreached is None else unreached[round_number].copy()
        )
        np.divide(weights, reach, out=behaviour, where=reach > 0)
        strategy.append(behaviour)
    return tuple(strategy)

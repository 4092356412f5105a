"""Small games for the tests of the search: profiles to search against, and exact regrets of what is played."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bargain_env import GAMES
from bargain_eval.baselines import RandomPolicy
from bargain_eval.exact import (
    Profile,
    Strategy,
    TabularGame,
    TabularPolicy,
    best_response_values,
    flow,
    realisation,
    tabular_game,
    type_values,
)
from bargain_eval.exact.profile import history_offers
from bargain_eval.exact.views import decision_views
from bargain_train.search import BeliefOptions, SearchOptions, SearchPolicy, SelectionOptions
from bargain_train.search.selection import Rule

EXACT = BeliefOptions(floor=0.0, least_ess=0.0)
"""The belief that Bayes gives if the opponent model is true."""


def game_of(name: str) -> TabularGame:
    return tabular_game(GAMES[name])


def random_profile(game: TabularGame, seed: int) -> Profile:
    rng = np.random.default_rng(seed)

    def strategy(seat: int) -> Strategy:
        draws = [rng.gamma(0.5, size=game.shape(decision)) for decision in range(seat, game.spec.max_turns, 2)]
        return tuple(draw / draw.sum(-1, keepdims=True) for draw in draws)

    return strategy(0), strategy(1)


def searcher(
    game: TabularGame, profile: Profile, num_simulations: int, rule: Rule = "puct", **options: Any
) -> SearchPolicy:
    """Returns a random policy that searches against the profile, with an exact belief."""
    settings = SearchOptions(
        num_simulations=num_simulations, selection=SelectionOptions(rule=rule), belief=EXACT, **options
    )
    return SearchPolicy(RandomPolicy(game.spec), TabularPolicy(game, profile), options=settings)


def information_sets(game: TabularGame, decision: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns views of all histories and types of a decision, in the order of a strategy's rows."""
    spec = game.spec.with_observation("history")
    offers = history_offers(spec.num_offers, decision)
    history, kind = np.divmod(np.arange(len(offers) * game.num_types), game.num_types)
    return decision_views(spec, game.values[kind], game.outside[kind], decision, offers[history])


def strategy_of(game: TabularGame, get_action: Callable[..., Any], seat: int) -> Strategy:
    """Returns what a policy plays in every information set of a seat, drawn once."""
    tables = []
    for decision in range(seat, game.spec.max_turns, 2):
        actions = get_action(*information_sets(game, decision), np.random.default_rng(decision))
        pure = (actions[:, None] == game.actions(decision)).astype(np.float64)
        tables.append(pure.reshape(game.shape(decision)))
    return tuple(tables)


def regret(game: TabularGame, profile: Profile, strategy: Strategy, seat: int) -> float:
    """Returns how much less `strategy` earns than the best response to the other seat of `profile`, over the deals."""
    against = flow(game, realisation(game, profile[1 - seat]))
    lost = best_response_values(game, seat, against) - type_values(game, seat, against, strategy)
    return float(lost @ game.chance)

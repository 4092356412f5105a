"""Simulations a second of the search, one thread: `python benchmarks/search.py [--batch 256] [--simulations 100]`.

The opening of mini-b, by batches of games, beside OpenSpiel's IS-MCTS (Python) on the same game with uniform rollouts
and a resampler from the prior. OpenSpiel's C++ IS-MCTS cannot play a game written in Python; it is timed on OpenSpiel's
own C++ bargaining, another game, to show how far the language alone goes. Then the standard game against a tabled
opponent.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pyspiel
import torch
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.openspiel import openspiel_game
from bargain_eval.baselines import RandomPolicy
from bargain_train.search import SearchOptions, SearchPolicy
from open_spiel.python.algorithms.ismcts import ISMCTSBot
from open_spiel.python.algorithms.mcts import RandomRolloutEvaluator
from timing import machine, median, rates, ratio, readable


def ours(spec: GameSpec, batch: int, simulations: int) -> Callable[[], int]:
    engine = make_engine(spec.with_observation("history"), batch, seed=1)
    engine.reset()
    policy = SearchPolicy(RandomPolicy(spec), options=SearchOptions(num_simulations=simulations))
    obs, rng = engine.observation.copy(), np.random.default_rng(0)

    def search() -> int:
        return int(policy.search(obs, rng).visits.sum())

    return search


def deal(game: Any, rng: np.random.Generator, own: list[int] | None = None) -> Any:
    """Returns a dealt game; `own` are seat 0's outcomes of chance: its values, then its outside offer."""
    state, dealt, items = game.new_initial_state(), 0, game.spec.num_items
    while state.is_chance_node():
        place = dealt if dealt < items else items if dealt == 2 * items else None
        known = own is not None and place is not None
        state.apply_action(own[place] if known else int(rng.integers(len(state.chance_outcomes()))))  # type: ignore[index]
        dealt += 1
    return state


def openspiel_python(spec: GameSpec, simulations: int) -> Callable[[], int]:
    game, rng = openspiel_game(spec), np.random.default_rng(0)
    own = [0] * (spec.num_items + 1)
    state = deal(game, rng, own)
    evaluator = RandomRolloutEvaluator(1, np.random.RandomState(0))
    bot = ISMCTSBot(game, evaluator, 1.0, simulations, random_state=np.random.RandomState(0))
    bot.set_resampler(lambda state, player: deal(game, rng, own))

    def search() -> int:
        bot.get_policy(state)
        return simulations

    return search


def openspiel_native(simulations: int) -> Callable[[], int]:
    game = pyspiel.load_game("bargaining")
    state = game.new_initial_state()
    while state.is_chance_node():
        state.apply_action(state.legal_actions()[0])
    evaluator = pyspiel.RandomRolloutEvaluator(1, 0)
    final = pyspiel.ISMCTSFinalPolicyType.MAX_VISIT_COUNT
    bot = pyspiel.ISMCTSBot(0, evaluator, 1.0, simulations, -1, final, False, False)

    def search() -> int:
        bot.get_policy(state)
        return simulations

    return search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 256, 1024])
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    count = options.simulations
    peer = "OpenSpiel, Python, mini-b"
    works = {f"ours, mini-b, batch {batch}": ours(GAMES["mini-b"], batch, count) for batch in options.batch}
    works[peer] = openspiel_python(GAMES["mini-b"], count)
    works["OpenSpiel, C++, its own bargaining"] = openspiel_native(count)
    works[f"ours, standard game, batch {options.batch[-1]}"] = ours(GameSpec(), options.batch[-1], count)
    found = rates(works, repetitions=options.repetitions, seconds=options.seconds)
    print(machine())
    print(f"\n| {count} simulations a move | simulations/s | times OpenSpiel in Python |\n|---|---|---|")
    for name in found:
        print(f"| {name} | {readable(median(found, name))} | {ratio(found, name, peer):.1f} |")


if __name__ == "__main__":
    main()

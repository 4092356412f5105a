"""Exact evaluation and tabular solvers on small games, one thread: `python benchmarks/exact.py`.

First the named games: building the tables, NashConv of tables, NashConv of a freshly initialised network 256-256 with
all its queries (of the standing and of the history observation), and 100 iterations of each solver. Then one game whose
types about double from row to row: the last column says how much faster than the types the cost has grown since the
first row; 1 is in proportion.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from bargain_env import GAMES, GameSpec
from bargain_env.spec import ObservationKind
from bargain_eval.exact import SOLVERS, TabularGame, nash_conv, policy_profile, tabular_game, uniform_profile
from bargain_train.networks import build_network
from bargain_train.policies import NetworkPolicy
from timing import machine

Work = Callable[[], object]

SMALL = ("mini-a", "mini-b", "mini-c")
LARGEST_VALUES = (3, 4, 5, 6, 8, 10)
"""Of the growing game, with quantities (2, 1) and 2 rounds: 54, 120, 225, 378, 864 and 1,650 types."""


def milliseconds(work: Work, repetitions: int) -> float:
    """Returns the median time of a call, after one call that is not counted."""
    work()
    measured = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        measured.append(1000 * (time.perf_counter() - start))
    return statistics.median(measured)


def network_policy(spec: GameSpec, observation: ObservationKind) -> NetworkPolicy:
    network = build_network({"network": "mlp", "hidden_dims": [256, 256]}, spec.with_observation(observation))
    return NetworkPolicy((network, network))


def ask_and_evaluate(game: TabularGame, policy: NetworkPolicy) -> float:
    return nash_conv(game, policy_profile(game, policy))


def solve(game: TabularGame, solver: str, iterations: int) -> None:
    list(SOLVERS[solver](game, (iterations,)))


def works(game: TabularGame, iterations: int) -> dict[str, Work]:
    """Returns what is timed on one of the named games."""
    return {
        "tables": partial(tabular_game, game.spec),
        "NashConv": partial(nash_conv, game, uniform_profile(game)),
        "network, standing": partial(ask_and_evaluate, game, network_policy(game.spec, "standing")),
        "network, history": partial(ask_and_evaluate, game, network_policy(game.spec, "history")),
        **{f"{solver} x {iterations}": partial(solve, game, solver, iterations) for solver in SOLVERS},
    }


def print_named(repetitions: int, iterations: int) -> None:
    headings = ["game", "information sets", *works(tabular_game(GAMES["mini-a"]), iterations)]
    print(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|")
    for name in SMALL:
        game = tabular_game(GAMES[name])
        sets = sum(game.num_information_sets(seat) for seat in range(2))
        times = [milliseconds(work, repetitions) for work in works(game, iterations).values()]
        print(f"| {name} | {sets} | " + " | ".join(f"{ms:.2f}" for ms in times) + " |", flush=True)


def print_growth(repetitions: int, iterations: int, largest_values: list[int]) -> None:
    print(f"\n| values | types | NashConv | cfr+ x {iterations} | growth of both / of the types |\n{'|---' * 5}|")
    first: tuple[int, float, float] | None = None
    for largest in largest_values:
        game = tabular_game(GameSpec(item_quantities=(2, 1), max_rounds=2, max_value=largest))
        nash = milliseconds(partial(nash_conv, game, uniform_profile(game)), repetitions)
        cfr = milliseconds(partial(solve, game, "cfr+", iterations), repetitions)
        first = first or (game.num_types, nash, cfr)
        growth = [time / start * first[0] / game.num_types for time, start in zip((nash, cfr), first[1:], strict=True)]
        shown = f"{growth[0]:.2f} / {growth[1]:.2f}"
        print(f"| 1 to {largest} | {game.num_types} | {nash:.2f} | {cfr:.2f} | {shown} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=100, help="of the solvers on the named games")
    parser.add_argument("--largest-values", type=int, nargs="+", default=LARGEST_VALUES, help="of the growing game")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{machine()}; milliseconds\n")
    print_named(options.repetitions, options.iterations)
    print_growth(options.repetitions, max(1, options.iterations // 10), options.largest_values)


if __name__ == "__main__":
    main()

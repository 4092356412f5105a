"""Solves a small game with OpenSpiel's CFR: `python examples/openspiel_cfr.py [--game mini-b] [--iterations 100]`."""

from __future__ import annotations

import argparse

from bargain_env import GAMES, openspiel_game
from open_spiel.python.algorithms import exploitability
from open_spiel.python.algorithms.cfr import CFRSolver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", choices=[name for name in GAMES if name.startswith("mini")], default="mini-a")
    parser.add_argument("--iterations", type=int, default=20)
    options = parser.parse_args()
    game = openspiel_game(GAMES[options.game])
    solver, shown = CFRSolver(game), 1
    for iteration in range(1, options.iterations + 1):
        solver.evaluate_and_update_policy()
        if iteration in (shown, options.iterations):
            gain = exploitability.nash_conv(game, solver.average_policy())
            print(f"iteration {iteration:5}: NashConv {gain:.6f}")
            shown *= 2


if __name__ == "__main__":
    main()

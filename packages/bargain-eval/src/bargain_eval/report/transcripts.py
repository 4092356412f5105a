"""Games to read: a small sample of every cell, as the data that the page's viewer shows.

Legend: `n` policies, `D` decisions.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_eval.crossplay import Crossplay
from bargain_eval.game_rows import GameRows
from bargain_eval.report.replies import Replies

MAX_GAMES = 6_000
"""Games of one matrix on the page; with more policies each cell shows fewer, but at least 2."""
_RARE = 3


def sample_games(matrix: Crossplay, games_per_cell: int) -> dict[str, Any]:
    """Returns the JSON-ready data of the viewer: the rules, the deals, and of each cell a few of its games.

    Every cell shows its first games, which are the same deals in all cells; where these are all deals or all walks,
    up to three of the first games with the other outcome stand behind them. A cell that was never played is empty.
    `cells[i * n + j]` lists `[game, actions, outcome, payoff of seat 0, payoff of seat 1, illegal actions]`, and behind
    these `Replies.of_game` where a language model plays; `replies` has the texts.

    Raises:
        ValueError: If a file of the matrix is missing or damaged.
    """
    size = len(matrix.names)
    wanted = min(games_per_cell, max(2, MAX_GAMES // size**2))
    deals: dict[int, list[Any]] = {}
    cells = {
        (i, j): _cell(matrix.cell(i, j), wanted, deals) if matrix.table.count[i, j] > 0 else []
        for i, j in product(range(size), repeat=2)
    }
    replies = Replies(matrix, {pair: {game[0] for game in games} for pair, games in cells.items()})
    for pair, games in cells.items():
        for game in games:
            said = replies.of_game(pair, game[0], len(game[1]))
            game += [] if said is None else [said]
    spec = matrix.spec
    return {
        "names": list(matrix.names),
        "quantities": list(spec.item_quantities),
        "rounds": spec.max_rounds,
        "discount": spec.discount,
        "deals": {str(game): deals[game] for game in sorted(deals)},
        "cells": list(cells.values()),
        "replies": replies.texts,
    }


def _cell(rows: GameRows, wanted: int, deals: dict[int, list[Any]]) -> list[list[Any]]:
    games = []
    for n in _chosen(rows.outcome, wanted).tolist():
        game = int(rows.game[n])
        deals.setdefault(game, [*rows.values[n].tolist(), rows.outside[n].tolist()])
        actions = rows.actions[n, : rows.decisions[n]].tolist()
        payoffs = [round(float(payoff), 4) for payoff in rows.payoff[n]]
        games.append([game, actions, int(rows.outcome[n]), *payoffs, int(rows.illegal[n].sum())])
    return games


def _chosen(outcome: NDArray[np.int8], wanted: int) -> NDArray[np.int64]:
    first = np.arange(min(wanted, len(outcome)))
    rare = np.flatnonzero(outcome != outcome[0])[:_RARE]
    lacking = rare if (outcome[first] == outcome[0]).all() else rare[:0]
    return np.concatenate([first, lacking])

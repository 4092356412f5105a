"""Writes the golden games: whole games as text, from the plain-Python rules.

Run by hand after a change of the rules, and read the difference: `python tests/golden/generate.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bargain_env import GAMES, GameSpec
from bargain_env.reference import ReferenceGame, random_action

FOLDER = Path(__file__).parent
OUTCOMES = {1: "deal", 2: "walk"}
HISTORY = GameSpec(max_rounds=5, discount=0.98, observation="history")
RANDOM = None
"""In place of moves: play random actions to the end."""

GOLDEN: dict[str, tuple[GameSpec, int, int, int, list[int] | None]] = {
    # name: spec, seed, game, episode, moves
    "accept_at_once": (GameSpec(), 0, 0, 0, [39, 80]),
    "walk_at_once": (GameSpec(), 0, 1, 0, [81]),
    "counter_offer_accepted_by_seat_0": (GameSpec(), 0, 2, 0, [0, 45, 80]),
    "last_decision_accepts": (GameSpec(), 1, 0, 0, [0, 79, 11, 68, 23, 80]),
    "last_decision_walks": (GameSpec(), 1, 0, 1, [0, 79, 11, 68, 23, 81]),
    "illegal_accept_of_nothing": (GameSpec(), 2, 7, 0, [80]),
    "illegal_last_offer": (GameSpec(), 2, 8, 0, [1, 2, 3, 4, 5, 6]),
    "illegal_number": (GameSpec(), 2, 9, 0, [1, 82]),
    "discount_and_history": (HISTORY, 42, 3, 0, [10, 20, 30, 40, 50, 60, 70, 80]),
    "outside_range": (GameSpec(outside_range=(0.1, 0.5)), 42, 4, 0, [44, 81]),
    "mini_c": (GAMES["mini-c"], 5, 0, 0, [1, 4, 2, 6]),
    "largest_keys": (GameSpec(), 2**64 - 1, 2**63 - 1, 2**56 - 1, RANDOM),
    "random_play": (GameSpec(), 7, 0, 0, RANDOM),
    "eight_types": (GameSpec(item_quantities=(1,) * 8), 7, 0, 0, RANDOM),
}


def golden_text(name: str) -> str:
    """Returns the game `name` as text: the deal, every decision with the mover's view, and the rewards."""
    spec, seed, game_index, episode, moves = GOLDEN[name]
    game = ReferenceGame(spec, seed, game_index, episode)
    lines = [f"spec {spec.to_dict()}", f"seed {seed} game {game_index} episode {episode}"]
    deal = zip(game.values, game.totals, game.outside, strict=True)
    lines += [f"seat {seat}: values {v} total {t} outside {o}" for seat, (v, t, o) in enumerate(deal)]
    turn = 0
    while not game.finished:
        action = random_action(game, seed, 0, game_index, episode) if moves is None else moves[turn]
        lines += ["", f"decision {turn}, round {game.round}, seat {game.mover}", *_view(game)]
        mover, illegal = game.mover, game.play(action)
        lines.append(f"  plays {action}: {_meaning(game, action, mover, illegal)}")
        turn += 1
    if moves is not None and turn != len(moves):
        raise ValueError(f"{name} ended after {turn} of {len(moves)} moves.")
    rewards = " ".join(_exact(share) for share in game.rewards)
    lines += ["", f"{OUTCOMES[game.outcome]} in round {game.round}, rewards {rewards}", f"moves {game.moves}"]
    return "\n".join(lines) + "\n"


def _view(game: ReferenceGame) -> Iterator[str]:
    """Yields the parts of the mover's view and, after a bar, the waiting seat's; of the history, the offers made."""
    view, waiting = game.observation(), game.observation(1 - game.mover)
    for part, place in game.spec.slices.items():
        shown = slice(place.start, place.start + len(game.moves) * game.spec.num_items) if part == "history" else place
        if part == "mask":
            legal = np.flatnonzero(view[shown])
            yield f"  legal: {len(legal)} actions, first {legal[0]}, last two {legal[-2:].tolist()}"
        elif shown.stop > shown.start and place.stop > place.start:
            yield f"  {part}: {' '.join(map(_exact, view[shown]))} | {' '.join(map(_exact, waiting[shown]))}"


def _meaning(game: ReferenceGame, action: int, mover: int, illegal: bool) -> str:
    if illegal:
        return "illegal, executed as walk"
    if action >= game.spec.num_offers:
        return "accept" if action == game.spec.accept_action else "walk"
    return f"offer, seat 0 gets {game.bundle(0, action)} and seat 1 {game.bundle(1, action)}, by seat {mover}"


def _exact(value: np.floating) -> str:
    """Returns the shortest decimal that names this float32 and no other."""
    return np.format_float_positional(value, unique=True, trim="0")


if __name__ == "__main__":
    for golden_name in GOLDEN:
        (FOLDER / f"{golden_name}.txt").write_text(golden_text(golden_name), encoding="utf-8")

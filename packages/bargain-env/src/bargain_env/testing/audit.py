"""What an environment showed of one game, compared with the reference rules."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from bargain_env.reference import ReferenceGame, deal
from bargain_env.spec import GameSpec
from bargain_env.testing.compare import first_difference
from bargain_env.testing.shown import Seen

Key = tuple[int, int, int]
"""Seed, game index and episode: what an engine's deal is a function of."""


class Audit:
    """One game as it was shown, held against the rules; it raises `AssertionError`, at the latest when the game ends.

    Where only a learner is shown, the opponent's moves are read from what the learner sees next.

    Args:
        spec: The game.
        name: What messages call it.
        key: The deal; None if it is to be read from the observations.

    Attributes:
        over: True once the game has ended.
    """

    def __init__(self, spec: GameSpec, name: str, key: Key | None) -> None:
        self._spec, self._name, self._key = spec, name, key
        self._decisions: list[tuple[list[Seen], int]] = []
        self.over = False

    def decide(self, seen: list[Seen], action: int) -> None:
        """Notes a decision and what was shown before it, the one who acts first."""
        self._decisions.append((seen, action))

    def settle(self, rewards: NDArray[np.float64], ended: bool, illegal: bool) -> None:
        """Checks what the last decision brought, `rewards` `[2]` (NaN if not shown), and at the end the whole game."""
        if illegal:
            raise AssertionError(f"{self._where()}: the legal action {self._decisions[-1][1]} was counted as illegal.")
        if ended:
            self.over = True
            self._compare(rewards)
        elif np.nansum(np.abs(rewards)) != 0:
            raise AssertionError(f"{self._where()}: {rewards.tolist()} was paid before the end.")
        elif len(self._decisions) == self._spec.max_turns:
            raise AssertionError(f"{self._where()}: the game goes on after its last decision.")

    def _where(self, decision: int = -1) -> str:
        return f"{self._name}, decision {decision % len(self._decisions)}"

    def _compare(self, rewards: NDArray[np.float64]) -> None:
        game, known = self._reference()
        opening, _ = self._decisions[0]
        if not opening[0].observation[self._spec.slices["values"]].any():
            self._compare_unseen(game, known, opening[0], rewards)
            return
        for decision, (seen, action) in enumerate(self._decisions):
            where = self._where(decision)
            if len(seen) == 1 and not game.finished and game.mover != seen[0].seat:
                game.play(self._hidden_offer(seen[0], where))
            self._compare_views(game, seen, where)
            game.play(action)
        endings = [game]
        if not game.finished and len(seen) == 1:
            endings = [_played(game, action) for action in _ending_actions(game)]
        self._compare_rewards(endings, known, rewards)

    def _compare_views(self, game: ReferenceGame, seen: list[Seen], where: str) -> None:
        if game.finished:
            raise AssertionError(f"{where}: the game goes on, but the last action ended it.")
        if game.mover != seen[0].seat:
            raise AssertionError(f"{where}: seat {seen[0].seat} is asked to act, expected seat {game.mover}.")
        for one in seen:
            legal = game.action_mask() if one.seat == game.mover else np.zeros(self._spec.num_actions, bool)
            for name, got, expected in (
                ("observation", one.observation, game.observation(one.seat)),
                ("action_mask", one.action_mask, legal),
            ):
                if (got.shape, got.dtype) != (expected.shape, expected.dtype):
                    shape = f"{got.dtype} {got.shape}, expected {expected.dtype} {expected.shape}"
                    raise AssertionError(f"{where}: {name} is {shape}.")
                place = first_difference(got, expected)
                if place is not None:
                    found = f"{name}{list(place)} of seat {one.seat} is {got[place]}, expected {expected[place]}"
                    raise AssertionError(f"{where}: {found}.")

    def _compare_rewards(self, endings: list[ReferenceGame], known: list[int], rewards: NDArray[np.float64]) -> None:
        if not any(game.finished for game in endings):
            raise AssertionError(f"{self._where()}: the game ended, but nobody accepted or walked.")
        seats = [seat for seat in known if not np.isnan(rewards[seat])]
        paid = [float(rewards[seat]) for seat in seats]
        expected = [[float(game.rewards[seat]) for seat in seats] for game in endings]
        if paid not in expected:
            raise AssertionError(f"{self._where()}: the end paid seats {seats} {paid}, expected {expected[0]}.")

    def _compare_unseen(self, game: ReferenceGame, known: list[int], seen: Seen, rewards: NDArray[np.float64]) -> None:
        """Compares a game that the opponent ended before the learner moved: one step in which only walk is legal."""
        if len(self._decisions) > 1 or seen.seat == 0:
            raise AssertionError(f"{self._where(0)}: no deal is shown.")
        if np.flatnonzero(seen.action_mask).tolist() != [self._spec.walk_action]:
            raise AssertionError(f"{self._where(0)}: the game is over, so that only walk should be legal.")
        self._compare_rewards([_played(game, self._spec.walk_action)], known, rewards)

    def _reference(self) -> tuple[ReferenceGame, list[int]]:
        """Returns the game before its first decision, and the seats whose deal is known."""
        if self._key is not None:
            values, outside = deal(self._spec, *self._key)
            return ReferenceGame(self._spec, values=values, outside=outside), [0, 1]
        values, outside = [[self._spec.min_value] * self._spec.num_items] * 2, [1, 1]
        known: list[int] = []
        for one in (one for seen, _ in self._decisions for one in seen if one.seat not in known):
            read = self._spec.read_observation(one.observation)
            if read.total > 0:
                values[one.seat], outside[one.seat] = read.values.tolist(), int(read.outside)
                known.append(one.seat)
        return ReferenceGame(self._spec, values=values, outside=outside), known

    def _hidden_offer(self, seen: Seen, where: str) -> int:
        read = self._spec.read_observation(seen.observation)
        if not read.has_offer:
            raise AssertionError(f"{where}: the opponent has moved, but no offer is shown.")
        mine = read.offer if seen.seat == 1 else np.array(self._spec.item_quantities) - read.offer
        return int(self._spec.encode_offer(mine))


def _ending_actions(game: ReferenceGame) -> list[int]:
    return [action for action in (game.spec.accept_action, game.spec.walk_action) if game.is_legal(action)]


def _played(game: ReferenceGame, action: int) -> ReferenceGame:
    twin = copy.copy(game)
    twin.moves = list(game.moves)
    twin.play(action)
    return twin

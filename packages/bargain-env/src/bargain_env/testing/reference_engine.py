"""The reference rules as an engine, and what the reference shows of many games.

Legend: `B` games.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_env.reference import ReferenceGame, random_action
from bargain_env.spec import GameSpec
from bargain_env.testing.compare import Arrays


def views_of(games: list[ReferenceGame]) -> Arrays:
    """Returns what an engine shows of `games` before a step."""
    return {
        "observation": np.stack([game.observation() for game in games]),
        "action_mask": np.stack([game.action_mask() for game in games]),
        "mover": np.array([game.mover for game in games], np.int8),
    }


def seat_views_of(games: list[ReferenceGame]) -> Arrays:
    """Returns what `Engine.seat_views` writes about `games`."""
    spec = games[0].spec
    observation = np.stack([[game.observation(seat) for game in games] for seat in (0, 1)])
    action_mask = np.zeros((2, len(games), spec.num_actions + 1), np.int8)
    for row, game in enumerate(games):
        action_mask[game.mover, row, :-1] = game.action_mask()
        action_mask[game.mover, row, spec.walk_action] = 1
        action_mask[1 - game.mover, row, spec.noop_action] = 1
    return {"observation": observation, "action_mask": action_mask}


class ReferenceEngine:
    """The part of `Engine` that the checks use, over one `ReferenceGame` per row."""

    device = "cpu"

    def __init__(self, spec: GameSpec, num_envs: int, seed: int, autoreset: bool) -> None:
        self.spec, self.num_envs, self.seed, self.autoreset = spec, num_envs, seed, autoreset
        self._episodes = [0] * num_envs
        self._games = [ReferenceGame(spec, seed, row) for row in range(num_envs)]
        self._ended = list(zip(self._games, self._episodes, strict=True))
        self._show([False] * num_envs, [(0.0, 0.0)] * num_envs, [False] * num_envs)

    def step(self, actions: NDArray[Any]) -> None:
        """Plays one action of every game; see `Engine.step`."""
        illegal, reward, terminated = [], [], []
        for row, action in enumerate(actions.tolist()):
            game = self._games[row]
            was_finished = game.finished
            illegal.append(game.play(action))
            reward.append((0.0, 0.0) if was_finished else game.rewards)
            terminated.append(game.finished)
            if game.finished:
                self._ended[row] = game, self._episodes[row]
                if self.autoreset:
                    self._episodes[row] += 1
                    self._games[row] = ReferenceGame(self.spec, self.seed, row, self._episodes[row])
        self._show(illegal, reward, terminated)

    def random_actions(self, stream: int = 0) -> NDArray[np.int64]:
        """Returns `[B]` uniform legal actions; see `Engine.random_actions`."""
        rows = enumerate(zip(self._games, self._episodes, strict=True))
        return np.array([random_action(game, self.seed, stream, row, episode) for row, (game, episode) in rows])

    def seat_views(self, observation: NDArray[np.float32], action_mask: NDArray[np.int8]) -> None:
        """Writes what both seats see; see `Engine.seat_views`."""
        views = seat_views_of(self._games)
        observation[:], action_mask[:] = views["observation"], views["action_mask"]

    def get_state(self) -> Arrays:
        """Returns the state of every game; see `Engine.get_state`."""
        return _columns(
            self._games,
            self._episodes,
            offer=([game.offer for game in self._games], np.int16),
            turn=([game.turn for game in self._games], np.int8),
            finished=([game.finished for game in self._games], np.bool_),
        )

    def _show(self, illegal: list[bool], reward: list[Any], terminated: list[bool]) -> None:
        games, episodes = [game for game, _ in self._ended], [episode for _, episode in self._ended]
        record = _columns(
            games,
            episodes,
            outcome=([game.outcome for game in games], np.int8),
            offer=([game.offer if game.outcome == 1 else -1 for game in games], np.int16),
            decisions=([game.turn for game in games], np.int8),
        )
        flags = {
            "illegal": np.array(illegal, np.bool_),
            "reward": np.array(reward, np.float32),
            "terminated": np.array(terminated, np.bool_),
        }
        vars(self).update(views_of(self._games) | record | flags)


def _columns(games: list[ReferenceGame], episodes: list[int], **columns: tuple[list[Any], type]) -> Arrays:
    turns = games[0].spec.max_turns
    return {name: np.array(values, dtype) for name, (values, dtype) in columns.items()} | {
        "values": np.array([game.values for game in games], np.int32),
        "outside": np.array([game.outside for game in games], np.int32),
        "actions": np.array([game.moves + [-1] * (turns - len(game.moves)) for game in games], np.int16),
        "game": np.arange(len(games), dtype=np.int64),
        "episode": np.array(episodes, np.int64),
    }

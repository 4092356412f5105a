"""Transitions of each seat, from its own decision to its next, out of the interleaved stream of a game.

Legend: `T` decisions of a rollout, `N` games, `R` rows, `O` features, `C` packed features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from bargain_env.spec import GameSpec
from tensordict import TensorDict, TensorDictBase

from bargain_train.advantage import seat_rewards
from bargain_train.buffers import pack_observation

_STREAM = ("observation", "player", "action", "best_response", "reward", "done")


class Transitions:
    """Cuts rollouts into transitions: `successor` is what the same seat sees next, `reward` all it got until then.

    What came of the last two decisions of a rollout lies in the next one. They are kept until then, so every decision
    yields one transition, in the order of the decisions.

    Args:
        spec: The game, with the observation of the rollouts.
    """

    def __init__(self, spec: GameSpec) -> None:
        self.spec = spec
        self._open: TensorDictBase | None = None

    def cut(self, rollout: TensorDictBase) -> TensorDictBase:
        """Returns the transitions that are complete with the next rollout `[T, N]` of the same games.

        Args:
            rollout: `observation` `[T, N, O]`, `player`, `action`, `best_response` and `done` `[T, N]`, `reward`
                `[T, N, 2]`; T is at least 2.

        Returns:
            `[R]` rows with `observation` and `successor` `[R, C]`, packed, `player`, `action` int16, `best_response`,
            `reward` and `over`: the game ended before the seat's next decision, so `successor` means nothing.
        """
        length, games = rollout.shape
        packed = pack_observation(self.spec, rollout["observation"].flatten(0, 1)).unflatten(0, (length, games))
        new: TensorDictBase = rollout.select(*_STREAM).set("observation", packed)
        stream: TensorDictBase = torch.cat([new] if self._open is None else [self._open.to(packed.device), new])
        self._open = stream[-2:].clone()
        player, done = stream["player"], stream["done"]
        rows = {
            "observation": stream["observation"][:-2],
            "successor": stream["observation"][2:],
            "player": player[:-2],
            "action": stream["action"][:-2].to(torch.int16),
            "best_response": stream["best_response"][:-2],
            "reward": seat_rewards(player, stream["reward"], done)[:-2],
            "over": done[:-2] | done[1:-1],
        }
        return TensorDict(rows, [len(stream) - 2, games]).flatten(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """Returns the decisions whose outcome is still open."""
        return {} if self._open is None else dict(self._open.items())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on exactly where `state_dict` was taken."""
        self._open = TensorDict(dict(state), state["done"].shape) if state else None

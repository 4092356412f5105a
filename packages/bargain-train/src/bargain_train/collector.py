"""A TorchRL collector that writes every decision of many games straight into one preallocated rollout.

Legend: `N` games, `T` decisions a rollout, `A` actions, `O` features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from bargain_env.torchrl_env import BargainEnv
from bargain_env.torchrl_views import as_tensors
from tensordict import TensorDict, TensorDictBase
from torchrl.collectors import BaseCollector

ROOT_KEYS = ("observation", "action_mask", "player")


class TimeMajorCollector(BaseCollector):
    """An endless TorchRL collector for a `BargainEnv` in the acting view; games go on from rollout to rollout.

    Yields tensordicts `[T, N]` with `observation`, `action_mask`, `player`, everything that the policy writes, and
    `("next", "reward")` `[T, N, 2]`, `("next", "done")` and `("next", "terminated")` `[T, N, 1]`. There are no next
    observations: they are the observations of row `t + 1`, and after the last row `env.current_root()`. TorchRL's
    `Collector` with the same environment and policy yields the same numbers, batch first.

    A step costs the engine's own, writing what differs from what the rollout still holds, and the policy. No rows are
    allocated after the first rollout, and nothing here waits for a GPU. The memory of a rollout is overwritten by the
    next one and must not be written into by others.

    Args:
        env: The games, played on from where they stand; closed by `shutdown`.
        policy: Called with the root tensordict `[N]`; must return it, or another, with `action` `[N]` int64, and may
            add more.
        length: Decisions `T` of each game in a rollout.

    Attributes:
        env: The games.
        policy: The policy.

    Raises:
        ValueError: If `length` is below 1 or the environment shows both agents.
    """

    def __init__(self, env: BargainEnv, policy: Callable[[TensorDictBase], TensorDictBase], *, length: int) -> None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}.")
        if env.group_map:
            raise ValueError('a TimeMajorCollector needs BargainEnv(view="acting").')
        super().__init__()
        self.env, self.policy = env, policy
        self.total_frames, self.requested_frames_per_batch = -1, length * env.batch_size[0]
        self.frames_per_batch = length
        self._shown = as_tensors(env.engine)
        roots: TensorDictBase = env.current_root().select(*ROOT_KEYS).expand(length, *env.batch_size).clone()
        self._roots = roots.unbind(0)
        mover = roots["player"].to(torch.int8)
        terminated = torch.zeros(*roots.shape, 1, dtype=torch.bool, device=env.device)
        outcome = {"reward": torch.zeros(*roots.shape, 2, device=env.device), "terminated": terminated}
        self._rollout = roots.copy().update({"next": TensorDict({**outcome, "done": terminated}, roots.shape)})
        self._movers, self._ended = mover.unbind(0), terminated.squeeze(-1).unbind(0)
        self._rewards = outcome["reward"].unbind(0)
        self._chosen: dict[str, Sequence[torch.Tensor]] = {}  # what the policy adds, by name and step
        views = {"observation": roots["observation"], "action_mask": roots["action_mask"], "mover": mover}
        self._recorder = env.engine.recorder({name: env.for_engine(view) for name, view in views.items()})

    def iterator(self) -> Iterator[TensorDictBase]:
        """Yields rollouts without end."""
        while True:
            yield self.rollout()

    @torch.no_grad()
    def rollout(self) -> TensorDictBase:
        """Plays the next rollout `[T, N]`."""
        env, shown = self.env, self._shown
        env.engine.autoreset = True
        for t, root in enumerate(self._roots):
            self._recorder.record(t)
            root.get("player").copy_(self._movers[t])
            chosen = self.policy(root.copy())
            for name, value in chosen.items():
                if name not in ROOT_KEYS:
                    self._rows_of(name, value)[t].copy_(value)
            env.engine.step(env.for_engine(chosen.get("action")))
            self._rewards[t].copy_(shown["reward"])
            self._ended[t].copy_(shown["terminated"])
        return self._rollout.copy()

    def set_seed(self, seed: int, static_seed: bool = False) -> int:
        """Deals all games anew under `seed`, from episode 0; returns the seed to use next."""
        following: int = self.env.set_seed(seed, static_seed=static_seed)
        self.env.reset()
        return following

    def state_dict(self) -> dict[str, Any]:
        """Returns the games as they stand, on the CPU; the policy and its random numbers are the caller's."""
        return {name: torch.as_tensor(array).cpu() for name, array in self.env.engine.get_state().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Goes on from the games of `state_dict`.

        Raises:
            ValueError: If they belong to another game or number of games.
        """
        self.env.engine.set_state({name: self.env.for_engine(rows) for name, rows in state_dict.items()})

    def shutdown(self, timeout: float | None = None, close_env: bool = True, raise_on_error: bool = True) -> None:
        """Closes the environment, if `close_env`; there is nothing else to wait for or to fail."""
        if close_env:
            self.env.close(raise_if_closed=False)

    def _rows_of(self, name: str, value: torch.Tensor) -> Sequence[torch.Tensor]:
        if name not in self._chosen:
            rows = value.new_empty((len(self._roots), *value.shape))
            self._rollout.set(name, rows)
            self._chosen[name] = rows.unbind(0)
        return self._chosen[name]

"""What the TorchRL environment shows of an engine: the acting player's rows, or both agents' side by side.

Legend: `N` games, `A` actions, `O` features.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Categorical, Composite, TensorSpec, Unbounded

from bargain_env.engine import Engine
from bargain_env.layout import mover_views_layout, seat_views_layout

ViewKind = Literal["acting", "agents"]
Tensors = dict[str, torch.Tensor]


class View(Protocol):
    """One layout of keys over the engine's rows.

    Attributes:
        group_map: The agents of each group of keys; empty if keys are not grouped.
        observation_spec: What `observe` returns, as `pack` lays it out.
        action_spec: What `set_actions` writes.
        reward_spec: What `reward` returns, as `pack` lays it out.
        done_spec: The flags that `pack` adds.
    """

    group_map: dict[str, list[str]]
    observation_spec: TensorSpec
    action_spec: TensorSpec
    reward_spec: TensorSpec
    done_spec: TensorSpec

    def observe(self) -> Tensors:
        """Returns copies of what the games show now; no mask is empty, a finished game's holds walk."""
        ...

    def reward(self) -> Tensors:
        """Returns a copy of what the last step paid."""
        ...

    def pack(self, rows: Tensors, done: torch.Tensor) -> TensorDictBase:
        """Returns `rows` with the flags `done` and `terminated`, which both are `done` `[N, 1]`."""
        ...

    def movers_actions(self, tensordict: TensorDictBase) -> torch.Tensor:
        """Returns the actions `[N]` int64 of whoever is to move."""
        ...

    def set_actions(self, tensordict: TensorDictBase, actions: torch.Tensor) -> TensorDictBase:
        """Writes `actions` `[N]` of whoever is to move; a waiting seat gets noop."""
        ...


def make_view(kind: ViewKind, engine: Engine) -> View:
    """Builds the view of `engine` that `BargainEnv` documents.

    Raises:
        ValueError: If there is no such view.
    """
    if kind not in _VIEWS:
        raise ValueError(f"view must be one of {', '.join(_VIEWS)}, got {kind!r}.")
    return _VIEWS[kind](engine)


def as_tensors(engine: Engine) -> Tensors:
    """Returns the engine's arrays as tensors that share their memory."""
    return {name: torch.as_tensor(array) for name, array in engine.buffers.items()}


def for_engine(engine: Engine, tensor: torch.Tensor) -> Any:
    """Returns `tensor` as the kind of array that `engine` takes; shares its memory if it is contiguous."""
    return tensor.contiguous() if isinstance(engine.mover, torch.Tensor) else tensor.numpy()


class _ActingView:
    """The mover's row of every game."""

    def __init__(self, engine: Engine) -> None:
        game, shape, device = engine.spec, (engine.num_envs,), torch.device(engine.device)
        self._engine, self._walk, self._buffers = engine, game.walk_action, as_tensors(engine)
        layout = mover_views_layout(game, engine.num_envs)
        self._shapes = layout["observation"][0], layout["action_mask"][0]
        self.group_map: dict[str, list[str]] = {}
        self.observation_spec = Composite(
            observation=_features(game.observation_dim, shape, device),
            action_mask=_mask(game.num_actions, shape, device),
            player=Categorical(2, shape=shape, dtype=torch.int64, device=device),
            shape=shape,
            device=device,
        )
        self.action_spec = Categorical(game.num_actions, shape=shape, dtype=torch.int64, device=device)
        self.reward_spec = Unbounded(shape=(*shape, 2), dtype=torch.float32, device=device)
        self.done_spec = _flags(shape, device)

    def observe(self) -> Tensors:
        device = self._buffers["mover"].device
        observation = torch.empty(self._shapes[0], dtype=torch.float32, device=device)
        mask = torch.empty(self._shapes[1], dtype=torch.bool, device=device)
        self._engine.mover_views(*(for_engine(self._engine, array) for array in (observation, mask)))
        mask[:, self._walk] = True
        return {"observation": observation, "action_mask": mask, "player": self._buffers["mover"].to(torch.int64)}

    def reward(self) -> Tensors:
        return {"reward": self._buffers["reward"].clone()}

    def pack(self, rows: Tensors, done: torch.Tensor) -> TensorDictBase:
        return TensorDict(rows | _both_flags(done), batch_size=done.shape[:1], device=done.device)

    def movers_actions(self, tensordict: TensorDictBase) -> torch.Tensor:
        return tensordict["action"]

    def set_actions(self, tensordict: TensorDictBase, actions: torch.Tensor) -> TensorDictBase:
        return tensordict.set("action", actions)


class _AgentsView:
    """Both seats' rows of every game, under the group key `agents`."""

    def __init__(self, engine: Engine) -> None:
        game, n, device = engine.spec, engine.num_envs, torch.device(engine.device)
        self._engine, self._noop, self._buffers = engine, game.noop_action, as_tensors(engine)
        layout = seat_views_layout(game, n)
        self._shapes = layout["observation"][0], layout["action_mask"][0]
        self.group_map = {"agents": ["player_0", "player_1"]}
        shape = (n, 2)
        self.observation_spec = _group(
            Composite(
                observation=_features(game.observation_dim, shape, device),
                action_mask=_mask(game.num_actions + 1, shape, device),
                turn=Binary(1, shape=(*shape, 1), dtype=torch.bool, device=device),
                shape=shape,
                device=device,
            )
        )
        actions = Categorical(game.num_actions + 1, shape=shape, dtype=torch.int64, device=device)
        rewards = Unbounded(shape=(*shape, 1), dtype=torch.float32, device=device)
        self.action_spec = _group(Composite(action=actions, shape=shape, device=device))
        self.reward_spec = _group(Composite(reward=rewards, shape=shape, device=device))
        self.done_spec = _group(_flags(shape, device)).update(_flags((n,), device))

    def observe(self) -> Tensors:
        device = self._buffers["mover"].device
        observation = torch.empty(self._shapes[0], dtype=torch.float32, device=device)
        mask = torch.empty(self._shapes[1], dtype=torch.bool, device=device)
        arrays = observation, mask.view(torch.int8)
        self._engine.seat_views(*(for_engine(self._engine, array) for array in arrays))
        observation, mask = observation.transpose(0, 1), mask.transpose(0, 1)
        return {"observation": observation, "action_mask": mask, "turn": ~mask[..., self._noop :]}

    def reward(self) -> Tensors:
        return {"reward": self._buffers["reward"].clone().unsqueeze(-1)}

    def pack(self, rows: Tensors, done: torch.Tensor) -> TensorDictBase:
        n, device = len(done), done.device
        each = torch.stack([done, done], dim=1)
        agents = TensorDict(rows | _both_flags(each), batch_size=(n, 2), device=device)
        return TensorDict({"agents": agents, **_both_flags(done)}, batch_size=(n,), device=device)

    def movers_actions(self, tensordict: TensorDictBase) -> torch.Tensor:
        movers = self._buffers["mover"].to(torch.int64).unsqueeze(1)
        return tensordict["agents", "action"].gather(1, movers).squeeze(1)

    def set_actions(self, tensordict: TensorDictBase, actions: torch.Tensor) -> TensorDictBase:
        moving = torch.arange(2, device=actions.device) == self._buffers["mover"].unsqueeze(1)
        both = torch.where(moving, actions.unsqueeze(1), self._noop)
        return tensordict.update({"agents": TensorDict({"action": both}, both.shape, device=both.device)})


_VIEWS: dict[str, type[_ActingView] | type[_AgentsView]] = {"acting": _ActingView, "agents": _AgentsView}


def _both_flags(done: torch.Tensor) -> Tensors:
    return {"done": done, "terminated": done.clone()}


def _features(size: int, shape: tuple[int, ...], device: torch.device) -> TensorSpec:
    return Bounded(-1.0, 1.0, shape=(*shape, size), dtype=torch.float32, device=device)


def _mask(size: int, shape: tuple[int, ...], device: torch.device) -> TensorSpec:
    return Binary(size, shape=(*shape, size), dtype=torch.bool, device=device)


def _flags(shape: tuple[int, ...], device: torch.device) -> Composite:
    flag = Categorical(2, shape=(*shape, 1), dtype=torch.bool, device=device)
    return Composite(done=flag, terminated=flag.clone(), shape=shape, device=device)


def _group(agents: Composite) -> Composite:
    return Composite(agents=agents, shape=agents.shape[:1], device=agents.device)

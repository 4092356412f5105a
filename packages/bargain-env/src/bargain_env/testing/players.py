"""One way to play every kind of environment.

Legend: `n` games that one environment plays together, 1 for the scalar kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bargain_env.spec import GameSpec
from bargain_env.testing.compare import Arrays
from bargain_env.testing.shown import Shown, flatten, see, show, show_one


class Player(Protocol):
    """Plays an environment; a finished game is dealt anew within the step, by the environment or else by `reset`."""

    def reset(self, seed: int | None = None) -> Shown:
        """Deals new games."""
        ...

    def step(self, actions: Sequence[int]) -> Shown:
        """Plays one action of whoever acts in each game."""
        ...


def player(env: Any, spec: GameSpec) -> Player:
    """Returns the player of `env`, recognised by its methods.

    Raises:
        TypeError: If it is none of the kinds that the checks know.
    """
    for attribute, kind in _KINDS.items():
        if hasattr(env, attribute):
            known: Player = kind(env, spec)
            return known
    raise TypeError(f"no check knows how to play {type(env).__name__}; it has none of {', '.join(_KINDS)}.")


class _AECPlayer:
    """PettingZoo, one seat at a time."""

    def __init__(self, env: Any, spec: GameSpec) -> None:
        self._env, self._spec = env, spec

    def reset(self, seed: int | None = None) -> Shown:
        self._env.reset(seed=seed)
        return self._show(self._look(), np.zeros(2), False, False)

    def step(self, actions: Sequence[int]) -> Shown:
        env = self._env
        agents, mover = env.possible_agents, env.agent_selection
        env.step(int(actions[0]))
        rewards, illegal = np.array([env.rewards[agent] for agent in agents]), env.infos[mover].get("illegal", False)
        returned = self._look()
        if not all(env.terminations.values()):
            return self._show(returned, rewards, False, illegal)
        collected = {}
        while env.agents:
            leaving = env.agent_selection
            collected[leaving] = env.last()[1]
            env.step(None)
        env.reset()
        if [collected[agent] for agent in agents] != rewards.tolist():
            raise AssertionError(f"the step paid {rewards.tolist()}, but last() said {collected}.")
        return self._show(flatten((returned, collected, self._look())), rewards, True, illegal)

    def _look(self) -> Arrays:
        env = self._env
        return flatten([env.agent_selection, env.last(), [env.observe(agent) for agent in env.possible_agents]])

    def _show(self, everything: Arrays, rewards: NDArray[np.float64], ended: bool, illegal: bool) -> Shown:
        env, agents = self._env, list(self._env.possible_agents)
        mover = agents.index(env.agent_selection)
        views = [(seat, env.observe(agents[seat])) for seat in (mover, 1 - mover)]
        rows = [see(seat, view["observation"], view["action_mask"], self._spec) for seat, view in views]
        return show_one(rows, rewards, ended, illegal, everything)


class _ParallelPlayer:
    """PettingZoo's parallel form, both seats at once, scalar or batched."""

    def __init__(self, env: Any, spec: GameSpec) -> None:
        self._env, self._spec = env, spec
        self._agents = list(env.possible_agents)
        self._batched = getattr(env, "num_envs", None) is not None

    def reset(self, seed: int | None = None) -> Shown:
        self._views, infos = self._env.reset(seed=seed)
        rewards = np.zeros((len(self._masks()[0]), 2))
        return self._show(rewards, None, None, flatten((self._views, infos)))

    def step(self, actions: Sequence[int]) -> Shown:
        first, second = self._masks()
        waits, chosen = second[:, :-1].any(1), np.array(actions)
        noop = first.shape[1] - 1
        played = np.where(waits, noop, chosen), np.where(waits, chosen, noop)
        given = played if self._batched else [int(action[0]) for action in played]
        self._views, paid, ended, _, infos = returned = self._env.step(dict(zip(self._agents, given, strict=True)))
        everything = flatten(returned)
        rewards = np.stack([np.atleast_1d(paid[agent]) for agent in self._agents], axis=1)
        over = np.atleast_1d(ended[self._agents[0]])
        illegal = np.any([np.atleast_1d(infos[agent].get("illegal", False)) for agent in self._agents], axis=0)
        if not self._batched and over[0]:
            self._views, infos = self._env.reset()
            everything |= flatten((self._views, infos), "reset")
        return self._show(rewards, over, illegal, everything)

    def _masks(self) -> list[NDArray[Any]]:
        return self._rows("action_mask")

    def _rows(self, name: str) -> list[NDArray[Any]]:
        return [np.atleast_2d(self._views[agent][name]) for agent in self._agents]

    def _show(self, rewards: NDArray[Any], ended: Any, illegal: Any, everything: Arrays) -> Shown:
        observations, masks = self._rows("observation"), self._masks()
        seen = [
            [see(seat, observations[seat][row], masks[seat][row], self._spec) for seat in (0, 1)]
            for row in range(len(rewards))
        ]
        rows = [sorted(row, key=lambda one: not one.action_mask.any()) for row in seen]
        return show(rows, rewards, ended, illegal, everything)


class _GymnasiumPlayer:
    """Gymnasium: a learner's own view, single or vectorised with any autoreset mode."""

    def __init__(self, env: Any, spec: GameSpec) -> None:
        self._env, self._spec = env, spec
        self._vector = hasattr(env, "single_observation_space")
        self._mode = env.metadata["autoreset_mode"].name if self._vector else "DISABLED"

    def reset(self, seed: int | None = None) -> Shown:
        view, info = self._env.reset(seed=seed)
        self._seats = np.atleast_1d(info["seat"]).copy()
        self._ended = np.zeros(len(self._seats), bool)
        return self._show(view, info, 0.0, None, None, flatten((view, info)))

    def step(self, actions: Sequence[int]) -> Shown:
        view, paid, ended, _, info = returned = self._env.step(np.array(actions) if self._vector else int(actions[0]))
        everything, ended = flatten(returned), np.atleast_1d(ended).copy()
        told = info.get("final_info", info)
        illegal = np.atleast_1d(told.get("illegal", False)) & ended
        opened, self._ended = (self._ended if self._mode == "NEXT_STEP" else ended), ended
        if self._mode == "DISABLED" and ended.any():
            view, info = self._env.reset(options={"reset_mask": ended} if self._vector else None)
            everything |= flatten((view, info), "reset")
        return self._show(view, info, np.atleast_1d(paid), ended, illegal, everything, opened)

    def _show(
        self, view: Any, info: Any, paid: Any, ended: Any, illegal: Any, everything: Arrays, opened: Any = None
    ) -> Shown:
        own = view["observation"] if isinstance(view, dict) else view
        observations, seats = np.atleast_2d(own), np.atleast_1d(info["seat"])
        masks = np.atleast_2d(view["action_mask"] if isinstance(view, dict) else info["action_mask"])
        rows = [[see(seats[r], observations[r], masks[r], self._spec)] for r in range(len(seats))]
        rewards = np.full((len(rows), 2), np.nan)
        rewards[np.arange(len(rows)), self._seats] = paid
        self._seats = seats.copy()
        return show(rows, rewards, ended, illegal, everything, opened)


class _TorchRLPlayer:
    """TorchRL's `EnvBase`: the view of the acting player or that of both agents."""

    def __init__(self, env: Any, spec: GameSpec) -> None:
        self._env, self._spec = env, spec

    def reset(self, seed: int | None = None) -> Shown:
        if seed is not None:
            self._env.set_seed(seed)
        self._root = self._env.reset()
        return self._show(np.zeros((len(self._root), 2)), None, flatten(self._root))

    def step(self, actions: Sequence[int]) -> Shown:
        import torch

        played, device = torch.tensor(list(actions), dtype=torch.int64), self._root.device
        if "agents" in self._root.keys():  # noqa: SIM118 - a tensordict iterates over its rows
            noop = torch.full_like(played, self._spec.noop_action)
            waits = self._root["agents", "turn"][:, 1, 0].cpu()
            both = torch.stack([torch.where(waits, noop, played), torch.where(waits, played, noop)], dim=1)
            self._root["agents", "action"] = both.to(device)
        else:
            self._root["action"] = played.to(device)
        stepped, self._root = self._env.step_and_maybe_reset(self._root)
        after = stepped["next"]
        paid = after["agents", "reward"].squeeze(-1) if "agents" in after.keys() else after["reward"]  # noqa: SIM118
        ended = after["done"].squeeze(-1).cpu().numpy().copy()
        return self._show(paid.cpu().numpy().copy(), ended, flatten((after, self._root)))

    def _show(self, rewards: NDArray[Any], ended: Any, everything: Arrays) -> Shown:
        if "agents" in self._root.keys():  # noqa: SIM118
            group = self._root["agents"].cpu()
            turns = group["turn"].squeeze(-1).long().argmax(1).tolist()
            views = [(row, seat) for row, turn in enumerate(turns) for seat in (turn, 1 - turn)]
            shown = [
                see(seat, group["observation"][row, seat], group["action_mask"][row, seat], self._spec)
                for row, seat in views
            ]
            rows = [shown[k : k + 2] for k in range(0, len(shown), 2)]
        else:
            root = self._root.cpu()
            fields = zip(root["player"], root["observation"], root["action_mask"], strict=True)
            rows = [[see(seat, observation, mask, self._spec)] for seat, observation, mask in fields]
        return show(rows, rewards, ended, None, everything)


class _OpenSpielPlayer:
    """An OpenSpiel game; the player draws the chance outcomes, which no seed of the game decides."""

    def __init__(self, env: Any, spec: GameSpec) -> None:
        self._game, self._spec = env, spec
        self._rng = np.random.default_rng(0)

    def reset(self, seed: int | None = None) -> Shown:
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        return self._deal(np.zeros(2), False, {})

    def step(self, actions: Sequence[int]) -> Shown:
        self._state.apply_action(int(actions[0]))
        ended = self._state.is_terminal()
        rewards, everything = np.array(self._state.returns()), flatten(self._look())
        return self._deal(rewards, True, everything) if ended else self._show(rewards, False, everything)

    def _deal(self, rewards: NDArray[np.float64], ended: bool, everything: Arrays) -> Shown:
        self._state = self._game.new_initial_state()
        while self._state.is_chance_node():
            outcomes, chances = zip(*self._state.chance_outcomes(), strict=True)
            self._state.apply_action(int(self._rng.choice(outcomes, p=chances)))
        return self._show(rewards, ended, everything | flatten(self._look(), "dealt"))

    def _look(self) -> list[Any]:
        state = self._state
        return [(state.information_state_string(seat), state.observation_tensor(seat)) for seat in (0, 1)]

    def _show(self, rewards: NDArray[np.float64], ended: bool, everything: Arrays) -> Shown:
        state, mover = self._state, self._state.current_player()
        mask = np.array(state.legal_actions_mask(mover))
        rows = [
            see(seat, np.array(state.observation_tensor(seat), np.float32), mask * (seat == mover), self._spec)
            for seat in (mover, 1 - mover)
        ]
        return show_one(rows, rewards, ended, False, everything)


_KINDS: dict[str, Any] = {
    "new_initial_state": _OpenSpielPlayer,
    "step_and_maybe_reset": _TorchRLPlayer,
    "agent_iter": _AECPlayer,
    "possible_agents": _ParallelPlayer,
    "action_space": _GymnasiumPlayer,
}

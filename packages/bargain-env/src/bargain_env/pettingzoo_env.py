"""PettingZoo's parallel view: both seats act at every step, and the waiting one plays `noop`.

Legend: `B` games, `I` item types, `A` actions, `O` features. In the scalar form `B` is absent from every shape.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from bargain_env.engine import make_engine
from bargain_env.spec import GameSpec

AGENTS = ("player_0", "player_1")
"""Agent k sits in seat k."""

Observations = dict[str, dict[str, NDArray[Any]]]
Step = tuple[Observations, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]

_DEAL_OPTIONS = ("values", "outside")


class BargainParallelEnv(ParallelEnv):
    """One game, or `B` games in lock-step, as a PettingZoo `ParallelEnv`.

    An observation is `{"observation": [B, O] float32, "action_mask": [B, A + 1] int8}`, 1 = legal. The waiting seat's
    only legal action is `noop` (`spec.noop_action`, the last one); whatever it plays is ignored. An illegal action of
    the mover, `noop` included, is executed as walk and shows as `infos[agent]["illegal"]`. Rewards are payoff / own
    total, paid to both seats by the step that ends the game; nothing is ever truncated.

    The scalar form (`num_envs=None`) plays one game: after its end `agents` is empty, and the last observation is
    zeros with only walk (the last mover) and `noop` (the other seat) legal. The batched form deals a finished game
    anew within the same step, so an observation after a terminal step is that of the new game.

    Args:
        spec: The game; the standard one if None.
        num_envs: Games `B`; None for the scalar form.
        seed: Key of the deals, 0 to 2**64 - 1.
        copy: Return fresh arrays. If False, a step or reset overwrites the arrays that the last one returned.
        threads: CPU threads; results do not depend on it.
        first_game: Index of the first row's game.

    Attributes:
        spec: The game.
        num_envs: Games `B`, or None.
        engine: The engine behind the view; its records of finished games are valid where terminated.
        agents: The agents still playing.
        possible_agents: `["player_0", "player_1"]`.

    Raises:
        ValueError: If an argument is out of range.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": "bargain_v0", "render_modes": [], "is_parallelizable": True}

    def __init__(
        self,
        spec: GameSpec | None = None,
        num_envs: int | None = None,
        seed: int = 0,
        *,
        copy: bool = True,
        threads: int = 1,
        first_game: int = 0,
    ) -> None:
        self.spec = spec = spec or GameSpec()
        self.num_envs = num_envs
        self.render_mode = None
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self.engine = make_engine(
            spec,
            1 if num_envs is None else num_envs,
            seed=seed,
            first_game=first_game,
            threads=threads,
            autoreset=num_envs is not None,
        )
        rows = self.engine.num_envs
        self._started = False
        self._buffers = None if copy else _allocate(spec, rows)
        self._actions = np.empty(rows, dtype=np.int64)
        self._never = np.zeros(rows, dtype=bool)
        self._spaces: dict[tuple[str, str], spaces.Space[Any]] = {}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Returns the space of one observation of `agent`; the same object at every call."""
        low = np.zeros(self.spec.observation_dim, dtype=np.float32)
        for name in ("offer", "history"):
            low[self.spec.slices[name]] = -1.0
        single = spaces.Dict(
            {
                "observation": spaces.Box(low, np.ones_like(low)),
                "action_mask": spaces.Box(0, 1, (self.spec.num_actions + 1,), np.int8),
            }
        )
        return self._space("observation", agent, single)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Returns the `A` + 1 actions of `agent`, the last one `noop`; the same object at every call."""
        return self._space("action", agent, spaces.Discrete(self.spec.num_actions + 1))

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observations, dict[str, dict[str, Any]]]:
        """Deals games: episode 0 at first and with a `seed`, then one more each time.

        Args:
            seed: If given, the new key of the deals.
            options: May hold `values` int `[B, 2, I]` with `outside` int `[B, 2]` (explicit deals) and, in the batched
                form, `reset_mask` bool `[B]` (the rows to deal). The scalar form ignores other keys: PettingZoo's own
                suite passes one.

        Returns:
            Observations and infos by agent.

        Raises:
            ValueError: If an option is unknown (batched form), or a value is out of range.
        """
        if self.num_envs is None and options is not None:
            options = {key: np.asarray(options[key])[None] for key in _DEAL_OPTIONS if key in options}
        self.engine.reset(seed, options)
        self._started = True
        self.agents = list(AGENTS)
        return self._observe(), self._infos(self._never, self.engine.mover)

    def step(self, actions: Mapping[str, Any]) -> Step:
        """Plays the mover's action of every game; two passes over the rows more than the engine's step.

        Args:
            actions: Integers `[B]` by agent; the waiting seat's are ignored.

        Returns:
            Observations, rewards (float32), terminations and truncations (bool) and infos by agent; five empty
            dictionaries after the end of a scalar game.

        Raises:
            RuntimeError: If `reset` has not been called.
            ValueError: If the mover's actions are missing, no integers, or of the wrong shape.
        """
        if not self._started:
            raise RuntimeError("call reset before step.")
        if not self.agents:
            return {}, {}, {}, {}, {}
        mover = self.engine.mover.copy()
        self._read_actions(actions, mover)
        self.engine.step(self._actions)
        observations, infos = self._observe(), self._infos(self.engine.illegal, mover)
        rewards = {agent: self._export(self.engine.reward[:, seat]) for seat, agent in enumerate(AGENTS)}
        terminations = {agent: self._export(self.engine.terminated) for agent in AGENTS}
        truncations = {agent: self._export(self._never) for agent in AGENTS}
        if self.num_envs is None and self.engine.terminated[0]:
            self.agents = []
        return observations, rewards, terminations, truncations, infos

    def close(self) -> None:
        """Releases the engine; a later step or reset raises."""
        self.engine.close()

    def _space(self, kind: str, agent: str, single: spaces.Space[Any]) -> spaces.Space[Any]:
        if agent not in AGENTS:
            raise ValueError(f"agent must be one of {', '.join(AGENTS)}, got {agent!r}.")
        if (kind, agent) not in self._spaces:
            self._spaces[kind, agent] = single if self.num_envs is None else batch_space(single, self.num_envs)
        return self._spaces[kind, agent]

    def _read_actions(self, actions: Mapping[str, Any], mover: NDArray[np.int8]) -> None:
        if self.num_envs is None:
            self._actions[0] = self._read_action(actions, AGENTS[mover[0]])
            return
        for seat, agent in enumerate(AGENTS):
            chosen = np.asarray(actions.get(agent))
            if chosen.shape != (self.num_envs,) or chosen.dtype.kind not in "iu":
                raise ValueError(
                    f"actions of {agent} must be integers of shape ({self.num_envs},), "
                    f"got shape {chosen.shape} of {chosen.dtype}."
                )
            np.copyto(self._actions, chosen, where=mover == seat, casting="unsafe")

    def _read_action(self, actions: Mapping[str, Any], agent: str) -> int:
        try:
            action = operator.index(actions[agent])
        except (KeyError, TypeError):
            raise ValueError(f"actions must hold one integer for {agent}, whose move it is.") from None
        return action if 0 <= action < self.spec.num_actions else -1

    def _observe(self) -> Observations:
        views, masks = self._buffers or _allocate(self.spec, self.engine.num_envs)
        self.engine.seat_views(views, masks)
        if self.num_envs is None:
            views, masks = views[:, 0], masks[:, 0]
        return {agent: {"observation": views[k], "action_mask": masks[k]} for k, agent in enumerate(AGENTS)}

    def _infos(self, illegal: NDArray[np.bool_], mover: NDArray[np.int8]) -> dict[str, dict[str, Any]]:
        return {agent: {"illegal": self._export(illegal & (mover == seat))} for seat, agent in enumerate(AGENTS)}

    def _export(self, array: NDArray[Any]) -> Any:
        if self.num_envs is None:
            return array[0].item()
        return array if self._buffers is not None else array.copy()


def _allocate(spec: GameSpec, rows: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Returns views `[2, B, O]` and masks `[2, B, A + 1]` of both seats; two large arrays are cheaper than four."""
    shape = len(AGENTS), rows
    return np.empty((*shape, spec.observation_dim), np.float32), np.empty((*shape, spec.num_actions + 1), np.int8)


def parallel_env(
    spec: GameSpec | None = None,
    num_envs: int | None = None,
    seed: int = 0,
    *,
    copy: bool = True,
    threads: int = 1,
    first_game: int = 0,
) -> BargainParallelEnv:
    """Builds a `BargainParallelEnv`, which documents the arguments."""
    return BargainParallelEnv(spec, num_envs, seed, copy=copy, threads=threads, first_game=first_game)

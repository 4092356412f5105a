"""PettingZoo's parallel view: both seats act at every step, and the waiting one plays `noop`.

Legend: `B` games, `I` item types, `A` actions, `O` features. In the scalar form `B` is absent from every shape.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from bargain_env.checks import check_spec
from bargain_env.engine import make_engine
from bargain_env.one_game import one_game_options
from bargain_env.pettingzoo_common import AGENTS, IGNORED_OPTIONS, METADATA, observation_space, seat_of, state_space
from bargain_env.rendering import Rendering, check_render_mode, render_row
from bargain_env.spec import GameSpec

Observations = dict[str, dict[str, NDArray[Any]]]
Step = tuple[Observations, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]


class BargainParallelEnv(ParallelEnv, EzPickle):
    """One game, or `B` games in lock-step, as a PettingZoo `ParallelEnv`.

    An observation is `{"observation": [B, O] float32, "action_mask": [B, A + 1] int8}`, 1 = legal. The waiting seat's
    only legal action is `noop` (`spec.noop_action`, the last one); whatever it plays is ignored. An illegal action of
    the mover, `noop` included, is executed as walk and shows as `infos[agent]["illegal"]`. Rewards are payoff / own
    total, paid to both seats by the step that ends the game; nothing is ever truncated.

    The scalar form (`num_envs=None`) plays one game: after its end `agents` is empty, and the last observation is
    zeros with only walk (the last mover) and `noop` (the other seat) legal. The batched form deals a finished game
    anew within the same step, so an observation after a terminal step is that of the new game.

    A pickled or copied environment is built anew from its arguments, before its first reset.

    Args:
        spec: The game; the standard one if None.
        num_envs: Games `B`; None for the scalar form.
        seed: Key of the deals, 0 to 2**64 - 1.
        copy: Return fresh arrays. If False, a step or reset overwrites the arrays that the last one returned.
        threads: CPU threads; results do not depend on it.
        first_game: Index of the first row's game.
        render_mode: None, "human", "ansi" or "rgb_array", for the scalar form alone; see `bargain_env.rendering`.

    Attributes:
        spec: The game.
        num_envs: Games `B`, or None.
        engine: The engine behind the view; its records of finished games are valid where terminated.
        agents: The agents still playing.
        possible_agents: `["player_0", "player_1"]`.

    Raises:
        ValueError: If an argument is out of range, or a batch is asked to render.
    """

    metadata: ClassVar[dict[str, Any]] = METADATA | {"is_parallelizable": True}

    def __init__(
        self,
        spec: GameSpec | None = None,
        num_envs: int | None = None,
        seed: int = 0,
        *,
        copy: bool = True,
        threads: int = 1,
        first_game: int = 0,
        render_mode: str | None = None,
    ) -> None:
        options = {"copy": copy, "threads": threads, "first_game": first_game, "render_mode": render_mode}
        EzPickle.__init__(self, spec, num_envs, seed, **options)
        check_render_mode(render_mode)
        if render_mode is not None and num_envs is not None:
            raise ValueError("render_mode needs the scalar form: leave num_envs out.")
        self.spec = spec = check_spec(spec)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self.engine = make_engine(
            spec,
            1 if num_envs is None else num_envs,
            seed=seed,
            first_game=first_game,
            threads=threads,
            autoreset=num_envs is not None,
            views=False,
        )
        rows = self.engine.num_envs
        self._started = self._closed = False
        self._views_shape, self._masks_shape = (2, rows, spec.observation_dim), (2, rows, spec.num_actions + 1)
        self._buffers = None if copy else self._allocate()
        self._never = np.zeros(rows, dtype=bool)
        self._never.flags.writeable = False
        self._spaces: dict[tuple[str, str], spaces.Space[Any]] = {}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Returns the space of one observation of `agent`; the same object at every call."""
        return self._space("observation", agent)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Returns the `A` + 1 actions of `agent`, the last one `noop`; the same object at every call."""
        return self._space("action", agent)

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observations, dict[str, dict[str, Any]]]:
        """Deals games: episode 0 at first and with a `seed`, then one more each time.

        Args:
            seed: If given, the new key of the deals.
            options: May hold `values` int `[B, 2, I]` with `outside` int `[B, 2]` (explicit deals) and, in the batched
                form, `reset_mask` bool `[B]` (the rows to deal). The scalar form ignores the key `options`, which
                PettingZoo's own suite passes.

        Returns:
            Observations and infos by agent.

        Raises:
            ValueError: If an option is unknown or a value is out of range.
        """
        if self.num_envs is None:
            options = one_game_options(self.spec, options, IGNORED_OPTIONS)
        self.engine.reset(seed, options)
        self._started = True
        self.agents = list(AGENTS)
        self._show()
        illegal = [False if self.num_envs is None else self._export(self._never) for _ in AGENTS]
        return self._observe(), {agent: {"illegal": illegal[seat]} for seat, agent in enumerate(AGENTS)}

    def step(self, actions: Mapping[str, Any]) -> Step:
        """Plays the mover's action of every game; costs one pass over the rows more than the engine's step.

        Args:
            actions: Integers `[B]` by agent; the waiting seat's are ignored.

        Returns:
            Observations, rewards (float32), terminations and truncations (bool) and infos by agent; five empty
            dictionaries after the end of a scalar game.

        Raises:
            RuntimeError: If `reset` has not been called, or the environment is closed.
            ValueError: If the mover's actions are missing, no integers, or of the wrong shape.
        """
        if self._closed:
            raise RuntimeError("this engine is closed.")
        if not self._started:
            raise RuntimeError("call reset before step.")
        if not self.agents:
            return {}, {}, {}, {}, {}
        return self._step_one(actions) if self.num_envs is None else self._step_batch(actions, self.num_envs)

    def state(self) -> NDArray[np.float32]:
        """Returns both seats' observations one after the other, `[B, 2 * O]`: what a central critic may see."""
        views, masks = self._allocate()
        self.engine.seat_views(views, masks)
        rows = views.swapaxes(0, 1).reshape(self.engine.num_envs, -1)
        return rows[0] if self.num_envs is None else rows

    @functools.cached_property
    def state_space(self) -> spaces.Space[Any]:
        """The space of `state()`."""
        single = state_space(self.spec)
        return single if self.num_envs is None else batch_space(single, self.num_envs)

    def render(self) -> Rendering:
        """Renders the game as `render_mode` says; see `bargain_env.rendering.render`.

        Raises:
            RuntimeError: If the environment was built without a render mode.
        """
        return render_row(self.engine, self.render_mode)

    def close(self) -> None:
        """Releases the engine; a later step or reset raises."""
        self._closed = True
        self.engine.close()

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()

    def _space(self, kind: str, agent: str) -> spaces.Space[Any]:
        seat_of(agent)
        if (kind, agent) not in self._spaces:
            actions = self.spec.num_actions + 1
            single = observation_space(self.spec, actions) if kind == "observation" else spaces.Discrete(actions)
            self._spaces[kind, agent] = single if self.num_envs is None else batch_space(single, self.num_envs)
        return self._spaces[kind, agent]

    def _step_one(self, actions: Mapping[str, Any]) -> Step:
        engine, mover = self.engine, self.engine.mover.item()
        engine.step(np.array([self._read_action(actions, AGENTS[mover])], dtype=np.int64))
        over = engine.terminated.item()
        if over:
            self.agents = []
        self._show()
        rewards = dict(zip(AGENTS, engine.reward[0].tolist(), strict=True))
        infos = {agent: {"illegal": False} for agent in AGENTS}
        infos[AGENTS[mover]]["illegal"] = engine.illegal.item()
        return self._observe(), rewards, dict.fromkeys(AGENTS, over), dict.fromkeys(AGENTS, False), infos

    def _read_action(self, actions: Mapping[str, Any], agent: str) -> int:
        try:
            action = operator.index(actions[agent])
        except (KeyError, TypeError):
            raise ValueError(f"actions must hold one integer for {agent}, whose move it is.") from None
        return action if 0 <= action < self.spec.num_actions else -1

    def _step_batch(self, actions: Mapping[str, Any], num_envs: int) -> Step:
        if not isinstance(actions, Mapping):
            raise ValueError(f"actions must map each agent to integers of shape ({num_envs},), got {actions!r}.")
        engine, mover = self.engine, self.engine.mover.copy()
        first, second = (self._read_actions(actions.get(agent), agent, num_envs) for agent in AGENTS)
        engine.step(first + (second - first) * mover)  # a selection without branches, which would be unpredictable
        rewards = {agent: self._export(engine.reward[:, seat]) for seat, agent in enumerate(AGENTS)}
        terminations = {agent: self._export(engine.terminated) for agent in AGENTS}
        truncations = {agent: self._export(self._never) for agent in AGENTS}
        illegal = engine.illegal & (mover == 0), engine.illegal & (mover == 1)
        infos = {agent: {"illegal": illegal[seat]} for seat, agent in enumerate(AGENTS)}
        return self._observe(), rewards, terminations, truncations, infos

    def _read_actions(self, actions: Any, agent: str, num_envs: int) -> NDArray[np.int64]:
        chosen = np.asarray(actions)
        if chosen.shape != (num_envs,) or chosen.dtype.kind not in "iu":
            raise ValueError(
                f"actions of {agent} must be integers of shape ({num_envs},), "
                f"got shape {chosen.shape} of {chosen.dtype}."
            )
        return chosen.astype(np.int64, copy=False)

    def _observe(self) -> Observations:
        views, masks = self._buffers or self._allocate()
        self.engine.seat_views(views, masks)
        if self.num_envs is None:
            views, masks = views[:, 0], masks[:, 0]
        return {agent: {"observation": views[k], "action_mask": masks[k]} for k, agent in enumerate(AGENTS)}

    def _allocate(self) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Returns views `[2, B, O]` and masks `[2, B, A + 1]` of both seats, not yet written."""
        return np.empty(self._views_shape, np.float32), np.empty(self._masks_shape, np.int8)

    def _export(self, array: NDArray[Any]) -> NDArray[Any]:
        return array if self._buffers is not None else array.copy()


def parallel_env(
    spec: GameSpec | None = None,
    num_envs: int | None = None,
    seed: int = 0,
    *,
    copy: bool = True,
    threads: int = 1,
    first_game: int = 0,
    render_mode: str | None = None,
) -> BargainParallelEnv:
    """Builds a `BargainParallelEnv`, which documents the arguments."""
    return BargainParallelEnv(
        spec, num_envs, seed, copy=copy, threads=threads, first_game=first_game, render_mode=render_mode
    )

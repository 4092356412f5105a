"""PettingZoo's turn-based view of one game: whoever is to move acts.

Legend: `I` item types, `A` actions, `O` features.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from numpy.typing import NDArray
from pettingzoo import AECEnv
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from bargain_env.checks import check_spec
from bargain_env.engine import make_engine
from bargain_env.one_game import one_game_options
from bargain_env.pettingzoo_common import AGENTS, IGNORED_OPTIONS, METADATA, observation_space, seat_of, state_space
from bargain_env.rendering import Rendering, check_render_mode, render_row
from bargain_env.spec import GameSpec

_OTHER = {AGENTS[0]: AGENTS[1], AGENTS[1]: AGENTS[0]}


class BargainAECEnv(AECEnv, EzPickle):
    """One game as a PettingZoo `AECEnv`.

    An observation is `{"observation": [O] float32, "action_mask": [A] int8}`, 1 = legal. The mask is zero, in the
    observation too, for the seat that does not move; once the game is over both see zeros. Rewards are payoff / own
    total, paid to both seats by the step that ends the game; nothing is ever truncated. An illegal or out-of-range
    action is executed as walk and shows as `infos[agent]["illegal"]`.

    A pickled or copied environment is built anew from its arguments, before its first reset.

    Args:
        spec: The game; the standard one if None.
        seed: Key of the deals, 0 to 2**64 - 1.
        render_mode: None, "human", "ansi" or "rgb_array"; see `bargain_env.rendering`.
        first_game: Index of the game.

    Attributes:
        spec: The game.
        engine: The engine behind the view; its records of the finished game are valid once the game is over.
        agents: The agents that have not left yet.
        possible_agents: `["player_0", "player_1"]`.
        agent_selection: The agent to act; with the game over, the next one to leave.
        rewards: What the last step paid, float by agent.
        terminations: Whether the game is over, by agent.
        truncations: False, by agent.
        infos: `{"illegal": bool}` by agent, about the last step.
        state_space: The space of `state()`.

    Raises:
        ValueError: If an argument is out of range.
    """

    metadata: ClassVar[dict[str, Any]] = METADATA | {"is_parallelizable": False}

    def __init__(
        self,
        spec: GameSpec | None = None,
        seed: int = 0,
        *,
        render_mode: str | None = None,
        first_game: int = 0,
    ) -> None:
        EzPickle.__init__(self, spec, seed, render_mode=render_mode, first_game=first_game)
        check_render_mode(render_mode)
        self.spec = spec = check_spec(spec)
        self.render_mode = render_mode
        self.engine = make_engine(spec, 1, seed=seed, first_game=first_game, autoreset=False)
        self.possible_agents = list(AGENTS)
        self.agents: list[str] = []
        self._over = self._closed = False
        self._action = np.zeros(1, dtype=np.int64)
        self._num_actions = spec.num_actions
        self._terminated = self.engine.terminated
        self._view, self._mask = self.engine.observation[0], self.engine.action_mask[0].view(np.int8)
        self._both_views = np.empty((2, 1, spec.observation_dim), np.float32)
        self._both_masks = np.empty((2, 1, spec.num_actions + 1), np.int8)
        self.state_space = state_space(spec)
        self._observation_spaces = [observation_space(spec, spec.num_actions) for _ in AGENTS]
        self._action_spaces = [spaces.Discrete(spec.num_actions) for _ in AGENTS]

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """Returns the space of one observation of `agent`; the same object at every call."""
        return self._observation_spaces[seat_of(agent)]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """Returns the `A` actions of `agent`; the same object at every call."""
        return self._action_spaces[seat_of(agent)]

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Deals the game: episode 0 at first and with a `seed`, then one more each time.

        Args:
            seed: If given, the new key of the deals.
            options: May hold `values` int `[2, I]` with `outside` int `[2]`, an explicit deal. The key `options`,
                which PettingZoo's own suite passes, is ignored.

        Raises:
            ValueError: If an option is unknown or a value is out of range.
        """
        self.engine.reset(seed, one_game_options(self.spec, options, IGNORED_OPTIONS))
        self._over = False
        self.agents = list(AGENTS)
        self.agent_selection = AGENTS[0]
        self.rewards, self._cumulative_rewards = dict.fromkeys(AGENTS, 0.0), dict.fromkeys(AGENTS, 0.0)
        self.terminations, self.truncations = dict.fromkeys(AGENTS, False), dict.fromkeys(AGENTS, False)
        self.infos = {agent: {"illegal": False} for agent in AGENTS}
        self._show()

    def step(self, action: int | np.integer[Any] | None) -> None:
        """Plays an action of `agent_selection`; None, once the game is over, to leave it.

        Raises:
            RuntimeError: If `reset` has not been called, both agents have left, or the environment is closed.
            ValueError: If the action is no integer, or, once the game is over, not None.
        """
        self._check_open()
        if not self.agents:
            raise RuntimeError("the game is over: call reset before step." if self._over else "call reset before step.")
        if self._over:
            self._was_dead_step(action)
            return
        agent = self.agent_selection
        self._action[0] = self._read(action)
        self.engine.step(self._action)
        self.agent_selection = other = _OTHER[agent]
        if not self._terminated.item():
            self.infos = {agent: {"illegal": False}, other: {"illegal": False}}
        else:
            self._over = True
            self.infos = {agent: {"illegal": self.engine.illegal.item()}, other: {"illegal": False}}
            self.rewards = dict(zip(AGENTS, self.engine.reward[0].tolist(), strict=True))
            self._cumulative_rewards = self.rewards.copy()
            self.terminations = dict.fromkeys(AGENTS, True)
        self._show()

    def observe(self, agent: str) -> dict[str, NDArray[Any]]:
        """Returns what `agent` sees now, in fresh arrays; the mover's view is cheaper than the waiting seat's.

        Raises:
            ValueError: If there is no such agent.
            RuntimeError: If the environment is closed.
        """
        self._check_open()
        if agent == self.agent_selection:
            return {"observation": self._view.copy(), "action_mask": self._mask.copy()}
        seat = seat_of(agent)
        self.engine.seat_views(self._both_views, self._both_masks)
        return {"observation": self._both_views[seat, 0].copy(), "action_mask": np.zeros_like(self._mask)}

    def state(self) -> NDArray[np.float32]:
        """Returns both seats' observations one after the other, `[2 * O]`: what a central critic may see."""
        self.engine.seat_views(self._both_views, self._both_masks)
        return self._both_views.flatten()

    def render(self) -> Rendering:
        """Renders the game as `render_mode` says; see `bargain_env.rendering.render`.

        Raises:
            RuntimeError: If the environment was built without a render mode.
        """
        return render_row(self.engine, self.render_mode)

    def close(self) -> None:
        """Releases the engine; a later reset, step or observation raises."""
        self._closed = True
        self.engine.close()

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this engine is closed.")

    def _read(self, action: Any) -> int:
        try:
            number = operator.index(action)
        except TypeError:
            raise ValueError(f"the action of {self.agent_selection} must be an integer, got {action!r}.") from None
        return number if 0 <= number < self._num_actions else -1

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()


def raw_env(
    spec: GameSpec | None = None, seed: int = 0, *, render_mode: str | None = None, first_game: int = 0
) -> BargainAECEnv:
    """Builds a `BargainAECEnv`, which documents the arguments."""
    return BargainAECEnv(spec, seed, render_mode=render_mode, first_game=first_game)


def env(spec: GameSpec | None = None, seed: int = 0, *, render_mode: str | None = None, first_game: int = 0) -> AECEnv:
    """Builds a `BargainAECEnv` in PettingZoo's wrapper that refuses calls in the wrong order.

    Illegal actions need no wrapper: the game executes them as walk.
    """
    return OrderEnforcingWrapper(raw_env(spec, seed, render_mode=render_mode, first_game=first_game))

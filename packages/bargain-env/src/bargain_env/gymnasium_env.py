"""Gymnasium's single view: one game, a learner in one seat and an opponent in the other.

Legend: `I` item types, `A` actions, `O` features.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import EzPickle
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from bargain_env.checks import check_seed
from bargain_env.gymnasium_vector import BargainVectorEnv, Infos, Observation, Opponent, Seat
from bargain_env.one_game import one_game_options
from bargain_env.rendering import RENDER_MODES, Rendering, check_render_mode, render_row
from bargain_env.spec import GameSpec


class BargainGymEnv(gymnasium.Env[Any, Any], EzPickle):
    """One game as a Gymnasium `Env`: every step is one move of the learner and the opponent's reply to it.

    Row `first_game` of a `BargainVectorEnv` of the same seed plays the same games and shows the same things, without
    the batch dimension: an observation `[O]` float32, the reward as a float, infos as numbers and `action_mask` `[A]`.
    A pickled or copied environment is built anew from its arguments, before its first reset.

    Args:
        spec: The game; the standard one if None.
        seat: The learner's seat; "alternate" changes it with every episode.
        opponent: The other seat's policy, called with observations `[1, O]` and legal actions `[1, A]`; None plays
            uniform legal actions drawn from the deals' seed.
        seed: Key of the deals, 0 to 2**64 - 1; None draws one, as Gymnasium's environments do until `reset(seed=...)`.
        flat: If False, an observation is `{"observation": [O] float32, "action_mask": [A] int8}`.
        render_mode: "ansi" (text), "rgb_array" (picture) or "human" (every state is printed as text); see `render`.
        first_game: Index of the game; games of one seed and different indices have different deals.

    Attributes:
        spec_of_game: The game (`spec` is Gymnasium's `EnvSpec`).
        games: The vector environment of one game behind this view.

    Raises:
        ValueError: If an argument is out of range.
        ModuleNotFoundError: If `render_mode` is "rgb_array" and Pillow is not installed.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - declared so by Gymnasium
        "render_modes": list(RENDER_MODES),
        "render_fps": 1,
    }

    def __init__(
        self,
        spec: GameSpec | None = None,
        *,
        seat: Seat = 0,
        opponent: Opponent | None = None,
        seed: int | None = None,
        flat: bool = True,
        render_mode: str | None = None,
        first_game: int = 0,
    ) -> None:
        options = {"seat": seat, "opponent": opponent, "seed": seed, "flat": flat}
        EzPickle.__init__(self, spec, **options, render_mode=render_mode, first_game=first_game)
        check_render_mode(render_mode)
        self.render_mode = render_mode
        self.games = BargainVectorEnv(
            spec,
            seat=seat,
            opponent=opponent,
            seed=seed,
            flat=flat,
            autoreset_mode=AutoresetMode.DISABLED,
            first_game=first_game,
        )
        self.spec_of_game = self.games.spec_of_game
        self.observation_space = self.games.single_observation_space
        self.action_space = self.games.single_action_space

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Observation, Infos]:
        """Deals a game: episode 0 at first and with a `seed`, then one more each time. The opponent may open it.

        Args:
            seed: If given, the new key of the deals and of the random opponent.
            options: May hold `values` int `[2, I]` with `outside` int `[2]` (an explicit deal).

        Returns:
            The observation and `{"action_mask": [A] int8, "seat": the learner's}`.

        Raises:
            ValueError: If an option is unknown or a value is out of range.
        """
        seed = None if seed is None else check_seed(seed)
        super().reset(seed=seed)
        observation, infos = self.games.reset(seed=seed, options=one_game_options(self.spec_of_game, options))
        self._show()
        return _first(observation), _scalars(infos)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, Infos]:
        """Plays the learner's action, then the opponent's reply; an illegal action is executed as walk.

        Returns:
            The observation, the reward, whether the game has ended, False, and infos; those of the last step also say
            how the game went (see `BargainVectorEnv`).

        Raises:
            RuntimeError: If the game has ended, `reset` has not been called, or the last step or reset was cut short
                by the opponent or an interrupt.
            ValueError: If the action is no integer.
        """
        try:
            played = operator.index(action)
        except TypeError:
            raise ValueError(f"an action must be an integer, got {action!r}.") from None
        if not 0 <= played < self.spec_of_game.num_actions:
            played = -1
        observation, rewards, terminations, _, infos = self.games.step(np.array([played]))
        self._show()
        return _first(observation), float(rewards[0]), bool(terminations[0]), False, _scalars(infos)

    def action_masks(self) -> NDArray[np.bool_]:
        """Returns the legal actions `[A]` bool; the name is that of sb3-contrib's MaskablePPO."""
        legal: NDArray[np.bool_] = self.games.action_masks()[0]
        return legal

    def render(self) -> Rendering:
        """Returns the game as text ("ansi") or as a picture uint8 `[H, W, 3]` ("rgb_array"); "human" prints the text.

        Both seats' values and outside offers are shown.

        Raises:
            RuntimeError: If the environment was built without a render mode.
        """
        return render_row(self.games.engine, self.render_mode)

    def close(self) -> None:
        """Releases the engine; a later step or reset raises."""
        self.games.close()

    def _show(self) -> None:
        if self.render_mode == "human":
            self.render()


def _first(observation: Observation) -> Observation:
    if isinstance(observation, dict):
        return {name: part[0] for name, part in observation.items()}
    return observation[0]


def _scalars(infos: Infos) -> Infos:
    own = {name: array[0] for name, array in infos.items() if not name.startswith("_")}
    return {name: value if isinstance(value, np.ndarray) else value.item() for name, value in own.items()}

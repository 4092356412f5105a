"""The game in OpenSpiel: `pyspiel.load_game("python_bargain(...)")`, once this module is imported.

Chance deals one number at a time: seat 0's values, seat 1's values, the two outside offers. So the tree is exact for
every game, and a chance node never has more outcomes than one number has values.

Legend: `I` item types, `A` actions, `O` features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_env.checks import check_spec
from bargain_env.openspiel_table import Table, move_name
from bargain_env.spec import OUTSIDE_UNITS, GameSpec

try:
    import pyspiel
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('OpenSpiel is missing: pip install "bargain-env[openspiel]".', name="pyspiel") from error

MAX_OUTCOMES = 100_000
"""The most outcomes of a chance node; OpenSpiel lists them all whenever it visits one."""


def openspiel_game(spec: GameSpec | None = None) -> BargainGame:
    """Loads `spec` (the standard game if None) as an OpenSpiel game; `GAMES["mini-b"]` can be solved exactly.

    Raises:
        ValueError: If a chance node would have more than `MAX_OUTCOMES` outcomes.
    """
    game: BargainGame = pyspiel.load_game(_TYPE.short_name, _parameters(check_spec(spec)))
    return game


class BargainGame(pyspiel.Game):
    """A bargaining game as a sequential general-sum OpenSpiel game; build it with `openspiel_game`.

    Returns are payoff / own total, bit for bit the engines' rewards. The information state is the seat's deal and every
    move made, as a string or as the history observation; the observation is the spec's own. Both tensors are zero until
    all is dealt and after the end.

    Args:
        params: `quantities` and `outside_range` as numbers joined by semicolons, with one behind a single number
            ("2;"), and the other fields of `GameSpec` as they are. What is not given is that of the standard game.

    Attributes:
        spec: The game.
        history_spec: The same game with the history observation, of which the standing one is a prefix.

    Raises:
        ValueError: If a parameter is out of range, or a chance node would have more than `MAX_OUTCOMES` outcomes.
    """

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        given = dict(params or {})
        self.spec = spec = _read_spec(_TYPE.parameter_specification | given)
        self.history_spec = spec.with_observation("history")
        outcomes = _max_outcomes(spec)
        if outcomes > MAX_OUTCOMES:
            raise ValueError(f"a number of this game's deals has {outcomes} values; OpenSpiel gets {MAX_OUTCOMES}.")
        info = pyspiel.GameInfo(
            num_distinct_actions=spec.num_actions,
            max_chance_outcomes=outcomes,
            num_players=2,
            min_utility=0.0,
            max_utility=1.0,
            max_game_length=spec.max_turns,
        )
        super().__init__(_TYPE, info, given)

    def new_initial_state(self) -> BargainState:
        """Returns the game before anything is dealt."""
        return BargainState(self)

    def max_chance_nodes_in_history(self) -> int:
        """Returns how many numbers are dealt."""
        return 2 * self.spec.num_items + 2

    def make_py_observer(
        self, iig_obs_type: pyspiel.IIGObservationType | None = None, params: Mapping[str, Any] | None = None
    ) -> BargainObserver:
        """Returns an observer: of the information state with `perfect_recall`, of the observation without or for None.

        Raises:
            ValueError: If there are `params`, or if the type leaves out public information or its own seat's.
        """
        if params:
            raise ValueError(f"observers take no parameters, got {dict(params)}.")
        kind = iig_obs_type or pyspiel.IIGObservationType(perfect_recall=False)
        if not kind.public_info or kind.private_info != pyspiel.PrivateInfoType.SINGLE_PLAYER:
            raise ValueError("an observer sees the public information and its own seat's, no more and no less.")
        return BargainObserver(self.history_spec if kind.perfect_recall else self.spec)


class BargainState(pyspiel.State):
    """A game somewhere between its first chance node and its end.

    Attributes:
        table: The deal and the moves.
    """

    def __init__(self, game: BargainGame) -> None:
        super().__init__(game)
        self.table = Table(game.history_spec)

    def current_player(self) -> int:
        """Returns the seat to move, or OpenSpiel's number for chance or for the end."""
        game = self.table.game
        if game is None:
            return int(pyspiel.PlayerId.CHANCE)
        return int(pyspiel.PlayerId.TERMINAL) if game.finished else game.mover

    def is_terminal(self) -> bool:
        """Tells whether a seat accepted or walked."""
        return self.table.game is not None and self.table.game.finished

    def chance_outcomes(self) -> list[tuple[int, float]]:
        """Returns the outcomes of the next number, all equally likely; outcome 0 is its smallest value."""
        low, high = self.table.bounds()
        count = high - low + 1
        return [(outcome, 1.0 / count) for outcome in range(count)]

    def returns(self) -> list[float]:
        """Returns both seats' payoff / own total; zeros before the end."""
        return [0.0, 0.0] if self.table.game is None else [float(reward) for reward in self.table.game.rewards]

    def _legal_actions(self, player: int) -> list[int]:
        assert self.table.game is not None
        return np.flatnonzero(self.table.game.action_mask()).tolist()

    def _apply_action(self, action: int) -> None:
        if self.table.game is None:
            self.table.deal(self.table.bounds()[0] + action)
        else:
            self.table.game.play(action)

    def _action_to_string(self, player: int, action: int) -> str:
        if player == pyspiel.PlayerId.CHANCE:
            return f"{self.table.next_number()} {self.table.bounds()[0] + action}"
        return move_name(self.table.spec, action)

    def __str__(self) -> str:
        return " | ".join(self.table.describe(seat) for seat in range(2)) + self.table.describe_moves()


class BargainObserver:
    """What one seat sees, in OpenSpiel's observer protocol.

    Args:
        spec: The game, with the observation to write.

    Attributes:
        tensor: `[O]` float32, overwritten by every `set_from`.
        dict: Views of the parts of `tensor` by name.
    """

    def __init__(self, spec: GameSpec) -> None:
        self._spec = spec
        self.tensor: NDArray[np.float32] = np.zeros(spec.observation_dim, np.float32)
        self.dict = {name: self.tensor[part] for name, part in spec.slices.items() if part.start < part.stop}

    def set_from(self, state: BargainState, player: int) -> None:
        """Writes the view of `player`: the engines' observation, or zeros until all is dealt and after the end."""
        game = state.table.game
        self.tensor[:] = 0.0 if game is None else game.observation(player)[: len(self.tensor)]

    def string_from(self, state: BargainState, player: int) -> str:
        """Returns the view of `player` as a string: its deal with every move made or, standing, with the last offer."""
        table = state.table
        recall = self._spec.observation == "history"
        return table.describe(player) + (table.describe_moves() if recall else table.describe_standing())


def _max_outcomes(spec: GameSpec) -> int:
    low, high = spec.outside_units
    offers = min(high * spec.max_total // OUTSIDE_UNITS, (high - low) * spec.max_total // OUTSIDE_UNITS + 1)
    return max(spec.max_value - spec.min_value + 1, offers)


def _parameters(spec: GameSpec) -> dict[str, Any]:
    fields = dataclasses.asdict(spec)
    quantities, outside_range = fields.pop("item_quantities"), fields.pop("outside_range")
    return fields | {"quantities": _join(quantities), "outside_range": _join(outside_range)}


def _read_spec(parameters: Mapping[str, Any]) -> GameSpec:
    fields = dict(parameters)
    fields["item_quantities"] = _split("quantities", fields.pop("quantities"), int)
    fields["outside_range"] = _split("outside_range", fields["outside_range"], float)
    return GameSpec(**fields)


def _join(numbers: Sequence[Any]) -> str:
    return ";".join(map(str, numbers)) + ";" * (len(numbers) == 1)


def _split(name: str, text: str, kind: type) -> tuple[Any, ...]:
    try:
        return tuple(kind(number) for number in text.removesuffix(";").split(";"))
    except ValueError:
        raise ValueError(f"{name} must be numbers joined by semicolons, got {text!r}.") from None


def _game_type() -> pyspiel.GameType:
    return pyspiel.GameType(
        short_name="python_bargain",
        long_name="Bargaining with private values and private outside offers",
        dynamics=pyspiel.GameType.Dynamics.SEQUENTIAL,
        chance_mode=pyspiel.GameType.ChanceMode.EXPLICIT_STOCHASTIC,
        information=pyspiel.GameType.Information.IMPERFECT_INFORMATION,
        utility=pyspiel.GameType.Utility.GENERAL_SUM,
        reward_model=pyspiel.GameType.RewardModel.TERMINAL,
        max_num_players=2,
        min_num_players=2,
        provides_information_state_string=True,
        provides_information_state_tensor=True,
        provides_observation_string=True,
        provides_observation_tensor=True,
        parameter_specification=_parameters(GameSpec()),
    )


_TYPE = _game_type()
pyspiel.register_game(_TYPE, BargainGame)

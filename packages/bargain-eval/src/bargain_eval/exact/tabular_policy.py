"""A profile as a policy, and its file.

Legend: `B` rows, `T` types, `A` actions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from bargain_env.spec import GameSpec, ObservationKind, ObservedState
from numpy.typing import NDArray

from bargain_eval.exact.game import MAX_BYTES, TabularGame, tabular_game
from bargain_eval.exact.values import Profile
from bargain_eval.files import replace_file
from bargain_eval.policy import NumpyPolicy, PolicyRequest

_SUM_ERROR = 1e-9


class TabularPolicy(NumpyPolicy):
    """Plays a profile: each row looks up its own type and the offers made so far, so it reads the history observation.

    A row costs a few lookups. A row with a single legal action takes it without looking anything up.

    Args:
        game: The game.
        profile: The strategies of both seats.
        seed: Seed of the generator used when `get_action` is called without one.

    Raises:
        ValueError: If an array has the wrong shape or holds no distributions.
    """

    observation: ObservationKind = "history"

    def __init__(self, game: TabularGame, profile: Profile, seed: int = 0) -> None:
        super().__init__(game.spec.with_observation("history"), seed)
        self.game = game
        self.profile = checked_profile(game, profile)

    @classmethod
    def from_request(cls, request: PolicyRequest) -> Self:
        """Loads `tabular:FILE`, which `save_profile` wrote."""
        if not request.argument:
            raise ValueError("a tabular policy needs a file: tabular:FILE.npz.")
        game, profile = load_profile(request.argument)
        return cls(game, profile, request.seed, **request.read_options())

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        probs = action_mask.astype(np.float64)
        free = np.flatnonzero(action_mask.sum(axis=1) > 1)
        seen = self.spec.read_observation(obs[free])
        decision, kind = 2 * seen.round + seen.seat, self._types(seen)
        offers = self._offers(obs[free], seen)
        for number in np.unique(decision).tolist():
            rows = np.flatnonzero(decision == number)
            history = np.zeros(len(rows), dtype=np.int64)
            for made in range(number):
                history = history * self.spec.num_offers + offers[rows, made]
            table = self.profile[number % 2][number // 2]
            probs[free[rows]] = 0.0
            probs[free[rows, None], self.game.actions(number)] = table[history, kind[rows]]
        probs[~action_mask] = 0.0
        return probs

    def _types(self, seen: ObservedState) -> NDArray[np.int64]:
        game, spec = self.game, self.spec
        width = spec.max_value - spec.min_value + 1
        steps = seen.values - spec.min_value
        known = np.all((steps >= 0) & (steps < width), axis=1)
        vector = np.where(known, steps @ width ** np.arange(spec.num_items)[::-1], 0)
        kind = np.clip(
            game.first_type[vector] + seen.outside - game.outside[game.first_type[vector]], 0, game.num_types - 1
        )
        known &= np.all(game.values[kind] == seen.values, axis=1) & (game.outside[kind] == seen.outside)
        if not known.all():
            row = np.flatnonzero(~known)[0]
            raise ValueError(
                f"values {seen.values[row].tolist()} with outside offer {seen.outside[row]} are no type of this game."
            )
        found: NDArray[np.int64] = kind
        return found

    def _offers(self, obs: NDArray[Any], seen: ObservedState) -> NDArray[np.int64]:
        """Returns `[B, max_turns - 1]` offers made, 0 where none was."""
        quantities = np.asarray(self.spec.item_quantities)
        shape = len(obs), self.spec.max_turns - 1, self.spec.num_items
        fractions = obs[:, self.spec.slices["history"]].reshape(shape)
        received = np.rint(np.maximum(fractions, 0.0) * quantities).astype(np.int64)
        given = np.where((seen.seat == 1)[:, None, None], received, quantities - received)
        return self.spec.encode_offer(np.where(fractions < 0, 0, given))


def checked_profile(game: TabularGame, profile: Profile) -> Profile:
    """Returns `profile`.

    Raises:
        ValueError: If an array has the wrong shape or holds no distributions.
    """
    for seat, strategy in enumerate(profile):
        decisions = range(seat, game.spec.max_turns, 2)
        shapes, wanted = [array.shape for array in strategy], [game.shape(decision) for decision in decisions]
        if shapes != wanted:
            raise ValueError(f"the strategy of seat {seat} must have shapes {wanted}, got {shapes}.")
        for array in strategy:
            if not (np.all(array >= 0) and np.all(np.abs(array.sum(axis=2) - 1) <= _SUM_ERROR)):
                raise ValueError(f"the strategy of seat {seat} holds rows that are no probability distributions.")
    return profile


def save_profile(path: str | Path, game: TabularGame, profile: Profile) -> None:
    """Writes a profile with its game to `path`, atomically, as an .npz that `tabular:PATH` loads."""
    arrays: dict[str, Any] = {
        f"seat_{seat}_round_{number}": array
        for seat, strategy in enumerate(checked_profile(game, profile))
        for number, array in enumerate(strategy)
    }
    arrays["spec"] = np.array(json.dumps(game.spec.with_observation("standing").to_dict()))
    with replace_file(Path(path)) as file:
        np.savez_compressed(file, **arrays)


def load_profile(path: str | Path, max_bytes: int = MAX_BYTES) -> tuple[TabularGame, Profile]:
    """Returns what `save_profile` wrote; nothing in the file is run, and `max_bytes` is that of `tabular_game`.

    Raises:
        ValueError: If there is no such file, it holds no profile, or its game is too large.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, TypeError, BadZipFile) as error:  # TypeError: a single array, which is no archive
        raise ValueError(f"{path} is no readable .npz file: {error}.") from error
    if "spec" not in arrays:
        raise ValueError(f"{path} holds no profile.")
    game = tabular_game(GameSpec.from_dict(json.loads(str(arrays["spec"]))), max_bytes)
    rounds = range(game.spec.max_rounds)
    missing = [f"seat_{s}_round_{r}" for s in range(2) for r in rounds if f"seat_{s}_round_{r}" not in arrays]
    if missing:
        raise ValueError(f"{path} is damaged: {missing[0]} is missing.")
    first, second = (tuple(arrays[f"seat_{seat}_round_{number}"] for number in rounds) for seat in range(2))
    return game, checked_profile(game, (first, second))

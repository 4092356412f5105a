"""Checks that every environment must pass, whatever its framework.

They take a function that builds the environment: a PettingZoo `AECEnv` or `ParallelEnv` (one game or a batch), a
Gymnasium `Env` or `VectorEnv`, a TorchRL `EnvBase`, or an OpenSpiel game. Observations, masks and infos must lie where
this package's own environments have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bargain_env.spec import GameSpec
from bargain_env.testing.audit import Audit
from bargain_env.testing.compare import Arrays, assert_equal
from bargain_env.testing.players import Player, player
from bargain_env.testing.shown import Shown

EnvFactory = Callable[[], Any]


def check_env(make: EnvFactory, spec: GameSpec | None = None, *, deals: bool = True) -> None:
    """Runs `check_env_games`, `check_env_determinism` and `check_env_seeding`; a second or two.

    Args:
        make: Builds the environment.
        spec: The game; the standard one if None.
        deals: See `check_env_games`.

    Raises:
        AssertionError: At the first failure.
    """
    check_env_games(make, spec, deals=deals)
    check_env_determinism(make, spec)
    check_env_seeding(make, spec)


def check_env_games(
    make: EnvFactory, spec: GameSpec | None = None, *, deals: bool = True, num_games: int = 200, seed: int = 11
) -> None:
    """Plays random legal games and compares all that is shown, bit for bit, with the reference rules.

    So every observation is that of the row's current game, also after a reset and an automatic reset; every mask is
    right, and no legal action counts as illegal; and a game pays what it should, once, in the step that ends it.

    Args:
        make: Builds the environment.
        spec: The game; the standard one if None.
        deals: Check too that game e of row i is the engines' deal of (seed, i, e). If False, deals are read from the
            observations: for OpenSpiel, where the caller draws them, and for deals of your own.
        num_games: Games to finish.
        seed: What the environment is reset with.

    Raises:
        AssertionError: At the first difference, with its game and decision.
    """
    spec = spec or GameSpec()
    env, rng, finished = player(make(), spec), np.random.default_rng(seed), 0
    shown = env.reset(seed)
    episodes = [0] * len(shown.rows)
    games = [_audit(spec, seed if deals else None, row, 0) for row in range(len(episodes))]
    while finished < num_games:
        actions, before = _draw(rng, shown), shown
        shown = env.step(actions)
        for row, game in enumerate(games):
            if not game.over:
                game.decide(before.rows[row], actions[row])
                game.settle(shown.rewards[row], bool(shown.ended[row]), bool(shown.illegal[row]))
                finished += game.over
            if shown.opened[row]:
                episodes[row] += 1
                games[row] = _audit(spec, seed if deals else None, row, episodes[row])


def check_env_determinism(make: EnvFactory, spec: GameSpec | None = None, *, num_games: int = 50) -> None:
    """Plays whole games on two environments of one seed, and on one of them again, comparing all that they return.

    Raises:
        AssertionError: At the first difference, with its step.
    """
    spec = spec or GameSpec()
    first, second = player(make(), spec), player(make(), spec)
    expected = list(_trace(first, spec, num_games))
    for other, what in ((second, "two environments of one seed"), (first, "a second reset with the seed")):
        for step, (got, wanted) in enumerate(zip(_trace(other, spec, num_games), expected, strict=True)):
            assert_equal(got, wanted, f"at step {step} of {what}")


def check_env_seeding(make: EnvFactory, spec: GameSpec | None = None) -> None:
    """Checks that other seeds and resets without one deal other games, and that a seed starts its games again.

    Raises:
        AssertionError: If games are dealt again that should not be, or are not that should.
    """
    env = player(make(), spec or GameSpec())
    seven, eight, again = (_openings(env, seed) for seed in (7, 8, 7))
    for reset, (got, wanted) in enumerate(zip(again, seven, strict=True)):
        assert_equal(got, wanted, f"at reset {reset} after a second reset(seed=7)")
    if _bytes(seven) == _bytes(eight):
        raise AssertionError("seeds 7 and 8 deal the same games.")
    if any(len({_bytes([opening]) for opening in seven[first::2]}) == 1 for first in (0, 1)):  # seats may alternate
        raise AssertionError("a reset without a seed deals the same games again.")


def _trace(env: Player, spec: GameSpec, num_games: int) -> Iterator[Arrays]:
    rng, shown, ended = np.random.default_rng(3), env.reset(7), 0
    yield shown.everything
    limit = (num_games + 1) * (spec.max_turns + 2)  # each game may be shown for a step more
    for _ in range(limit):
        if ended >= num_games:
            return
        shown = env.step(_draw(rng, shown))
        yield shown.everything
        ended += int(shown.ended.sum())
    if ended < num_games:
        raise AssertionError(f"{limit} steps ended {ended} games, fewer than {num_games}.")


def _openings(env: Player, seed: int) -> list[Arrays]:
    return [env.reset(seed if reset == 0 else None).everything for reset in range(10)]


def _bytes(shown: list[Arrays]) -> bytes:
    return b"".join(array.tobytes() for arrays in shown for array in arrays.values())


def _audit(spec: GameSpec, seed: int | None, row: int, episode: int) -> Audit:
    return Audit(spec, f"row {row}, game {episode}", None if seed is None else (seed, row, episode))


def _draw(rng: np.random.Generator, shown: Shown) -> list[int]:
    """Returns a legal action of every row; a third of them accept or walk, so that games of all lengths are played."""
    actions = []
    for row, (acting, *_) in enumerate(shown.rows):
        legal = np.flatnonzero(acting.action_mask)
        if not len(legal):
            raise AssertionError(f"row {row}: no action is legal.")
        actions.append(int(rng.choice(legal[-2:] if rng.random() < 1 / 3 else legal)))
    return actions

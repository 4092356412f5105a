"""The opponent in the vector view: when it is asked, and what becomes of the games where it fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bargain_env import BargainVectorEnv, GameSpec
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium_games import decline, odd_policy, play_vector

SPEC = GameSpec()
WALK = SPEC.walk_action
MODES = list(AutoresetMode)
SEATS: list[Any] = [0, 1, "alternate"]
SIZE = 11


def test_the_opponent_is_asked_only_where_it_is_to_move() -> None:
    asked: list[tuple[Any, Any]] = []

    def watching(observation: Any, action_mask: Any) -> Any:
        asked.append((observation, action_mask))
        return odd_policy(SPEC)(observation, action_mask).astype(np.int16)

    env = BargainVectorEnv(num_envs=SIZE, seat="alternate", opponent=watching, seed=1)
    for _ in play_vector(env, 30):
        pass
    for observation, action_mask in asked:
        assert observation.dtype == np.float32
        assert action_mask.dtype == bool
        assert observation.flags.writeable
        assert action_mask.flags.writeable
        assert np.array_equal(observation[:, SPEC.slices["mask"]], action_mask)
        assert action_mask.any(axis=1).all()
    assert sum(len(observation) for observation, _ in asked) < 31 * SIZE
    assert any(0 < len(observation) < SIZE for observation, _ in asked)
    env.opponent = decline
    env.reset()
    assert np.all(env.step(np.full(SIZE, 3))[2])
    env.opponent = lambda observation, action_mask: np.zeros((len(observation), 1), int)
    with pytest.raises(
        ValueError, match=r"^the opponent's actions must be integers of shape \(\d+,\), got shape .*\.$"
    ):
        env.reset()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seat", SEATS)
@pytest.mark.parametrize("wrong", ["raises", "floats"])
def test_a_failing_opponent_breaks_the_games_until_a_full_reset(mode: AutoresetMode, seat: Any, wrong: str) -> None:
    def fails(observation: Any, action_mask: Any) -> Any:
        if wrong == "raises":
            raise OSError("gone")
        return np.zeros(len(observation))

    cut_short = r"^the opponent or an interrupt cut the last step or reset short; call reset before step\.$"
    whole = BargainVectorEnv(num_envs=4, seat=seat, seed=3, autoreset_mode=mode, opponent=odd_policy(SPEC))
    env = BargainVectorEnv(num_envs=4, seat=seat, seed=3, autoreset_mode=mode, opponent=odd_policy(SPEC))
    env.reset()
    env.opponent = fails
    with pytest.raises((OSError, ValueError)):
        env.step(np.zeros(4, int))
    episodes = env.engine.get_state()["episode"].copy()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=cut_short):
            env.step(np.zeros(4, int))
    with pytest.raises(RuntimeError, match=r"^the reset after a step or reset that was cut short takes no reset_mask"):
        env.reset(options={"reset_mask": np.ones(4, bool)})
    assert np.array_equal(env.engine.get_state()["episode"], episodes)
    if seat != 0:
        with pytest.raises((OSError, ValueError), match=r"gone|the opponent's"):
            env.reset()
        with pytest.raises(RuntimeError, match=cut_short):
            env.step(np.zeros(4, int))
    env.opponent = odd_policy(SPEC)
    for _ in range(3 if seat != 0 else 2):
        expected = whole.reset()
    assert data_equivalence(env.reset(), expected)
    assert data_equivalence(env.step(np.full(4, 3)), whole.step(np.full(4, 3)))


def test_an_opponent_that_fails_in_the_first_reset() -> None:
    def fails(observation: Any, action_mask: Any) -> Any:
        raise OSError("gone")

    env, whole = (BargainVectorEnv(num_envs=4, seat="alternate", seed=3) for _ in range(2))
    env.opponent = fails
    with pytest.raises(OSError, match="gone"):
        env.reset()
    with pytest.raises(RuntimeError, match="cut the last step or reset short"):
        env.step(np.zeros(4, int))
    env.opponent = None
    whole.reset()
    assert data_equivalence(env.reset(), whole.reset())


def test_an_interrupted_opening_leaves_automatic_resets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    env, whole = (BargainVectorEnv(num_envs=1, seat="alternate", seed=3) for _ in range(2))
    step = env.engine.step

    def interrupted(*arguments: Any) -> None:
        if not env.engine.autoreset:  # as it is while the opponent opens a game
            raise KeyboardInterrupt
        step(*arguments)

    env.reset()
    with monkeypatch.context() as patch:
        patch.setattr(env.engine, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            env.step([WALK])
    assert data_equivalence(env.reset(seed=3), whole.reset())
    assert data_equivalence(env.step([WALK]), whole.step([WALK]))


def test_a_refused_reset_leaves_the_games_as_they_are() -> None:
    env = BargainVectorEnv(num_envs=4, seat="alternate", seed=3)
    env.reset()
    state = env.engine.get_state()
    with pytest.raises(ValueError, match="unknown reset options"):
        env.reset(options={"outsides": np.ones((4, 2), int)})
    assert data_equivalence(state, env.engine.get_state())
    env.step(np.zeros(4, int))

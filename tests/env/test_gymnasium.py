"""The single view: the checkers of its users, its id, whole games against the vector view, and pictures."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from bargain_env import GAMES, BargainGymEnv, BargainVectorEnv, GameSpec
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium_games import SPECS, decline, odd_policy, over, reference_game

SPEC = GameSpec()
WALK = SPEC.walk_action


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seat", [0, 1, "alternate"])
@pytest.mark.parametrize("flat", [True, False])
def test_gymnasiums_checker(name: str, seat: Any, flat: bool) -> None:
    env = gymnasium.make("Bargain-v0", spec=SPECS[name], seat=seat, flat=flat)
    check_env(env.unwrapped, skip_render_check=True)  # the pictures need Pillow; the next test has them
    assert isinstance(env.unwrapped, BargainGymEnv)


def test_gymnasiums_checker_with_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    check_env(gymnasium.make("Bargain-v0", render_mode="ansi").unwrapped)
    assert "value to seat 1" in capsys.readouterr().out


@pytest.mark.parametrize("flat", [True, False])
def test_stable_baselines_checker(flat: bool) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(BargainGymEnv(seed=1, flat=flat))


@pytest.mark.parametrize("order", ["bargain_env, gymnasium", "gymnasium, bargain_env", "gymnasium"])
def test_the_id_is_known_in_any_order_of_imports(order: str) -> None:
    script = f"""
import {order}
env = gymnasium.make("bargain_env:Bargain-v0", seat=1, seed=3)
assert env.reset()[1]["seat"] == 1
envs = gymnasium.make_vec("bargain_env:Bargain-v0", num_envs=7, seat="alternate", autoreset_mode="NextStep")
assert envs.reset()[0].shape == (7, 92)
assert gymnasium.make("Bargain-v0").spec.id == "Bargain-v0"
print(type(env.unwrapped).__name__, type(envs).__name__, envs.metadata["autoreset_mode"].value)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "BargainGymEnv BargainVectorEnv NextStep\n"


def test_looking_for_gymnasium_does_not_use_the_registration_up() -> None:
    script = """
import bargain_env, importlib.util, sys
before = len(sys.meta_path)
assert importlib.util.find_spec("gymnasium") and "gymnasium" not in sys.modules
import gymnasium
assert len(sys.meta_path) == before - 1
assert "Bargain-v0" in gymnasium.registry
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seat", [0, 1, "alternate"])
def test_plays_the_games_of_the_reference_and_of_its_row(name: str, seat: Any) -> None:
    spec, policy = SPECS[name], odd_policy(SPECS[name])
    env = BargainGymEnv(spec, seat=seat, seed=6, first_game=2)
    rows = BargainVectorEnv(spec, 3, seat=seat, seed=6, first_game=1, autoreset_mode="Disabled")
    many = rows.reset()[0]
    ends = np.zeros(3, bool)
    for episode in range(12):
        sits = episode % 2 if seat == "alternate" else seat
        steps, record = reference_game(spec, 6, 2, episode, sits, True)
        observation, infos = env.reset()
        for step in steps:
            assert infos["seat"] == sits
            assert observation.tobytes() == step.observation == many[1].tobytes()
            assert np.array_equal(env.action_masks(), observation[spec.slices["mask"]])
            assert np.array_equal(env.action_masks(), infos["action_mask"])
            action = int(policy(observation[None], env.action_masks()[None])[0])
            observation, reward, terminated, truncated, infos = env.step(action)
            if ends.any():
                rows.reset(options={"reset_mask": ends})
            many, rewards, ends, _, _ = rows.step(np.full(3, action))
            assert (reward, terminated, truncated) == (step.reward, step.terminated, False)
            assert (reward, terminated) == (rewards[1], ends[1])
            assert type(reward) is float
        assert observation.tobytes() == over(spec).tobytes()
        assert tuple(infos[name] for name in record._fields) == record
        with pytest.raises(RuntimeError, match=r"^a game has ended; reset it before the next step\.$"):
            env.step(0)
        many = rows.reset(options={"reset_mask": ends})[0]
        ends[:] = False


def test_opponents_and_explicit_deals() -> None:
    deal: dict[str, Any] = {"values": np.array([[10, 20, 30], [40, 50, 60]]), "outside": [7, 8]}
    env = BargainGymEnv(seat=0, opponent=lambda observation, mask: np.where(mask[:, SPEC.accept_action], 80, WALK))
    observation, _ = env.reset(options=deal)
    assert observation[:4] == pytest.approx([0.1, 0.2, 0.3, 7 / 180])
    observation, reward, terminated, _, infos = env.step(np.int64(37))
    bundle = SPEC.decode_offer(37)
    assert terminated
    assert reward == pytest.approx((np.array([7, 4, 1]) - bundle) @ deal["values"][0] / 180)
    assert infos["opponent_payoff"] == pytest.approx(bundle @ deal["values"][1] / 540)
    assert (infos["outcome"], infos["offer"], infos["decisions"]) == (1, 37, 2)
    with pytest.raises(ValueError, match=r"^unknown reset options: reset_mask; known: values, outside\.$"):
        env.reset(options={"reset_mask": np.ones(1, bool)})
    with pytest.raises(ValueError, match=r"^unknown reset options: deal; known: values, outside\.$"):
        env.reset(options={"deal": 1})
    with pytest.raises(ValueError, match=r"^values must be integers of shape \(2, 3\), got shape \(2,\) of int64\.$"):
        env.reset(options=deal | {"values": np.zeros(2, int)})
    env.reset(seed=3)
    with pytest.raises(ValueError, match=r"^an explicit deal needs both values and outside\.$"):
        env.reset(options={"values": deal["values"], "outside": None})
    same = env.reset(seed=3, options={"values": None, "outside": None, "reset_mask": None})
    assert data_equivalence(same, env.reset(seed=3))


def test_a_failing_opponent_breaks_the_game_until_a_reset() -> None:
    def fails(observation: Any, action_mask: Any) -> Any:
        raise OSError("gone")

    env = BargainGymEnv(seat="alternate", seed=2, opponent=fails)
    env.reset()
    with pytest.raises(OSError, match="gone"):
        env.step(5)
    with pytest.raises(RuntimeError, match=r"^the opponent or an interrupt cut the last step .*; call reset before"):
        env.step(5)
    with pytest.raises(OSError, match="gone"):
        env.reset()  # episode 1, which the opponent opens
    with pytest.raises(RuntimeError, match=r"^the opponent or an interrupt cut the last step"):
        env.step(5)
    env.games.opponent = odd_policy(SPEC)
    whole = BargainGymEnv(seat="alternate", seed=2, opponent=odd_policy(SPEC))
    whole.reset(), whole.reset()
    assert data_equivalence(env.reset(), whole.reset())
    assert data_equivalence(env.step(3), whole.step(3))


def test_seeds_are_those_of_every_view() -> None:
    env, vector = BargainGymEnv(), BargainVectorEnv()
    for view in (env, vector):
        for wrong in (-1, 2**64, 1.0, "1", True):
            with pytest.raises(ValueError, match=r"^seed must "):
                view.reset(seed=wrong)  # type: ignore[arg-type]
        view.reset(seed=2**64 - 1)
        assert view.np_random_seed == 2**64 - 1
        first = view.reset(seed=3)
        drawn = view.np_random.random()
        assert data_equivalence(first, view.reset(seed=np.int64(3)))  # type: ignore[arg-type]
        assert view.np_random_seed == 3
        assert view.np_random.random() == drawn


@pytest.mark.parametrize("action", [SPEC.accept_action, 82, 200, -1, 2**63, -(10**30), np.int8(-3), np.array(99)])
def test_illegal_actions_walk(action: Any) -> None:
    env = BargainGymEnv(seed=1)
    env.reset()
    _, reward, terminated, _, infos = env.step(action)
    assert terminated
    assert infos["illegal"] is True
    assert infos["outcome"] == 2
    assert reward == pytest.approx(env.games.engine.outside[0, 0] / (env.games.engine.values[0, 0] @ [7, 4, 1]))


def test_rendering(capsys: pytest.CaptureFixture[str]) -> None:
    env = BargainGymEnv(seed=1, render_mode="ansi", opponent=decline)
    env.reset()
    first = env.render()
    env.step(5)
    last = env.render()
    assert isinstance(first, str)
    assert isinstance(last, str)
    assert "Seat 0 is to move" in first
    assert "seat 1 walks away" in last
    assert capsys.readouterr().out == ""
    printing = BargainGymEnv(seed=1, render_mode="human", opponent=decline)
    printing.reset()
    printing.step(5)
    assert capsys.readouterr().out == f"{first}\n{last}\n"
    with pytest.raises(RuntimeError, match=r"^render needs an environment that was built with a render_mode\.$"):
        BargainGymEnv().render()
    with pytest.raises(ValueError, match="render_mode must be one of"):
        BargainGymEnv(render_mode="png")


def test_pictures() -> None:
    pytest.importorskip("PIL")
    env = gymnasium.make("Bargain-v0", render_mode="rgb_array", seed=1)
    env.reset()
    first: Any = env.render()
    env.step(5)
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert (first != env.render()).any()


def test_unseeded_environments_differ_and_seeded_ones_do_not() -> None:
    first, second = BargainGymEnv(), BargainGymEnv()
    assert not np.array_equal(first.reset()[0], second.reset()[0])
    assert data_equivalence(first.reset(seed=4), second.reset(seed=4))
    assert data_equivalence(first.reset(), second.reset())
    assert data_equivalence(first.reset(seed=4), BargainGymEnv(seed=4).reset())


def test_bad_calls_are_one_sentence() -> None:
    env = BargainGymEnv()
    with pytest.raises(RuntimeError, match=r"^call reset before step\.$"):
        env.step(0)
    env.reset()
    for wrong in (1.0, None, "walk", np.zeros(2, int)):
        with pytest.raises(ValueError, match=r"^an action must be an integer, got .*\.$"):
            env.step(wrong)
    env.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        env.reset()


def test_copies_are_built_anew_from_the_arguments() -> None:
    first = BargainGymEnv(GAMES["mini-c"], seat=1, seed=4, flat=False)
    first.reset()
    second = pickle.loads(pickle.dumps(first))
    assert second.observation_space == first.observation_space
    observation, infos = second.reset()
    assert infos["seat"] == 1
    assert np.array_equal(observation["observation"], first.reset(seed=4)[0]["observation"])

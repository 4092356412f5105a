"""The parallel view: PettingZoo's own suites, and what those do not look at."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import pickle
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pettingzoo
import pytest
from bargain_env import GAMES, BargainParallelEnv, GameSpec, parallel_env
from gymnasium.utils.env_checker import data_equivalence
from numpy.typing import NDArray
from pettingzoo.test import parallel_api_test, parallel_seed_test

PAGE = Path(__file__).parents[2] / "docs" / "pettingzoo.md"
SPEC = GameSpec()
ACCEPT, WALK, NOOP = SPEC.accept_action, SPEC.walk_action, SPEC.noop_action
SPECS = {
    "standing": SPEC,
    "history": GameSpec(max_rounds=5, discount=0.98, observation="history"),
    "mini-c": GAMES["mini-c"],
}
DEAL = {"values": np.array([[10, 20, 30], [40, 50, 60]]), "outside": np.array([7, 8])}


def _mover(observations: Any) -> str:
    mover: str = next(agent for agent, seen in observations.items() if seen["action_mask"][:-1].any())
    return mover


def _step(env: BargainParallelEnv, action: Any, waiting: Any = 0) -> Any:
    """Plays `action` for the scalar env's mover and `waiting` for the other seat."""
    mover = f"player_{int(env.engine.mover[0])}"
    return env.step({agent: action if agent == mover else waiting for agent in env.agents})


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("copy", [True, False])
def test_pettingzoo_suites(name: str, copy: bool) -> None:
    make = functools.partial(parallel_env, SPECS[name], copy=copy)
    parallel_api_test(make(), num_cycles=300)
    parallel_seed_test(make)


def test_the_longer_determinism_test() -> None:
    """PettingZoo's seed test stops after one step; this one compares 200 whole games, masked and unmasked."""

    def play(env: BargainParallelEnv, masked: bool) -> list[Any]:
        seen: list[Any] = [env.reset(seed=42)]
        for seat, agent in enumerate(env.possible_agents):
            env.action_space(agent).seed(seat)
        for _ in range(200):
            while env.agents:
                observed = seen[-1][0]
                masks = {agent: observed[agent]["action_mask"] if masked else None for agent in env.agents}
                seen.append(env.step({agent: env.action_space(agent).sample(mask) for agent, mask in masks.items()}))
            seen.append(env.reset())
        return seen

    for masked in (True, False):
        first = play(parallel_env(), masked)
        assert len(first) > 500
        assert data_equivalence(first, play(parallel_env(seed=9), masked))
        assert any(step[4]["player_0"]["illegal"] for step in first if len(step) == 5) is not masked


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("copy", [True, False])
def test_batched_equals_scalar(name: str, copy: bool) -> None:
    size, rng = 12, np.random.default_rng(3)
    batched = parallel_env(SPECS[name], size, seed=4, copy=copy)
    scalar = [parallel_env(SPECS[name], seed=4, first_game=row) for row in range(size)]
    observations, infos = batched.reset()
    for row, env in enumerate(scalar):
        assert data_equivalence(_row(observations, row), env.reset()[0])
        assert np.array_equal(batched.state()[row], env.state())
        assert infos["player_0"]["illegal"][row] == 0
    for _ in range(60):
        legal = {agent: seen["action_mask"].astype(float) for agent, seen in observations.items()}
        actions = {
            agent: np.array([rng.choice(len(m), p=m / m.sum()) for m in masks]) for agent, masks in legal.items()
        }
        wild = rng.random(size) < 0.1
        actions["player_1"][wild] = rng.integers(-5, 200, int(wild.sum()))
        observations, rewards, terminations, truncations, infos = batched.step(actions)
        for row, env in enumerate(scalar):
            expected = list(env.step({agent: played[row] for agent, played in actions.items()}))
            if not env.agents:
                expected[0] = env.reset()[0]
            got = [observations, rewards, terminations, truncations, infos]
            assert data_equivalence(_row(got[0], row), expected[0])
            assert np.array_equal(batched.state()[row], env.state())
            for mine, theirs in zip(got[1:4], expected[1:4], strict=True):
                assert {agent: array[row] for agent, array in mine.items()} == theirs
            assert {agent: {"illegal": info["illegal"][row]} for agent, info in infos.items()} == expected[4]


def _row(observations: Any, row: int) -> Any:
    return {agent: {name: part[row] for name, part in seen.items()} for agent, seen in observations.items()}


@pytest.mark.parametrize("num_envs", [None, 1, 5])
def test_arrays_lie_in_their_spaces(num_envs: int | None) -> None:
    env = parallel_env(SPECS["history"], num_envs)
    observations, _ = env.reset()
    for _ in range(30):
        for agent in env.possible_agents:
            assert env.observation_space(agent) is env.observation_space(agent)
            assert env.action_space(agent) is env.action_space(agent)
            assert env.observation_space(agent).contains(observations[agent])
            assert env.state_space.contains(env.state())
        legal = np.asarray(env.engine.random_actions())
        actions = legal if num_envs else int(legal[0])
        observations, rewards, terminations, truncations, infos = env.step(dict.fromkeys(env.agents, actions))
        if num_envs:
            parts = [rewards, terminations, truncations, {agent: info["illegal"] for agent, info in infos.items()}]
            for part, dtype in zip(parts, (np.float32, bool, bool, bool), strict=True):
                assert all(array.shape == (num_envs,) and array.dtype == dtype for array in part.values())
        elif not env.agents:
            assert [type(value) for value in rewards.values()] == [float, float]
            observations, _ = env.reset()
    assert env.observation_space("player_0") is not env.observation_space("player_1")
    assert env.metadata["name"] == "bargain_v0"


def test_noop_is_the_only_legal_action_of_the_waiting_seat() -> None:
    env = parallel_env()
    observations, infos = env.reset()
    assert np.flatnonzero(observations["player_1"]["action_mask"]).tolist() == [NOOP]
    assert observations["player_0"]["action_mask"].tolist() == [1] * 80 + [0, 1, 0]
    assert infos == {"player_0": {"illegal": False}, "player_1": {"illegal": False}}
    assert not observations["player_1"]["observation"][SPEC.slices["mask"]].any()
    for waiting in (NOOP, 3, -1, WALK, 10**30):
        env.reset()
        observations, rewards, terminations, _, infos = _step(env, 13, waiting)
        assert rewards == {"player_0": 0.0, "player_1": 0.0}
        assert terminations == {"player_0": False, "player_1": False}
        assert infos == {"player_0": {"illegal": False}, "player_1": {"illegal": False}}
        assert _mover(observations) == "player_1"
        assert observations["player_1"]["action_mask"].tolist() == [1] * 82 + [0]


@pytest.mark.parametrize("action", [NOOP, ACCEPT, -1, 83, 200, 2**63, -(10**30), np.int8(-3)])
def test_illegal_actions_walk_and_are_counted(action: int) -> None:
    env = parallel_env()
    env.reset(options=DEAL)
    observations, rewards, terminations, _, infos = _step(env, action)
    assert infos == {"player_0": {"illegal": True}, "player_1": {"illegal": False}}
    assert rewards == {"player_0": pytest.approx(7 / 180), "player_1": pytest.approx(8 / 540)}
    assert terminations["player_0"] is True
    assert env.agents == []
    assert not observations["player_0"]["observation"].any()
    assert np.flatnonzero(observations["player_0"]["action_mask"]).tolist() == [WALK]
    assert np.flatnonzero(observations["player_1"]["action_mask"]).tolist() == [NOOP]
    assert _step(env, WALK) == ({}, {}, {}, {}, {})


def test_offers_name_the_bundle_of_seat_1_whoever_proposes() -> None:
    """A known fault of earlier implementations: seat 1's counter-offers named the other seat's bundle."""
    bundle = SPEC.decode_offer(37)
    for proposer in (0, 1):
        env = parallel_env()
        env.reset(options=DEAL)
        for action in (5, 37, ACCEPT) if proposer else (37, ACCEPT):
            observations, rewards, _, _, _ = _step(env, action)
            if action == 37:
                shares = np.array(observations[_mover(observations)]["observation"][SPEC.slices["offer"]])
                mine = np.array(SPEC.item_quantities) - bundle if proposer else bundle
                assert shares == pytest.approx(mine / np.array(SPEC.item_quantities))
        values = DEAL["values"]
        assert rewards["player_0"] == pytest.approx(values[0] @ (np.array(SPEC.item_quantities) - bundle) / 180)
        assert rewards["player_1"] == pytest.approx(values[1] @ bundle / 540)


def test_random_integers_end_every_game_within_six_decisions() -> None:
    """A known fault of earlier implementations: illegal numbers were executed, and games went on for ever."""
    rng, env = np.random.default_rng(0), parallel_env(num_envs=500)
    env.reset()
    length = np.zeros(500, int)
    for _ in range(100):
        observations, rewards, terminations, _, infos = env.step(
            {agent: rng.integers(-5, 201, 500) for agent in env.agents}
        )
        length += 1
        ended = terminations["player_0"]
        assert np.array_equal(env.engine.decisions[ended], length[ended])
        assert length.max() <= 6
        walked = infos["player_0"]["illegal"] | infos["player_1"]["illegal"]
        assert np.all(ended[walked])
        totals = env.engine.values[walked] @ np.array(SPEC.item_quantities)
        outside = env.engine.outside[walked].astype(np.float32) / totals.astype(np.float32)
        paid = np.stack(list(rewards.values()), axis=1)
        assert np.array_equal(paid[walked], outside)
        assert not paid[~ended].any()
        length[ended] = 0
        assert np.array_equal(observations["player_1"]["action_mask"][:, WALK], length % 2)


def test_reset_takes_deals_and_a_mask() -> None:
    scalar = parallel_env()
    observations, _ = scalar.reset(options=DEAL)
    assert observations["player_1"]["observation"][:4] == pytest.approx([0.4, 0.5, 0.6, 8 / 540])
    batched = parallel_env(num_envs=3)
    before, _ = batched.reset()
    rows = np.array([False, True, False])
    deal = {name: np.stack([part] * 3) for name, part in DEAL.items()}
    after, _ = batched.reset(options=deal | {"reset_mask": rows})
    for agent in batched.agents:
        assert np.array_equal(after[agent]["observation"][~rows], before[agent]["observation"][~rows])
        assert np.array_equal(after[agent]["observation"][1], observations[agent]["observation"])
    with pytest.raises(ValueError, match="unknown reset options: mask"):
        batched.reset(options={"mask": rows})
    with pytest.raises(ValueError, match=r"^an explicit deal needs both values and outside\.$"):
        scalar.reset(options={"values": DEAL["values"]})
    for name in ("outsides", "reset_mask"):
        with pytest.raises(ValueError, match=rf"^unknown reset options: {name}; known: values, outside\.$"):
            scalar.reset(options={name: np.ones(1, bool)})
    with pytest.raises(ValueError, match=r"^values must be integers of shape \(2, 3\), got shape \(3,\) of int64\.$"):
        scalar.reset(options=DEAL | {"values": np.ones(3, int)})
    for env in (scalar, batched):
        env.reset(options={"values": None, "outside": None, "reset_mask": None})
    scalar.reset(options={"options": 1})


def test_arguments_reach_the_engine() -> None:
    assert parallel_env(num_envs=8, threads=2).engine.threads == 2  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"^spec must be a GameSpec"):
        parallel_env("mini-a")  # type: ignore[arg-type]


def test_constant_arrays_that_are_shared_cannot_be_written_into() -> None:
    env = parallel_env(num_envs=4, copy=False)
    _, infos = env.reset()
    truncations = env.step({agent: np.full(4, WALK) for agent in env.agents})[3]
    for never in (infos["player_0"]["illegal"], truncations["player_0"], truncations["player_1"]):
        with pytest.raises(ValueError, match="read-only"):
            never[0] = True


def test_copies_unless_told_otherwise() -> None:
    for copy in (True, False):
        env = parallel_env(num_envs=4, copy=copy)
        kept, _ = env.reset()
        first = kept["player_0"]["observation"].copy()
        _, rewards, terminations, _, _ = env.step({agent: np.full(4, WALK) for agent in env.agents})
        paid = rewards["player_0"].copy()
        env.step({agent: np.full(4, 3) for agent in env.agents})
        assert np.array_equal(kept["player_0"]["observation"], first) is copy
        assert np.array_equal(rewards["player_0"], paid) is copy
        assert terminations["player_0"].all() == copy


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint64])
def test_any_integer_dtype_plays(dtype: type) -> None:
    env, same = parallel_env(num_envs=6), parallel_env(num_envs=6)
    env.reset(), same.reset()
    for action in (3, ACCEPT, 90, WALK):
        got = env.step({agent: np.full(6, action, dtype) for agent in env.agents})
        assert data_equivalence(got, same.step({agent: np.full(6, action) for agent in same.agents}))


def test_copied_arrays_are_the_callers() -> None:
    """What the environment returned may be overwritten by the caller, each array by itself."""

    def arrays(tree: Any) -> list[Any]:
        return [leaf for part in tree.values() for leaf in arrays(part)] if isinstance(tree, dict) else [tree]

    env, same = parallel_env(num_envs=4), parallel_env(num_envs=4)
    env.reset(), same.reset()
    for action in (3, 90, ACCEPT, WALK):
        got = env.step({agent: np.full(4, action) for agent in env.agents})
        assert data_equivalence(got, same.step({agent: np.full(4, action) for agent in same.agents}))
        owned = [leaf for part in got for leaf in arrays(part)]
        assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(owned, 2))
        for leaf in owned:
            leaf[...] = 1


@pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested using version")
def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    needs = {"torchrl": importlib.util.find_spec("torchrl"), "pettingzoo.make": hasattr(pettingzoo, "make")}
    assert len(blocks) > 5
    for block in blocks:
        if all(there for word, there in needs.items() if word in block):
            exec(compile(block, str(PAGE), "exec"), {})
    assert "player_1 earned" in capsys.readouterr().out


def test_bad_calls_are_one_sentence() -> None:
    env = parallel_env(num_envs=3)
    with pytest.raises(RuntimeError, match=r"^call reset before step\.$"):
        env.step({})
    env.reset()
    for wrong in (np.zeros(3), np.zeros((3, 1), int), 5, None):
        with pytest.raises(ValueError, match=r"^actions of player_1 must be integers of shape \(3,\), got .*\.$"):
            env.step({"player_0": np.zeros(3, int), "player_1": wrong})
    with pytest.raises(ValueError, match=r"^actions must map each agent to integers of shape \(3,\), got None\.$"):
        env.step(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^agent must be one of player_0, player_1, got 'player_2'\.$"):
        env.action_space("player_2")
    scalar = parallel_env()
    scalar.reset()
    for bad in ({}, {"player_0": 1.5}, {"player_0": None}, {"player_1": 3}):
        with pytest.raises(ValueError, match=r"^actions must hold one integer for player_0, whose move it is\.$"):
            scalar.step(bad)
    scalar.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        scalar.reset()
    over = parallel_env()
    over.reset()
    _step(over, WALK)
    assert _step(over, WALK) == ({}, {}, {}, {}, {})
    over.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        over.step({})


def test_copies_are_built_anew_from_the_arguments() -> None:
    first = parallel_env(GAMES["mini-c"], 5, seed=4, first_game=2, copy=False)
    first.reset()
    for second in (pickle.loads(pickle.dumps(first)), deepcopy(first)):
        assert (second.spec, second.num_envs) == (GAMES["mini-c"], 5)
        assert second.engine.get_state()["game"].tolist() == [2, 3, 4, 5, 6]
        for mine, theirs in zip(_observed(first.reset(seed=4)), _observed(second.reset()), strict=True):
            assert np.array_equal(mine, theirs)


def _observed(reset: Any) -> list[NDArray[Any]]:
    return [array for agent in reset[0].values() for array in agent.values()]

"""The turn-based view: PettingZoo's own suites, what those do not look at, and one game in every view."""

from __future__ import annotations

import functools
import importlib
import pickle
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pettingzoo
import pytest
from bargain_env import GAMES, GameSpec, bargain_v0, env, make_engine, parallel_env, raw_env
from bargain_env.reference import ReferenceGame
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from pettingzoo.test import api_test, parallel_api_test, performance_benchmark, seed_test, state_test
from pettingzoo.utils.conversions import parallel_to_aec, turn_based_aec_to_parallel
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

AGENTS = ("player_0", "player_1")
SPEC = GameSpec()
ACCEPT, WALK, NOOP = SPEC.accept_action, SPEC.walk_action, SPEC.noop_action
SPECS = {
    "standing": SPEC,
    "history": GameSpec(max_rounds=5, discount=0.98, observation="history"),
    "mini-c": GAMES["mini-c"],
}
DEAL = {"values": np.array([[10, 20, 30], [40, 50, 60]]), "outside": np.array([7, 8])}

FORMS: dict[str, Callable[..., Any]] = {
    "raw_env": raw_env,
    "env": env,
    "from_parallel": lambda *arguments, **options: parallel_to_aec(parallel_env(*arguments, **options)),
}
each_form = pytest.mark.parametrize("form", FORMS)
each_spec = pytest.mark.parametrize("name", SPECS)

AS_CLASSIC_GAMES_DO = (
    "ignore:Observation is not a NumPy array",
    "ignore:Observation numpy array is all zeros",
    "ignore:State numpy array is all zeros",
    "ignore:Observation space for each agent probably should be",
)
"""PettingZoo's tests warn of dictionaries with a mask unless the game is on their own list of games that have them."""


def _play(game: Any, choose: Callable[[str, Any], Any], **reset: Any) -> Iterator[tuple[str, Any, Any]]:
    """Plays one game; yields the agent, what `last` returned and the action, both agents' leave-taking included."""
    game.reset(**reset)
    for agent in game.agent_iter():
        seen = game.last()
        action = None if seen[2] else choose(agent, seen[0])
        game.step(action)
        yield agent, seen, action


@each_form
@each_spec
@pytest.mark.filterwarnings(*AS_CLASSIC_GAMES_DO)
def test_pettingzoo_suites(form: str, name: str) -> None:
    make = functools.partial(FORMS[form], SPECS[name])
    api_test(make(), num_cycles=300)
    seed_test(make)
    state_test(make(), parallel_env(SPECS[name]), num_cycles=300)


def test_pettingzoo_suites_on_the_converted_environment() -> None:
    parallel_api_test(turn_based_aec_to_parallel(env()), num_cycles=300)


def test_pettingzoo_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """PettingZoo's benchmark plays for five seconds; on this clock, for a hundred rounds of the agents."""
    clock = iter(np.arange(0.0, 100.0, 0.05))
    module = sys.modules[performance_benchmark.__module__]
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: next(clock)))
    performance_benchmark(env())
    assert "turns per second" in capsys.readouterr().out


@each_form
@pytest.mark.parametrize("masked", [True, False])
def test_the_longer_determinism_test(form: str, masked: bool) -> None:
    """PettingZoo's seed test stops after one game; this one compares 200, with legal and with any actions."""

    def play(game: Any) -> list[Any]:
        seen: list[Any] = []
        for seat, agent in enumerate(game.possible_agents):
            game.action_space(agent).seed(seat)
        for number in range(200):
            seed = {"seed": 42} if number == 0 else {}
            choose = lambda agent, view: game.action_space(agent).sample(view["action_mask"] if masked else None)  # noqa: E731
            seen += _play(game, choose, **seed)
        return seen

    first = play(FORMS[form]())
    assert len(first) > 800
    assert data_equivalence(first, play(FORMS[form](seed=9)))
    assert any(info["illegal"] for _, (*_, info), _ in first) is not masked


@each_spec
def test_the_same_games_in_every_view(name: str) -> None:
    """Whole games, dealt one after the other: the rules, the engine, a batch, and five views of one game."""
    spec, size, rng = SPECS[name], 8, np.random.default_rng(6)
    engine, batch = make_engine(spec, size, seed=4), parallel_env(spec, size, seed=4)
    observations, _ = batch.reset()
    rows = [_views_of_one_game(spec, row) for row in range(size)]
    rules, episodes = [ReferenceGame(spec, 4, row) for row in range(size)], [0] * size
    for step in range(60):
        actions = np.where(rng.random(size) < 0.1, rng.integers(-3, 200, size), engine.random_actions(step))
        for row in range(size):
            _compare_what_is_seen(rows[row], rules[row], _row(observations, row))
        engine.step(actions)
        observations, paid, over, cut, infos = batch.step(dict.fromkeys(AGENTS, actions))
        assert not any(array.any() for array in cut.values())
        for row, game in enumerate(rules):
            mover, illegal = AGENTS[game.mover], game.play(int(actions[row]))
            result = _result(game, mover, illegal)
            assert (_row(paid, row), _row(over, row), _row(infos, row)) == result
            assert engine.reward[row].tolist() == [float(share) for share in game.rewards]
            _step_one_game(rows[row], int(actions[row]), result)
            if game.finished:
                episodes[row] += 1
                rules[row] = ReferenceGame(spec, 4, row, episodes[row])
                for view in rows[row].values():
                    view.reset()
    assert min(episodes) > 3


def _views_of_one_game(spec: GameSpec, row: int) -> dict[str, Any]:
    arguments: dict[str, Any] = {"spec": spec, "seed": 4, "first_game": row}
    views = {
        "raw": raw_env(**arguments),
        "wrapped": env(**arguments),
        "from_parallel": parallel_to_aec(parallel_env(**arguments)),
        "parallel": parallel_env(**arguments),
        "turn_based": turn_based_aec_to_parallel(env(**arguments)),
    }
    for view in views.values():
        view.reset()
    return views


def _row(tree: Any, row: int) -> Any:
    """Returns the entry `row` of every array in nested dictionaries, scalars as Python numbers."""
    if isinstance(tree, dict):
        return {key: _row(value, row) for key, value in tree.items()}
    return tree[row] if tree.ndim > 1 else tree[row].item()


def _result(game: ReferenceGame, mover: str, illegal: bool) -> tuple[Any, Any, Any]:
    rewards = {agent: float(share) for agent, share in zip(AGENTS, game.rewards, strict=True)}
    infos = {agent: {"illegal": illegal and agent == mover} for agent in AGENTS}
    return rewards, dict.fromkeys(AGENTS, game.finished), infos


def _compare_what_is_seen(views: dict[str, Any], game: ReferenceGame, in_batch: Any) -> None:
    """Compares what both seats see before a move, bit for bit."""
    for seat, agent in enumerate(AGENTS):
        moves = seat == game.mover
        legal = game.action_mask() & moves
        with_noop = np.append(legal, not moves)
        turn_based = [views[form].observe(agent) for form in ("raw", "wrapped")]
        parallel = [views["from_parallel"].observe(agent), in_batch[agent]]
        for seen, mask in [(seen, legal) for seen in turn_based] + [(seen, with_noop) for seen in parallel]:
            assert seen["observation"].tobytes() == game.observation(seat).tobytes()
            assert seen["action_mask"].tobytes() == mask.astype(np.int8).tobytes()
    state = np.concatenate([game.observation(seat) for seat in range(len(AGENTS))])
    for view in views.values():
        assert view.state().tobytes() == state.tobytes()
    assert views["raw"].agent_selection == views["wrapped"].agent_selection == AGENTS[game.mover]


def _step_one_game(views: dict[str, Any], action: int, result: tuple[Any, Any, Any]) -> None:
    both, never = dict.fromkeys(AGENTS, action), dict.fromkeys(AGENTS, False)
    for form in ("raw", "wrapped"):
        views[form].step(action)
    for _ in AGENTS:
        views["from_parallel"].step(action)
    for form in ("raw", "wrapped", "from_parallel"):
        view = views[form]
        assert (view.rewards, view.terminations, view.infos) == result
        assert view._cumulative_rewards == result[0]
        assert view.truncations == never
    _, rewards, over, cut, infos = views["parallel"].step(both)
    assert (rewards, over, infos) == result
    assert cut == never
    _, rewards, over, _, _ = views["turn_based"].step(both)
    assert (rewards, over) == result[:2]


def test_spaces_hold_what_is_seen() -> None:
    game = raw_env(SPECS["history"])
    for _ in range(20):
        for agent, _, _ in _play(game, lambda agent, view: game.action_space(agent).sample(view["action_mask"])):
            for each in game.possible_agents:
                assert game.observation_space(each) is game.observation_space(each)
                assert game.observation_space(each).contains(game.observe(each))
            assert game.action_space(agent) == spaces.Discrete(game.spec.num_actions)
    assert game.action_space("player_0") is not game.action_space("player_1")


def test_what_is_seen_is_the_callers() -> None:
    game = raw_env()
    game.reset()
    for agent in game.agents:
        first, again = game.observe(agent), game.observe(agent)
        first["observation"][:] = 7
        first["action_mask"][:] = 1
        assert not np.array_equal(game.observe(agent)["observation"], first["observation"])
        assert data_equivalence(again, game.observe(agent))
    kept, state, infos = game.observe("player_0"), game.state(), game.infos
    before, state_before = kept["observation"].copy(), state.copy()
    game.step(200)
    game.state()
    assert np.array_equal(kept["observation"], before)
    assert np.array_equal(state, state_before)
    assert infos == {"player_0": {"illegal": False}, "player_1": {"illegal": False}}
    for agent in game.possible_agents:
        seen = game.observe(agent)
        assert not seen["observation"].any()
        assert not seen["action_mask"].any()


def test_infos_are_new_in_every_step() -> None:
    """PettingZoo's conversion writes into them."""
    game = turn_based_aec_to_parallel(env())
    game.reset()
    infos = [game.step(dict.fromkeys(game.agents, 3))[4] for _ in range(3)]
    assert [info["player_0"]["active_agent"] for info in infos] == ["player_1", "player_0", "player_1"]


@pytest.mark.parametrize("action", [NOOP, ACCEPT, -1, 200, 2**63, -(10**30), np.int8(-3), np.array(83)])
def test_illegal_actions_walk_and_are_shown(action: Any) -> None:
    for game in (raw_env(), env()):
        seen = list(_play(game, lambda agent, view: action, options=DEAL))
        assert [agent for agent, _, _ in seen] == ["player_0", "player_1", "player_0"]
        first, second, third = (last for _, last, _ in seen)
        assert first[1:] == (0.0, False, False, {"illegal": False})
        assert second[1:] == (pytest.approx(8 / 540), True, False, {"illegal": False})
        assert third[1:] == (pytest.approx(7 / 180), True, False, {"illegal": True})
        for _, (view, *_), _ in seen[1:]:
            assert not view["observation"].any()
            assert not view["action_mask"].any()


def test_deals_can_be_given_and_follow_the_seed() -> None:
    game = raw_env()
    game.reset(options=DEAL | {"options": 1, "reset_mask": None})
    assert game.observe("player_1")["observation"][:4] == pytest.approx([0.4, 0.5, 0.6, 8 / 540])
    for seed, episode in ((5, 0), (None, 1), (None, 2), (5, 0)):
        game.reset(seed=seed)
        assert game.engine.get_state()["values"][0].tolist() == ReferenceGame(SPEC, 5, 0, episode).values
    with pytest.raises(ValueError, match=r"^an explicit deal needs both values and outside\.$"):
        game.reset(options={"values": DEAL["values"]})
    for name in ("outsides", "reset_mask"):
        with pytest.raises(ValueError, match=rf"^unknown reset options: {name}; known: values, outside\.$"):
            game.reset(options=DEAL | {name: np.ones(1, bool)})
    with pytest.raises(ValueError, match=r"^outside must be integers of shape \(2,\), got shape \(3,\) of int64\.$"):
        game.reset(options=DEAL | {"outside": [1, 2, 3]})
    game.reset(options={"values": None, "outside": None})


def test_bad_calls_are_one_sentence() -> None:
    game = raw_env()
    with pytest.raises(RuntimeError, match=r"^call reset before step\.$"):
        game.step(3)
    game.reset()
    wrong: tuple[Any, ...] = (None, 1.5, "3", np.zeros(1))
    for bad in wrong:
        with pytest.raises(ValueError, match=r"^the action of player_0 must be an integer, got .*\.$"):
            game.step(bad)
    for call in (game.observe, game.observation_space, game.action_space):
        with pytest.raises(ValueError, match=r"^agent must be one of player_0, player_1, got 'player_2'\.$"):
            call("player_2")
    game.step(WALK)
    with pytest.raises(ValueError, match="the only valid action is None"):
        game.step(3)
    game.step(None)
    game.step(None)
    with pytest.raises(RuntimeError, match=r"^the game is over: call reset before step\.$"):
        game.step(None)
    with pytest.raises(ValueError, match=r"^spec must be a GameSpec"):
        raw_env("mini-a")  # type: ignore[arg-type]
    game.reset()
    game.close()
    closed: list[Callable[[], Any]] = [game.reset, game.state]
    closed += [functools.partial(game.observe, agent) for agent in AGENTS]
    for ask in closed:
        with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
            ask()
    over = raw_env()
    over.reset()
    over.step(WALK)
    over.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        over.step(None)


def test_env_only_enforces_the_order() -> None:
    game = env()
    assert type(game) is OrderEnforcingWrapper
    assert type(game.env) is type(raw_env())
    with pytest.raises(AttributeError, match="cannot be accessed before reset"):
        _ = game.agent_selection
    game.reset()
    game.step(10**6)
    assert game.infos["player_0"]["illegal"] is True


def test_the_names_of_pettingzoo() -> None:
    assert bargain_v0.env().metadata == bargain_v0.raw_env().metadata
    assert bargain_v0.raw_env().metadata == {
        "name": "bargain_v0",
        "render_modes": ["human", "ansi", "rgb_array"],
        "render_fps": 1,
        "is_parallelizable": False,
    }
    assert bargain_v0.parallel_env().metadata == bargain_v0.raw_env().metadata | {"is_parallelizable": True}
    assert str(env()) == str(raw_env()) == str(parallel_env()) == "bargain_v0"


@pytest.mark.skipif(not hasattr(pettingzoo, "make"), reason="this PettingZoo has no registry")
def test_pettingzoo_makes_both_views() -> None:
    turn_based = pettingzoo.make("aec", "bargain/bargain_v0", spec=SPECS["mini-c"], seed=3)
    assert isinstance(turn_based, OrderEnforcingWrapper)
    assert turn_based.spec == SPECS["mini-c"]
    batch = pettingzoo.make("parallel", "bargain/bargain_v0", num_envs=5)
    assert batch.reset()[0]["player_0"]["observation"].shape == (5, SPEC.observation_dim)


@pytest.mark.skipif(not hasattr(pettingzoo, "make"), reason="this PettingZoo has no registry")
def test_importing_again_registers_once() -> None:
    """PettingZoo warns of an id that is registered twice, and warnings are errors here."""
    importlib.reload(importlib.import_module("bargain_env.pettingzoo_common"))
    pettingzoo.make("aec", "bargain/bargain_v0")


def test_copies_are_built_anew_from_the_arguments() -> None:
    first = env(GAMES["mini-c"], seed=4, first_game=2)
    first.reset()
    for second in (pickle.loads(pickle.dumps(first)), deepcopy(first)):
        second.reset()
        first.reset(seed=4)
        assert second.unwrapped.spec == GAMES["mini-c"]
        assert np.array_equal(second.observe("player_1")["observation"], first.observe("player_1")["observation"])

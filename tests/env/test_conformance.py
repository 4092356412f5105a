"""The shipped checks hold for every engine and environment, and each of them fails where something is wrong."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.engine import Engine
from bargain_env.testing import (
    check_determinism,
    check_engine_parity,
    check_env,
    check_env_determinism,
    check_env_games,
    check_env_seeding,
    check_freshness,
    check_rollout,
    check_rows,
    check_state_round_trip,
)

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
SPECS = {
    "standard": GameSpec(),
    "history": GameSpec(max_rounds=5, discount=0.98, observation="history"),
    "mini-a": GAMES["mini-a"],
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def _has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not _has_gpu(), reason="needs an NVIDIA GPU")]


# Everything that there is -------------------------------------------------------------------------

ENGINES = {
    "cpu": make_engine,
    "three threads": functools.partial(make_engine, threads=3),
    "cuda": functools.partial(make_engine, device="cuda"),
}
each_engine = pytest.mark.parametrize(
    "make", [pytest.param(make, id=name, marks=ON_GPU if name == "cuda" else []) for name, make in ENGINES.items()]
)


def _bargain(name: str, **arguments: Any) -> Callable[[GameSpec], Any]:
    def make(spec: GameSpec) -> Any:
        import bargain_env

        return getattr(bargain_env, name)(spec, **arguments)

    return make


ENVIRONMENTS: dict[str, tuple[str, Callable[[GameSpec], Any]]] = {
    "aec": ("pettingzoo", _bargain("env")),
    "raw aec": ("pettingzoo", _bargain("raw_env")),
    "parallel": ("pettingzoo", _bargain("parallel_env")),
    "parallel batch": ("pettingzoo", _bargain("parallel_env", num_envs=9, threads=2)),
    "parallel batch, no copies": ("pettingzoo", _bargain("parallel_env", num_envs=9, copy=False)),
    "gymnasium, seat 0": ("gymnasium", _bargain("BargainGymEnv")),
    "gymnasium, seat 1": ("gymnasium", _bargain("BargainGymEnv", seat=1, flat=False)),
    "gymnasium, alternate": ("gymnasium", _bargain("BargainGymEnv", seat="alternate")),
    "vector, same step": ("gymnasium", _bargain("BargainVectorEnv", num_envs=9, seat="alternate", copy=False)),
    "vector, next step": ("gymnasium", _bargain("BargainVectorEnv", num_envs=9, seat=1, autoreset_mode="NextStep")),
    "vector, disabled": ("gymnasium", _bargain("BargainVectorEnv", num_envs=9, flat=False, autoreset_mode="Disabled")),
    "torchrl, acting": ("torchrl", _bargain("BargainEnv", num_envs=9)),
    "torchrl, agents": ("torchrl", _bargain("BargainEnv", num_envs=9, view="agents")),
    "torchrl, acting, cuda": ("torchrl", _bargain("BargainEnv", num_envs=9, device="cuda")),
    "torchrl, agents, cuda": ("torchrl", _bargain("BargainEnv", num_envs=9, device="cuda", view="agents")),
    "openspiel": ("pyspiel", _bargain("openspiel_game")),
}
each_environment = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=ON_GPU if "cuda" in name else []) for name in ENVIRONMENTS]
)


@each_engine
@each_spec
def test_an_engine_conforms(make: Any, spec: GameSpec) -> None:
    check_engine_parity(spec, make)
    check_determinism(make, spec)
    check_state_round_trip(make, spec)
    check_rollout(make, spec)
    check_rows(make, spec)
    check_freshness(make(spec=spec, num_envs=40, seed=0, autoreset=True))


@each_environment
@each_spec
def test_an_environment_conforms(name: str, spec: GameSpec) -> None:
    framework, make = ENVIRONMENTS[name]
    pytest.importorskip(framework)
    check_env(functools.partial(make, spec), spec, deals=name != "openspiel")


@each_environment
def test_deals_can_be_read_from_the_observations(name: str) -> None:
    framework, make = ENVIRONMENTS[name]
    pytest.importorskip(framework)
    check_env_games(functools.partial(make, SPECS["history"]), SPECS["history"], deals=False)


# Broken engines -----------------------------------------------------------------------------------


def _stale(engine: Any) -> None:
    """Automatic and other resets keep showing the old game; views are written as they were one call before."""
    step, reset = engine.step, engine.reset

    def stale_step(*arguments: Any) -> None:
        before = engine.observation.copy()
        step(*arguments)
        engine.buffers["observation"][engine.terminated] = before[engine.terminated]

    def stale_reset(*arguments: Any, **keywords: Any) -> None:
        before = engine.observation.copy()
        reset(*arguments, **keywords)
        engine.buffers["observation"][:] = before

    def stale_views(views: Any, last: list[Any], observation: Any, action_mask: Any) -> None:
        views(observation, action_mask)
        last.append(observation.copy())
        observation[:] = last[-2] if len(last) > 1 else observation

    engine.seat_views = functools.partial(stale_views, engine.seat_views, [])
    engine.mover_views = functools.partial(stale_views, engine.mover_views, [])
    if "observation" in engine.buffers:
        engine.step, engine.reset = stale_step, stale_reset


def _random_later(engine: Any) -> None:
    """From the second step on the actions are somebody else's."""
    step, taken, rng = engine.step, [], np.random.default_rng()

    def random_step(actions: Any, *rows: Any) -> None:
        taken.append(actions)
        step(engine.random_actions(int(rng.integers(2**32))) if len(taken) > 1 else actions, *rows)

    engine.step = random_step


def _deaf_to_seeds(engine: Any) -> None:
    reset = engine.reset
    engine.reset = lambda seed=None, options=None: reset(None, options)


def _deaf_without_a_seed(engine: Any) -> None:
    """A reset without a seed deals the first games again."""
    reset = engine.reset
    engine.reset = lambda seed=None, options=None: reset(engine.seed if seed is None else seed, options)


def _wrong_mask(engine: Any) -> None:
    """Accepting and the first offer always pass for legal."""
    step, reset, walk = engine.step, engine.reset, [engine.spec.walk_action]
    wrong = [0, engine.spec.accept_action]

    def allow(action_mask: Any) -> None:
        action_mask[..., wrong] |= action_mask[..., walk]

    def then_allow(call: Any, *arguments: Any, **keywords: Any) -> None:
        call(*arguments, **keywords)
        allow(engine.buffers["action_mask"])

    def wrong_views(views: Any, observation: Any, action_mask: Any) -> None:
        views(observation, action_mask)
        allow(action_mask)

    engine.seat_views = functools.partial(wrong_views, engine.seat_views)
    engine.mover_views = functools.partial(wrong_views, engine.mover_views)
    if "action_mask" in engine.buffers:
        engine.step, engine.reset = functools.partial(then_allow, step), functools.partial(then_allow, reset)
        allow(engine.buffers["action_mask"])


def _paid_twice(engine: Any) -> None:
    """The step after the end pays once more."""
    step, paid = engine.step, [np.zeros_like(engine.reward)]

    def generous_step(*arguments: Any) -> None:
        step(*arguments)
        paid.append(engine.reward.copy())
        engine.buffers["reward"][:] += paid[-2]

    engine.step = generous_step


def _forgetful(engine: Any) -> None:
    """A state is restored without its games in progress."""
    set_state, reset = engine.set_state, engine.reset

    def forget(state: Any) -> None:
        set_state(state)
        reset(options={"reset_mask": np.arange(engine.num_envs) % 7 == 0})

    engine.set_state = forget


def _meddling(engine: Any) -> None:
    """Asking for random actions plays them."""
    random_actions = engine.random_actions

    def meddle(*arguments: Any, **keywords: Any) -> Any:
        drawn = random_actions(*arguments, **keywords)
        engine.step(drawn)
        return drawn

    engine.random_actions = meddle


def _other_rollout(engine: Any) -> None:
    rollout = engine.random_rollout
    engine.random_rollout = lambda out, stream=0: rollout(out, stream + 1)


def _broken_engine(breaks: Callable[[Any], None], **arguments: Any) -> Engine:
    engine = make_engine(**arguments)
    breaks(engine)
    return engine


def _one_seed(**arguments: Any) -> Engine:
    return make_engine(**arguments | {"seed": 7})


def _freshness(make: Any) -> None:
    check_freshness(make(spec=GameSpec(), num_envs=40, seed=0, autoreset=True))


_parity = functools.partial(check_engine_parity, GameSpec())
BROKEN_ENGINES: dict[str, tuple[Any, Any, str]] = {
    "stale": (_freshness, _stale, r"^row \d+ at step \d+: observation\["),
    "stale, parity": (_parity, _stale, r"^row \d+ at step \d+: observation\["),
    "wrong mask": (_freshness, _wrong_mask, r"^row \d+ at step \d: action_mask\["),
    "paid twice": (_parity, _paid_twice, r"^row \d+ at step \d+: reward\["),
    "random later": (check_determinism, _random_later, r"^row \d+ at step 1 of two engines of one seed: "),
    "deaf to seeds": (check_determinism, _deaf_to_seeds, r"^row \d+ at step 0 of reset\(seed=7\): "),
    "forgetful": (check_state_round_trip, _forgetful, r"^row \d+ after set_state: "),
    "meddling": (check_state_round_trip, _meddling, r"^row \d+ after asking for random actions: "),
    "other rollout": (check_rollout, _other_rollout, r"^row \d+ at step 0: "),
}


@pytest.mark.parametrize("fault", BROKEN_ENGINES)
def test_the_checks_find_a_broken_engine(fault: str) -> None:
    check, breaks, message = BROKEN_ENGINES[fault]
    with pytest.raises(AssertionError, match=message):
        check(functools.partial(_broken_engine, breaks))


def test_determinism_needs_different_seeds_to_differ() -> None:
    with pytest.raises(AssertionError, match=r"^seeds 7 and 8 deal the same values\.$"):
        check_determinism(_one_seed)


# Broken environments ------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Any, Any, str]] = {
    "stale": (check_env_games, _stale, r"^row \d, game \d+, decision \d: (observation\[|no deal|the opponent)"),
    "random later": (check_env_determinism, _random_later, r"at step \d+ of two environments of one seed: "),
    "random later, games": (check_env_games, _random_later, r"game \d+, decision \d+: "),
    "deaf to seeds": (check_env_seeding, _deaf_to_seeds, r"at reset 0 after a second reset\(seed=7\): "),
    "deaf without a seed": (check_env_seeding, _deaf_without_a_seed, r"^a reset without a seed deals the same games"),
    "wrong mask": (check_env_games, _wrong_mask, r"decision \d: (action_mask\[|the legal action)"),
    "paid twice": (
        check_env_games,
        _paid_twice,
        r"^row 0, game \d+, decision 0: (\[.*\] was paid before|the end paid)",
    ),
}
BREAKABLE = [name for name in ENVIRONMENTS if name != "openspiel" and "cuda" not in name]


def _engine_of(env: Any) -> Any:
    bare = getattr(env, "unwrapped", env)
    return getattr(bare, "games", bare).engine


def _broken_environment(breaks: Callable[[Any], None], make: Callable[[GameSpec], Any]) -> Any:
    env = make(GameSpec())
    breaks(_engine_of(env))
    return env


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", BREAKABLE)
def test_the_checks_find_a_broken_environment(name: str, fault: str) -> None:
    framework, make = ENVIRONMENTS[name]
    pytest.importorskip(framework)
    check, breaks, message = FAULTS[fault]
    with pytest.raises(AssertionError, match=message):
        check(functools.partial(_broken_environment, breaks, make))


@pytest.mark.parametrize("name", ["parallel", "parallel batch", "torchrl, agents"])
def test_the_checks_find_a_noop_of_the_acting_seat(name: str) -> None:
    framework, make = ENVIRONMENTS[name]
    pytest.importorskip(framework)

    def breaks(engine: Any) -> None:
        views = engine.seat_views

        def idle_views(observation: Any, action_mask: Any) -> None:
            views(observation, action_mask)
            action_mask[..., -1] = 1

        engine.seat_views = idle_views

    with pytest.raises(AssertionError, match=r"^seat 0: noop must be legal where nothing else is, and nowhere else\.$"):
        check_env_games(functools.partial(_broken_environment, breaks, make))


# A broken OpenSpiel game --------------------------------------------------------------------------


def _openspiel_faults() -> dict[str, tuple[str, str, Any, str]]:
    from bargain_env.openspiel import BargainObserver, BargainState

    legal, rewards = BargainState._legal_actions, BargainState.returns
    return {
        "stale": (
            "BargainObserver",
            "set_from",
            _every_second_time(BargainObserver.set_from),
            r"(observation\[|no deal)",
        ),
        "wrong mask": (
            "BargainState",
            "_legal_actions",
            lambda state, player: sorted({*legal(state, player), state.get_game().spec.accept_action}),
            r"decision 0: action_mask\[",
        ),
        "paid twice": (
            "BargainState",
            "returns",
            lambda state: rewards(state) if state.is_terminal() else [0.5, 0.5],
            r"decision 0: \[0.5, 0.5\] was paid before the end\.$",
        ),
    }


def _every_second_time(call: Any) -> Any:
    calls: list[None] = []

    def lazy(*arguments: Any) -> None:
        calls.append(None)
        if len(calls) % 2:
            call(*arguments)

    return lazy


@pytest.mark.parametrize("fault", ["stale", "wrong mask", "paid twice"])
def test_the_checks_find_a_broken_openspiel_game(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspiel")
    from bargain_env import openspiel, openspiel_game

    owner, name, broken, message = _openspiel_faults()[fault]
    monkeypatch.setattr(getattr(openspiel, owner), name, broken)
    with pytest.raises(AssertionError, match=message):
        check_env_games(openspiel_game, deals=False)


def test_an_unknown_kind_of_environment_is_one_sentence() -> None:
    with pytest.raises(TypeError, match=r"^no check knows how to play object; it has none of .*\.$"):
        check_env(object)


def test_the_page_runs() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {})


def test_an_environment_that_never_ends_fails_the_check_of_determinism() -> None:
    pettingzoo = pytest.importorskip("pettingzoo.utils")
    from bargain_env import parallel_env

    class Endless(pettingzoo.BaseParallelWrapper):  # type: ignore[misc, name-defined]
        def step(self, actions: Any) -> Any:
            shown, rewards, ended, *rest = self.env.step(actions)
            return shown, rewards, {agent: np.zeros_like(over) for agent, over in ended.items()}, *rest

    with pytest.raises(AssertionError, match=r"^24 steps ended 0 games, fewer than 2\.$"):
        check_env_determinism(lambda: Endless(parallel_env(num_envs=4)), num_games=2)

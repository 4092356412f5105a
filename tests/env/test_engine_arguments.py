"""Bad arguments are refused with one clear sentence, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bargain_env import GameSpec, make_engine
from bargain_env.engine import Engine
from bargain_env.testing import snapshot

BAD_ENGINES: list[tuple[dict[str, Any], str]] = [
    ({"spec": "mini-a"}, "spec must be a GameSpec, such as those in bargain_env.GAMES, got 'mini-a'."),
    ({"spec": 0}, "spec must be a GameSpec, such as those in bargain_env.GAMES, got 0."),
    ({"device": "cpu:7"}, 'device must be "cpu", "cuda" or "cuda:k", got \'cpu:7\'.'),
    ({"autoreset": "no"}, "autoreset must be True or False, got 'no'."),
    ({"views": None}, "views must be True or False, got None."),
    ({"num_envs": 0}, "num_envs must lie between 1 and 2147483647, got 0."),
    ({"num_envs": 2.0}, "num_envs must be an integer, got 2.0."),
    ({"num_envs": True}, "num_envs must be an integer, got True."),
    ({"seed": -1}, "seed must lie between 0 and 18446744073709551615, got -1."),
    ({"seed": 2**64}, "seed must lie between 0 and 18446744073709551615, got 18446744073709551616."),
    ({"seed": None}, "seed must be an integer, got None."),
    ({"threads": 0}, "threads must lie between 1 and 1024, got 0."),
    ({"first_game": -1}, "first_game must lie between 0 and 9223372036854775806, got -1."),
    ({"device": "tpu"}, 'device must be "cpu", "cuda" or "cuda:k", got \'tpu\'.'),
]

BAD_CALLS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda e: e.step([1, 2, 3]), "actions must be a numpy array of int32 or int64, got list."),
    (lambda e: e.step(None), "actions must be a numpy array of int32 or int64, got NoneType."),
    (lambda e: e.step(np.zeros(3)), "actions must be a numpy array of int32 or int64, got float64."),
    (lambda e: e.step(np.zeros(3, ">i8")), "actions must be a numpy array of int32 or int64, got >i8."),
    (lambda e: e.step(np.zeros(3, np.uint8)), "actions must be a numpy array of int32 or int64, got uint8."),
    (lambda e: e.step(np.zeros(4, np.int64)), "actions must have shape (3,), got (4,)."),
    (lambda e: e.step(np.zeros((3, 1), np.int64)), "actions must have shape (3,), got (3, 1)."),
    (lambda e: e.step(np.array(1)), "actions must have shape (3,), got ()."),
    (lambda e: e.reset(seed=-1), "seed must lie between 0 and 18446744073709551615, got -1."),
    (lambda e: e.reset(seed="s"), "seed must be an integer, got 's'."),
    (lambda e: e.reset(options={"mask": 1}), "unknown reset options: mask; known: values, outside, reset_mask."),
    (
        lambda e: e.reset(options={"reset_mask": np.ones(3)}),
        "reset_mask must have shape (3,) and dtype bool, got shape (3,) and float64.",
    ),
    (
        lambda e: e.reset(options={"values": np.ones((3, 2, 3), int)}),
        "an explicit deal needs both values and outside.",
    ),
    (
        lambda e: e.reset(options={"values": np.ones((3, 2, 2), int), "outside": np.ones((3, 2), int)}),
        "values must be integers of shape (3, 2, 3), got shape (3, 2, 2) of int64.",
    ),
    (
        lambda e: e.reset(options={"values": np.ones((3, 2, 3)), "outside": np.ones((3, 2), int)}),
        "values must be integers of shape (3, 2, 3), got shape (3, 2, 3) of float64.",
    ),
    (
        lambda e: e.reset(options={"values": np.full((3, 2, 3), 101), "outside": np.ones((3, 2), int)}),
        "values must lie between 1 and 100.",
    ),
    (
        lambda e: e.reset(
            options={"values": np.full((3, 2, 3), 2**64 - 1, np.uint64), "outside": np.ones((3, 2), int)}
        ),
        "values must lie between 1 and 100.",
    ),
    (
        lambda e: e.reset(options={"values": np.ones((3, 2, 3), int), "outside": np.full((3, 2), 13)}),
        "outside offers must lie between 0 and the seat's own total.",
    ),
    (lambda e: e.random_actions(-1), "stream must lie between 0 and 18446744073709551615, got -1."),
    (
        lambda e: e.random_actions(out=np.zeros(3, np.int32)),
        "out must have shape (3,) and dtype int64, got shape (3,) and int32.",
    ),
    (
        lambda e: e.random_actions(out=np.zeros(6, np.int64)[::2]),
        "out must be a writable contiguous numpy array.",
    ),
    (
        lambda e: e.set_state({"values": 1}),
        "a state holds exactly the arrays values, outside, actions, offer, turn, finished, game, episode; got values.",
    ),
    (
        lambda e: e.set_state(e.get_state() | {"turn": np.zeros(4, np.int8)}),
        "state turn must have shape (3,) and dtype int8, got shape (4,) and int8.",
    ),
    (
        lambda e: e.set_state(e.get_state() | {"offer": np.zeros(3)}),
        "state offer must have shape (3,) and dtype int16, got shape (3,) and float64.",
    ),
    (
        lambda e: e.set_state(e.get_state() | {"game": np.full(3, -1)}),
        "the state of row 0 cannot occur in this game.",
    ),
    (
        lambda e: e.set_state(e.get_state() | {"values": np.zeros((3, 2, 3), np.int32)}),
        "values must lie between 1 and 100.",
    ),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD_ENGINES)
def test_bad_engine_arguments(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        make_engine(**arguments)
    assert str(error.value) == sentence


@pytest.mark.parametrize(("call", "sentence"), BAD_CALLS, ids=[sentence for _, sentence in BAD_CALLS])
def test_bad_calls_are_refused_and_change_nothing(call: Callable[[Engine], Any], sentence: str) -> None:
    engine = make_engine(num_envs=3, seed=9)
    engine.step(engine.random_actions())
    before, seed = snapshot(engine), engine.seed
    with pytest.raises(ValueError, match=r"\S") as error:
        call(engine)
    assert str(error.value) == sentence
    assert engine.seed == seed
    assert all(np.array_equal(array, before[name]) for name, array in snapshot(engine).items())


@pytest.mark.parametrize("call", ["step", "reset", "random_actions", "get_state", "set_state"])
def test_a_closed_engine_says_so(call: str) -> None:
    engine = make_engine(num_envs=2, threads=2)
    arguments = {"step": (np.zeros(2, np.int64),), "set_state": (engine.get_state(),)}.get(call, ())
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        getattr(engine, call)(*arguments)


def test_fuzzed_states_are_played_or_refused() -> None:
    """Whatever `set_state` takes can be played to its end without a wrong memory access or an endless game."""
    rng, spec = np.random.default_rng(0), GameSpec(max_rounds=2)
    engine = make_engine(spec, 1, autoreset=False)
    honest, taken = engine.get_state(), 0
    refusals: list[str] = []
    for _ in range(3000):
        state = {name: array.copy() for name, array in honest.items()}
        for name in rng.choice(["offer", "turn", "actions", "finished", "outside"], rng.integers(1, 5)):
            part = state[name].reshape(-1)
            value = rng.choice([-129, -2, -1, 0, 1, 2, 3, 4, 5, 79, 80, 81, 82, 127, 255, 32767])
            part[rng.integers(part.size)] = np.array(value).astype(part.dtype)
        try:
            engine.set_state(state)
        except ValueError as error:
            refusals.append(str(error))
            continue
        taken += 1
        for step in range(spec.max_turns):
            engine.step(engine.random_actions(step))
        assert engine.terminated.all()
        assert 1 <= engine.decisions[0] <= spec.max_turns
    assert taken > 100
    assert all(reason.endswith((" cannot occur in this game.", " the seat's own total.")) for reason in refusals)

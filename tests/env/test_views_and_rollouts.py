"""What `seat_views`, `random_rollout` and `recorder` refuse, and that they write what is asked for and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bargain_env import GAMES, make_engine
from bargain_env.layout import rollout_layout, seat_views_layout
from bargain_env.testing import snapshot

SPEC = GAMES["mini-b"]
ROWS, STEPS = 5, 4


def _arrays(layout: dict[str, Any], **replaced: Any) -> dict[str, Any]:
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()} | replaced


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


VIEWS = _arrays(seat_views_layout(SPEC, ROWS))
BAD_VIEWS: dict[str, Any] = {
    "wrong batch": {"observation": VIEWS["observation"][:, :-1]},
    "mover's mask": {"action_mask": VIEWS["action_mask"][..., :-1]},
    "bool mask": {"action_mask": VIEWS["action_mask"].astype(bool)},
    "float64": {"observation": VIEWS["observation"].astype(np.float64)},
    "strided": {"observation": np.zeros((2, ROWS, 2 * SPEC.observation_dim), np.float32)[..., ::2]},
    "read-only": {"action_mask": _read_only(VIEWS["action_mask"].copy())},
    "a list": {"action_mask": VIEWS["action_mask"].tolist()},
}


@pytest.mark.parametrize("name", BAD_VIEWS)
def test_seat_views_refuses(name: str) -> None:
    engine = make_engine(SPEC, ROWS)
    field = next(iter(BAD_VIEWS[name]))
    with pytest.raises(ValueError, match=rf"^{field} must .*\.$"):
        engine.seat_views(**(VIEWS | BAD_VIEWS[name]))


ROLLOUT = rollout_layout(SPEC, ROWS, STEPS)
BAD_ROLLOUTS: dict[str, Any] = {
    "None": (None, r"^out must be a dictionary of arrays, got NoneType\.$"),
    "nothing": ({}, r"^out may hold the arrays .*; got none\.$"),
    "unknown": ({"action": np.zeros((STEPS, ROWS), np.int64), "outcome": 1}, r"got action, outcome\.$"),
    "two lengths": (
        {"action": np.zeros((STEPS, ROWS), np.int64), "mover": np.zeros((STEPS + 1, ROWS), np.int8)},
        r"^the arrays of out must share their first dimension T, got .*\.$",
    ),
    "scalar": ({"action": np.int64(3)}, r"^the arrays of out must share their first dimension T, got .*\.$"),
    "int32": (
        {"action": np.zeros((STEPS, ROWS), np.int32)},
        r"^action must have shape \(4, 5\) and dtype int64",
    ),
    "strided": ({"action": np.zeros((STEPS, 2 * ROWS), np.int64)[:, ::2]}, r"^action must be a writable contig.*\.$"),
}


@pytest.mark.parametrize("name", BAD_ROLLOUTS)
def test_random_rollout_refuses_and_plays_nothing(name: str) -> None:
    engine, (out, message) = make_engine(SPEC, ROWS), BAD_ROLLOUTS[name]
    before = snapshot(engine)
    with pytest.raises(ValueError, match=message):
        engine.random_rollout(out)
    with pytest.raises(ValueError, match=r"^stream must lie between 0 and"):
        engine.random_rollout({"action": np.zeros((STEPS, ROWS), np.int64)}, -1)
    assert all(np.array_equal(array, before[field]) for field, array in snapshot(engine).items())


@pytest.mark.parametrize("field", ROLLOUT)
def test_a_rollout_of_one_field_is_that_of_all(field: str) -> None:
    everything, alone = _arrays(ROLLOUT), _arrays({field: ROLLOUT[field]})
    make_engine(SPEC, ROWS).random_rollout(everything)
    make_engine(SPEC, ROWS).random_rollout(alone)
    assert np.array_equal(alone[field], everything[field])
    assert everything[field].any()


def test_a_rollout_of_no_steps_changes_nothing() -> None:
    engine = make_engine(SPEC, ROWS)
    before = snapshot(engine)
    engine.random_rollout({"action": np.zeros((0, ROWS), np.int64)})
    assert all(np.array_equal(array, before[field]) for field, array in snapshot(engine).items())


def test_a_reset_after_a_rollout_deals_the_next_episode() -> None:
    engine = make_engine(SPEC, ROWS, autoreset=False)
    engine.random_rollout({"action": np.zeros((1, ROWS), np.int64)})
    engine.reset()
    assert engine.get_state()["episode"].tolist() == [1] * ROWS


RECORD = {name: ROLLOUT[name] for name in ("observation", "action_mask", "mover")}


def test_a_recorder_refuses_what_it_cannot_fill() -> None:
    engine = make_engine(SPEC, ROWS)
    with pytest.raises(ValueError, match=r"^out lacks action_mask, mover\.$"):
        engine.recorder({"observation": np.zeros(*RECORD["observation"])})
    with pytest.raises(ValueError, match=r"^out may hold the arrays observation, action_mask, mover; got .*reward"):
        engine.recorder(_arrays(ROLLOUT))
    with pytest.raises(ValueError, match=r"^mover must have shape \(4, 5\) and dtype int8"):
        engine.recorder(_arrays(RECORD, mover=np.zeros((STEPS, ROWS), np.int64)))
    recorder = engine.recorder(_arrays(RECORD))
    for step in (-1, STEPS):
        with pytest.raises(IndexError, match=rf"^the rollout has 4 steps, and no step {step}\.$"):
            recorder.record(step)


def test_a_recorder_writes_its_own_row_alone_and_outlives_its_arrays_names() -> None:
    engine, out = make_engine(SPEC, ROWS), _arrays(RECORD)
    recorder = engine.recorder(out)
    observation = out.pop("observation")
    recorder.record(2)
    assert np.array_equal(observation[2], engine.observation)
    assert not observation[[0, 1, 3]].any()


def test_a_refused_or_empty_rollout_is_no_play() -> None:
    engine = make_engine(SPEC, ROWS)
    with pytest.raises(ValueError, match=r"^stream must lie between"):
        engine.random_rollout({"action": np.zeros((STEPS, ROWS), np.int64)}, -1)
    engine.random_rollout({"action": np.zeros((0, ROWS), np.int64)})
    engine.reset()
    assert engine.get_state()["episode"].tolist() == [0] * ROWS


def test_a_closed_engine_refuses_both_and_its_recorders() -> None:
    engine = make_engine(SPEC, ROWS)
    recorder = engine.recorder(_arrays(RECORD))
    engine.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        recorder.record(0)
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        engine.seat_views(**VIEWS)
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        engine.random_rollout(_arrays(ROLLOUT))


def test_an_engine_without_views_plays_the_same_games_and_shows_them_when_asked() -> None:
    blind, seeing = (make_engine(SPEC, 50, seed=2, views=views) for views in (False, True))
    for name in ("observation", "action_mask"):
        assert name not in blind.buffers
        with pytest.raises(AttributeError):
            getattr(blind, name)
    recorded = _arrays(rollout_layout(SPEC, 50, 30))
    recorder = blind.recorder({name: recorded[name] for name in RECORD})
    for step in range(30):
        recorder.record(step)
        for name in RECORD:
            assert np.array_equal(recorded[name][step], getattr(seeing, name)), name
        for engine in (blind, seeing):
            engine.step(engine.random_actions())
        for name, array in blind.buffers.items():
            assert np.array_equal(array, seeing.buffers[name]), name
        both = [_arrays(seat_views_layout(SPEC, 50)) for _ in range(2)]
        for engine, views in zip((blind, seeing), both, strict=True):
            engine.seat_views(**views)
        assert all(np.array_equal(both[0][name], both[1][name]) for name in both[0])
    rollouts = [_arrays(rollout_layout(SPEC, 50, 30)) for _ in range(2)]
    for engine, rollout in zip((blind, seeing), rollouts, strict=True):
        engine.random_rollout(rollout)
    assert all(np.array_equal(rollouts[0][name], rollouts[1][name]) for name in rollouts[0])

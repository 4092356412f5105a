"""Whatever an engine is given, it takes or refuses with a sentence; it never crashes and never plays wrongly after.

`BARGAIN_FUZZ=N` draws N examples a test (300 without it); `nox -s sanitize` runs this under the compiler's sanitizers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from bargain_env import GameSpec, _cpu, make_engine
from bargain_env.checks import VIEW_KEYS
from bargain_env.engine import STATE_KEYS, Engine
from bargain_env.layout import buffer_layout, rollout_layout, seat_views_layout, spec_fields, state_layout
from bargain_env.testing import check_engine_parity, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

EXAMPLES = int(os.environ.get("BARGAIN_FUZZ", "300"))
fuzz = settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
few = settings(fuzz, max_examples=max(EXAMPLES // 10, 10))

REFUSALS = (ValueError, TypeError, RuntimeError)
ROWS, STEPS = 3, 2
SPECS = (
    GameSpec(),
    GameSpec((1, 1), max_rounds=1, max_value=2),
    GameSpec((2, 1), max_rounds=2, discount=0.9, observation="history"),
    GameSpec((1,) * 8, max_rounds=2, outside_range=(0.3, 0.3)),
)
NUMBERS = [-(2**63), -(2**31) - 1, -129, -2, -1, 0, 1, 2, 3, 5, 79, 80, 81, 82, 100, 127, 128, 32767, 2**31, 2**63 - 1]
DTYPES = "?bBhHiIlLfdgDOSUMm"
LAYOUTS = ("plain", "strided", "reversed", "fortran", "read-only", "swapped", "unaligned", "broadcast")


class Wrapped:
    """What numpy can read although it is no numpy array, like a tensor of another library."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.array

    def tolist(self) -> Any:
        return self.array.tolist()


def in_layout(array: NDArray[Any], layout: str) -> NDArray[Any]:
    """Returns an array equal to `array`, up to "broadcast" and "swapped", that lies otherwise in memory."""
    if layout == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    if layout == "reversed":
        return np.flip(np.flip(array).copy())
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "swapped":
        return array.astype(array.dtype.newbyteorder())
    if layout == "broadcast":
        return np.broadcast_to(array[:1], array.shape) if array.ndim and array.size else array
    if layout == "unaligned" and array.dtype != object:
        memory = np.zeros(array.nbytes + 1, np.uint8)
        other = memory[1:].view(array.dtype).reshape(array.shape)
        other[...] = array
        return other
    array = array.copy()
    array.flags.writeable = layout != "read-only"
    return array


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], dtype: Any) -> Any:
    """Draws something to pass where an array `shape` of `dtype` belongs: often just right, sometimes no array."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from([None, 1, -1.5, "x", [], [1, 2, 3], {}, object(), ["a", None, [1]]]))
    if draw(st.integers(0, 9)) == 0:
        dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    if draw(st.integers(0, 9)) == 0:
        wrong = draw(st.integers(0, len(shape)))
        sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=1))
        shape = (*shape[:wrong], *sizes, *shape[wrong + draw(st.integers(0, 1)) :])
    numbers = draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4))
    array = in_layout(np.resize(np.array(numbers), shape).astype(dtype), draw(st.sampled_from(LAYOUTS)))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([array.tolist(), Wrapped(array), np.ma.masked_array(array)]))
    return array


def refused(call: Callable[[], Any]) -> bool:
    """Tells whether `call` was refused, with a sentence; any other exception is passed on."""
    try:
        call()
    except REFUSALS as error:
        sentence = str(error).strip()
    else:
        return False
    assert sentence
    return True


def played(spec: GameSpec, steps: int) -> Engine:
    engine = make_engine(spec, ROWS, seed=5)
    play(engine, steps)
    return engine


def play(engine: Engine, steps: int) -> None:
    for step in range(steps):
        engine.step(engine.random_actions(step))


def assert_same(engine: Engine, other: Engine) -> None:
    for _ in range(2):
        shown = snapshot(other)
        for name, array in snapshot(engine).items():
            assert array.tobytes() == shown[name].tobytes(), name
        play(engine, 3)
        play(other, 3)


specs = st.sampled_from(SPECS)
steps_before = st.integers(0, 5)


@fuzz
@given(data=st.data(), spec=specs, before=steps_before)
def test_actions(data: st.DataObject, spec: GameSpec, before: int) -> None:
    engine, twin = played(spec, before), played(spec, before)
    actions = data.draw(arrays((ROWS,), data.draw(st.sampled_from([np.int32, np.int64]))))
    rows = data.draw(st.none() | arrays((ROWS,), np.bool_))
    if not refused(lambda: engine.step(actions, rows)):
        twin.step(np.array(actions.tolist(), np.int64), None if rows is None else np.array(np.asarray(rows).tolist()))
    assert_same(engine, twin)


@fuzz
@given(data=st.data(), spec=specs, before=steps_before)
def test_reset_options(data: st.DataObject, spec: GameSpec, before: int) -> None:
    layout = {name: state_layout(spec, ROWS)[name] for name in ("values", "outside")} | {
        "reset_mask": ((ROWS,), np.bool_),
        "unknown": ((), np.bool_),
    }
    names = data.draw(st.sets(st.sampled_from(sorted(layout))))
    options = {name: data.draw(arrays(*layout[name])) for name in names}
    seed: Any = data.draw(st.sampled_from([None, 0, 7, 2**64 - 1, 2**64, -1, 1.0, "s", np.int64(3)]))
    engine, twin = played(spec, before), played(spec, before)
    if refused(lambda: engine.reset(seed, options)):
        assert engine.seed == twin.seed
    else:
        twin.reset(
            seed, {name: np.array(np.asarray(part).tolist()) for name, part in options.items() if part is not None}
        )
    assert_same(engine, twin)


@fuzz
@given(data=st.data(), spec=specs, before=steps_before)
def test_states(data: st.DataObject, spec: GameSpec, before: int) -> None:
    engine, twin, other = (played(spec, steps) for steps in (before, before, data.draw(steps_before)))
    layout, state = state_layout(spec, ROWS), other.get_state()
    for name in data.draw(st.sets(st.sampled_from(STATE_KEYS), max_size=2)):
        how = data.draw(st.integers(0, 2))
        if how == 0:
            state[name] = data.draw(arrays(*layout[name]))
        elif how == 1:
            state[name] = in_layout(state[name], data.draw(st.sampled_from(LAYOUTS)))
        else:
            part = state[name].reshape(-1)
            number = np.array(data.draw(st.sampled_from(NUMBERS))).astype(part.dtype)
            part[data.draw(st.integers(0, part.size - 1))] = number
    if data.draw(st.integers(0, 19)) == 0:
        state.pop(data.draw(st.sampled_from(STATE_KEYS)))
    if refused(lambda: engine.set_state(state)):
        assert_same(engine, twin)
        return
    taken = engine.get_state()
    assert all(taken[name].tolist() == np.asarray(state[name]).tolist() for name in STATE_KEYS)
    play(engine, spec.max_turns)
    engine.set_state(state)
    engine.autoreset = False
    play(engine, spec.max_turns)
    assert engine.terminated.all()


@fuzz
@given(data=st.data(), spec=specs, before=steps_before)
def test_outputs(data: st.DataObject, spec: GameSpec, before: int) -> None:
    engine, twin = played(spec, before), played(spec, before)
    stream: Any = data.draw(st.sampled_from([0, 1, 2**64 - 1, -1, 2**64, None, 1.5]))
    out = data.draw(arrays((ROWS,), np.int64))
    if not refused(lambda: engine.random_actions(stream, out)) and out is not None:
        assert out.tolist() == twin.random_actions(stream).tolist()
    views = {name: data.draw(arrays(*part)) for name, part in seat_views_layout(spec, ROWS).items()}
    if not refused(lambda: engine.seat_views(**views)):
        expected = {name: np.full_like(array, 3) for name, array in views.items()}
        twin.seat_views(**expected)
        assert all(np.array_equal(array, expected[name]) for name, array in views.items())
    assert_same(engine, twin)


@fuzz
@given(data=st.data(), spec=specs, before=steps_before)
def test_rollouts(data: st.DataObject, spec: GameSpec, before: int) -> None:
    engine, twin = played(spec, before), played(spec, before)
    layout = rollout_layout(spec, ROWS, STEPS)
    names = data.draw(st.sets(st.sampled_from(sorted(layout))))
    out = {name: data.draw(arrays(*layout[name])) for name in names}
    if not refused(lambda: engine.random_rollout(out)):
        steps = len(next(iter(out.values())))
        expected = {name: np.full_like(array, 3) for name, array in out.items()}
        for step in range(steps):
            shown = {name: getattr(twin, name).copy() for name in ("observation", "action_mask", "mover")}
            shown["action"] = twin.random_actions()
            twin.step(shown["action"])
            shown |= {name: getattr(twin, name) for name in ("reward", "terminated")}
            for name, array in expected.items():
                array[step] = shown[name]
        assert all(np.array_equal(array, expected[name]) for name, array in out.items())
    assert_same(engine, twin)


def test_a_state_of_arrays_that_are_not_numpys() -> None:
    engine, twin = played(SPECS[0], 3), played(SPECS[0], 4)
    engine.set_state({name: Wrapped(array) for name, array in twin.get_state().items()})
    assert_same(engine, twin)


def test_an_episode_beyond_the_counter_is_refused() -> None:
    engine = played(SPECS[0], 3)
    for episode, fits in ((2**56 - 1, True), (2**56, False), (2**63 - 1, False)):
        state = engine.get_state() | {"episode": np.full(ROWS, episode)}
        assert refused(lambda state=state: engine.set_state(state)) is not fits  # type: ignore[misc]


@fuzz
@given(data=st.data(), spec=specs, before=steps_before, views=st.booleans())
def test_recorders(data: st.DataObject, spec: GameSpec, before: int, views: bool) -> None:
    engine, twin = make_engine(spec, ROWS, seed=5, views=views), played(spec, before)
    play(engine, before)
    layout = {name: rollout_layout(spec, ROWS, STEPS)[name] for name in VIEW_KEYS}
    out = {name: data.draw(arrays(*part)) for name, part in layout.items()}
    if refused(lambda: engine.recorder(out)):
        return
    recorder = engine.recorder(out)
    for _ in range(4):
        step: Any = data.draw(st.sampled_from([0, 1, 1, STEPS, -1, 2**62, 2**64, "x", None, 0.5]))
        try:
            recorder.record(step)
        except (TypeError, IndexError):
            assert step not in range(len(out["mover"]))
        else:
            assert all(np.array_equal(array[step], getattr(twin, name)) for name, array in out.items())
        play(engine, 1)
        play(twin, 1)


ANYTHING = st.one_of(
    st.none(), st.booleans(), st.floats(), st.text(max_size=3), st.sampled_from(NUMBERS), st.lists(st.integers(-1, 3))
)


@few
@given(arguments=st.dictionaries(st.sampled_from(["seed", "threads", "first_game", "device", "autoreset"]), ANYTHING))
def test_engine_arguments(arguments: dict[str, Any]) -> None:
    arguments["threads"] = min(arguments.get("threads") or 1, 3) if _is_int(arguments.get("threads")) else 1
    if not refused(lambda: make_engine(num_envs=2, **arguments)):
        play(make_engine(num_envs=2, **arguments), 7)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@few
@given(fields=st.dictionaries(st.sampled_from(sorted(GameSpec().to_dict())), ANYTHING))
def test_specs_of_anything(fields: dict[str, Any]) -> None:
    refused(lambda: GameSpec(**fields))


@st.composite
def any_spec(draw: st.DrawFn) -> GameSpec:
    quantities = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=5)))
    low, high = sorted(draw(st.tuples(st.integers(0, 10_000), st.integers(0, 10_000))))
    smallest = draw(st.integers(1, 1000))
    return GameSpec(
        item_quantities=quantities,
        max_rounds=draw(st.integers(1, 63)),
        min_value=smallest,
        max_value=smallest + draw(st.sampled_from([0, 1, 99, 100_000])),
        discount=draw(st.sampled_from([1.0, 0.99, 0.3, 1e-12])),
        outside_range=(low / 10_000, high / 10_000),
        observation=draw(st.sampled_from(["standing", "history"])),
    )


@few
@given(spec=any_spec(), seed=st.integers(0, 2**64 - 1), threads=st.sampled_from([1, 2, 5]))
def test_any_game_equals_the_reference(spec: GameSpec, seed: int, threads: int) -> None:
    def make(**arguments: Any) -> Engine:
        return make_engine(threads=threads, **arguments)

    check_engine_parity(spec, make, num_games=8, num_envs=4, seed=seed)


# The native module, below the checks of the engine ------------------------------------------------


def core_arrays(spec: GameSpec) -> dict[str, NDArray[Any]]:
    layout = buffer_layout(spec, ROWS) | {f"state_{k}": v for k, v in state_layout(spec, ROWS).items()}
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}


def core(spec: GameSpec, arrays_: Mapping[str, Any], num_envs: int = ROWS, threads: int = 1) -> Any:
    return _cpu.Core(_cpu.make_spec(spec_fields(spec)), num_envs, dict(arrays_), threads)


@fuzz
@given(data=st.data(), spec=specs)
def test_the_core_binds_only_fitting_arrays(data: st.DataObject, spec: GameSpec) -> None:
    given_ = core_arrays(spec)
    name = data.draw(st.sampled_from(sorted(given_)))
    right = given_[name]
    given_[name] = data.draw(arrays(right.shape, right.dtype))
    if not refused(lambda: core(spec, given_)):
        assert given_[name].dtype == right.dtype
        assert given_[name].size == right.size
        assert given_[name].flags.c_contiguous
        assert given_[name].flags.writeable
        one = core(spec, given_)
        one.reset(1, None, False)
        one.step(np.zeros(ROWS, np.int64), True)


@pytest.mark.parametrize("name", sorted(core_arrays(SPECS[0]).keys() - {"observation", "action_mask"}))
def test_the_core_misses_each_array(name: str) -> None:
    arrays_ = core_arrays(SPECS[0])
    del arrays_[name]
    with pytest.raises(KeyError, match=name):
        core(SPECS[0], arrays_)


@pytest.mark.parametrize(("num_envs", "threads"), [(-1, 1), (2, 1), (2**62, 1), (-(2**63), 1), (ROWS, 0), (ROWS, -5)])
def test_the_core_refuses_wrong_sizes(num_envs: int, threads: int) -> None:
    assert refused(lambda: core(SPECS[0], core_arrays(SPECS[0]), num_envs, threads))


@fuzz
@given(data=st.data(), spec=specs)
def test_the_core_takes_only_fitting_arguments(data: st.DataObject, spec: GameSpec) -> None:
    one = core(spec, core_arrays(spec))
    one.reset(3, None, False)
    views, rollout = seat_views_layout(spec, ROWS), rollout_layout(spec, ROWS, STEPS)
    names = data.draw(st.sets(st.sampled_from(sorted(rollout))))
    out = {name: data.draw(arrays(*rollout[name])) for name in names}
    calls: list[Callable[[], Any]] = [
        lambda: one.step(data.draw(arrays((ROWS,), np.int64)), True),
        lambda: one.reset(0, data.draw(arrays((ROWS,), np.bool_)), False),
        lambda: one.random_actions(0, data.draw(arrays((ROWS,), np.int64))),
        lambda: one.seat_views(*(data.draw(arrays(*part)) for part in views.values())),
        lambda: one.random_rollout(0, out, data.draw(st.sampled_from([STEPS, STEPS, 0, 1, -1, 2**62])), True),
    ]
    refused(data.draw(st.sampled_from(calls)))
    one.reset(4, None, False)
    one.step(np.zeros(ROWS, np.int64), True)


@fuzz
@given(changes=st.dictionaries(st.sampled_from(sorted(spec_fields(SPECS[0]))), ANYTHING, min_size=1, max_size=2))
def test_the_core_refuses_specs_that_do_not_fit(changes: dict[str, Any]) -> None:
    fields = spec_fields(SPECS[0]) | changes
    refused(lambda: _cpu.Core(_cpu.make_spec(fields), ROWS, core_arrays(SPECS[0]), 1))


def test_philox_takes_four_and_two_words() -> None:
    for counter, key in (([], []), ([0] * 5, [0] * 2), ([0] * 4, [0]), ([2**32] * 4, [0, 0]), ([-1] * 4, [0, 0])):
        assert refused(lambda c=counter, k=key: _cpu.philox4x32(c, k))  # type: ignore[misc]

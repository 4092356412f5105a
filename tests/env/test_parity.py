"""The C++ engine equals the plain-Python reference bit for bit, for any batch size and number of threads."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.engine import Engine
from bargain_env.testing import (
    Arrays,
    check_determinism,
    check_engine_parity,
    check_freshness,
    check_rollout,
    check_rows,
    check_state_round_trip,
    snapshot,
)

SPECS = {
    "standing": GameSpec(),
    "history": GameSpec(observation="history"),
    "mini-c": GAMES["mini-c"],
    "discount": GameSpec(max_rounds=5, discount=0.98, observation="history"),
    "one round": GameSpec(max_rounds=1),
    "outside": GameSpec(outside_range=(0.1, 0.5)),
    "eight types": GameSpec(item_quantities=(1,) * 8),
}
LIMITS = {
    "63 rounds": GameSpec(item_quantities=(1, 1), max_rounds=63, discount=0.5, observation="history"),
    "largest total": GameSpec(item_quantities=(1, 2), max_value=2**24 // 3),
    "most actions": GameSpec(item_quantities=(31, 31, 30), max_rounds=2),
}
each_spec = pytest.mark.parametrize("name", SPECS)


@each_spec
def test_ten_thousand_games_equal_the_reference(name: str) -> None:
    check_engine_parity(SPECS[name], make_engine, num_games=10_000, num_envs=1000, seed=2**64 - 1)


@pytest.mark.parametrize("name", LIMITS)
def test_the_largest_games_equal_the_reference(name: str) -> None:
    check_engine_parity(LIMITS[name], make_engine, num_games=40, num_envs=10)


@each_spec
def test_ten_thousand_games_on_two_threads_equal_one(name: str) -> None:
    threaded = functools.partial(make_engine, threads=2)
    check_engine_parity(SPECS[name], threaded, make_engine, num_games=10_000, num_envs=999, illegal_fraction=0.3)


@each_spec
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_batch_size_plays_the_same_games(name: str, threads: int) -> None:
    whole = make_engine(SPECS[name], 1000, seed=5)
    parts = [
        make_engine(SPECS[name], size, seed=5, first_game=first, threads=threads)
        for first, size in ((0, 1), (1, 7), (8, 33), (41, 959))
    ]
    for step in range(20):
        joined = _join([snapshot(part) for part in parts])
        for field, array in snapshot(whole).items():
            assert joined[field].tobytes() == array.tobytes(), f"{field} at step {step}"
        for engine in (whole, *parts):
            engine.step(engine.random_actions(step))


def _join(shown: list[Arrays]) -> Arrays:
    return {name: np.concatenate([arrays[name] for arrays in shown]) for name in shown[0]}


@each_spec
def test_conformance_checks_hold(name: str) -> None:
    spec = SPECS[name]
    check_determinism(make_engine, spec)
    check_state_round_trip(make_engine, spec)
    check_freshness(make_engine(spec, 40))
    check_rollout(make_engine, spec)
    check_rollout(functools.partial(make_engine, threads=3), spec)
    check_rows(make_engine, spec)


class _Broken:
    """An engine that shows one wrong bit from its third step on."""

    def __init__(self, field: str, **arguments: object) -> None:
        self._engine = make_engine(**arguments)  # type: ignore[arg-type]
        self._field, self._steps = field, 0

    def __getattr__(self, name: str) -> object:
        value = getattr(self._engine, name)
        if name != self._field or self._steps < 3:
            return value
        wrong = value.copy()
        wrong[2] = np.nextafter(wrong[2], np.float32(2)) if wrong.dtype == np.float32 else ~wrong[2]
        return wrong

    def step(self, actions: np.ndarray) -> None:
        self._engine.step(actions)
        self._steps += 1


@pytest.mark.parametrize("field", ["observation", "action_mask", "mover", "reward", "illegal"])
def test_the_parity_check_names_field_row_and_step(field: str) -> None:
    def make(**arguments: object) -> Engine:
        broken: Engine = _Broken(field, **arguments)  # type: ignore[assignment]
        return broken

    with pytest.raises(AssertionError, match=rf"^row 2 at step 2: {field}\[2.*\] is .*, expected .*\.$"):
        check_engine_parity(GameSpec(), make, num_games=100, num_envs=10)

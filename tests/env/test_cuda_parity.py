"""The CUDA kernels, compiled for the host behind the launch seam, equal the reference and the C++ core bit for bit."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.testing import (
    check_determinism,
    check_engine_parity,
    check_freshness,
    check_rollout,
    check_rows,
    check_state_round_trip,
    snapshot,
)

torch = pytest.importorskip("torch")
pytest.importorskip("cuda.core")

from bargain_env.cuda_engine import CudaEngine, _tile_rows  # noqa: E402
from bargain_env.layout import rollout_layout, seat_views_layout  # noqa: E402
from host_launcher import HostLauncher, check_arguments, filled, host_engine, signatures  # noqa: E402

SPECS = {
    "default": GameSpec(),
    "mini-a": GAMES["mini-a"],
    "mini-b": GAMES["mini-b"],
    "mini-c": GAMES["mini-c"],
    "history": GameSpec(observation="history"),
    "discount": GameSpec(max_rounds=5, discount=0.98, observation="history"),
    "outside": GameSpec(outside_range=(0.1, 0.5)),
    "eight types": GameSpec(item_quantities=(1,) * 8),
    "one round": GameSpec(max_rounds=1),
    "two offers": GameSpec(item_quantities=(1,), max_rounds=2, observation="history"),
}
LIMITS = {
    "63 rounds": (GameSpec(item_quantities=(1, 1), max_rounds=63, discount=0.5, observation="history"), 30),
    "largest total": (GameSpec(item_quantities=(1, 2), max_value=2**24 // 3), 100),
    "most actions": (GameSpec(item_quantities=(31, 31, 30), max_rounds=2), 5),
}
each_spec = pytest.mark.parametrize("name", SPECS)


@each_spec
def test_kernels_equal_the_cpu_engine(name: str) -> None:
    check_engine_parity(SPECS[name], host_engine, make_engine, num_games=5000, num_envs=1000, seed=2**64 - 1)


@each_spec
@pytest.mark.parametrize(("threads", "num_envs"), [(1, 1), (2, 31), (3, 33)])
def test_kernels_equal_the_reference(name: str, threads: int, num_envs: int) -> None:
    """Blocks of several threads write their rows together; odd sizes put rows at every alignment."""
    make = functools.partial(host_engine, threads=threads, processors=2)
    check_engine_parity(SPECS[name], make, num_games=max(60, num_envs), num_envs=num_envs, seed=num_envs)


@pytest.mark.parametrize("name", LIMITS)
def test_the_largest_games_equal_the_cpu_engine(name: str) -> None:
    spec, num_envs = LIMITS[name]
    make = functools.partial(host_engine, threads=2, processors=8)
    check_engine_parity(spec, make, make_engine, num_games=2 * num_envs, num_envs=num_envs)


@each_spec
def test_conformance_checks_hold(name: str) -> None:
    spec, make = SPECS[name], functools.partial(host_engine, threads=2)
    check_determinism(host_engine, spec)
    check_state_round_trip(host_engine, spec)
    check_freshness(host_engine(spec, 40))
    check_rollout(make, spec)
    check_rows(make, spec)


@pytest.mark.parametrize("name", ["default", "history"])
def test_any_batch_size_plays_the_same_games(name: str) -> None:
    whole = make_engine(SPECS[name], 1000, seed=5, first_game=2**40)
    parts = [
        host_engine(SPECS[name], size, seed=5, first_game=2**40 + first, processors=processors)
        for first, size, processors in ((0, 1, 1), (1, 7, 1), (8, 33, 1), (41, 959, 1), (0, 1000, 20), (0, 1000, 3))
    ]
    for step in range(12):
        expected, shown = snapshot(whole), [snapshot(part) for part in parts]
        for field, array in expected.items():
            joined = np.concatenate([arrays[field] for arrays in shown[:4]])
            for got in (joined, shown[4][field], shown[5][field]):
                assert got.tobytes() == array.tobytes(), f"{field} at step {step}"
        for engine in (whole, *parts):
            engine.step(engine.random_actions(step))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_rollout_writes_into_arrays_at_any_address(threads: int) -> None:
    """Rows of 5 games x 13 floats start at every alignment, and nothing beside the arrays is written."""
    spec, rows, steps = GAMES["mini-c"], 5, 6
    layout = rollout_layout(spec, rows, steps)
    expected = filled(layout, 0)
    make_engine(spec, rows, seed=3).random_rollout({name: array.numpy() for name, array in expected.items()}, 9)
    for offset in range(1, 4):
        out = filled(layout, offset)
        host_engine(spec, rows, seed=3, threads=threads).random_rollout(out, 9)
        for name, array in expected.items():
            assert torch.equal(out[name], array), name
            assert _untouched(out[name], offset), name


def test_seat_views_write_into_arrays_at_any_address() -> None:
    spec, rows = GAMES["mini-c"], 5
    layout = seat_views_layout(spec, rows)
    engine, cpu = host_engine(spec, rows, threads=3), make_engine(spec, rows)
    for step in range(4):
        expected, out = filled(layout, 0), filled(layout, 3)
        cpu.seat_views(**{name: array.numpy() for name, array in expected.items()})
        engine.seat_views(**out)
        for name, array in expected.items():
            assert torch.equal(out[name], array), name
            assert _untouched(out[name], 3), name
        for player in (cpu, engine):
            player.step(player.random_actions(step))


def _untouched(array: Any, offset: int) -> bool:
    """Tells whether the elements before and behind `array` are still 7s."""
    memory = torch.as_strided(array, (array.numel() + offset + 1,), (1,), 0)
    seven = torch.full((), 7).to(array.dtype)
    return bool((memory[:offset] == seven).all() and memory[-1] == seven)


def test_small_batches_are_spread_over_the_processors() -> None:
    assert _tile_rows(1_048_576, 128, 132) == 128
    assert _tile_rows(65_536, 128, 132) == 128
    assert _tile_rows(4096, 128, 132) == 8
    assert _tile_rows(1, 128, 132) == 8
    assert _tile_rows(4096, 4, 132) == 4


def test_a_step_is_one_launch() -> None:
    launcher = HostLauncher(GameSpec())
    engine = CudaEngine(GameSpec(), 10, launcher=launcher)
    assert launcher.launched == ["reset"]
    engine.step(engine.random_actions())
    engine.step(torch.zeros(10, dtype=torch.int32))
    assert launcher.launched[1:] == ["random_actions", "step_int64", "step_int32"]


PARAMETERS = signatures(HostLauncher(GameSpec())._source)["random_actions"]


@pytest.mark.parametrize(
    ("place", "argument"),
    [
        (-2, np.int64(0)),  # a key is unsigned
        (-2, 0),  # a Python integer has no width
        (-3, np.int64(8)),
        (-4, np.int32(5)),
        (-1, torch.zeros(5, dtype=torch.int32)),
        (-1, np.int64(0)),
        (1, torch.zeros(5, dtype=torch.int64)),
        (5, torch.zeros(5, dtype=torch.int16)),
    ],
)
def test_a_wrong_argument_is_caught_at_the_seam(place: int, argument: Any) -> None:
    kinds = {"u64": torch.int64, "i64": torch.int64, "i32": torch.int32, "i16": torch.int16, "i8": torch.int8}
    arguments: list[Any] = [
        torch.zeros(5, dtype=kinds.get(parameter.kind, torch.bool)) for parameter in PARAMETERS if parameter.pointer
    ]
    arguments[-1:-1] = [np.int64(5), np.int32(8), np.uint64(1)]
    check_arguments("random_actions", PARAMETERS, tuple(arguments))
    with pytest.raises(AssertionError, match="takes 13 arguments, got 12"):
        check_arguments("random_actions", PARAMETERS, tuple(arguments[1:]))
    arguments[place] = argument
    with pytest.raises(AssertionError, match=PARAMETERS[place].name):
        check_arguments("random_actions", PARAMETERS, tuple(arguments))

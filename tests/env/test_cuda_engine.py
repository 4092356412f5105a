"""What the CUDA engine does with tensors, and what it answers to bad ones; host_launcher runs the kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.engine import STATE_KEYS
from bargain_env.layout import buffer_layout, rollout_layout, seat_views_layout, state_layout
from bargain_env.testing import snapshot

torch = pytest.importorskip("torch")
pytest.importorskip("cuda.core")

from bargain_env.cuda_engine import CudaEngine  # noqa: E402
from host_launcher import HostLauncher, host_engine  # noqa: E402

SPEC = GAMES["mini-c"]

BAD_CALLS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda e: e.step([1, 2, 3]), "actions must be a torch tensor of int32 or int64, got list."),
    (lambda e: e.step(np.zeros(3, np.int64)), "actions must be a torch tensor of int32 or int64, got int64."),
    (lambda e: e.step(torch.zeros(3)), "actions must be a torch tensor of int32 or int64, got torch.float32."),
    (lambda e: e.step(_long(4)), "actions must have shape (3,), got (4,)."),
    (lambda e: e.step(_long(3, 1)), "actions must have shape (3,), got (3, 1)."),
    (lambda e: e.step(_long(6)[::2]), "actions must be contiguous and on cpu, got a strided tensor on cpu."),
    (
        lambda e: e.step(_long(3).to("meta")),
        "actions must be contiguous and on cpu, got a tensor on meta.",
    ),
    (lambda e: e.reset(seed=-1), "seed must lie between 0 and 18446744073709551615, got -1."),
    (lambda e: e.reset(options={"mask": 1}), "unknown reset options: mask; known: values, outside, reset_mask."),
    (
        lambda e: e.reset(options={"reset_mask": torch.ones(3)}),
        "reset_mask must have shape (3,) and dtype bool, got shape (3,) and float32.",
    ),
    (
        lambda e: e.reset(options={"reset_mask": np.ones(4, bool)}),
        "reset_mask must have shape (3,) and dtype bool, got shape (4,) and bool.",
    ),
    (lambda e: e.reset(options={"values": _long(3, 2, 2)}), "an explicit deal needs both values and outside."),
    (
        lambda e: e.reset(seed=4, options={"values": _long(3, 2, 2) + 4, "outside": _long(3, 2)}),
        "values must lie between 1 and 3.",
    ),
    (
        lambda e: e.reset(options={"values": _long(3, 2, 2) + 1, "outside": _long(3, 2) + 4}),
        "outside offers must lie between 0 and the seat's own total.",
    ),
    (lambda e: e.random_actions(-1), "stream must lie between 0 and 18446744073709551615, got -1."),
    (
        lambda e: e.random_actions(out=torch.zeros(3, dtype=torch.int32)),
        "out must have shape (3,) and dtype int64, got shape (3,) and int32.",
    ),
    (lambda e: e.random_actions(out=np.zeros(3)), "out must be a torch tensor on cpu, got ndarray."),
    (lambda e: e.random_actions(out=_long(6)[::2]), "out must be contiguous and on cpu, got a strided tensor on cpu."),
    (
        lambda e: e.set_state({"values": 1}),
        "a state holds exactly the arrays values, outside, actions, offer, turn, finished, game, episode; got values.",
    ),
    (
        lambda e: e.set_state(e.get_state() | {"turn": torch.zeros(4, dtype=torch.int8)}),
        "state turn must have shape (3,) and dtype int8, got shape (4,) and int8.",
    ),
    (
        lambda e: e.set_state(e.get_state() | {"turn": torch.full((3,), 3, dtype=torch.int8)}),
        "the state of row 0 cannot occur in this game.",
    ),
    (
        lambda e: e.seat_views(torch.zeros(2, 3, 1), torch.zeros(2, 3, SPEC.num_actions + 1, dtype=torch.int8)),
        f"observation must have shape (2, 3, {SPEC.observation_dim}) and dtype float32, "
        "got shape (2, 3, 1) and float32.",
    ),
    (
        lambda e: e.random_rollout({"outcome": _long(4, 3)}),
        "out may hold the arrays observation, action_mask, mover, action, reward, terminated; got outcome.",
    ),
    (
        lambda e: e.random_rollout({"action": _long(4, 2)}),
        "action must have shape (4, 3) and dtype int64, got shape (4, 2) and int64.",
    ),
    (
        lambda e: e.random_rollout({"action": _long(3, 4).T}),
        "action must be contiguous and on cpu, got a strided tensor on cpu.",
    ),
    (
        lambda e: e.random_rollout({"action": _long(4, 3)}, -1),
        "stream must lie between 0 and 18446744073709551615, got -1.",
    ),
]


def _zeros(layout: Any) -> dict[str, Any]:
    return {name: torch.from_numpy(np.zeros(shape, dtype)) for name, (shape, dtype) in layout.items()}


def _long(*shape: int) -> Any:
    return torch.zeros(shape, dtype=torch.int64)


@pytest.mark.parametrize(("call", "sentence"), BAD_CALLS, ids=[sentence for _, sentence in BAD_CALLS])
def test_bad_calls_are_refused_and_change_nothing(call: Callable[[Any], Any], sentence: str) -> None:
    engine = host_engine(SPEC, 3, seed=9)
    engine.step(engine.random_actions())
    before, seed = snapshot(engine), engine.seed
    with pytest.raises(ValueError, match=r"\S") as error:
        call(engine)
    assert str(error.value) == sentence
    assert engine.seed == seed
    assert all(np.array_equal(array, before[name]) for name, array in snapshot(engine).items())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_envs": 0}, "num_envs must lie between 1 and 2147483647, got 0."),
        ({"seed": 2**64}, "seed must lie between 0 and 18446744073709551615, got 18446744073709551616."),
        ({"first_game": -1}, "first_game must lie between 0 and 9223372036854775806, got -1."),
    ],
)
def test_bad_engine_arguments(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        host_engine(SPEC, **arguments)
    assert str(error.value) == sentence


def test_too_many_games_for_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    launcher = HostLauncher(SPEC)
    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(RuntimeError, match=r"\S") as error:
        CudaEngine(SPEC, 2**31 - 1, launcher=launcher)
    layouts = (*state_layout(SPEC, 1).values(), *buffer_layout(SPEC, 1).values())
    size = (2**31 - 1) * sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in layouts) + 8
    expected = f"2147483647 games of this spec need {size:,} bytes, more than cpu has free: lower num_envs."
    assert str(error.value) == expected


def test_the_tensors_have_the_layout_of_every_engine() -> None:
    engine, cpu = host_engine(SPEC, 7), make_engine(SPEC, 7)
    assert engine.buffers.keys() == cpu.buffers.keys()
    for name, array in cpu.buffers.items():
        tensor = engine.buffers[name]
        assert tensor is getattr(engine, name)
        assert tensor.numpy().dtype == array.dtype
        assert tensor.shape == array.shape
    assert tuple(engine.get_state()) == STATE_KEYS


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_reset_options_come_as_either_kind_of_array(kind: str) -> None:
    engine, cpu = host_engine(SPEC, 6, threads=2), make_engine(SPEC, 6)
    options = {
        "values": np.arange(24).reshape(6, 2, 2) % 3 + 1,
        "outside": np.arange(12).reshape(6, 2) % 3,
        "reset_mask": np.array([True, False, True, True, False, True]),
    }
    options["values"][1], options["outside"][4] = 2**40, -5  # of rows that are not selected
    given = options if kind == "numpy" else {name: torch.from_numpy(array) for name, array in options.items()}
    for player, chosen in ((engine, given), (cpu, options)):
        player.step(player.random_actions())
        player.reset(options=chosen)
        player.reset(seed=2**64 - 1, options={"reset_mask": chosen["reset_mask"]})
        player.reset(options=chosen)
    got, expected = snapshot(engine), snapshot(cpu)
    assert all(np.array_equal(got[name], array) for name, array in expected.items())
    assert got["state values"][0].tolist() == [[1, 2], [3, 1]]


def test_resets_count_episodes_as_the_cpu_engine_does() -> None:
    engines = host_engine(SPEC, 3), make_engine(SPEC, 3)
    some = np.array([True, False, True])
    calls: list[tuple[Any, Any]] = [(None, some), (None, some), (None, None), (5, some), (None, None), (7, None)]
    for seed, rows in calls:
        for engine in engines:
            engine.reset(seed, None if rows is None else {"reset_mask": rows})
        first, second = (snapshot(engine) for engine in engines)
        assert all(np.array_equal(first[name], array) for name, array in second.items()), (seed, rows)


@pytest.mark.parametrize("played_by", ["step", "random_rollout", "set_state"])
def test_a_reset_after_play_deals_the_next_episode(played_by: str) -> None:
    engine = host_engine(SPEC, 3, autoreset=False)
    argument: Any = {"step": _long(3), "random_rollout": {"action": _long(1, 3)}, "set_state": engine.get_state()}
    getattr(engine, played_by)(argument[played_by])
    engine.reset()
    assert engine.get_state()["episode"].tolist() == [1, 1, 1]


def test_the_seed_is_read_where_the_kernel_runs() -> None:
    """A captured graph repeats its arguments, so the key of the deals must not be one of them."""
    launcher = HostLauncher(SPEC)
    engine = CudaEngine(SPEC, 50, seed=1, launcher=launcher)
    out = _long(50)
    recorded: list[tuple[Any, ...]] = []
    honest = launcher.launch
    launcher.launch = lambda *arguments: recorded.append(arguments)  # type: ignore[method-assign]
    engine.random_actions(out=out)
    engine.step(out)
    launcher.launch = honest  # type: ignore[method-assign]
    for seed in (2**63, 3):
        engine.reset(seed=seed)
        fresh = make_engine(SPEC, 50, seed=seed)
        for _ in range(5):
            for arguments in recorded:
                launcher.launch(*arguments)
            fresh.step(fresh.random_actions())
        expected = snapshot(fresh)
        assert all(np.array_equal(array, expected[name]) for name, array in snapshot(engine).items())


def test_autoreset_may_change_between_steps() -> None:
    engines = host_engine(SPEC, 40, autoreset=False), make_engine(SPEC, 40, autoreset=False)
    for step in range(12):
        for engine in engines:
            engine.autoreset = step % 5 > 2
            engine.step(engine.random_actions(step))
        first, second = (snapshot(engine) for engine in engines)
        assert all(np.array_equal(first[name], array) for name, array in second.items()), step


@pytest.mark.parametrize("field", rollout_layout(SPEC, 5, 4))
def test_a_rollout_of_one_field_is_that_of_all(field: str) -> None:
    cpu, layout = make_engine(SPEC, 5), rollout_layout(SPEC, 5, 4)
    out: dict[str, Any] = {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}
    cpu.random_rollout(out)
    engine = host_engine(SPEC, 5)
    alone = {field: torch.from_numpy(np.zeros_like(out[field]))}
    engine.random_rollout(alone)
    assert np.array_equal(alone[field].numpy(), out[field])
    expected = snapshot(cpu)
    assert all(np.array_equal(array, expected[name]) for name, array in snapshot(engine).items())


def test_a_rollout_of_no_steps_changes_nothing() -> None:
    engine = host_engine(SPEC, 5)
    before = snapshot(engine)
    engine.random_rollout({"action": _long(0, 5)})
    assert all(np.array_equal(array, before[name]) for name, array in snapshot(engine).items())
    engine.reset()
    assert engine.get_state()["episode"].tolist() == [0] * 5


def test_an_engine_without_views_plays_the_same_games() -> None:
    spec = GameSpec(observation="history", max_rounds=2)
    blind, seeing = (host_engine(spec, 33, seed=2, threads=2, views=views) for views in (False, True))
    assert not hasattr(blind, "observation")
    assert not hasattr(blind, "action_mask")
    for step in range(9):
        for engine in (blind, seeing):
            engine.step(engine.random_actions(step))
            engine.random_rollout({"action": _long(2, 33)}, step)
        for name, tensor in (blind.buffers | blind.get_state()).items():
            assert torch.equal(tensor, (seeing.buffers | seeing.get_state())[name]), (name, step)
        views = [_zeros(seat_views_layout(spec, 33)) for _ in range(2)]
        for engine, out in zip((blind, seeing), views, strict=True):
            engine.seat_views(**out)
        assert all(torch.equal(views[0][name], tensor) for name, tensor in views[1].items())


def test_a_recorder_says_what_it_cannot_do() -> None:
    engine = host_engine(SPEC, 5)
    out = {name: _zeros(rollout_layout(SPEC, 5, 4))[name] for name in ("observation", "action_mask", "mover")}
    recorder = engine.recorder(out)
    for step in (-1, 4):
        with pytest.raises(IndexError, match=rf"^the rollout has 4 steps, and no step {step}\.$"):
            recorder.record(step)
    with pytest.raises(ValueError, match=r"^out lacks mover\.$"):
        engine.recorder({name: out[name] for name in ("observation", "action_mask")})
    with pytest.raises(
        ValueError, match=r"^out may hold the arrays observation, action_mask, mover; got mover, action\."
    ):
        engine.recorder({"mover": out["mover"], "action": _long(4, 5)})
    with pytest.raises(
        ValueError, match=r"^mover must have shape \(4, 5\) and dtype int8, got shape \(4, 5\) and int64"
    ):
        engine.recorder(out | {"mover": _long(4, 5)})
    engine.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        recorder.record(0)


def test_a_state_moves_between_the_engines() -> None:
    engine, cpu = host_engine(seed=2, num_envs=30), make_engine(seed=2, num_envs=30)
    for step in range(4):
        cpu.step(cpu.random_actions(step))
    engine.set_state(cpu.get_state())
    for step in range(4):
        engine.step(engine.random_actions(step))
        cpu.step(cpu.random_actions(step))
    cpu.set_state({name: array.numpy() for name, array in engine.get_state().items()})
    engine.set_state(engine.get_state())
    expected = snapshot(cpu)
    assert all(np.array_equal(array, expected[name]) for name, array in snapshot(engine).items())


def test_a_restored_finished_game_has_its_record() -> None:
    ended = make_engine(SPEC, 30, seed=2, autoreset=False)
    for step in range(SPEC.max_turns):
        ended.step(ended.random_actions(step))
    engines = host_engine(SPEC, 30, autoreset=False), make_engine(SPEC, 30, autoreset=False)
    for engine in engines:
        engine.set_state(ended.get_state())
    first, second = (snapshot(engine) for engine in engines)
    assert second["terminated"].all()
    assert set(second["record outcome"].tolist()) == {1, 2}
    assert all(np.array_equal(first[name], array) for name, array in second.items())


@pytest.mark.parametrize(
    "call", ["step", "reset", "random_actions", "seat_views", "random_rollout", "get_state", "set_state"]
)
def test_a_closed_engine_says_so(call: str) -> None:
    engine = host_engine(GameSpec(), 2)
    views = _zeros(seat_views_layout(GameSpec(), 2))
    arguments: dict[str, tuple[Any, ...]] = {
        "step": (_long(2),),
        "set_state": (engine.get_state(),),
        "random_rollout": ({"action": _long(1, 2)},),
        "seat_views": (views["observation"], views["action_mask"]),
    }
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        getattr(engine, call)(*arguments.get(call, ()))

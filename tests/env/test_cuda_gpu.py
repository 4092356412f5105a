"""What only a GPU can show: the real launch, its streams and graphs, and that nothing waits; `nox -s gpu` runs them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.layout import rollout_layout, seat_views_layout
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

pytestmark = pytest.mark.gpu

SPECS = {
    "default": GameSpec(),
    "mini-a": GAMES["mini-a"],
    "mini-c": GAMES["mini-c"],
    "history": GameSpec(observation="history"),
    "discount": GameSpec(max_rounds=5, discount=0.98, observation="history"),
    "eight types": GameSpec(item_quantities=(1,) * 8),
    "one round": GameSpec(max_rounds=1),
    "63 rounds": GameSpec(item_quantities=(1, 1), max_rounds=63, discount=0.5, observation="history"),
    "most actions": GameSpec(item_quantities=(31, 31, 30), max_rounds=2),
}
SMALL = ("63 rounds", "most actions")
each_spec = pytest.mark.parametrize("name", SPECS)
cuda_engine = functools.partial(make_engine, device="cuda")


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BARGAIN_CACHE_DIR", str(folder))
        yield folder


def _same(a: Any, b: Any) -> None:
    first, second = snapshot(a), snapshot(b)
    for name, array in second.items():
        assert first[name].tobytes() == array.tobytes(), name


@each_spec
@pytest.mark.parametrize("num_envs", [1, 31, 1000])
def test_the_gpu_equals_the_cpu(name: str, num_envs: int) -> None:
    num_envs = min(num_envs, 40) if name in SMALL else num_envs
    check_engine_parity(
        SPECS[name], cuda_engine, make_engine, num_games=4 * num_envs, num_envs=num_envs, seed=2**63 + 1
    )


@each_spec
def test_conformance_checks_hold(name: str) -> None:
    if name in SMALL:
        pytest.skip("the checks copy much of these games; parity covers them")
    check_determinism(cuda_engine, SPECS[name])
    check_state_round_trip(cuda_engine, SPECS[name])
    check_freshness(cuda_engine(SPECS[name], 40))
    check_rollout(cuda_engine, SPECS[name])
    check_rows(cuda_engine, SPECS[name])


def test_a_full_grid_equals_the_cpu() -> None:
    engine, cpu = (make_engine(num_envs=100_003, device=device, seed=4, first_game=7) for device in ("cuda", "cpu"))
    for step in range(12):
        for player in (engine, cpu):
            player.step(player.random_actions(step))
    _same(engine, cpu)


def test_more_elements_than_32_bits_count() -> None:
    num_envs, last = 24_000_000, 1000  # 24 M x 92 floats is more than 2**31 elements
    free, _ = torch.cuda.mem_get_info()
    if free < 20 * 2**30:
        pytest.skip("needs 20 GiB of free GPU memory")
    engine = cuda_engine(num_envs=num_envs)
    cpu = make_engine(num_envs=last, first_game=num_envs - last)
    for step in range(8):
        for player in (engine, cpu):
            player.step(player.random_actions(step))
        for name, tensor in engine.buffers.items():
            assert np.array_equal(tensor[-last:].cpu().numpy(), cpu.buffers[name]), (name, step)


def _captured(engine: Any, actions: Any, steps: int) -> Any:
    """Returns a CUDA graph of `steps` times random actions and a step; the engine is where it was before."""
    engine.random_actions(out=actions)  # every kernel has run once before the capture
    engine.step(actions)
    engine.reset(seed=engine.seed)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(steps):
            engine.random_actions(out=actions)
            engine.step(actions)
    return graph


@pytest.mark.parametrize("name", ["default", "history"])
def test_a_captured_graph_replays_the_steps(name: str) -> None:
    engine, eager = (cuda_engine(SPECS[name], 1000, seed=3) for _ in range(2))
    actions = torch.zeros(1000, dtype=torch.int64, device=engine.device)
    graph = _captured(engine, actions, steps=2)
    _same(engine, eager)  # capturing plays nothing
    for _ in range(10):
        graph.replay()
    for _ in range(20):
        eager.step(eager.random_actions())
    _same(engine, eager)


def test_a_captured_graph_plays_the_seed_of_the_day() -> None:
    engine = cuda_engine(num_envs=500, seed=3)
    graph = _captured(engine, torch.zeros(500, dtype=torch.int64, device=engine.device), steps=1)
    engine.reset(seed=2**64 - 1)
    eager = cuda_engine(num_envs=500, seed=2**64 - 1)
    for _ in range(20):
        graph.replay()
        eager.step(eager.random_actions())
    _same(engine, eager)


def _tensors(engine: Any, layout: Any) -> dict[str, Any]:
    return {name: torch.from_numpy(np.zeros(shape, dtype)).to(engine.device) for name, (shape, dtype) in layout.items()}


def test_a_rollout_and_the_seat_views_can_be_captured() -> None:
    engine, eager = (cuda_engine(num_envs=300, seed=3) for _ in range(2))
    outs = [_tensors(player, rollout_layout(player.spec, 300, 8)) for player in (engine, eager)]
    views = [_tensors(player, seat_views_layout(player.spec, 300)) for player in (engine, eager)]
    engine.random_rollout(outs[0])
    engine.seat_views(**views[0])
    engine.reset(seed=3)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        engine.random_rollout(outs[0], 5)
        engine.seat_views(**views[0])
    for _ in range(3):
        graph.replay()
        eager.random_rollout(outs[1], 5)
        eager.seat_views(**views[1])
    for captured, direct in ((outs[0], outs[1]), (views[0], views[1])):
        assert all(torch.equal(captured[name], tensor) for name, tensor in direct.items())
    _same(engine, eager)


def _play_all(engine: Any, actions: Any, out: Any, views: Any) -> None:
    engine.random_actions(out=actions)
    engine.step(actions)
    engine.step(actions.int())
    engine.random_rollout(out)
    engine.seat_views(**views)


def test_playing_never_waits_for_the_gpu() -> None:
    engine = cuda_engine(num_envs=1000)
    actions = torch.zeros(1000, dtype=torch.int64, device=engine.device)
    out, views = (
        _tensors(engine, part) for part in (rollout_layout(engine.spec, 1000, 4), seat_views_layout(engine.spec, 1000))
    )
    _play_all(engine, actions, out, views)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(1_000_000_000)  # about half a second
        asleep = torch.cuda.Event()
        asleep.record()
        _play_all(engine, actions, out, views)
        engine.reset(options={"reset_mask": engine.terminated})
        waited = asleep.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert not waited


def test_kernels_run_on_the_current_stream() -> None:
    engine, cpu = cuda_engine(num_envs=500, seed=1), make_engine(num_envs=500, seed=1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        engine.step(engine.random_actions())
        torch.cuda._sleep(1_000_000_000)
        for _ in range(4):
            engine.step(engine.random_actions())
    behind = torch.cuda.Event()
    behind.record(stream)
    torch.cuda.default_stream().synchronize()
    assert not behind.query()  # the steps wait behind the sleep of their stream, and no other stream waits for them
    stream.synchronize()
    for _ in range(5):
        cpu.step(cpu.random_actions())
    _same(engine, cpu)


def test_a_new_thread_can_play() -> None:
    engine, cpu = cuda_engine(num_envs=50), make_engine(num_envs=50)
    failures: list[BaseException] = []

    def play() -> None:
        try:
            engine.step(engine.random_actions())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=play)
    thread.start()
    thread.join()
    torch.cuda.synchronize()
    assert failures == []
    cpu.step(cpu.random_actions())
    _same(engine, cpu)


def test_the_current_device_is_left_alone() -> None:
    last = torch.cuda.device_count() - 1
    before = torch.cuda.current_device()
    engine = make_engine(num_envs=50, device=f"cuda:{last}")
    engine.step(engine.random_actions())
    assert engine.device == f"cuda:{last}"
    assert engine.observation.device == torch.device("cuda", last)
    assert torch.cuda.current_device() == before
    _same(engine, _stepped(make_engine(num_envs=50)))


def _stepped(engine: Any) -> Any:
    engine.step(engine.random_actions())
    return engine


def test_too_many_games_for_the_memory() -> None:
    with pytest.raises(RuntimeError, match=r"^2147483647 games of this spec need [\d,]+ bytes, more than cuda:\d+ has"):
        cuda_engine(num_envs=2**31 - 1)
    torch.cuda.empty_cache()


def test_arrays_of_the_cpu_are_refused() -> None:
    engine = cuda_engine(num_envs=3)
    with pytest.raises(ValueError, match=r"^actions must be contiguous and on cuda:\d+, got a tensor on cpu\.$"):
        engine.step(torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^out must be contiguous and on cuda:\d+, got a tensor on cpu\.$"):
        engine.random_actions(out=torch.zeros(3, dtype=torch.int64))


def test_compiled_kernels_are_kept(own_cache: Path) -> None:
    make_engine(GameSpec(item_quantities=(3, 2), max_rounds=4), device="cuda")  # a game that no other test plays
    assert [path for path in own_cache.rglob("*") if path.is_file()]

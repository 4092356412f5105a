"""Checks that every engine must pass.

An engine factory is called as `make(spec=, num_envs=, seed=, autoreset=)`, all by keyword:
`functools.partial(make_engine, device="cpu", threads=2)` is one.

Legend: `B` games, `A` actions, `O` features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bargain_env.engine import STATE_KEYS, Engine
from bargain_env.layout import Layout, mover_views_layout, rollout_layout, seat_views_layout
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GameSpec
from bargain_env.testing.compare import Arrays, assert_equal
from bargain_env.testing.reference_engine import ReferenceEngine, seat_views_of, views_of

EngineFactory = Callable[..., Engine]

_VIEWS = ("observation", "action_mask", "mover", "reward", "terminated", "illegal")
_BEFORE, _AFTER = ("observation", "action_mask", "mover"), ("reward", "terminated")
_RECORD = ("outcome", "offer", "decisions", "actions", "values", "outside", "game", "episode")


def check_engine_parity(
    spec: GameSpec,
    make_a: EngineFactory,
    make_b: EngineFactory | None = None,
    *,
    num_games: int = 1000,
    num_envs: int = 100,
    seed: int = 0,
    illegal_fraction: float = 0.1,
) -> None:
    """Plays random games on two engines and compares every array bit for bit after every step.

    Plays with automatic resets until `num_games` have ended, then one batch without them, two steps past its end.
    Costs about .3 ms a game against the reference.

    Args:
        spec: The game.
        make_a: Factory of the engine under test.
        make_b: Factory of the other one; the plain-Python reference if None.
        num_games: Games to finish.
        num_envs: Games `B` in lock-step.
        seed: Key of the deals and of the actions.
        illegal_fraction: Share of actions drawn from illegal and out-of-range integers.

    Raises:
        AssertionError: At the first difference, with its field, row and step.
    """
    for autoreset in (True, False):
        arguments = {"spec": spec, "num_envs": num_envs, "seed": seed, "autoreset": autoreset}
        a, b = make_a(**arguments), (make_b or cast(EngineFactory, ReferenceEngine))(**arguments)
        rng = np.random.default_rng(seed)
        assert_equal(snapshot(a), snapshot(b), "before the first step")
        step = ended = 0
        while ended < num_games if autoreset else step < spec.max_turns + 2:
            drawn = {"random_actions": _numpy(a.random_actions(step))}
            assert_equal(drawn, {"random_actions": _numpy(b.random_actions(step))}, f"before step {step}")
            actions = _mixed_actions(rng, a, drawn["random_actions"], illegal_fraction)
            actions = np.clip(actions, -(2**31), 2**31 - 1).astype(np.int32) if step % 2 else actions
            for engine in (a, b):
                engine.step(_to_device(engine, actions))
            assert_equal(snapshot(a), snapshot(b), f"at step {step}")
            ended += int(_numpy(a.terminated).sum())
            step += 1


def check_determinism(make: EngineFactory, spec: GameSpec | None = None, *, num_steps: int = 50) -> None:
    """Checks that equal seeds give equal games, on two engines and after `reset(seed=)`, and that other seeds differ.

    Raises:
        AssertionError: At the first difference, with its field, row and step.
    """
    arguments = {"spec": spec or GameSpec(), "num_envs": 64, "autoreset": True}
    first, second, other = make(**arguments, seed=7), make(**arguments, seed=7), make(**arguments, seed=8)
    played = [_trace(engine, num_steps) for engine in (first, second, other)]
    other.reset(seed=7)
    played.append(_trace(other, num_steps))
    for trace, what in ((played[1], "two engines of one seed"), (played[3], "reset(seed=7)")):
        for step, (a, b) in enumerate(zip(played[0], trace, strict=True)):
            assert_equal(a, b, f"at step {step} of {what}")
    if np.array_equal(played[0][0]["state values"], played[2][0]["state values"]):
        raise AssertionError("seeds 7 and 8 deal the same values.")


def check_freshness(engine: Engine, *, num_steps: int = 50) -> None:
    """Checks that every observation after every step is that of the row's current game, automatic resets included.

    Plays the engine's own random actions, none of which may count as illegal; costs about .2 ms a row and step.

    Raises:
        AssertionError: At the first difference, with its field, row and step.
    """
    for step in range(num_steps):
        engine.step(engine.random_actions(step))
        shown, expected = snapshot(engine), _views_of_state(engine)
        assert_equal({name: shown[name] for name in expected}, expected, f"at step {step}")
        if shown["illegal"].any():
            raise AssertionError(f"row {int(np.argmax(shown['illegal']))}, step {step}: a random action was illegal.")


def check_state_round_trip(make: EngineFactory, spec: GameSpec | None = None, *, num_steps: int = 50) -> None:
    """Checks that `set_state(get_state())` changes nothing and that play continues alike from it.

    On the same engine and on a new one of the same seed. Asking for random actions must change nothing either.

    Raises:
        AssertionError: At the first difference, with its field, row and step.
    """
    arguments = {"spec": spec or GameSpec(), "num_envs": 64, "seed": 3, "autoreset": True}
    engine, other = make(**arguments), make(**arguments)
    _trace(engine, num_steps)
    state, shown = engine.get_state(), snapshot(engine)
    engine.random_actions(1)
    assert_equal(snapshot(engine), shown, "after asking for random actions")
    views = ("observation", "action_mask", "mover", "seat observation", "seat action_mask")
    names = (*views, *(f"state {name}" for name in STATE_KEYS))
    continued = _trace(engine, num_steps)
    for restored in (engine, other):
        restored.set_state(state)
        now = snapshot(restored)
        assert_equal({name: now[name] for name in names}, {name: shown[name] for name in names}, "after set_state")
        for step, (a, b) in enumerate(zip(_trace(restored, num_steps), continued, strict=True)):
            assert_equal(a, b, f"{step} steps after set_state")


def check_rollout(make: EngineFactory, spec: GameSpec | None = None, *, num_steps: int = 30) -> None:
    """Checks that `random_rollout` is the same as so many `random_actions` and `step`, with and without resets.

    And that a `recorder` writes what the engine shows, into fresh memory and over what it wrote before.

    Raises:
        AssertionError: At the first difference, with its field, row and step.
    """
    spec = spec or GameSpec()
    for autoreset in (True, False):
        arguments = {"spec": spec, "num_envs": 300, "seed": 5, "autoreset": autoreset}
        fused, stepped = make(**arguments), make(**arguments)
        layout = rollout_layout(spec, fused.num_envs, num_steps)
        recorded = _empty(stepped, {name: layout[name] for name in _BEFORE})
        recorder = stepped.recorder(recorded)
        for stream in (2, 3, 4):
            out = _empty(fused, layout)
            fused.random_rollout(out, stream)
            for step in range(num_steps):
                expected = {name: _numpy(getattr(stepped, name)).copy() for name in _BEFORE}
                recorder.record(step)
                shown = {name: _numpy(array[step]) for name, array in recorded.items()}
                assert_equal(shown, expected, f"as recorded in step {step}")
                action = stepped.random_actions(stream)
                stepped.step(action)
                expected |= {"action": _numpy(action)}
                expected |= {name: _numpy(getattr(stepped, name)).copy() for name in _AFTER}
                assert_equal({name: _numpy(array[step]) for name, array in out.items()}, expected, f"at step {step}")
            assert_equal(snapshot(fused), snapshot(stepped), "after the rollout")
            stepped.reset()
            fused.reset()


def check_rows(make: EngineFactory, spec: GameSpec | None = None, *, num_steps: int = 30) -> None:
    """Checks that `step(actions, rows)` plays in those rows alone, and `mover_views` against what the engine shows.

    Raises:
        AssertionError: At the first difference, with its field, row and step.
    """
    spec, rng = spec or GameSpec(), np.random.default_rng(0)
    for autoreset in (True, False):
        arguments = {"spec": spec, "num_envs": 64, "seed": 6, "autoreset": autoreset}
        engine, everywhere = make(**arguments), make(**arguments)
        for step in range(num_steps):
            before, rows = snapshot(engine), rng.random(64) < 0.5
            before["reward"][:], before["illegal"][:] = 0, False
            everywhere.set_state(engine.get_state())
            actions = engine.random_actions(step)
            everywhere.step(actions)
            engine.step(actions, _to_device(engine, rows))
            after, expected = snapshot(engine), snapshot(everywhere)
            for name, array in expected.items():
                array[~rows] = before[name][~rows]
            assert_equal(after, expected, f"at step {step} of some rows")
            views = _empty(engine, mover_views_layout(spec, 64))
            engine.mover_views(**views)
            assert_equal({n: _numpy(view) for n, view in views.items()}, {n: after[n] for n in views}, f"step {step}")


def snapshot(engine: Engine) -> Arrays:
    """Returns copies of all an engine shows and holds, as numpy arrays with one row a game.

    Records are zero where no game has ended; "seat observation" and "seat action_mask" are what `seat_views` writes.
    """
    arrays = {name: _numpy(getattr(engine, name)).copy() for name in _VIEWS}
    for name in _RECORD:
        record = _numpy(getattr(engine, name))
        ended = arrays["terminated"].reshape(-1, *(1,) * (record.ndim - 1))
        arrays[f"record {name}"] = np.where(ended, record, np.zeros((), record.dtype))
    seats = _empty(engine, seat_views_layout(engine.spec, engine.num_envs))
    engine.seat_views(**seats)
    arrays |= {f"seat {name}": _numpy(array).swapaxes(0, 1) for name, array in seats.items()}
    return arrays | {f"state {name}": _numpy(array) for name, array in engine.get_state().items()}


def _trace(engine: Engine, num_steps: int) -> list[Arrays]:
    shown = []
    for step in range(num_steps):
        engine.step(engine.random_actions(step))
        shown.append(snapshot(engine))
    return shown


def _mixed_actions(
    rng: np.random.Generator, engine: Engine, legal: NDArray[np.int64], illegal_fraction: float
) -> NDArray[np.int64]:
    spec, actions = engine.spec, legal.copy()
    may_accept = _numpy(engine.action_mask)[:, spec.accept_action]
    actions[may_accept & (rng.random(len(actions)) < 0.1)] = spec.accept_action
    actions[rng.random(len(actions)) < 0.03] = spec.walk_action
    wrapped = [sign * 2**bits + 3 for bits in (8, 15, 16, 31, 32, 62) for sign in (-1, 1)]
    extremes = [-(2**63), 2**63 - 1, spec.accept_action, spec.noop_action, *wrapped]
    pool = np.concatenate([np.arange(-5, max(200, spec.num_actions + 5) + 1), np.repeat(extremes, 4)])
    return np.where(rng.random(len(actions)) < illegal_fraction, rng.choice(pool, len(actions)), actions)


def _empty(engine: Engine, layout: Layout) -> dict[str, Any]:
    return {name: _to_device(engine, np.full(shape, 7, dtype)) for name, (shape, dtype) in layout.items()}


def _numpy(array: Any) -> NDArray[Any]:
    return array if isinstance(array, np.ndarray) else array.cpu().numpy()


def _to_device(engine: Engine, array: NDArray[Any]) -> Any:
    if isinstance(engine.mover, np.ndarray):
        return array
    import torch

    return torch.from_numpy(array).to(engine.mover.device)


def _views_of_state(engine: Engine) -> Arrays:
    state = {name: _numpy(array) for name, array in engine.get_state().items()}
    games = []
    for row in range(engine.num_envs):
        game = ReferenceGame(engine.spec, values=state["values"][row], outside=state["outside"][row])
        for action in state["actions"][row, : state["turn"][row]]:
            game.play(int(action))
        games.append(game)
    return views_of(games) | {f"seat {name}": array.swapaxes(0, 1) for name, array in seat_views_of(games).items()}

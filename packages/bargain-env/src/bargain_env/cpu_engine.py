"""The CPU engine: the C++ core over preallocated numpy buffers.

Legend: `B` games, `I` item types, `A` actions, `O` features, `D` = `max_turns` decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_env import _cpu
from bargain_env.checks import (
    VIEW_KEYS,
    check_array,
    check_deal,
    check_flag,
    check_integer,
    check_reset_options,
    check_rollout_arrays,
    check_seed,
    check_state,
)
from bargain_env.engine import STATE_KEYS, Recorder
from bargain_env.layout import (
    Layout,
    buffer_layout,
    mover_views_layout,
    rollout_layout,
    seat_views_layout,
    spec_fields,
    state_layout,
)
from bargain_env.spec import GameSpec

_ACTION_DTYPES = (np.dtype(np.int32), np.dtype(np.int64))


class CpuEngine:
    """`bargain_env.engine.Engine` on the CPU; build it with `make_engine`.

    A step costs one pass over the rows in C++, shared by `threads` threads with the GIL released. The arrays handed
    out are read-only views of the engine's buffers; `torch.from_numpy(engine.buffers[name])` shares their memory.

    Attributes:
        buffers: The writable arrays behind the attributes of the same names. Writing into `observation` or
            `action_mask` is an error: mask patterns that did not change are not written again.
        autoreset: May be changed between steps.
        threads: CPU threads.
    """

    observation: NDArray[np.float32]
    action_mask: NDArray[np.bool_]
    mover: NDArray[np.int8]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    illegal: NDArray[np.bool_]
    outcome: NDArray[np.int8]
    offer: NDArray[np.int16]
    decisions: NDArray[np.int8]
    actions: NDArray[np.int16]
    values: NDArray[np.int32]
    outside: NDArray[np.int32]
    game: NDArray[np.int64]
    episode: NDArray[np.int64]

    device = "cpu"

    def __init__(
        self,
        spec: GameSpec,
        num_envs: int,
        seed: int = 0,
        *,
        first_game: int = 0,
        threads: int = 1,
        autoreset: bool = True,
        views: bool = True,
    ) -> None:
        self.spec = spec
        self.num_envs = check_integer("num_envs", num_envs, 1, 2**31 - 1)
        self.seed = check_seed(seed)
        self.first_game = check_integer("first_game", first_game, 0, 2**63 - 1 - self.num_envs)
        self.threads = check_integer("threads", threads, 1, 1024)
        self.autoreset = check_flag("autoreset", autoreset)
        self._mover_layout = mover_views_layout(spec, self.num_envs)
        self._seat_layout = seat_views_layout(spec, self.num_envs)
        self._state = _allocate(state_layout(spec, self.num_envs))
        self.buffers = _allocate(buffer_layout(spec, self.num_envs, check_flag("views", views)))
        for name, array in self.buffers.items():
            view = array.view()
            view.flags.writeable = False
            setattr(self, name, view)
        self._core: Any = _cpu.Core(
            _cpu.make_spec(spec_fields(spec)),
            self.num_envs,
            self.buffers | {f"state_{name}": array for name, array in self._state.items()},
            self.threads,
        )
        self._state["game"][:] = self.first_game + np.arange(self.num_envs)
        self._unplayed: NDArray[np.bool_] | None = np.ones(self.num_envs, dtype=bool)  # dealt once; None: no row
        self._core.reset(self.seed, None, False)

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Deals games; see `Engine.reset`.

        Raises:
            ValueError: If an option is unknown or an array has the wrong shape, dtype or range.
        """
        core = self._open_core()
        options = check_reset_options(options)
        rows = options.get("reset_mask")
        if rows is not None:
            rows = check_array("reset_mask", rows, (self.num_envs,), np.bool_)
        selected = np.ones(self.num_envs, dtype=bool) if rows is None else rows
        explicit = check_deal(self.spec, self.num_envs, options.get("values"), options.get("outside"), selected)
        if seed is not None:
            self.seed = check_seed(seed)
            self._state["episode"][selected] = 0
        else:
            self._state["episode"][selected if self._unplayed is None else selected & ~self._unplayed] += 1
        self._played(rows)
        if explicit is not None:
            self._state["values"][selected], self._state["outside"][selected] = (part[selected] for part in explicit)
        core.reset(self.seed, rows, explicit is not None)

    def step(self, actions: NDArray[Any], rows: NDArray[np.bool_] | None = None) -> None:
        """Plays one action per game; see `Engine.step`.

        Raises:
            ValueError: If `actions` is not an int32 or int64 array `[B]`, or `rows` not a bool array `[B]`.
        """
        if not isinstance(actions, np.ndarray) or actions.dtype not in _ACTION_DTYPES:
            kind = getattr(actions, "dtype", type(actions).__name__)
            raise ValueError(f"actions must be a numpy array of int32 or int64, got {kind}.")
        if actions.shape != (self.num_envs,):
            raise ValueError(f"actions must have shape ({self.num_envs},), got {actions.shape}.")
        if rows is not None:
            rows = check_array("rows", rows, (self.num_envs,), np.bool_)
        self._played(rows)
        self._open_core().step(actions if actions.flags.carray else actions.copy(), self.autoreset, rows)

    def random_actions(self, stream: int = 0, out: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Returns uniform legal actions `[B]` int64; see `Engine.random_actions`. A finished game gets walk.

        Raises:
            ValueError: If `stream` is out of range, or `out` is no writable contiguous int64 array `[B]`.
        """
        result = np.empty(self.num_envs, dtype=np.int64) if out is None else out
        _check_output("out", result, (self.num_envs,), np.int64)
        self._open_core().random_actions(check_seed(stream, "stream"), result)
        return result

    def mover_views(self, observation: NDArray[np.float32], action_mask: NDArray[np.bool_]) -> None:
        """Writes the movers' views; see `Engine.mover_views`.

        Raises:
            ValueError: If an array has the wrong shape or dtype, or is not writable and contiguous.
        """
        for name, array in (("observation", observation), ("action_mask", action_mask)):
            _check_output(name, array, *self._mover_layout[name])
        self._open_core().mover_views(observation, action_mask)

    def seat_views(self, observation: NDArray[np.float32], action_mask: NDArray[np.int8]) -> None:
        """Writes both seats' views; see `Engine.seat_views`.

        Raises:
            ValueError: If an array has the wrong shape or dtype, or is not writable and contiguous.
        """
        for name, array in (("observation", observation), ("action_mask", action_mask)):
            _check_output(name, array, *self._seat_layout[name])
        self._open_core().seat_views(observation, action_mask)

    def recorder(self, out: Mapping[str, NDArray[Any]]) -> Recorder:
        """Returns a writer of the movers' views; see `Engine.recorder`.

        Raises:
            ValueError: If `out` lacks an array or holds another one, or an array has the wrong shape or dtype, or is
                not writable and contiguous.
        """
        core, steps = self._open_core(), check_rollout_arrays(out, VIEW_KEYS, complete=True)
        layout = rollout_layout(self.spec, self.num_envs, steps)
        for name, array in out.items():
            _check_output(name, array, *layout[name])
        recorder: Recorder = _cpu.Recorder(core, dict(out), steps)
        return recorder

    def random_rollout(self, out: Mapping[str, NDArray[Any]], stream: int = 0) -> None:
        """Plays `T` uniform legal actions of every game in one pass; see `Engine.random_rollout`.

        Raises:
            ValueError: If `stream` is out of range, `out` is empty or holds an unknown name, or an array has the wrong
                shape or dtype, or is not writable and contiguous.
        """
        core, steps = self._open_core(), check_rollout_arrays(out)
        layout = rollout_layout(self.spec, self.num_envs, steps)
        for name, array in out.items():
            _check_output(name, array, *layout[name])
        stream = check_seed(stream, "stream")
        if steps == 0:
            return
        self._played(None)
        core.random_rollout(stream, dict(out), steps, self.autoreset)

    def get_state(self) -> dict[str, NDArray[Any]]:
        """Returns copies of the arrays of `STATE_KEYS`; the deals' key (`seed`) is not among them."""
        self._open_core()
        return {name: self._state[name].copy() for name in STATE_KEYS}

    def set_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restores a state of this spec and number of games, and writes its observations.

        Raises:
            ValueError: If an array is missing, unknown, of the wrong shape or dtype, or holds an impossible state.
        """
        core = self._open_core()
        check_state(self.spec, self._state, state)
        for name in STATE_KEYS:
            self._state[name][:] = state[name]
        self._played(None)
        core.observe_all()

    def close(self) -> None:
        """Releases the core and its threads; any later call raises, those of its recorders too."""
        if self._core is not None:
            self._core.close()
        self._core = None

    def _played(self, rows: NDArray[np.bool_] | None) -> None:
        if self._unplayed is not None:
            self._unplayed = None if rows is None else self._unplayed & ~rows

    def _open_core(self) -> Any:
        if self._core is None:
            raise RuntimeError("this engine is closed.")
        return self._core


def _allocate(layout: Layout) -> dict[str, NDArray[Any]]:
    try:
        return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}
    except MemoryError as error:
        raise MemoryError(f"these games need more memory than there is: lower num_envs ({error}).") from error


def _check_output(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: type) -> None:
    check_array(name, array, shape, dtype)
    if not (isinstance(array, np.ndarray) and array.flags.carray):
        raise ValueError(f"{name} must be a writable contiguous numpy array.")

"""The CPU engine: the C++ core over preallocated numpy buffers.

Legend: `B` games, `I` item types, `A` actions, `O` features, `D` = `max_turns` decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_env import _cpu
from bargain_env.checks import check_array, check_deal, check_integer, check_seed, check_state
from bargain_env.engine import STATE_KEYS
from bargain_env.spec import GameSpec


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
    waiting_observation: NDArray[np.float32] | None
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
        both_seats: bool = False,
    ) -> None:
        self.spec = spec
        self.num_envs = check_integer("num_envs", num_envs, 1, 2**31 - 1)
        self.seed = check_seed(seed)
        self.first_game = check_integer("first_game", first_game, 0, 2**63 - 1 - self.num_envs)
        self.threads = check_integer("threads", threads, 1, 1024)
        self.autoreset = bool(autoreset)
        self.both_seats = bool(both_seats)
        self._state = _allocate(_state_layout(spec, self.num_envs))
        self.buffers = _allocate(_buffer_layout(spec, self.num_envs, self.both_seats))
        self.waiting_observation = None
        for name, array in self.buffers.items():
            view = array.view()
            view.flags.writeable = False
            setattr(self, name, view)
        self._core: Any = _cpu.Core(
            _native_spec(spec),
            self.num_envs,
            self.buffers | {f"state_{name}": array for name, array in self._state.items()},
            self.threads,
        )
        self._state["game"][:] = self.first_game + np.arange(self.num_envs)
        self._unplayed = np.ones(self.num_envs, dtype=bool)
        self._core.reset(self.seed, None, False)

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Deals games; see `Engine.reset`.

        Raises:
            ValueError: If an option is unknown or an array has the wrong shape, dtype or range.
        """
        core = self._open_core()
        options = dict(options or {})
        unknown = sorted(set(options) - {"values", "outside", "reset_mask"})
        if unknown:
            raise ValueError(f"unknown reset options: {', '.join(unknown)}; known: values, outside, reset_mask.")
        rows = options.get("reset_mask")
        if rows is not None:
            rows = check_array("reset_mask", rows, (self.num_envs,), np.bool_)
        selected = np.ones(self.num_envs, dtype=bool) if rows is None else rows
        explicit = check_deal(self.spec, self.num_envs, options.get("values"), options.get("outside"), selected)
        if seed is not None:
            self.seed = check_seed(seed)
            self._state["episode"][selected] = 0
        else:
            self._state["episode"][selected & ~self._unplayed] += 1
        self._unplayed[selected] = False
        if explicit is not None:
            self._state["values"][selected], self._state["outside"][selected] = (part[selected] for part in explicit)
        core.reset(self.seed, rows, explicit is not None)

    def step(self, actions: NDArray[Any]) -> None:
        """Plays one action per game; see `Engine.step`.

        Raises:
            ValueError: If `actions` is not an int32 or int64 array `[B]`.
        """
        if not isinstance(actions, np.ndarray) or actions.dtype not in (np.int32, np.int64):
            kind = getattr(actions, "dtype", type(actions).__name__)
            raise ValueError(f"actions must be a numpy array of int32 or int64, got {kind}.")
        if actions.shape != (self.num_envs,):
            raise ValueError(f"actions must have shape ({self.num_envs},), got {actions.shape}.")
        self._unplayed[:] = False
        self._open_core().step(np.ascontiguousarray(actions), self.autoreset)

    def random_actions(self, stream: int = 0, out: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Returns uniform legal actions `[B]` int64; see `Engine.random_actions`. A finished game gets walk.

        Raises:
            ValueError: If `stream` is out of range, or `out` is no writable contiguous int64 array `[B]`.
        """
        result = np.empty(self.num_envs, dtype=np.int64) if out is None else out
        check_array("out", result, (self.num_envs,), np.int64)
        if not (isinstance(result, np.ndarray) and result.flags.carray):
            raise ValueError("out must be a writable contiguous numpy array.")
        self._open_core().random_actions(check_seed(stream, "stream"), result)
        return result

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
        self._unplayed[:] = False
        core.observe_all()

    def close(self) -> None:
        """Releases the core and its threads; any later call raises."""
        self._core = None

    def _open_core(self) -> Any:
        if self._core is None:
            raise RuntimeError("this engine is closed.")
        return self._core


Layout = dict[str, tuple[tuple[int, ...], type]]


def _state_layout(spec: GameSpec, num_envs: int) -> Layout:
    return {
        "values": ((num_envs, 2, spec.num_items), np.int32),
        "outside": ((num_envs, 2), np.int32),
        "actions": ((num_envs, spec.max_turns), np.int16),
        "offer": ((num_envs,), np.int16),
        "turn": ((num_envs,), np.int8),
        "finished": ((num_envs,), np.bool_),
        "game": ((num_envs,), np.int64),
        "episode": ((num_envs,), np.int64),
    }


def _buffer_layout(spec: GameSpec, num_envs: int, both_seats: bool) -> Layout:
    state = _state_layout(spec, num_envs)
    record = {name: state[name] for name in ("offer", "actions", "values", "outside", "game", "episode")}
    views: Layout = {"observation": ((num_envs, spec.observation_dim), np.float32)}
    if both_seats:
        views["waiting_observation"] = views["observation"]
    return (
        views
        | record
        | {
            "action_mask": ((num_envs, spec.num_actions), np.bool_),
            "mover": ((num_envs,), np.int8),
            "reward": ((num_envs, 2), np.float32),
            "terminated": ((num_envs,), np.bool_),
            "illegal": ((num_envs,), np.bool_),
            "outcome": ((num_envs,), np.int8),
            "decisions": ((num_envs,), np.int8),
        }
    )


def _allocate(layout: Layout) -> dict[str, NDArray[Any]]:
    return {name: np.zeros(shape, dtype) for name, (shape, dtype) in layout.items()}


def _native_spec(spec: GameSpec) -> Any:
    low, high = spec.outside_units
    return _cpu.make_spec(
        quantities=list(spec.item_quantities),
        max_rounds=spec.max_rounds,
        min_value=spec.min_value,
        max_value=spec.max_value,
        outside_low=low,
        outside_high=high,
        history=spec.observation == "history",
        discount=[float(np.float32(spec.discount**r)) for r in range(spec.max_rounds)],
    )

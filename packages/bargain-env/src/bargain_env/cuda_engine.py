"""The CUDA engine: kernels over preallocated torch tensors of one GPU.

Legend: `B` games, `I` item types, `A` actions, `O` features, `D` = `max_turns` decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bargain_env.checks import (
    ROLLOUT_KEYS,
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
from bargain_env.cuda_launcher import CudaLauncher, Launcher
from bargain_env.cuda_source import largest_tile
from bargain_env.engine import STATE_KEYS, Recorder
from bargain_env.layout import (
    Layout,
    buffer_layout,
    mover_views_layout,
    rollout_layout,
    seat_views_layout,
    state_layout,
)
from bargain_env.spec import GameSpec

_KERNEL_BUFFERS = (
    *("observation", "action_mask", "mover", "reward", "terminated", "illegal"),
    *("outcome", "offer", "decisions", "actions", "values", "outside", "game", "episode"),
)
_SMALLEST_TILE = 8


class CudaEngine:
    """`bargain_env.engine.Engine` on a GPU; build it with `make_engine(device="cuda")`.

    `step`, `random_actions`, `seat_views`, `random_rollout` and a recorder's `record` each start one kernel on torch's
    current stream of the device and return at once: no synchronisation, no copy and, where the outputs are given, no
    allocation, so they can be captured in a CUDA graph. A graph keeps what was an argument when it was captured: the
    addresses, `stream`, and `autoreset`; the games, and the seed, are those of the time when it is replayed. `reset`
    and `set_state` may wait for the device. The arrays are torch tensors, overwritten by the next step; do not write
    into them.

    Attributes:
        buffers: The tensors behind the attributes of the same names.
        autoreset: May be changed between steps.
        device: "cuda:k".
    """

    observation: torch.Tensor
    action_mask: torch.Tensor
    mover: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    illegal: torch.Tensor
    outcome: torch.Tensor
    offer: torch.Tensor
    decisions: torch.Tensor
    actions: torch.Tensor
    values: torch.Tensor
    outside: torch.Tensor
    game: torch.Tensor
    episode: torch.Tensor

    def __init__(
        self,
        spec: GameSpec,
        num_envs: int,
        device: str = "cuda",
        seed: int = 0,
        *,
        first_game: int = 0,
        autoreset: bool = True,
        views: bool = True,
        launcher: Launcher | None = None,
    ) -> None:
        self.spec = spec
        self.num_envs = check_integer("num_envs", num_envs, 1, 2**31 - 1)
        self.seed = check_seed(seed)
        self.first_game = check_integer("first_game", first_game, 0, 2**63 - 1 - self.num_envs)
        self.autoreset = check_flag("autoreset", autoreset)
        self._mover_layout = mover_views_layout(spec, self.num_envs)
        self._seat_layout = seat_views_layout(spec, self.num_envs)
        self._launcher: Launcher | None = launcher or CudaLauncher(spec, device)
        self._device, processors = self._launcher.device, self._launcher.processors
        self.device = str(self._device)
        key: Layout = {"seed": ((1,), np.int64)}
        layouts = state_layout(spec, self.num_envs), buffer_layout(spec, self.num_envs, check_flag("views", views)), key
        self._state, self.buffers, self._key = self._allocate(*layouts)
        for name, tensor in self.buffers.items():
            setattr(self, name, tensor)
        tile = _tile_rows(self.num_envs, largest_tile(spec), processors)
        self._blocks = -(-self.num_envs // tile)
        self._state_arguments = (
            self._key["seed"],
            *(self._state[name] for name in STATE_KEYS),
            np.int64(self.num_envs),
            np.int32(tile),
        )
        self._buffer_arguments = tuple(map(self.buffers.get, _KERNEL_BUFFERS))
        self._write_seed()
        torch.arange(self.first_game, self.first_game + self.num_envs, out=self._state["game"])
        self._unplayed: torch.Tensor | None = torch.ones(self.num_envs, dtype=torch.bool, device=self._device)
        self._deal(rows=None, dealt=False)

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Deals games; see `Engine.reset`. The options may be tensors of any device, or numpy arrays.

        Waits for the device only where explicit deals must be checked, or arrays come from the CPU.

        Raises:
            ValueError: If an option is unknown or an array has the wrong shape, dtype or range.
        """
        self._open_launcher()
        options = check_reset_options(options)
        rows = self._selected_rows(options.get("reset_mask"))
        explicit = self._explicit_deals(options.get("values"), options.get("outside"), rows)
        if seed is not None:
            self.seed = check_seed(seed)
            self._write_seed()
        self._count_episodes(rows, restart=seed is not None)
        for name, dealt in explicit.items():
            current = self._state[name]
            chosen = dealt if rows is None else torch.where(rows.view(-1, *[1] * (dealt.ndim - 1)), dealt, current)
            current.copy_(chosen)
        self._deal(rows, dealt=bool(explicit))

    def step(self, actions: torch.Tensor, rows: torch.Tensor | None = None) -> None:
        """Plays one action per game, without waiting for the device; see `Engine.step`.

        Raises:
            ValueError: If `actions` is no contiguous int32 or int64 tensor `[B]` of the engine's device, or `rows` no
                such bool tensor.
        """
        if not isinstance(actions, torch.Tensor) or actions.dtype not in (torch.int32, torch.int64):
            kind = getattr(actions, "dtype", type(actions).__name__)
            raise ValueError(f"actions must be a torch tensor of int32 or int64, got {kind}.")
        if actions.shape != (self.num_envs,):
            raise ValueError(f"actions must have shape ({self.num_envs},), got {tuple(actions.shape)}.")
        if actions.device != self._device or not actions.is_contiguous():
            raise ValueError(f"actions must be contiguous and on {self.device}, got {_place(actions)}.")
        if rows is not None:
            self._check_tensor("rows", rows, (self.num_envs,), np.bool_)
        self._unplayed = None if rows is None or self._unplayed is None else self._unplayed & ~rows
        kernel = "step_int32" if actions.dtype == torch.int32 else "step_int64"
        self._launch(kernel, *self._buffer_arguments, actions, rows, np.int32(self.autoreset))

    def random_actions(self, stream: int = 0, out: torch.Tensor | None = None) -> torch.Tensor:
        """Returns uniform legal actions `[B]` int64, without waiting for the device; see `Engine.random_actions`.

        Raises:
            ValueError: If `stream` is out of range, or `out` is no contiguous int64 tensor `[B]` of the device.
        """
        stream = check_seed(stream, "stream")
        if out is None:
            out = torch.empty(self.num_envs, dtype=torch.int64, device=self._device)
        self._check_tensor("out", out, (self.num_envs,), np.int64)
        self._launch("random_actions", np.uint64(stream), out)
        return out

    def mover_views(self, observation: torch.Tensor, action_mask: torch.Tensor) -> None:
        """Writes the movers' views, without waiting for the device; see `Engine.mover_views`.

        Raises:
            ValueError: If a tensor has the wrong shape or dtype, or is not contiguous and on the engine's device.
        """
        for name, tensor in (("observation", observation), ("action_mask", action_mask)):
            self._check_tensor(name, tensor, *self._mover_layout[name])
        self._launch("mover_views", observation, action_mask, None)

    def seat_views(self, observation: torch.Tensor, action_mask: torch.Tensor) -> None:
        """Writes both seats' views, without waiting for the device; see `Engine.seat_views`.

        Raises:
            ValueError: If a tensor has the wrong shape or dtype, or is not contiguous and on the engine's device.
        """
        for name, tensor in (("observation", observation), ("action_mask", action_mask)):
            self._check_tensor(name, tensor, *self._seat_layout[name])
        self._launch("seat_views", observation, action_mask)

    def recorder(self, out: Mapping[str, torch.Tensor]) -> Recorder:
        """Returns a writer of the movers' views; see `Engine.recorder`. It writes every element each time.

        Raises:
            ValueError: If `out` lacks an array or holds another one, or a tensor has the wrong shape or dtype, or is
                not contiguous and on the engine's device.
        """
        self._open_launcher()
        steps = check_rollout_arrays(out, VIEW_KEYS, complete=True)
        layout = rollout_layout(self.spec, self.num_envs, steps)
        for name, tensor in out.items():
            self._check_tensor(name, tensor, *layout[name])
        return _Recorder(self, tuple(out[name] for name in VIEW_KEYS))

    def random_rollout(self, out: Mapping[str, torch.Tensor], stream: int = 0) -> None:
        """Plays `T` uniform legal actions of every game in one kernel; see `Engine.random_rollout`.

        Does not wait for the device.

        Raises:
            ValueError: If `stream` is out of range, `out` is empty or holds an unknown name, or a tensor has the wrong
                shape or dtype, or is not contiguous and on the engine's device.
        """
        self._open_launcher()
        steps, stream = check_rollout_arrays(out), check_seed(stream, "stream")
        layout = rollout_layout(self.spec, self.num_envs, steps)
        for name, tensor in out.items():
            self._check_tensor(name, tensor, *layout[name])
        if steps == 0:
            return
        self._unplayed = None
        scalars = np.uint64(stream), np.int64(steps), np.int32(self.autoreset)
        self._launch("random_rollout", *self._buffer_arguments, *scalars, *map(out.get, ROLLOUT_KEYS))

    def get_state(self) -> dict[str, torch.Tensor]:
        """Returns copies of the tensors of `STATE_KEYS`, on the device; the deals' key (`seed`) is not among them."""
        self._open_launcher()
        return {name: self._state[name].clone() for name in STATE_KEYS}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state of this spec and number of games, and writes its observations.

        Takes tensors of any device or numpy arrays, and waits for the device, as the state is checked on the CPU.

        Raises:
            ValueError: If an array is missing, unknown, of the wrong shape or dtype, or holds an impossible state.
        """
        self._open_launcher()
        arrays = {name: _numpy(array) for name, array in state.items()}
        layout = state_layout(self.spec, self.num_envs)
        kinds: dict[str, NDArray[Any]] = {
            name: np.broadcast_to(np.zeros((), dtype), shape) for name, (shape, dtype) in layout.items()
        }
        check_state(self.spec, kinds, arrays)
        for name in STATE_KEYS:
            self._state[name].copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))
        self._unplayed = None
        self._launch("observe", *self._buffer_arguments)

    def close(self) -> None:
        """Releases the kernels and the state; any later call raises. The tensors handed out stay with their holders."""
        self._launcher, self._state, self._state_arguments = None, {}, ()

    def _open_launcher(self) -> Launcher:
        if self._launcher is None:
            raise RuntimeError("this engine is closed.")
        return self._launcher

    def _launch(self, kernel: str, *arguments: Any) -> None:
        self._open_launcher().launch(kernel, self._blocks, (*self._state_arguments, *arguments))

    def _deal(self, rows: torch.Tensor | None, dealt: bool) -> None:
        self._launch("reset", *self._buffer_arguments, rows, np.int32(dealt))

    def _allocate(self, *layouts: Layout) -> list[dict[str, torch.Tensor]]:
        try:
            return [
                {name: torch.zeros(shape, dtype=_DTYPES[dtype], device=self._device) for name, (shape, dtype) in part}
                for part in (layout.items() for layout in layouts)
            ]
        except torch.OutOfMemoryError as error:
            parts = (entry for layout in layouts for entry in layout.values())
            size = sum(int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize for shape, dtype in parts)
            raise RuntimeError(
                f"{self.num_envs} games of this spec need {size:,} bytes, more than {self.device} has free: "
                "lower num_envs."
            ) from error

    def _write_seed(self) -> None:
        self._key["seed"].fill_(self.seed - 2**64 if self.seed >= 2**63 else self.seed)

    def _selected_rows(self, rows: Any) -> torch.Tensor | None:
        if rows is None:
            return None
        if not isinstance(rows, torch.Tensor):
            rows = torch.from_numpy(check_array("reset_mask", rows, (self.num_envs,), np.bool_))
        elif rows.shape != (self.num_envs,) or rows.dtype != torch.bool:
            raise ValueError(
                f"reset_mask must have shape ({self.num_envs},) and dtype bool, "
                f"got shape {tuple(rows.shape)} and {_dtype_name(rows)}."
            )
        selected: torch.Tensor = rows.to(self._device).contiguous()
        return selected

    def _explicit_deals(self, values: Any, outside: Any, rows: torch.Tensor | None) -> dict[str, torch.Tensor]:
        if values is None and outside is None:
            return {}
        selected = np.ones(self.num_envs, dtype=bool) if rows is None else _numpy(rows)
        dealt = check_deal(self.spec, self.num_envs, _numpy(values), _numpy(outside), selected)
        assert dealt is not None
        return {
            name: torch.from_numpy(array.astype(np.int32)).to(self._device)
            for name, array in zip(("values", "outside"), dealt, strict=True)
        }

    def _count_episodes(self, rows: torch.Tensor | None, restart: bool) -> None:
        episode, unplayed = self._state["episode"], self._unplayed
        if restart:
            episode.masked_fill_(torch.ones_like(episode, dtype=torch.bool) if rows is None else rows, 0)
        elif unplayed is None:
            episode.add_(1 if rows is None else rows)
        else:
            episode.add_(~unplayed if rows is None else rows & ~unplayed)
        self._unplayed = None if unplayed is None or rows is None else unplayed & ~rows

    def _check_tensor(self, name: str, tensor: Any, shape: tuple[int, ...], dtype: type) -> None:
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} must be a torch tensor on {self.device}, got {type(tensor).__name__}.")
        if tensor.shape != shape or tensor.dtype != _DTYPES[dtype]:
            raise ValueError(
                f"{name} must have shape {shape} and dtype {np.dtype(dtype)}, "
                f"got shape {tuple(tensor.shape)} and {_dtype_name(tensor)}."
            )
        if tensor.device != self._device or not tensor.is_contiguous():
            raise ValueError(f"{name} must be contiguous and on {self.device}, got {_place(tensor)}.")


class _Recorder:
    """Writes the movers' views into one step of `[T, B, ...]` tensors, one kernel a step."""

    def __init__(self, engine: CudaEngine, views: tuple[torch.Tensor, ...]) -> None:
        self._engine = engine
        self._steps = [tuple(tensor[step] for tensor in views) for step in range(len(views[0]))]

    def record(self, step: int) -> None:
        if not 0 <= step < len(self._steps):
            raise IndexError(f"the rollout has {len(self._steps)} steps, and no step {step}.")
        self._engine._launch("mover_views", *self._steps[step])


def _tile_rows(num_envs: int, largest: int, processors: int) -> int:
    """Returns the games of a block: fewer than the most where the GPU would have less than two blocks a processor."""
    rows = largest
    while rows > _SMALLEST_TILE and num_envs < 2 * processors * rows:
        rows //= 2
    return rows


def _numpy(array: Any) -> NDArray[Any] | Any:
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _place(tensor: torch.Tensor) -> str:
    return f"{'a' if tensor.is_contiguous() else 'a strided'} tensor on {tensor.device}"


_DTYPES: dict[type, torch.dtype] = {
    np.float32: torch.float32,
    np.int8: torch.int8,
    np.int16: torch.int16,
    np.int32: torch.int32,
    np.int64: torch.int64,
    np.bool_: torch.bool,
}

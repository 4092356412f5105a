"""The engine contract: many games stepped together into preallocated buffers.

Legend: `B` games, `P` = 2 seats, `I` item types, `A` actions, `O` features, `D` = `max_turns` decisions, `T` steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bargain_env.checks import check_spec
from bargain_env.spec import GameSpec

STATE_KEYS = ("values", "outside", "actions", "offer", "turn", "finished", "game", "episode")
"""Names of the arrays that `get_state` returns and `set_state` takes."""


class Recorder(Protocol):
    """Writes the movers' views into the rows of a rollout; see `Engine.recorder`."""

    def record(self, step: int) -> None:
        """Writes what the engine shows now into row `step`."""
        ...


class Engine(Protocol):
    """`B` games in lock-step. Arrays are numpy on the CPU and torch on CUDA.

    The arrays belong to the engine and are overwritten by the next `step`, `reset` or `set_state`.

    Attributes:
        spec: The game.
        num_envs: Games `B`.
        seed: The key of every deal.
        device: "cpu" or "cuda:k".
        autoreset: True if a finished game is dealt anew within the same step; may be changed between steps.
        buffers: The memory behind the following arrays by name, for zero-copy wrappers; not to be written into.
        observation: `[B, O]` float32, the mover's view; this and `action_mask` do not exist without `views`.
        action_mask: `[B, A]` bool, True = legal; all False where the game is finished.
        mover: `[B]` int8, the seat to move.
        reward: `[B, 2]` float32, both seats' payoff / own total in the step that ends the game, else 0.
        terminated: `[B]` bool, the game ended in this step (or earlier, without `autoreset`).
        illegal: `[B]` bool, the action just taken was illegal and was executed as walk.
        outcome: `[B]` int8, 1 deal, 2 walk; this and the following are valid where `terminated`.
        offer: `[B]` int16, the offer that was accepted; -1 after a walk.
        decisions: `[B]` int8, moves made in the game.
        actions: `[B, D]` int16, the moves as executed, then -1.
        values: `[B, 2, I]` int32, in points.
        outside: `[B, 2]` int32, in points.
        game: `[B]` int64, the game index of the row.
        episode: `[B]` int64, how many times that game had been dealt before.
    """

    spec: GameSpec
    num_envs: int
    seed: int
    device: str
    autoreset: bool
    buffers: dict[str, Any]
    observation: Any
    action_mask: Any
    mover: Any
    reward: Any
    terminated: Any
    illegal: Any
    outcome: Any
    offer: Any
    decisions: Any
    actions: Any
    values: Any
    outside: Any
    game: Any
    episode: Any

    def reset(self, seed: int | None = None, options: Mapping[str, Any] | None = None) -> None:
        """Deals games and writes their first observations.

        Args:
            seed: If given, the new key of the deals, 0 to 2**64 - 1; episodes start again from 0.
            options: May hold `values` int `[B, 2, I]` with `outside` int `[B, 2]` (explicit deals)
                and `reset_mask` bool `[B]` (the rows to deal; the others are left alone).
        """
        ...

    def step(self, actions: Any, rows: Any = None) -> None:
        """Plays `actions` `[B]` (int32 or int64) and writes every buffer; no allocation, no Python per game.

        With `rows` `[B]` bool the other games stand still: they keep all they show, but pay nothing and count nothing
        as illegal.
        """
        ...

    def random_actions(self, stream: int = 0, out: Any = None) -> Any:
        """Returns `[B]` int64 uniform legal actions, a pure function of (seed, stream, game, episode, turn).

        A finished game gets walk. `out` `[B]` int64 receives the actions if it is given.
        """
        ...

    def mover_views(self, observation: Any, action_mask: Any) -> None:
        """Writes what `observation` and `action_mask` show, `[B, O]` and `[B, A]`, into the caller's arrays."""
        ...

    def seat_views(self, observation: Any, action_mask: Any) -> None:
        """Writes what both seats see now into the caller's arrays; every element is written.

        Args:
            observation: `[2, B, O]` float32, seat first. The waiting seat's is its own view with a zero mask slice;
                a finished game's are zeros.
            action_mask: `[2, B, A + 1]` int8, 1 = legal; the last action is `noop`, the waiting seat's only legal
                one. In a finished game the last mover may walk.
        """
        ...

    def recorder(self, out: Mapping[str, Any]) -> Recorder:
        """Returns a writer of what the movers see into `out`, which is checked once, here.

        Args:
            out: `observation` `[T, B, O]`, `action_mask` `[T, B, A]` and `mover` `[T, B]`, of the dtypes of the
                engine's own. Nobody else may write into the first two: a mask pattern that still stands from an
                earlier `record` is not written again.
        """
        ...

    def random_rollout(self, out: Mapping[str, Any], stream: int = 0) -> None:
        """Plays `T` uniform legal actions of every game: the same as `T` times `random_actions(stream)` and `step`.

        Args:
            out: Arrays to be written, time first, `T` being their first dimension; any of `observation` `[T, B, O]`,
                `action_mask` `[T, B, A]` and `mover` `[T, B]` (what stood before each action), `action` `[T, B]`
                int64, `reward` `[T, B, 2]` and `terminated` `[T, B]` (what it did). The engine's own arrays show the
                last step.
            stream: As in `random_actions`.
        """
        ...

    def get_state(self) -> dict[str, Any]:
        """Returns copies of the arrays named in `STATE_KEYS`: the whole state of every game."""
        ...

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `get_state` returned and writes the observations that belong to it."""
        ...

    def close(self) -> None:
        """Releases threads and buffers; any later call raises."""
        ...


def make_engine(
    spec: GameSpec | None = None,
    num_envs: int = 1,
    device: str = "cpu",
    seed: int = 0,
    *,
    first_game: int = 0,
    threads: int = 1,
    autoreset: bool = True,
    views: bool = True,
) -> Engine:
    """Builds the engine of `device`; row i plays game `first_game` + i.

    Args:
        spec: The game; the standard one if None.
        num_envs: Games `B`, at least 1.
        device: "cpu", "cuda" or "cuda:k".
        seed: Key of the deals, 0 to 2**64 - 1.
        first_game: Index of the first row's game.
        threads: CPU threads; results do not depend on it.
        autoreset: Deal a finished game anew within the same step.
        views: Write the mover's view at every step. Without it there is no `observation` and no `action_mask`, a step
            costs less (little for hundreds of games, half for tens of thousands), and the methods alone show them.

    Raises:
        ValueError: If an argument is out of range, the device is unknown, or `threads` is given with a GPU.
        RuntimeError: If something that CUDA needs is missing, or the GPU's memory is too small.
    """
    spec = check_spec(spec)
    if str(device) != "cpu":
        from bargain_env.cuda_device import find_cuda_device

        index = find_cuda_device(str(device))
        if threads != 1:
            raise ValueError(f"threads are CPU threads; with a GPU leave them at 1, got {threads}.")
        from bargain_env.cuda_engine import CudaEngine

        return CudaEngine(
            spec, num_envs, f"cuda:{index}", seed, first_game=first_game, autoreset=autoreset, views=views
        )
    from bargain_env.cpu_engine import CpuEngine

    return CpuEngine(spec, num_envs, seed, first_game=first_game, threads=threads, autoreset=autoreset, views=views)

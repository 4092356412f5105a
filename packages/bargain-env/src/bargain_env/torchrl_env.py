"""The game as a TorchRL environment: many games at once, seen by whoever acts or by both agents.

Legend: `N` games, `A` actions, `O` features.
"""

from __future__ import annotations

from typing import Any

try:
    import torch
    from tensordict import TensorDict, TensorDictBase
    from torchrl.envs import EnvBase
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('TorchRL is missing: pip install "bargain-env[torchrl]".', name=error.name) from error

from bargain_env.checks import check_seed, check_spec
from bargain_env.engine import make_engine
from bargain_env.spec import GameSpec
from bargain_env.torchrl_views import ViewKind, as_tensors, for_engine, make_view


class BargainEnv(EnvBase):
    """`N` games in lock-step, batch size `[N]`; games always terminate, they are never truncated.

    With `view="acting"` whoever is to move acts. Keys: `observation [N, O]` float32 and `action_mask [N, A]` bool of
    the mover, `player [N]` int64 (the mover), `action [N]` int64; after a step `reward [N, 2]` float32 (both seats,
    nonzero only where the game ended), `done` and `terminated [N, 1]` bool. The reward of a game pays both seats in the
    step that ends it, so credit must be assigned per seat, not along the stream of decisions.

    With `view="agents"` both seats act in every step, as the multi-agent losses want it. Keys under `"agents"`:
    `observation [N, 2, O]`, `action_mask [N, 2, A + 1]` (the waiting seat's only legal action is `noop`, the last one),
    `turn [N, 2, 1]` bool (False for the seat that waits), `action [N, 2]` (the waiting seat's is ignored), `reward
    [N, 2, 1]`, `done` and `terminated [N, 2, 1]`; and again `done` and `terminated [N, 1]` of the whole game. A waiting
    seat's forced noop carries no policy gradient, so average losses over `turn` alone.

    `step` leaves a finished game finished (its observation is zero and only walk is marked legal) until `reset`.
    `step_and_maybe_reset` makes the same stream in one engine call: a finished game is dealt anew, and the "next"
    observation of a terminal step is already the first one of the next game.

    Args:
        spec: The game; the standard one if None.
        num_envs: Games `N`.
        seed: Key of the deals, 0 to 2**64 - 1.
        device: Where the tensors live; the engine of that device plays.
        threads: CPU threads of the engine.
        first_game: Index of the first row's game.
        view: "acting" or "agents"; the second writes twice the rows.

    Attributes:
        spec_of_game: The game.
        engine: The engine that plays.
        group_map: The agents by group of keys: `{"agents": ["player_0", "player_1"]}`, or empty in the acting view.

    Raises:
        ValueError: If an argument is out of range.
    """

    batch_locked = True

    def __init__(
        self,
        spec: GameSpec | None = None,
        num_envs: int = 1,
        seed: int = 0,
        *,
        device: str | torch.device = "cpu",
        threads: int = 1,
        first_game: int = 0,
        view: ViewKind = "acting",
    ) -> None:
        self.spec_of_game = check_spec(spec)
        self.engine = make_engine(
            self.spec_of_game, num_envs, str(device), seed, first_game=first_game, threads=threads, views=False
        )
        self._view = make_view(view, self.engine)
        super().__init__(device=torch.device(self.engine.device), batch_size=torch.Size([num_envs]))
        self._buffers = as_tensors(self.engine)
        self._next_seed: int | None = None
        self.group_map = self._view.group_map
        self.observation_spec = self._view.observation_spec
        self.action_spec = self._view.action_spec
        self.reward_spec = self._view.reward_spec
        self.done_spec = self._view.done_spec

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        seed, options = kwargs.pop("seed", self._next_seed), dict(kwargs.pop("options", None) or {})
        if kwargs:
            raise ValueError(f"unknown arguments of reset: {', '.join(kwargs)}; known: seed, options.")
        if tensordict is not None and (rows := _rows_to_reset(tensordict)) is not None:
            options["reset_mask"] = self.for_engine(rows.reshape(self.batch_size))
        self.engine.reset(seed, options)
        self._next_seed = None
        return self.current_root()

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self._play(tensordict, autoreset=False)
        return self._view.pack(self._view.observe() | self._view.reward(), self._ended())

    def step_and_maybe_reset(self, tensordict: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Plays the actions and deals finished games anew in one engine call.

        Returns:
            `tensordict` with "next" set, and the root of the next step. They share the observation's memory.
        """
        self._play(tensordict, autoreset=True)
        rows = self._view.observe()
        tensordict.set("next", self._view.pack(rows | self._view.reward(), self._ended()))
        return tensordict, self._view.pack(rows, self._going_on())

    def rand_action(self, tensordict: TensorDictBase | None = None) -> TensorDictBase:
        """Sets the actions to uniform legal ones of the games as they stand now."""
        result = tensordict if tensordict is not None else TensorDict({}, self.batch_size, device=self.device)
        return self._view.set_actions(result, torch.as_tensor(self.engine.random_actions()))

    def current_root(self) -> TensorDictBase:
        """Returns what the next step starts from: the views of the games, none of them done. Copies the rows."""
        return self._view.pack(self._view.observe(), self._going_on())

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Releases the engine; any later call raises."""
        super().close(raise_if_closed=raise_if_closed)
        self.engine.close()

    def _set_seed(self, seed: int | None) -> None:
        self._next_seed = None if seed is None else check_seed(seed)

    def _play(self, tensordict: TensorDictBase, *, autoreset: bool) -> None:
        self.engine.autoreset = autoreset
        self.engine.step(self.for_engine(self._view.movers_actions(tensordict)))

    def for_engine(self, tensor: torch.Tensor) -> Any:
        """Returns `tensor` as the kind of array that the engine takes; shares its memory if it is contiguous."""
        return for_engine(self.engine, tensor)

    def _ended(self) -> torch.Tensor:
        return self._buffers["terminated"].clone().unsqueeze(-1)

    def _going_on(self) -> torch.Tensor:
        return torch.zeros(*self.batch_size, 1, dtype=torch.bool, device=self.device)


def _rows_to_reset(tensordict: TensorDictBase) -> torch.Tensor | None:
    rows: torch.Tensor | None = tensordict.get("_reset", None)
    if rows is None and tensordict.get(("agents", "_reset"), None) is not None:
        raise ValueError('games are dealt as a whole: give "_reset" [N, 1] beside "agents", not within it alone.')
    return rows

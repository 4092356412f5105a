"""The game as a TorchRL environment: the acting player's view of many games at once.

Legend: `N` games, `A` actions, `O` features.
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Binary, Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from bargain_env.engine import make_engine
from bargain_env.spec import GameSpec


class BargainEnv(EnvBase):
    """`N` games in lock-step, batch size `[N]`; whoever is to move acts.

    Keys: `observation [N, O]` float32 and `action_mask [N, A]` bool of the mover, `player [N]` int64 (the mover),
    `action [N]` int64; after a step `reward [N, 2]` float32 (both seats, nonzero only where the game ended),
    `done` and `terminated [N, 1]` bool. Games always terminate, never truncate. The reward of a game pays both seats
    in the step that ends it, so credit must be assigned per seat, not along the stream of decisions.

    `step` leaves a finished game finished (its observation is zero and only walk is marked legal) until `reset`.
    `step_and_maybe_reset` makes the same stream in one engine call: a finished game is dealt anew, and
    `("next", "observation")` of a terminal step is already the first observation of the next game.

    Args:
        spec: The game; the standard one if None.
        num_envs: Games `N`.
        seed: Key of the deals, 0 to 2**64 - 1.
        device: Where the tensors live; the engine of that device plays.
        threads: CPU threads of the engine.

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
    ) -> None:
        self.spec_of_game = spec or GameSpec()
        self.engine = make_engine(self.spec_of_game, num_envs, str(device), seed, threads=threads)
        super().__init__(device=torch.device(device), batch_size=torch.Size([num_envs]))
        self._views = {name: torch.from_numpy(array) for name, array in self.engine.buffers.items()}
        self._next_seed: int | None = None
        self._make_specs()

    def _make_specs(self) -> None:
        game, shape, device = self.spec_of_game, self.batch_size, self.device
        n = shape[0]
        self.observation_spec = Composite(
            observation=Bounded(-1.0, 1.0, shape=(n, game.observation_dim), dtype=torch.float32, device=device),
            action_mask=Binary(game.num_actions, shape=(n, game.num_actions), dtype=torch.bool, device=device),
            player=Categorical(2, shape=(n,), dtype=torch.int64, device=device),
            shape=shape,
            device=device,
        )
        self.action_spec = Categorical(game.num_actions, shape=(n,), dtype=torch.int64, device=device)
        self.reward_spec = Unbounded(shape=(n, 2), dtype=torch.float32, device=device)
        flag = Categorical(2, shape=(n, 1), dtype=torch.bool, device=device)
        self.done_spec = Composite(done=flag.clone(), terminated=flag.clone(), shape=shape, device=device)

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: Any) -> TensorDictBase:
        options = dict(kwargs.get("options") or {})
        if tensordict is not None and tensordict.get("_reset", None) is not None:
            options["reset_mask"] = tensordict["_reset"].reshape(self.batch_size).numpy()
        self.engine.reset(self._next_seed, options)
        self._next_seed = None
        return self._root()

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.engine.autoreset = False
        self.engine.step(tensordict["action"].numpy())
        result = self._observe() | self._outcome()
        result["action_mask"][:, self.spec_of_game.walk_action] |= result["done"].squeeze(-1)
        return TensorDict(result, batch_size=self.batch_size, device=self.device)

    def step_and_maybe_reset(self, tensordict: TensorDictBase) -> tuple[TensorDictBase, TensorDictBase]:
        """Plays `action` and deals finished games anew in one engine call.

        Returns:
            `tensordict` with "next" set, and the root of the next step. They share the observation's memory.
        """
        self.engine.autoreset = True
        self.engine.step(tensordict["action"].numpy())
        root = self._root()
        outcome = TensorDict(self._outcome(), batch_size=self.batch_size, device=self.device)
        tensordict.set("next", outcome.update(root.exclude("done", "terminated")))
        return tensordict, root

    def rand_action(self, tensordict: TensorDictBase | None = None) -> TensorDictBase:
        """Sets `action` to a uniform legal action of the games as they stand now."""
        result = tensordict if tensordict is not None else TensorDict({}, self.batch_size, device=self.device)
        return result.set("action", torch.from_numpy(self.engine.random_actions()))

    def current_root(self) -> TensorDictBase:
        """Returns what the next step starts from: observation, mask, player, and no game done. Copies the rows."""
        return self._root()

    def close(self, *, raise_if_closed: bool = True) -> None:
        """Releases the engine; any later call raises."""
        super().close(raise_if_closed=raise_if_closed)
        self.engine.close()

    def _set_seed(self, seed: int | None) -> None:
        self._next_seed = seed

    def _observe(self) -> dict[str, torch.Tensor]:
        views = self._views
        return {
            "observation": views["observation"].clone(),
            "action_mask": views["action_mask"].clone(),
            "player": views["mover"].to(torch.int64),
        }

    def _outcome(self) -> dict[str, torch.Tensor]:
        done = self._views["terminated"].unsqueeze(-1)
        return {"reward": self._views["reward"].clone(), "done": done.clone(), "terminated": done.clone()}

    def _root(self) -> TensorDictBase:
        going_on = torch.zeros(*self.batch_size, 1, dtype=torch.bool)
        flags = {"done": going_on, "terminated": going_on.clone()}
        return TensorDict(self._observe() | flags, batch_size=self.batch_size, device=self.device)

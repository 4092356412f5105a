"""What the seat that waits holds: hidden from whoever moves, and read by critics that see both hands.

Legend: `N` games, `O` features of an observation, `I` item types.
"""

from __future__ import annotations

import torch
from bargain_env.torchrl_env import BargainEnv
from bargain_env.torchrl_views import as_tensors


class Hands:
    """Reads the hands of the waiting seats off their own views.

    Args:
        env: The games.
    """

    def __init__(self, env: BargainEnv) -> None:
        spec, games, device = env.spec_of_game, env.engine.num_envs, env.device
        self._engine, self._mover = env.engine, as_tensors(env.engine)["mover"]
        self._games = torch.arange(games, device=device)
        self._observation = torch.empty(2, games, spec.observation_dim, device=device)
        mask = torch.empty(2, games, spec.num_actions + 1, dtype=torch.int8, device=device)
        self._views = env.for_engine(self._observation), env.for_engine(mask)
        self._columns = slice(spec.slices["values"].start, spec.slices["outside"].stop)

    def waiting(self) -> torch.Tensor:
        """Returns `[N, I + 1]` float32, values and outside offer as an observation shows them; writes `[2, N, O]`."""
        self._engine.seat_views(*self._views)
        hand: torch.Tensor = self._observation[1 - self._mover.long(), self._games, self._columns]
        return hand

"""Rollouts: a TorchRL collector over many games that go on from one rollout to the next.

Legend: `N` games, `T` decisions a rollout, `A` actions, `O` features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from bargain_env import GameSpec
from bargain_env.torchrl_env import BargainEnv
from bargain_eval.policy import HasMemory, Policy
from tensordict import TensorDictBase
from torch import nn

from bargain_train.actors import MaskedCategorical, invert_cdf
from bargain_train.collector import TimeMajorCollector
from bargain_train.distributed import ALONE, Team
from bargain_train.hands import Hands
from bargain_train.networks import Network
from bargain_train.pool import Pool
from bargain_train.seeds import derive_seed

Player = Network | Pool | Policy
"""Who plays a seat: a network that learns, a pool of networks that do not, or any policy."""


class SeatPlayers(nn.Module):
    """Acts for the mover of every game: writes `action`, `action_log_prob` and `state_value`, all `[N]`.

    One forward pass of all rows where one network holds both seats; else one pass per seat over its rows, and one per
    member of a pool. The rows of pools and policies get log-probability and value 0. If a network reads hands, those of
    the seats that wait, which it gets in columns after the observation's, are written too: `hand` `[N, I + 1]`.

    Several processes draw the same uniform numbers for all their games and each uses those of its own. So with one
    network for both seats they draw the actions that one process would.

    Args:
        env: The games; their observation must suffice for every player.
        players: Who plays seat 0 and seat 1.
        generator: Draws the networks' actions.
        rng: Draws the policies' actions.
        team: Which of several processes plays these games.
    """

    def __init__(
        self,
        env: BargainEnv,
        players: tuple[Player, Player],
        generator: torch.Generator,
        rng: np.random.Generator,
        team: Team = ALONE,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList({id(p): p for p in players if isinstance(p, Network)}.values())
        self._players = players
        self._generator = generator
        self._rng = rng
        self._team = team
        self._uniform = torch.zeros(0)  # [N, 1], what several processes drew for the decisions of this step
        self._has_offer = env.spec_of_game.slices["state"].start
        self._hands = Hands(env) if any(network.reads_hands for network in self.networks) else None
        shape, device = env.batch_size, env.device
        self.drawn = {
            seat: torch.zeros(shape, dtype=torch.int64, device=device)
            for seat, player in enumerate(players)
            if isinstance(player, Pool)
        }

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Writes the actions of the movers in `tensordict`, batch size `[N]`."""
        observation, mask = tensordict["observation"], tensordict["action_mask"]
        if not self._team.alone:
            shape, device = (len(observation) * self._team.size, 1), observation.device
            self._uniform = self._team.part(torch.rand(shape, generator=self._generator, device=device))
        if self._hands is not None:
            tensordict["hand"] = hand = self._hands.waiting()
            observation = torch.cat([observation, hand], -1)
        first, second = self._players
        if isinstance(first, Network) and first is second:
            action, log_prob, value = self._network_rows(first, observation, mask)
        else:
            action = torch.zeros(len(observation), dtype=torch.int64, device=observation.device)
            log_prob, value = torch.zeros_like(observation[:, 0]), torch.zeros_like(observation[:, 0])
            for seat, player in enumerate(self._players):
                rows = (tensordict["player"] == seat).nonzero().squeeze(-1)
                if not len(rows):
                    continue
                if isinstance(player, Network):
                    action[rows], log_prob[rows], value[rows] = self._network_rows(
                        player, observation[rows], mask[rows], rows
                    )
                elif isinstance(player, Pool):
                    action[rows] = self._pool_rows(player, seat, observation[rows], mask[rows], rows)
                else:
                    shown = tensordict["observation"][rows]
                    action[rows] = self._policy_rows(player, seat, shown, mask[rows], rows)
        tensordict["action"], tensordict["action_log_prob"], tensordict["state_value"] = action, log_prob, value
        return tensordict

    @torch.no_grad()
    def values(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns `[N]`: the value of `observation` `[N, O]` to its mover; 0 in the seats of pools and policies."""
        if self._hands is not None:
            observation = torch.cat([observation, self._hands.waiting()], -1)
        first, second = self._players
        if isinstance(first, Network) and first is second:
            return first.values(observation)
        seat_one = observation[:, self._has_offer + 2] > 0.5
        values = [
            player.values(observation) if isinstance(player, Network) else torch.zeros_like(observation[:, 0])
            for player in self._players
        ]
        return torch.where(seat_one, values[1], values[0])

    def begin_all(self, games: np.ndarray[Any, Any]) -> None:
        """Lets players with memory start `games` `[N]`."""
        for seat, player in enumerate(self._players):
            if isinstance(player, HasMemory):
                player.begin(games, seat, self._rng)

    def _network_rows(
        self,
        network: Network,
        observation: torch.Tensor,
        mask: torch.Tensor,
        games: torch.Tensor | slice = slice(None),
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits, value = network(observation)
        distribution = MaskedCategorical(logits, mask)
        if self._team.alone:
            action = distribution.sample(generator=self._generator)
        else:
            action = invert_cdf(distribution.probs, self._uniform[games]).squeeze(-1)
        return action, distribution.log_prob(action), value

    def _pool_rows(
        self, pool: Pool, seat: int, observation: torch.Tensor, mask: torch.Tensor, games: torch.Tensor
    ) -> torch.Tensor:
        drawn = self.drawn[seat]
        members = torch.where(self._is_first(seat, observation), pool.draw(len(games), self._generator), drawn[games])
        drawn[games] = members
        return pool.act(members, observation, mask, self._generator)

    def _is_first(self, seat: int, observation: torch.Tensor) -> torch.Tensor:
        """Returns `[B]` bool: the seat's first decision, where nothing stands yet for seat 0, and the round is 0."""
        state = observation[:, self._has_offer : self._has_offer + 2]
        return state[:, seat] == 0

    def _policy_rows(
        self, policy: Policy, seat: int, observation: torch.Tensor, mask: torch.Tensor, games: torch.Tensor
    ) -> torch.Tensor:
        if isinstance(policy, HasMemory):
            first = self._is_first(seat, observation)
            if bool(first.any()):
                policy.begin(games[first].cpu().numpy(), seat, self._rng)
        action: torch.Tensor = policy.get_action(observation, mask, self._rng, game_ids=games.cpu().numpy())
        return action


@dataclasses.dataclass
class Rollout:
    """`T` decisions of `N` games, time first.

    Attributes:
        rows: `[T, N]` tensordict with `observation`, `action_mask`, `player`, `action`, `action_log_prob`,
            `state_value`, `reward` `[T, N, 2]` and `done`. If a network reads hands, they follow the observation's
            features as further columns.
        head_value: `[N]`, the movers' value of the states after the rollout.
    """

    rows: TensorDictBase
    head_value: torch.Tensor


class Rollouts:
    """An endless source of rollouts: `num_envs` games, played on from where the last rollout left them.

    Several processes share the games out: each has the rows of its own.

    Args:
        spec: The game; its observation must suffice for every player.
        players: Who plays seat 0 and seat 1; networks act with their current parameters.
        num_envs: Games `N`.
        length: Decisions `T` of each game in a rollout, at least 2.
        seed: Key of the deals and of every action drawn.
        device: Where rows and networks live.
        threads: CPU threads of the engine, if the CPU plays.
        team: The processes that play.

    Attributes:
        frames: Decisions of all games in a rollout.

    Raises:
        ValueError: If the processes cannot play equally many games.
    """

    def __init__(
        self,
        spec: GameSpec,
        players: tuple[Player, Player],
        *,
        num_envs: int,
        length: int,
        seed: int,
        device: str = "cpu",
        threads: int = 1,
        team: Team = ALONE,
    ) -> None:
        self.frames = num_envs * length
        self._generator = torch.Generator(device=device).manual_seed(derive_seed(seed, "actions"))
        self._rng = np.random.default_rng(derive_seed(seed, team.stream("policies")))
        threads, own = threads if device == "cpu" else 1, team.share(num_envs)
        self._env = BargainEnv(spec, own, seed, device=device, threads=threads, first_game=team.rank * own)
        self._players = SeatPlayers(self._env, players, self._generator, self._rng, team)
        self._collector = TimeMajorCollector(self._env, self._players, length=length)

    def collect(self) -> Rollout:
        """Plays the next rollout. Its memory is overwritten by the following call."""
        batch = self._collector.rollout()
        rows = batch.exclude("next")
        rows["reward"], rows["done"] = batch["next", "reward"], batch["next", "done"].squeeze(-1)
        if "hand" in rows.keys():  # noqa: SIM118 (a tensordict's `in` means its rows)
            rows["observation"] = torch.cat([rows["observation"], rows.pop("hand")], -1)
        return Rollout(rows, self._players.values(self._env.current_root()["observation"]))

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the next rollout depends on, except the players."""
        return {
            "games": self._collector.state_dict(),
            "generator": self._generator.get_state(),
            "rng": self._rng.bit_generator.state,
            "drawn": self._players.drawn,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on exactly where `state_dict` was taken, in another process too.

        A player with memory has none of the games in progress; it starts them afresh.

        Raises:
            ValueError: If the state belongs to another game or number of games.
        """
        self._collector.load_state_dict(state["games"])
        self._generator.set_state(state["generator"].cpu())
        self._rng.bit_generator.state = state["rng"]
        for seat, members in state["drawn"].items():
            self._players.drawn[seat].copy_(members)
        self._players.begin_all(np.arange(self._env.batch_size[0]))

    def close(self) -> None:
        """Ends the collector and the environment."""
        self._collector.shutdown()

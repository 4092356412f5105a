"""Play of fictitious self-play: each seat of each game plays its best response or its average strategy throughout.

Heinrich & Silver 2016, algorithm 1.

Legend: `T` decisions of a rollout, `N` games, `R` rows, `A` actions, `O` features, 2 seats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from bargain_env.spec import GameSpec
from bargain_env.torchrl_env import BargainEnv
from tensordict import TensorDictBase

from bargain_train.actors import MaskedCategorical, sample_cdf
from bargain_train.collector import TimeMajorCollector
from bargain_train.networks import Network
from bargain_train.q_updates import q_values
from bargain_train.seeds import derive_seed
from bargain_train.transitions import Transitions


class ModePlayers:
    """Acts for the mover of every game: writes `action` `[N]`, `modes` `[N, 2]` and `best_response` `[N]`.

    A game's modes are drawn when it starts: for each seat best response (True) with probability `eta`. A seat in best
    response mode takes the action of the greatest Q, or with probability `epsilon` any legal action; a seat in average
    mode draws from its average network. One forward pass for each seat and mode that is to move.

    Args:
        spec: The game, with an observation that suffices for every network.
        responses: The Q networks of seat 0 and seat 1.
        averages: Their average networks.
        num_envs: Games `N`.
        eta: Probability of best response mode.
        seed: Key of every mode and action drawn.
        device: Where rows and networks live.

    Attributes:
        epsilon: Probability of a random action in best response mode.
        modes: `[N, 2]` bool, of the games in progress.
    """

    def __init__(
        self,
        spec: GameSpec,
        responses: tuple[Network, Network],
        averages: tuple[Network, Network],
        *,
        num_envs: int,
        eta: float,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._responses, self._averages = responses, averages
        self.epsilon = 0.0
        self.modes = torch.zeros(num_envs, 2, dtype=torch.bool, device=device)
        self._eta, self._generator = eta, torch.Generator(device=device).manual_seed(derive_seed(seed, "actions"))
        self._has_offer = spec.slices["state"].start

    @torch.no_grad()
    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Writes the actions and modes of the movers in `tensordict`, batch size `[N]`."""
        observation, mask = tensordict["observation"], tensordict["action_mask"]
        new_game = observation[:, self._has_offer : self._has_offer + 1] == 0  # only the first decision has no offer
        drawn = self._uniform(*self.modes.shape) < self._eta
        self.modes = torch.where(new_game, drawn, self.modes)
        best_response = self.modes.gather(1, tensordict["player"].unsqueeze(-1)).squeeze(-1)
        group = 2 * tensordict["player"] + best_response
        action = torch.empty_like(tensordict["player"])
        for number in range(4):
            rows = (group == number).nonzero().squeeze(-1)
            if len(rows):
                seat, in_response = divmod(number, 2)
                act = self._respond if in_response else self._average
                action[rows] = act(seat, observation[rows], mask[rows])
        tensordict["action"], tensordict["modes"], tensordict["best_response"] = action, self.modes, best_response
        return tensordict

    def state_dict(self) -> dict[str, Any]:
        """Returns the modes of the games in progress and the generator's state."""
        return {"modes": self.modes.clone(), "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on exactly where `state_dict` was taken."""
        self.modes = state["modes"].to(self._generator.device)
        self._generator.set_state(state["generator"].cpu())

    def _respond(self, seat: int, observation: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        greedy = q_values(self._responses[seat], observation, mask).argmax(-1)
        explores = self._uniform(len(mask)) < self.epsilon
        return torch.where(explores, sample_cdf(mask.float(), self._generator), greedy)

    def _average(self, seat: int, observation: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits, _ = self._averages[seat](observation)
        return MaskedCategorical(logits, mask).sample(generator=self._generator)

    def _uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self._generator, device=self._generator.device)


class ModeRollouts:
    """An endless source of rollouts of fictitious self-play, with the transitions that they complete.

    Args:
        spec: The game and the kind of observation.
        players: Who plays; its networks act with their current parameters.
        length: Decisions `T` of each game in a rollout, at least 2.
        seed: Key of the deals.
        device: Where rows and networks live.
        threads: CPU threads of the engine, if the CPU plays.
    """

    def __init__(
        self, spec: GameSpec, players: ModePlayers, *, length: int, seed: int, device: str = "cpu", threads: int = 1
    ) -> None:
        num_envs = len(players.modes)
        self.frames, self.players = num_envs * length, players
        env = BargainEnv(spec, num_envs, seed, device=device, threads=threads if device == "cpu" else 1)
        self._collector = TimeMajorCollector(env, players, length=length)
        self._transitions = Transitions(spec)

    def collect(self, epsilon: float) -> tuple[TensorDictBase, TensorDictBase]:
        """Plays the next rollout.

        Args:
            epsilon: Probability of a random action in best response mode.

        Returns:
            The rollout `[T, N]` with `observation`, `action_mask`, `player`, `action`, `modes` `[T, N, 2]`,
            `best_response`, `reward` `[T, N, 2]` and `done`, whose memory the next call overwrites; and the transitions
            that it completes, see `Transitions.cut`.
        """
        self.players.epsilon = epsilon
        batch = self._collector.rollout()
        rollout = batch.exclude("next")
        rollout["reward"], rollout["done"] = batch["next", "reward"], batch["next", "done"].squeeze(-1)
        return rollout, self._transitions.cut(rollout)

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the next rollout depends on, except the networks."""
        return {
            "games": self._collector.state_dict(),
            "players": self.players.state_dict(),
            "open": self._transitions.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on exactly where `state_dict` was taken, in another process too.

        Raises:
            ValueError: If the state belongs to another game or number of games.
        """
        self._collector.load_state_dict(state["games"])
        self.players.load_state_dict(state["players"])
        self._transitions.load_state_dict(state["open"])

    def close(self) -> None:
        """Ends the collector and the environment."""
        self._collector.shutdown()


def mode_metrics(rollout: TensorDictBase) -> dict[str, float]:
    """Returns what the modes of a rollout earned.

    `eta`: the share of games that ended in which a seat was in best response mode, over both seats. `response_gain_0`
    and `_1`: the mean payoff of the seat in the ended games that it played in best response mode minus that in the
    others. Modes do not depend on the deal, so this estimates what the response gains on the seat's average strategy,
    where the other seat plays its average with probability 1 - eta. Left out while one of the two has no games.
    """
    done = rollout["done"]
    modes, reward = rollout["modes"][done], rollout["reward"][done]
    if not len(modes):
        return {}
    metrics = {"eta": float(modes.float().mean())}
    for seat in range(2):
        mode, payoff = modes[:, seat], reward[:, seat]
        if bool(mode.any()) and not bool(mode.all()):
            metrics[f"response_gain_{seat}"] = float(payoff[mode].mean() - payoff[~mode].mean())
    return metrics

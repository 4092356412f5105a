"""Critics of their own: one for each seat, which may see both hands, beside actors that never do.

Yu et al. 2022 (MAPPO).

Legend: `B` rows, `R` rows of an update, `A` actions, `O` features of an observation, `F` of what critics read, `I` item
types, `H` hidden features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from bargain_env import GameSpec
from torch import nn
from torchrl.modules import PopArtValueNorm

from bargain_train.config import MappoOptions
from bargain_train.networks import MlpTrunk, Network, NoValue, PatternReader, build_network, initialise

NORM_DECAY = 0.99
"""What an update leaves of the weight of earlier targets in the running mean and standard deviation."""


class Critic(nn.Module):
    """What one seat expects to earn, from its own view with the whole history.

    Args:
        spec: The game.
        hidden_dims: Sizes of the hidden layers.
        normalise: Predict payoffs less their running mean, in running standard deviations.

    Attributes:
        width: Size of the first hidden layer.
        norm: Keeps mean and standard deviation, debiased as Adam's moments are; None without `normalise`.
    """

    def __init__(self, spec: GameSpec, hidden_dims: tuple[int, ...], *, normalise: bool) -> None:
        super().__init__()
        self.trunk = MlpTrunk(spec.with_observation("history"), hidden_dims)
        self.head = nn.Linear(hidden_dims[-1], 1)
        self.width = hidden_dims[0]
        self.norm = PopArtValueNorm(beta=NORM_DECAY) if normalise else None
        initialise(self, (self.head, 0.1))

    def forward(self, features: torch.Tensor, more: torch.Tensor | None = None) -> torch.Tensor:
        """Returns `[B]`, normalised if so asked; `more` `[B, H]` is added before the first ReLU."""
        value: torch.Tensor = self.head(self.trunk(features, more)).squeeze(-1)
        return value

    def payoff(self, value: torch.Tensor) -> torch.Tensor:
        """Returns the payoffs / own total `[B]` that the critic means by `value` `[B]`."""
        return value if self.norm is None else self.norm.denormalize(value.unsqueeze(-1)).squeeze(-1)

    def target(self, payoff: torch.Tensor) -> torch.Tensor:
        """Returns what the critic should say for `payoff` `[R]`, R > 0, once they have entered its running mean."""
        if self.norm is None:
            return payoff
        column = payoff.unsqueeze(-1)
        self.norm.update(column)
        return self.norm.normalize(column).squeeze(-1)


class JointReader(nn.Module):
    """What an actor reads, what critics read, and the columns after the history, side by side."""

    def __init__(self, actor: nn.Module, critic: PatternReader, observation_dim: int) -> None:
        super().__init__()
        self.actor, self.critic, self.observation_dim = actor, critic, observation_dim

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns `[B, F]` for history observations `[B, O]` and the columns after them."""
        parts = self.actor(observation), self.critic(observation), observation[:, self.observation_dim :]
        return torch.cat(parts, -1)


class ActorCritic(Network):
    """An actor, and critics apart from it; trains like any `Network`, on history observations.

    The actor computes its logits from its own observation alone, as if the rest was not there. With `hands` the critics
    also read the hand of the seat that waits, in `I + 1` columns after the history, by a linear map into their first
    hidden layer. Where those columns are 0, nothing differs from a network without `hands`, its gradients included.

    Args:
        actor: The actor, whose modules it uses.
        critics: One for all rows, or those of seat 0 and seat 1, each for the rows of its seat.
        hands: Read hands. The maps are drawn here, so that all that was drawn before is as without them.
    """

    def __init__(self, actor: Network, critics: Sequence[Critic], *, hands: bool) -> None:
        spec = actor.spec_of_game.with_observation("history")
        read = PatternReader(spec)
        reader = JointReader(actor.reader, read, spec.observation_dim)
        super().__init__(actor.config, spec, reader, actor.trunk, (actor.policy_head, NoValue()), actor.play)
        self.has_values, self.reads_hands = True, hands
        self._own = int(actor.reader.size)  # type: ignore[arg-type]
        self._hand, self._seat = self._own + read.size, self._own + spec.slices["state"].start + 2
        self.critics = nn.ModuleList(critics)
        maps = (nn.Linear(spec.num_items + 1, critic.width, bias=False) for critic in critics)
        self.hand_maps = nn.ModuleList(maps if hands else ())
        initialise(self.hand_maps)

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the logits `[B, A]` and values `[B]`, as payoffs / own total, of rows with the columns it reads."""
        features = self.reader(observation)
        return self._logits(features), self._by_seat(self._payoff, features)

    def outputs(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the logits `[B, A]` and values `[B]` of `features` `[B, F]`, normalised where a critic does so."""
        return self._logits(features), self._by_seat(self._value, features)

    def values(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns the values `[B]`, as payoffs / own total."""
        return self._by_seat(self._payoff, self.reader(observation))

    def value_targets(self, features: torch.Tensor, payoff: torch.Tensor) -> torch.Tensor:
        """Returns the `payoff` `[R, 1]` as the critics are to predict it, after it has entered their running means."""
        return self._by_seat(self._target, features, payoff.squeeze(-1)).unsqueeze(-1)

    def _logits(self, features: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.policy_head(self.trunk(features[:, : self._own]))
        return logits

    def _critic(self, number: int) -> Critic:
        return cast(Critic, self.critics[number])

    def _value(self, number: int, features: torch.Tensor) -> torch.Tensor:
        more = self.hand_maps[number](features[:, self._hand :]) if self.reads_hands else None
        value: torch.Tensor = self._critic(number)(features[:, self._own : self._hand], more)
        return value

    def _payoff(self, number: int, features: torch.Tensor) -> torch.Tensor:
        return self._critic(number).payoff(self._value(number, features))

    def _target(self, number: int, features: torch.Tensor, payoff: torch.Tensor) -> torch.Tensor:
        del features
        return self._critic(number).target(payoff)

    def _by_seat(self, compute: Callable[..., torch.Tensor], *columns: torch.Tensor) -> torch.Tensor:
        """Returns `compute(number, *columns)` `[B]`, of each row by the critic of its seat; features come first."""
        features = columns[0]
        if len(self.critics) == 1:
            return compute(0, *columns)
        result, seat_one = features.new_zeros(len(features)), features[:, self._seat] > 0.5
        for number, chosen in enumerate((~seat_one, seat_one)):
            rows = chosen.nonzero().squeeze(-1)
            if len(rows):
                result[rows] = compute(number, *(column[rows] for column in columns))
        return result


def build_actor_critics(
    config: Mapping[str, Any], spec: GameSpec, options: MappoOptions
) -> tuple[list[Network], list[ActorCritic]]:
    """Builds the actors and what trains them: one for both seats, with two critics, or one each.

    Parameters are drawn from torch's global generator: actors and critics first, the maps of hands last.

    Args:
        config: Of the actors, as `build_network` takes it.
        spec: The game and the actors' kind of observation.
        options: How critics are built, and for whom.

    Returns:
        The actors, which have no values, and the networks with critics, which train them.
    """
    parts = []
    for seats in ((0, 1),) if options.share_actor else ((0,), (1,)):
        actor = build_network({**config, "values": False}, spec)
        dims, normalise = options.critic_hidden_dims, options.value_norm
        parts.append((actor, [Critic(spec, dims, normalise=normalise) for _ in seats]))
    networks = [ActorCritic(actor, critics, hands=options.centralized_critic) for actor, critics in parts]
    return [actor for actor, _ in parts], networks

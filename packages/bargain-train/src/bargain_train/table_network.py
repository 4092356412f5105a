"""A network that is a table: what to play in every information set of a small game.

By it a strategy that was computed rather than learned is stored in checkpoints and plays wherever networks do. Types,
offers and histories are numbered as in `bargain_eval.exact.TabularGame`.

Legend: `B` rows, `O` features, `A` actions, `T` types of a seat, `D` = `max_turns` decisions, `H` histories before a
decision, `N` information sets of both seats.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from bargain_env import GameSpec
from bargain_eval.exact import Strategy, TabularGame, tabular_game, uniform_strategy
from bargain_eval.exact.game import FloatArray
from bargain_eval.exact.tabular_policy import checked_profile
from torch import nn

from bargain_train.networks import Network, Parts, build_network

_NEVER = -1.0e4  # its exp is 0 in float32, and yet it is far above what masks an illegal action


def table(spec: GameSpec) -> Parts:
    """Returns the parts of a table network, all zeros: uniform play of both seats and values 0.

    Costs 4 bytes for each action and 4 for the value of each information set, and the time of `tabular_game`.

    Raises:
        ValueError: If the observation is not "history", without which different histories look alike, or the game is
            too large for `tabular_game`.
    """
    if spec.observation != "history":
        raise ValueError(f"a table network needs the history observation, got {spec.observation!r}.")
    game = tabular_game(spec)
    return InformationSetReader(game), nn.Identity(), (LogitTable(game), ValueTable(game))


def network_of_strategy(game: TabularGame, seat: int, strategy: Strategy) -> Network:
    """Returns a table network that plays `strategy` in `seat`, and uniformly in the other one.

    A probability of 0 or 1 is played exactly, any other to the rounding of float32. Costs what `table` does.

    Raises:
        ValueError: If an array has the wrong shape or holds no distributions.
    """
    checked_profile(game, (strategy, uniform_strategy(game, 1)) if seat == 0 else (uniform_strategy(game, 0), strategy))
    network = build_network({"network": "table"}, game.spec.with_observation("history"))
    assert isinstance(network.policy_head, LogitTable)
    for round_number, probabilities in enumerate(strategy):
        network.policy_head.write(game, 2 * round_number + seat, probabilities)
    return network


class InformationSetReader(nn.Module):
    """Turns an observation into the number of its information set, from 0 to `N - 1`.

    Information sets are sorted by decision, then by history, then by own type. A row that no game shows, such as the
    zero row of a finished one, reads as any of them.
    """

    quantities: torch.Tensor
    value_places: torch.Tensor
    offer_places: torch.Tensor
    history_places: torch.Tensor
    type_shifts: torch.Tensor
    starts: torch.Tensor

    def __init__(self, game: TabularGame) -> None:
        super().__init__()
        self.spec = spec = game.spec.with_observation("history")
        self.num_types, self.num_sets = game.num_types, _starts(game)[-1]
        powers = np.arange(spec.max_turns)[:, None] - np.arange(1, spec.max_turns)
        numbers = {
            "quantities": spec.item_quantities,
            "value_places": (spec.max_value - spec.min_value + 1) ** np.arange(spec.num_items)[::-1],
            "offer_places": spec.encode_offer(np.eye(spec.num_items, dtype=np.int64)),
            "history_places": np.where(powers < 0, 0, spec.num_offers ** np.maximum(powers, 0)),
            "type_shifts": game.first_type - game.outside[game.first_type],
            "starts": _starts(game)[:-1],
        }
        for name, array in numbers.items():
            self.register_buffer(name, torch.tensor(np.array(array), dtype=torch.int64), persistent=False)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns `[B, 1]` int64 of history observations `[B, O]`, in some thirty operations on all rows at once."""
        spec = self.spec
        state = observation[:, spec.slices["state"]]
        seat = state[:, 2].round().long()
        decision = 2 * (state[:, 1] * max(spec.max_rounds - 1, 1)).round().long() + seat
        decision = decision.clamp(0, spec.max_turns - 1)
        history = (self._offers(observation, seat) * self.history_places[decision]).sum(-1)
        number = self.starts[decision] + history * self.num_types + self._types(observation)
        return number.clamp(0, self.num_sets - 1).unsqueeze(-1)

    def _types(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns the own types `[B]`."""
        spec = self.spec
        values = (observation[:, spec.slices["values"]].double() * spec.max_value).round().long()
        total = (values * self.quantities).sum(-1)
        outside = (observation[:, spec.slices["outside"].start].double() * total).round().long()
        vector = ((values - spec.min_value) * self.value_places).sum(-1).clamp(0, len(self.type_shifts) - 1)
        return (self.type_shifts[vector] + outside).clamp(0, self.num_types - 1)

    def _offers(self, observation: torch.Tensor, seat: torch.Tensor) -> torch.Tensor:
        """Returns the offers `[B, D - 1]`; those that were not made are any numbers, which no place counts."""
        shape = len(observation), self.spec.max_turns - 1, self.spec.num_items
        received = (observation[:, self.spec.slices["history"]].reshape(shape) * self.quantities).round().long()
        given = torch.where(seat[:, None, None] == 1, received, self.quantities - received)
        return (given * self.offer_places).sum(-1)


class LogitTable(nn.Module):
    """The logits of every information set; at the last decision, where no offer is legal, of accept and walk alone."""

    def __init__(self, game: TabularGame) -> None:
        super().__init__()
        *_, last, end = _starts(game)
        self.offering = nn.Parameter(torch.zeros(last, game.spec.num_actions))
        self.answering = nn.Parameter(torch.zeros(end - last, 2))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Returns `[B, A]` of the information sets `[B, 1]`."""
        answers = numbers - len(self.offering)
        last = answers >= 0
        logits = self.offering[numbers.squeeze(-1).clamp_max(len(self.offering) - 1)]
        answer = torch.where(last, self.answering[answers.squeeze(-1).clamp_min(0)], logits[:, -2:])
        return torch.cat([logits[:, :-2].masked_fill(last, 0.0), answer], -1)

    @torch.no_grad()
    def write(self, game: TabularGame, decision: int, probabilities: FloatArray) -> None:
        """Makes a decision be played with `probabilities` `[H, T, A]` of its legal actions."""
        logits = torch.tensor(probabilities).flatten(0, 1).log().clamp_min(_NEVER).to(self.offering)
        if decision == game.spec.max_turns - 1:
            self.answering.copy_(logits)
        else:
            start = _starts(game)[decision]
            self.offering[start : start + len(logits), torch.from_numpy(game.actions(decision))] = logits


class ValueTable(nn.Module):
    """The value of every information set."""

    def __init__(self, game: TabularGame) -> None:
        super().__init__()
        self.worth = nn.Parameter(torch.zeros(_starts(game)[-1], 1))

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Returns `[B, 1]` of the information sets `[B, 1]`."""
        return self.worth[numbers.squeeze(-1)]


def _starts(game: TabularGame) -> list[int]:
    """Returns `[D + 1]`: the number of the first information set of each decision, and `N`."""
    sizes = [game.num_types * game.num_histories(decision) for decision in range(game.spec.max_turns)]
    return list(itertools.accumulate(sizes, initial=0))

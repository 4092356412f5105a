"""Payoffs and best responses without error on small games: an oracle for PSRO that neither samples nor learns.

PSRO (Lanctot et al. 2017) with exact responses and an exact payoff table is the double oracle (McMahan, Gordon and Blum
2003). Types are independent, so a mixture of opponents, one drawn a game, is the mean of their flows; see
`bargain_eval.exact.values`.

Legend: `H` histories before a decision, `T` types of a seat, `A` legal actions of a decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from bargain_env import GameSpec
from bargain_eval.exact import (
    Flow,
    Strategy,
    agreement_rate,
    best_response,
    best_response_values,
    flow,
    mean_plan,
    policy_strategy,
    realisation,
    tabular_game,
    type_values,
)

from bargain_train.networks import Network, build_network
from bargain_train.policies import ActorPolicy
from bargain_train.table_network import network_of_strategy

MAX_BYTES = 2**26
"""The largest profile of a game, in bytes; half of it is kept for each network and seat."""


class _Play(NamedTuple):
    """What a network plays in a seat: probabilities `[H, T, A]` a round, and their flow `[H, A]`."""

    strategy: Strategy
    flow: Flow


class ExactOracle:
    """Answers exactly what networks earn against each other, and what is best against a mixture of them.

    A network of either observation is asked once for each seat it plays, in every information set of that seat; what
    it plays is kept as long as the network lives. So a network that was handed in must not change any more.

    Args:
        spec: The game; its observation kind does not matter.
        device: Where the networks compute; they are moved there. Everything else is computed on the CPU.

    Raises:
        ValueError: If a profile of the game takes more than `MAX_BYTES`.
    """

    def __init__(self, spec: GameSpec, *, device: str = "cpu") -> None:
        try:
            self.game = tabular_game(spec, MAX_BYTES)
        except ValueError as error:
            raise ValueError(f"--oracle exact needs a small game, and {error}") from error
        self.device = device
        self._plays: tuple[WeakKeyDictionary[Network, _Play], ...] = (WeakKeyDictionary(), WeakKeyDictionary())

    def initial(self) -> Network:
        """Returns a new table network of zeros, which plays uniformly in both seats."""
        return build_network({"network": "table"}, self.game.spec.with_observation("history")).to(self.device)

    def payoffs(self, first: Network, second: Network) -> tuple[float, float]:
        """Returns the expected payoffs of seat 0, played by `first`, and seat 1, played by `second`.

        They are shares of the own total, after any discount, to the rounding of float64. Costs one pass over the tables
        of the game for each seat, besides asking networks that are new.

        Raises:
            ValueError: If a network is of another game.
        """
        plays = self._play(0, first), self._play(1, second)
        worth = [type_values(self.game, seat, plays[1 - seat].flow, plays[seat].strategy) for seat in range(2)]
        return float(worth[0] @ self.game.chance), float(worth[1] @ self.game.chance)

    def agreement_rate(self, first: Network, second: Network) -> float:
        """Returns the probability that `first` in seat 0 and `second` in seat 1 end in a deal; costs as `payoffs`."""
        return agreement_rate(self.game, self._play(0, first).flow, self._play(1, second).flow)

    def nash_conv(self, first: Sequence[tuple[Network, float]], second: Sequence[tuple[Network, float]]) -> float:
        """Returns what both seats gain together by best responses to mixtures of seat 0 and seat 1.

        Costs two passes over the tables of the game for each seat, besides asking networks that are new.

        Args:
            first: Networks of seat 0, and their probabilities, which sum to 1; one is drawn a game.
            second: Those of seat 1.
        """
        flows = [
            mean_plan([self._play(seat, network).flow for network, _ in mixture], [weight for _, weight in mixture])
            for seat, mixture in enumerate((first, second))
        ]
        gain = 0.0
        for seat, mixture in enumerate((first, second)):
            against = flows[1 - seat]
            earned = [
                weight * type_values(self.game, seat, against, self._play(seat, network).strategy)
                for network, weight in mixture
            ]
            gain += float((best_response_values(self.game, seat, against) - sum(earned)) @ self.game.chance)
        return gain

    def respond(self, seat: int, opponents: Sequence[tuple[Network, float]]) -> Network:
        """Returns a best response of `seat` as a table network; it plays uniformly in the other seat.

        It is pure, and of actions worth the same it takes the lowest; see `bargain_eval.exact.best_response`. Costs one
        pass over the tables of the game and a table network, besides asking networks that are new.

        Args:
            seat: The seat that responds.
            opponents: The networks of the other seat, and their probabilities up to a factor; one is drawn a game.

        Raises:
            ValueError: If the weights are no distribution up to a factor, or a network is of another game.
        """
        weights = np.array([weight for _, weight in opponents], dtype=np.float64)
        if not (np.all(weights >= 0) and 0 < weights.sum() < np.inf):
            raise ValueError(f"opponents need weights that are not negative and not all zero, got {weights.tolist()}.")
        flows = [self._play(1 - seat, network).flow for network, _ in opponents]
        response, _ = best_response(self.game, seat, mean_plan(flows, weights / weights.sum()))
        return network_of_strategy(self.game, seat, response).to(self.device)

    def _play(self, seat: int, network: Network) -> _Play:
        plays = self._plays[seat]
        if network not in plays:
            policy = ActorPolicy((network, network), device=self.device)
            strategy = policy_strategy(self.game, policy, seat)
            plays[network] = _Play(strategy, flow(self.game, realisation(self.game, strategy)))
        return plays[network]

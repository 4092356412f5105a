"""What a double oracle asks for, without error, on games small enough for tables."""

from __future__ import annotations

from collections.abc import Sequence

from bargain_env.spec import GameSpec

from bargain_train.exact_oracle import ExactOracle
from bargain_train.networks import Network
from bargain_train.oracle import Measure, Played, Response
from bargain_train.population import Cell, Member, Mixtures, Populations


class ExactPlay:
    """Simulates, responds and measures exactly: a `Simulate`, a `Respond` and a `Measure`.

    Each pair and each response counts as one step. Costs are those of `ExactOracle`.

    Args:
        oracle: The tables of the game.
    """

    def __init__(self, oracle: ExactOracle) -> None:
        self._oracle = oracle

    def simulate(self, pairs: Sequence[tuple[Member, Member]], number: int) -> list[Played]:
        """Returns the expected payoffs and agreement rate of each pair."""
        del number
        oracle = self._oracle
        found = [
            (oracle.payoffs(first.network, second.network), oracle.agreement_rate(first.network, second.network))
            for first, second in pairs
        ]
        return [Played(Cell(mean, (0.0, 0.0), agreement_rate, games=0), steps=1) for mean, agreement_rate in found]

    def respond(self, populations: Populations, number: int) -> tuple[Response, Response]:
        """Returns both seats' best responses to the solution."""
        del number
        mixtures = populations.mixtures()
        first, second = (
            Response(self._oracle.respond(seat, _networks(mixtures, 1 - seat)), {}, steps=1) for seat in range(2)
        )
        return first, second

    def measure(self, mixtures: Mixtures) -> float:
        """Returns the NashConv of mixtures."""
        return self._oracle.nash_conv(_networks(mixtures, 0), _networks(mixtures, 1))


def exact_measure(spec: GameSpec, *, device: str) -> Measure | None:
    """Returns what measures NashConv exactly; None if the game is too large for tables."""
    try:
        return ExactPlay(ExactOracle(spec, device=device)).measure
    except ValueError:
        return None


def _networks(mixtures: Mixtures, seat: int) -> list[tuple[Network, float]]:
    return [(member.network, weight) for member, weight in mixtures[seat]]

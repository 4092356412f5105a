"""The populations of both seats, the table of what their members earn against each other, and its solution.

Legend: `M` members of seat 0, `N` of seat 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from bargain_eval.metagame.payoffs import PayoffTable
from bargain_eval.metagame.solution import Solution
from numpy.typing import NDArray

DUST = 1e-3
"""Members of less probability are left out of a mixture: solvers approach 0 without reaching it."""


class Member(NamedTuple):
    """A policy of one seat.

    Attributes:
        number: The iteration that it entered after, 0 for the first.
        network: What plays; frozen.
    """

    number: int
    network: Any


class Cell(NamedTuple):
    """What a pair of members earned.

    Attributes:
        mean: Mean payoff / own total of seat 0 and seat 1.
        standard_error: Of these means; 0 if they are exact.
        agreement_rate: Share of games that end in a deal.
        games: Games played; 0 if nothing was sampled.
        plays: Per game, `payoff` `[games, 2]` float32 and `actions` `[games, max_turns]` int16, if they were kept.
    """

    mean: tuple[float, float]
    standard_error: tuple[float, float]
    agreement_rate: float
    games: int
    plays: dict[str, torch.Tensor] | None = None


Mixtures = tuple[list[tuple[Member, float]], list[tuple[Member, float]]]
"""For each seat, members and their probabilities, which sum to 1."""


@dataclasses.dataclass(frozen=True)
class Populations:
    """Both seats' members, the cells that are known, and the solution of the game between the members.

    Attributes:
        members: Of seat 0 and seat 1, in the order in which they entered.
        cells: By the numbers of the two members.
        weights: `[M]` and `[N]`, each seat's part of the solution; empty before there is one.
        regret: What each seat could gain in the table against the solution, at least 0.
    """

    members: tuple[tuple[Member, ...], tuple[Member, ...]]
    cells: Mapping[tuple[int, int], Cell] = dataclasses.field(default_factory=dict)
    weights: tuple[NDArray[np.float64], NDArray[np.float64]] = (np.zeros(0), np.zeros(0))
    regret: tuple[float, float] = (0.0, 0.0)

    def grown(self, networks: Sequence[Any], number: int) -> Self:
        """Returns the populations with one more member each, unsolved."""
        first, second = (
            (*members, Member(number, network)) for members, network in zip(self.members, networks, strict=True)
        )
        return dataclasses.replace(self, members=(first, second), weights=(np.zeros(0), np.zeros(0)))

    def missing(self) -> list[tuple[Member, Member]]:
        """Returns the pairs that are not known yet."""
        first, second = self.members
        return [(a, b) for a in first for b in second if (a.number, b.number) not in self.cells]

    def with_cells(self, cells: Mapping[tuple[int, int], Cell]) -> Self:
        """Returns the populations with these cells too."""
        return dataclasses.replace(self, cells={**self.cells, **cells})

    def without(self, seat: int, number: int) -> Self:
        """Returns the populations without a member, unsolved."""
        members = [tuple(m for m in group if (s, m.number) != (seat, number)) for s, group in enumerate(self.members)]
        cells = {pair: cell for pair, cell in self.cells.items() if pair[seat] != number}
        return dataclasses.replace(
            self, members=(members[0], members[1]), cells=cells, weights=(np.zeros(0), np.zeros(0))
        )

    def solved(self, solution: Solution) -> Self:
        """Returns the populations with this solution of their `table`."""
        return dataclasses.replace(self, weights=(solution.row, solution.column), regret=solution.regret)

    def table(self) -> PayoffTable:
        """Returns the payoffs, standard errors and counts of all pairs; NaN where they are missing."""
        names = [tuple(member_name(member) for member in members) for members in self.members]
        shape = len(names[0]), len(names[1])
        mean, error = np.full((*shape, 2), np.nan), np.full((*shape, 2), np.nan)
        count = np.zeros(shape, dtype=np.int64)
        for i, first in enumerate(self.members[0]):
            for j, second in enumerate(self.members[1]):
                if (cell := self.cells.get((first.number, second.number))) is not None:
                    mean[i, j], error[i, j], count[i, j] = cell.mean, cell.standard_error, cell.games
        return PayoffTable(names[0], names[1], mean, error, count)

    def mixtures(self) -> Mixtures:
        """Returns who plays each seat by the solution, without members of less than `DUST`."""
        seats = []
        for members, weights in zip(self.members, self.weights, strict=True):
            kept = np.where(weights < min(DUST, weights.max()), 0.0, weights)
            seats.append([(m, float(w)) for m, w in zip(members, kept / kept.sum(), strict=True) if w > 0])
        return seats[0], seats[1]

    def shares(self, seat: int) -> dict[str, float]:
        """Returns the probability of every member of a seat by its name."""
        pairs = zip(self.members[seat], self.weights[seat], strict=True)
        return {member_name(member): float(weight) for member, weight in pairs}

    def lightest(self, seat: int) -> Member:
        """Returns the member of the lowest probability; of several, the oldest."""
        return self.members[seat][int(self.weights[seat].argmin())]


def member_name(member: Member) -> str:
    """Returns "start" for a first member, else its number."""
    return str(member.number) if member.number else "start"


def expected(populations: Populations, mixtures: Mixtures) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns each seat's expected payoff under mixtures of members, and the agreement rate, from the cells.

    Returns:
        `[3]` float64: payoff of seat 0, of seat 1, agreement rate; and `[2]`, standard errors of the payoffs, as if
        cells were independent, which those on common deals are not: they are too large rather than too small.
    """
    mean, variance = np.zeros(3), np.zeros(2)
    for first, p in mixtures[0]:
        for second, q in mixtures[1]:
            cell = populations.cells[first.number, second.number]
            mean += p * q * np.array([*cell.mean, cell.agreement_rate])
            variance += (p * q * np.array(cell.standard_error)) ** 2
    return mean, np.sqrt(variance)

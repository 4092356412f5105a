"""The double oracle: solve the game between the members found so far, respond to the solution, and so on.

Lanctot et al. 2017 (PSRO); McMahan et al. 2003 where responses are exact. What differs between algorithms are the
functions that the loop is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from bargain_eval.metagame.solution import Floats, Solution

from bargain_train.population import Cell, Member, Mixtures, Populations, expected
from bargain_train.run import Run

Metrics = dict[str, Any]
"""Numbers by name, and populations: see `solution_metrics`."""

SUPPORT = 0.01
"""Members of more probability count as the support of a solution."""


class Response(NamedTuple):
    """A new member and how it came to be.

    Attributes:
        network: What plays.
        metrics: Of its training.
        steps: Environment steps that it took.
    """

    network: Any
    metrics: dict[str, float]
    steps: int


class Played(NamedTuple):
    """A new cell, and the environment steps that it took."""

    cell: Cell
    steps: int


Respond = Callable[[Populations, int], tuple[Response, Response] | None]
"""Makes both seats' responses to the solution of the populations, in iteration `number`; None = stopped."""

Simulate = Callable[[Sequence[tuple[Member, Member]], int], list[Played] | None]
"""Plays pairs of members, in iteration `number`; None = stopped."""

Solve = Callable[[Floats], Solution]
"""Solves a table of payoffs `[M, N, 2]`."""

Measure = Callable[[Mixtures], float]
"""Returns the NashConv of mixtures in the whole game."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """Mixtures that were the solution after some iteration.

    Attributes:
        mixtures: Who plays each seat.
        gap: Their NashConv where that is measured, else what the next responses, or older members, gained on them.
        total: What both seats earn together.
    """

    mixtures: Mixtures
    gap: float
    total: float

    def is_better(self, other: Profile | None) -> bool:
        """Tells whether the gap is smaller, or as small to nine digits and the total larger."""
        return other is None or (round(self.gap, 9), -self.total) < (round(other.gap, 9), -other.total)


class DoubleOracle:
    """Populations that grow by responses to their own solution.

    Args:
        run: Counts steps and iterations, and says when to stop.
        populations: Where to start: at first one member each, without cells.
        respond: Makes responses.
        simulate: Plays the pairs that are new.
        solve: Selects the solution.
        max_policies: Most members of a seat; the one of least probability leaves for a new one.
        measure: Measures NashConv, where it can be; None = judge a solution by what the next responses gain on it.
        best: The best solution so far.

    Attributes:
        populations: As they are after the last whole iteration.
        best: The best solution so far; NashConv is not monotone. None while none has been judged.
    """

    def __init__(
        self,
        run: Run,
        populations: Populations,
        *,
        respond: Respond,
        simulate: Simulate,
        solve: Solve,
        max_policies: int,
        measure: Measure | None = None,
        best: Profile | None = None,
    ) -> None:
        self._run = run
        self._respond, self._simulate, self._solve, self._measure = respond, simulate, solve, measure
        self._most = max_policies
        self.populations = populations
        self.best = best

    def iterations(self) -> Iterator[Metrics]:
        """Yields the metrics of each iteration until the run should stop; nothing of an unfinished one is kept."""
        run = self._run
        while not run.should_stop():
            number, steps = run.updates + 1, 0
            before = self.populations
            if not len(before.weights[0]):
                if (found := self._with_all_cells(before, 0)) is None:
                    return
                before, steps = self._solved(found[0]), found[1]
                self._judge_measured(before)
            if (responses := self._respond(before, number)) is None:
                return
            grown = before.grown([response.network for response in responses], number)
            if (found := self._with_all_cells(grown, number)) is None:
                return
            grown = found[0]
            metrics = self._judge_by_gains(before, grown)
            after = self._solved(self._reduced(before, grown))
            self._judge_measured(after)
            self.populations = after
            run.advance(steps + found[1] + sum(response.steps for response in responses))
            yield metrics | solution_metrics(after) | response_metrics(responses)

    def _with_all_cells(self, populations: Populations, number: int) -> tuple[Populations, int] | None:
        pairs = populations.missing()
        if (played := self._simulate(pairs, number)) is None:
            return None
        numbers = [(first.number, second.number) for first, second in pairs]
        cells = dict(zip(numbers, (new.cell for new in played), strict=True))
        return populations.with_cells(cells), sum(new.steps for new in played)

    def _solved(self, populations: Populations) -> Populations:
        return populations.solved(self._solve(populations.table().complete()))

    def _reduced(self, before: Populations, grown: Populations) -> Populations:
        for seat in range(2):
            if len(grown.members[seat]) > self._most:
                grown = grown.without(seat, before.lightest(seat).number)
        return grown

    def _judge_by_gains(self, before: Populations, grown: Populations) -> dict[str, float]:
        """Returns what the newest members gain on the solution of `before`; judges it, unless it was measured.

        The first members, which have learned nothing, are not judged.
        """
        mixtures = before.mixtures()
        payoff, error = expected(grown, mixtures)
        metrics, gap = {}, 0.0
        for seat in range(2):
            gains = []
            for member in grown.members[seat]:
                found, own_error = expected(grown, _deviation(mixtures, seat, member))
                gains.append(float(found[seat] - payoff[seat]))
            metrics[f"br_gain_{seat}"] = gains[-1]
            metrics[f"br_gain_se_{seat}"] = float((own_error[seat] ** 2 + error[seat] ** 2) ** 0.5)
            gap += max(0.0, *gains)
        if self._measure is None and len(before.cells) > 1:
            self._keep(Profile(mixtures, gap, float(payoff[:2].sum())))
        return metrics | {"gap": gap}

    def _judge_measured(self, populations: Populations) -> None:
        if self._measure is not None:
            mixtures = populations.mixtures()
            payoff, _ = expected(populations, mixtures)
            self._keep(Profile(mixtures, self._measure(mixtures), float(payoff[:2].sum())))

    def _keep(self, profile: Profile) -> None:
        if profile.is_better(self.best):
            self.best = profile


def _deviation(mixtures: Mixtures, seat: int, member: Member) -> Mixtures:
    alone = [(member, 1.0)]
    return (alone, mixtures[1]) if seat == 0 else (mixtures[0], alone)


def solution_metrics(populations: Populations) -> Metrics:
    """Returns the payoffs, agreement rate, regret, supports and members of the solution."""
    mean, _ = expected(populations, populations.mixtures())
    metrics: Metrics = {
        "payoff_0": float(mean[0]),
        "payoff_1": float(mean[1]),
        "total": float(mean[:2].sum()),
        "agreement_rate": float(mean[2]),
        "meta_regret": sum(populations.regret),
    }
    for seat in range(2):
        shares = populations.shares(seat)
        metrics |= {
            f"support_{seat}": sum(weight > SUPPORT for weight in shares.values()),
            f"population_size_{seat}": len(shares),
            f"population_seat_{seat}": shares,
        }
    return metrics


def response_metrics(responses: Sequence[Response]) -> dict[str, float]:
    """Returns the metrics of both seats' training, as `br_<name>_<seat>`."""
    return {
        f"br_{name}_{seat}": value
        for seat, response in enumerate(responses)
        for name, value in response.metrics.items()
    }

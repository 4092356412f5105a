"""Certified best responses: an interval for what the best response to a frozen policy earns, and for NashConv.

The whole measurement is repeated several times with independent samples of everything. Each repetition gives, for each
seat, an unbiased estimate of a number above the best response's payoff: the in-sample optimum of `PublicTree`, since
the mean of a maximum is at least the maximum of the means (Mak, Morton and Wood 1999). And it gives several below it:
what the plan found there earns against fresh types, what mimicking earns, what given responders earn. Student's t over
the repetitions turns these into one interval. NashConv is the sum of both seats' gains, not half of it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.arena import play
from bargain_eval.by_seat import policy_of_seat
from bargain_eval.exact.mimic import mimic_value
from bargain_eval.exact.opponent import tabulate_sample, why_untabulated
from bargain_eval.exact.plan import plan_value
from bargain_eval.exact.public_tree import OPENINGS, PublicTree
from bargain_eval.exact.types import sample_deals, sample_types
from bargain_eval.mixture import members
from bargain_eval.policy import Policy

_PLAN_COUNTERS = 2  # the plan needs the order of its moves, not their worth, so a smaller tree finds it
_LEAST = {"repeats": 3, "own_types": 16, "mimic_types": 2}
_MAX_NODES = 20_000
_MAX_TABLE_BYTES = 2_000_000_000


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a certificate may cost; the interval narrows with each number.

    Attributes:
        types: Types of the opponent in a sample. Memory and most of the time grow in proportion.
        own_types: Types of the responder in a sample, at least 16.
        counters: Counteroffers kept at each node. Time grows in proportion for seat 1's tree, and with the square for
            seat 0's in the standard game, in general with the number of own decisions before the last.
        repeats: Independent repetitions, at least 3; the more, the smaller the quantile of Student's t.
        games: Games of the profile itself in a repetition, which say what the seats earn without deviating.
        mimic_types: Types to be mimicked.
        mimic_games: Games of each of them in each half.
        responder_games: Games of each given responder in a repetition.
    """

    types: int = 2048
    own_types: int = 128
    counters: int = 8
    repeats: int = 4
    games: int = 131_072
    mimic_types: int = 128
    mimic_games: int = 64
    responder_games: int = 131_072

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least = _LEAST.get(field.name, 1)
            if getattr(self, field.name) < least:
                raise ValueError(f"{field.name} must be at least {least}, got {getattr(self, field.name)}.")


@dataclasses.dataclass(frozen=True)
class SeatBounds:
    """What one seat earns, and could earn by its best response, each as a share of the own total.

    Attributes:
        payoff: Mean payoff of the profile.
        payoff_se: Its standard error over the repetitions.
        value_lower: Lower bound of the best response's payoff.
        value_upper: Upper bound of it; None if there is none for this opponent.
        gain_lower: Lower bound of the best response's gain, at least 0.
        gain_upper: Upper bound of it.
        estimates: Mean payoff of each deviation measured, and `upper`, without any margin.
    """

    payoff: float
    payoff_se: float
    value_lower: float
    value_upper: float | None
    gain_lower: float
    gain_upper: float | None
    estimates: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The result of `certify`.

    Attributes:
        seats: Bounds for seat 0 and seat 1.
        nash_conv_lower: Lower bound of NashConv, at least 0.
        nash_conv_upper: Upper bound of it; None if a seat has none.
        total: Mean total payoff of the profile.
        total_se: Its standard error over the repetitions.
        agreement_rate: Share of the profile's games that end in a deal.
        confidence: Probability with which each interval covers what it bounds.
        no_upper: Why a seat has no upper bound, by the opponent's name; empty if both have one.
        budget: What it cost.
        seconds: Time taken.
    """

    seats: tuple[SeatBounds, SeatBounds]
    nash_conv_lower: float
    nash_conv_upper: float | None
    total: float
    total_se: float
    agreement_rate: float
    confidence: float
    no_upper: dict[str, str]
    budget: Budget
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready values."""
        return dataclasses.asdict(self)


def certify(
    policies: Sequence[Policy],
    spec: GameSpec | None = None,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    responders: Sequence[Sequence[Policy]] = ((), ()),
    confidence: float = 0.95,
    most_members: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    progress: Any = None,
) -> Certificate:
    """Measures how far a profile is from a Nash equilibrium.

    The upper bound exists against opponents of the standing observation that tell their probabilities, and mixtures of
    them. Against others (a history policy, a policy that only acts) there are lower bounds alone.

    Cost of the default budget on the standard game: see docs/best_response.md.

    Args:
        policies: The policies of seat 0 and seat 1; one policy may play both.
        spec: The game; the standard one if None.
        budget: What it may cost.
        seed: Seed of all samples.
        responders: For each seat, further policies to try as deviations, such as learned responders.
        confidence: Of each two-sided interval.
        most_members: Members of the largest mixture that gets an upper bound, whose cost grows with them; None = any.
        threads: Parts computed at the same time, each of which takes up to a gigabyte of memory.
        device: Where the games are simulated; the policies compute where they were loaded.
        progress: Called with an iterable of finished parts and their number; returns it, and may show a bar.

    Raises:
        ValueError: If a number is out of range or a policy is of another game.
    """
    start = time.perf_counter()
    spec, budget = (spec or GameSpec()).with_observation("standing"), budget or Budget()
    if not 0.5 <= confidence < 1:
        raise ValueError(f"confidence must lie in [0.5, 1), got {confidence}.")
    policies = [policy_of_seat(policy, seat) for seat, policy in enumerate(policies)]
    no_upper = {
        f"seat {seat}": why
        for seat, policy in enumerate(policies)
        if (why := _why_no_tree(policy, spec, budget, seat, most_members))
    }
    jobs = [(repeat, seat) for repeat in range(budget.repeats) for seat in range(2)]

    def measure(job: tuple[int, int]) -> tuple[tuple[int, int], dict[str, float]]:
        repeat, seat = job
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(repeat, seat)))
        found = {"mimic": _mimic(policies, spec, seat, budget, rng)}
        if f"seat {1 - seat}" not in no_upper:
            found |= _tree(policies[1 - seat], spec, seat, budget, rng)
        for number, responder in enumerate(responders[seat]):
            pair = (responder, policies[1]) if seat == 0 else (policies[0], responder)
            played = _profile(pair, spec, budget.responder_games, rng, device)
            found[f"responder {number}"] = float(played[seat])
        if seat == 0:
            found |= dict(zip(_PROFILE, _profile(policies, spec, budget.games, rng, device), strict=True))
        return job, found

    with ThreadPoolExecutor(threads) as pool:
        finished: Iterable[Any] = as_completed([pool.submit(measure, job) for job in jobs])
        if progress is not None:
            finished = progress(finished, len(jobs))
        results = dict(future.result() for future in finished)
    samples = [[results[repeat, seat] for repeat in range(budget.repeats)] for seat in range(2)]
    return _certificate(samples, confidence, no_upper, budget, time.perf_counter() - start)


_PROFILE = ("payoff_0", "payoff_1", "total", "agreement_rate")


def _profile(
    policies: Sequence[Policy], spec: GameSpec, games: int, rng: np.random.Generator, device: str
) -> tuple[float, float, float, float]:
    deals, seed = sample_deals(spec, games, rng), int(rng.integers(2**63))
    rows = play(policies, games, seed, spec=spec, device=device, deals=deals)
    first, second = rows.payoff.mean(axis=0).tolist()
    return first, second, first + second, float((rows.outcome == 1).mean())


def _mimic(policies: Sequence[Policy], spec: GameSpec, seat: int, budget: Budget, rng: np.random.Generator) -> float:
    return mimic_value(policies, spec, seat, rng, models=budget.mimic_types, games=budget.mimic_games)


def _tree(opponent: Policy, spec: GameSpec, seat: int, budget: Budget, rng: np.random.Generator) -> dict[str, float]:
    tables, fresh = (tabulate_sample(opponent, spec, 1 - seat, budget.types, rng) for _ in range(2))
    types = sample_types(spec, budget.own_types, rng)
    upper, first = PublicTree(spec, seat, tables, types, budget.counters).upper()
    planning = PublicTree(spec, seat, tables, types, min(_PLAN_COUNTERS, budget.counters))
    plan = plan_value(planning, PublicTree(spec, seat, fresh, types), first)
    return {"plan": float(plan.mean(dtype=np.float64)), "upper": float(upper.mean(dtype=np.float64))}


def _why_no_tree(opponent: Policy, spec: GameSpec, budget: Budget, seat: int, most_members: int | None) -> str | None:
    """Returns why there is no tree against `opponent` in `seat`, None if there is one."""
    if (why := why_untabulated(opponent)) is not None:
        return why
    if most_members is not None and (count := len(members(opponent))) > most_members:
        return f"it is a mixture of {count} policies"
    if 4 * budget.types * spec.num_offers * spec.num_actions * spec.max_rounds > _MAX_TABLE_BYTES:
        return "the tables of its behaviour would be too large"
    branches = spec.num_offers * min(budget.counters, spec.num_offers)
    openings, levels = (1, spec.max_rounds - 2) if seat == 1 else (OPENINGS * budget.counters, spec.max_rounds - 3)
    nodes = openings * branches ** max(0, levels)
    return "the tree of public histories would be too large" if nodes > _MAX_NODES else None


def _certificate(
    samples: list[list[dict[str, float]]],
    confidence: float,
    no_upper: dict[str, str],
    budget: Budget,
    seconds: float,
) -> Certificate:
    table = [{name: np.array([row[name] for row in rows]) for name in rows[0]} for rows in samples]
    profile = {name: table[0].pop(name) for name in _PROFILE}
    uppers = [part.pop("upper", None) for part in table]
    gains = [
        {"none": np.zeros(budget.repeats)} | {n: v - profile[f"payoff_{seat}"] for n, v in table[seat].items()}
        for seat in range(2)
    ]
    seats = []
    for seat, upper in enumerate(uppers):
        payoff = profile[f"payoff_{seat}"]
        values, gain_upper = [gain + payoff for gain in gains[seat].values()], None
        if upper is not None:
            gain_upper = max(0.0, _bound(upper - payoff, confidence, 1))
        estimates = {name: float(value.mean()) for name, value in table[seat].items()}
        seats.append(
            SeatBounds(
                payoff=float(payoff.mean()),
                payoff_se=_standard_error(payoff),
                value_lower=max(-_bound(-value, confidence, len(values)) for value in values),
                value_upper=None if upper is None else _bound(upper, confidence, 1),
                gain_lower=max(0.0, *(-_bound(-gain, confidence, len(gains[seat])) for gain in gains[seat].values())),
                gain_upper=gain_upper,
                estimates=estimates if upper is None else estimates | {"upper": float(upper.mean())},
            )
        )
    sums = [first + second for first in gains[0].values() for second in gains[1].values()]
    total_upper = None
    if uppers[0] is not None and uppers[1] is not None:
        total_upper = max(0.0, _bound(uppers[0] + uppers[1] - profile["total"], confidence, 1))
    return Certificate(
        seats=(seats[0], seats[1]),
        nash_conv_lower=max(0.0, *(-_bound(-sample, confidence, len(sums)) for sample in sums)),
        nash_conv_upper=total_upper,
        total=float(profile["total"].mean()),
        total_se=_standard_error(profile["total"]),
        agreement_rate=float(profile["agreement_rate"].mean()),
        confidence=confidence,
        no_upper=no_upper,
        budget=budget,
        seconds=seconds,
    )


def _bound(sample: NDArray[np.float64], confidence: float, candidates: int) -> float:
    """Returns an upper confidence bound of the mean, one of `candidates` of which the best will be taken."""
    from scipy.stats import t

    quantile = float(t.ppf(1 - (1 - confidence) / (2 * candidates), len(sample) - 1))
    return float(sample.mean()) + quantile * _standard_error(sample)


def _standard_error(sample: NDArray[np.float64]) -> float:
    return float(sample.std(ddof=1) / np.sqrt(len(sample)))

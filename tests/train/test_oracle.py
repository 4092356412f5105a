"""The double oracle on games of two matrices, where members are rows and columns, and all is known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from bargain_eval.metagame.solution import Floats, Solution, independent, nash_regret
from bargain_eval.metagame.solvers import solve
from bargain_train.algorithms.psro import PSROConfig
from bargain_train.oracle import DoubleOracle, Measure, Played, Profile, Response, Solve
from bargain_train.population import Cell, Member, Mixtures, Populations
from bargain_train.run import Run

RESPONSE_STEPS, CELL_STEPS = 100, 7

ROCK_PAPER_SCISSORS = np.array([[0, -1, 2], [1, 0, -1], [-1, 1, 0]], dtype=float)
CYCLE = np.stack([ROCK_PAPER_SCISSORS, -ROCK_PAPER_SCISSORS], axis=-1)
"""Rock beats scissors doubly: the equilibrium of each seat is unique and mixes all three."""

STAG_HUNT = np.array([[[2, 2], [-2, 1]], [[1, -2], [1, 1]]], dtype=float)
"""Two strict equilibria: both hunt the stag, worth 2 each; both the hare, worth 1 each and the safer choice."""
STAG, HARE = range(2)


class Matrix:
    """The hooks of a loop over the game `payoffs` `[M, N, 2]`, which remember what they were asked."""

    def __init__(self, payoffs: Floats, stop_respond: int = 0, stop_simulate: int = 0) -> None:
        self.payoffs = payoffs
        self.simulated: list[tuple[int, list[tuple[int, int]]]] = []
        self._stop_respond, self._stop_simulate = stop_respond, stop_simulate

    def mixture(self, mixtures: Mixtures, seat: int) -> Floats:
        weights = np.zeros(self.payoffs.shape[seat])
        for member, weight in mixtures[seat]:
            weights[member.network] += weight
        return weights

    def respond(self, populations: Populations, number: int) -> tuple[Response, Response] | None:
        if number == self._stop_respond:
            return None
        row, column = (self.mixture(populations.mixtures(), seat) for seat in range(2))
        best = int((self.payoffs[:, :, 0] @ column).argmax()), int((row @ self.payoffs[:, :, 1]).argmax())
        first, second = (Response(index, {"loss": 0.5 + seat}, RESPONSE_STEPS) for seat, index in enumerate(best))
        return first, second

    def simulate(self, pairs: Sequence[tuple[Member, Member]], number: int) -> list[Played] | None:
        self.simulated.append((number, [(first.number, second.number) for first, second in pairs]))
        if number == self._stop_simulate and number:
            return None
        return [Played(self.cell(first.network, second.network), CELL_STEPS) for first, second in pairs]

    def cell(self, row: int, column: int) -> Cell:
        first, second = self.payoffs[row, column]
        return Cell((float(first), float(second)), (0.0, 0.0), agreement_rate=float(row == column), games=0)

    def nash_conv(self, mixtures: Mixtures) -> float:
        row, column = (self.mixture(mixtures, seat) for seat in range(2))
        return sum(nash_regret(self.payoffs, row, column))


def named(solver: str) -> Solve:
    """The solver of this name; the Nash bargaining solution disagrees on what nobody would take."""
    return (
        partial(solve, solver=solver, disagreement=(-5.0, -5.0)) if solver == "nbs" else partial(solve, solver=solver)
    )


def loop(
    matrix: Matrix,
    iterations: int,
    *,
    solver: str | Solve = "max_welfare",
    start: Populations | int = 0,
    max_policies: int = 20,
    measure: Measure | None = None,
) -> tuple[DoubleOracle, Run]:
    run = Run("psro", PSROConfig(psro_iterations=iterations), console=False)
    if isinstance(start, int):
        start = Populations(((Member(0, start),), (Member(0, start),)))
    oracle = DoubleOracle(
        run,
        start,
        respond=matrix.respond,
        simulate=matrix.simulate,
        solve=named(solver) if isinstance(solver, str) else solver,
        max_policies=max_policies,
        measure=measure,
    )
    return oracle, run


def rows_of(populations: Populations, seat: int) -> list[int]:
    return [member.network for member in populations.members[seat]]


@pytest.mark.parametrize("seed", range(5))
def test_every_cell_is_the_pairs_own_and_the_first_is_one_of_them(seed: int) -> None:
    matrix = Matrix(np.random.default_rng(seed).normal(size=(6, 4, 2)))
    oracle, _ = loop(matrix, 4)
    list(oracle.iterations())
    rows, columns = (rows_of(oracle.populations, seat) for seat in range(2))
    assert len(rows) == len(columns) == 5
    table = oracle.populations.table().complete()
    np.testing.assert_array_equal(table, matrix.payoffs[np.ix_(rows, columns)])
    np.testing.assert_array_equal(table[0, 0], matrix.payoffs[0, 0])


def test_only_new_rows_and_columns_are_played() -> None:
    matrix = Matrix(CYCLE)
    list(loop(matrix, 3)[0].iterations())
    new = [
        {pair for pair in product(range(number + 1), repeat=2) if max(pair) == number or number == 0}
        for number in range(4)
    ]
    assert [number for number, _ in matrix.simulated] == [0, 1, 2, 3]
    for (_, pairs), expected in zip(matrix.simulated, new, strict=True):
        assert set(pairs) == expected
        assert len(pairs) == len(expected)


@pytest.mark.parametrize("seed", range(5))
def test_gains_and_gap_are_those_of_the_whole_game_where_responses_are_exact(seed: int) -> None:
    matrix = Matrix(np.random.default_rng(seed).normal(size=(5, 5, 2)))
    oracle, _ = loop(matrix, 5)
    mixtures: Mixtures = ([(Member(0, 0), 1.0)], [(Member(0, 0), 1.0)])
    for metrics in oracle.iterations():
        gains = nash_regret(matrix.payoffs, *(matrix.mixture(mixtures, seat) for seat in range(2)))
        assert metrics["br_gain_0"] == pytest.approx(gains[0], abs=2e-3)  # dust is left out of mixtures
        assert metrics["br_gain_1"] == pytest.approx(gains[1], abs=2e-3)
        assert metrics["gap"] == pytest.approx(sum(gains), abs=4e-3)
        mixtures = oracle.populations.mixtures()
        row, column = (matrix.mixture(mixtures, seat) for seat in range(2))
        payoff = [float(row @ matrix.payoffs[:, :, seat] @ column) for seat in range(2)]
        assert (metrics["payoff_0"], metrics["payoff_1"]) == pytest.approx(payoff)
        assert metrics["total"] == pytest.approx(sum(payoff))
        assert metrics["br_gain_se_0"] == metrics["br_gain_se_1"] == 0.0
        assert 0.0 <= metrics["meta_regret"] <= 1e-6


def test_an_older_member_may_gain_more_than_the_newest() -> None:
    """With a solver that solves nothing, the gap is what any member gains, the gain that of the newest."""
    matrix = Matrix(np.array([[[3, 0]], [[1, 0]]], dtype=float))
    matrix.respond = lambda populations, number: (Response(1, {}, 1), Response(0, {}, 1))  # type: ignore[method-assign]
    lines = list(loop(matrix, 2, solver="uniform")[0].iterations())
    assert lines[0]["br_gain_0"] == -2.0
    assert lines[0]["gap"] == 0.0
    assert lines[1]["br_gain_0"] == -1.0  # against half 3 and half 1
    assert lines[1]["gap"] == 1.0


def test_standard_errors_of_gains_come_from_the_cells() -> None:
    matrix = Matrix(STAG_HUNT)
    played = matrix.simulate

    def with_errors(pairs: Sequence[tuple[Member, Member]], number: int) -> list[Played] | None:
        return [new._replace(cell=new.cell._replace(standard_error=(0.3, 0.1))) for new in played(pairs, number) or []]

    matrix.simulate = with_errors  # type: ignore[method-assign]
    (line,) = loop(matrix, 1)[0].iterations()
    assert line["br_gain_se_0"] == pytest.approx(0.3 * 2**0.5)
    assert line["br_gain_se_1"] == pytest.approx(0.1 * 2**0.5)


@pytest.mark.parametrize("solver", ["max_welfare", "mene", "replicator", "fictitious_play", "rrd", "nbs", "uniform"])
def test_mixtures_are_as_long_as_the_populations_and_sum_to_one(solver: str) -> None:
    oracle, run = loop(Matrix(CYCLE), 6, solver=solver, max_policies=4)
    for metrics in oracle.iterations():
        populations = oracle.populations
        for seat in range(2):
            weights, size = populations.weights[seat], len(populations.members[seat])
            assert len(weights) == size == min(run.updates + 1, 4)
            assert weights.sum() == pytest.approx(1.0, abs=1e-12)
            assert (weights >= 0).all()
            shares = metrics[f"population_seat_{seat}"]
            assert list(shares.values()) == weights.tolist()
            assert len(shares) == metrics[f"population_size_{seat}"] == size
            assert metrics[f"support_{seat}"] == (weights > 0.01).sum()
            assert sum(weight for _, weight in populations.mixtures()[seat]) == pytest.approx(1.0, abs=1e-12)
    assert run.updates == 6


def test_the_loop_finds_the_only_equilibrium() -> None:
    matrix = Matrix(CYCLE)
    oracle, _ = loop(matrix, 5, measure=matrix.nash_conv)
    list(oracle.iterations())
    assert set(rows_of(oracle.populations, 0)) == {0, 1, 2}
    assert oracle.best is not None
    assert oracle.best.gap == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(matrix.mixture(oracle.best.mixtures, 0), [1 / 4, 5 / 12, 1 / 3], atol=1e-6)
    np.testing.assert_allclose(matrix.mixture(oracle.best.mixtures, 1), [1 / 3, 5 / 12, 1 / 4], atol=1e-6)


def by_hand(row: Sequence[float], column: Sequence[float]) -> Solve:
    """A solver that gives the first members these weights, up to a factor, whatever the payoffs."""

    def solver(payoffs: Floats) -> Solution:
        first, second = (
            np.array(weights[:size]) for weights, size in zip((row, column), payoffs.shape[:2], strict=True)
        )
        return independent("hand", payoffs, first, second, converged=True, iterations=0)

    return solver


def test_the_member_of_the_lowest_mass_leaves_for_a_new_one() -> None:
    matrix = Matrix(CYCLE)
    solver = by_hand([0.5, 0.2, 0.3], [0.2, 0.3, 0.5])
    oracle, _ = loop(matrix, 5, solver=solver, max_policies=3)
    numbers = [
        [[member.number for member in members] for members in oracle.populations.members] for _ in oracle.iterations()
    ]
    assert numbers == [
        [[0, 1], [0, 1]],
        [[0, 1, 2], [0, 1, 2]],
        [[0, 2, 3], [1, 2, 3]],
        [[0, 3, 4], [2, 3, 4]],
        [[0, 4, 5], [3, 4, 5]],
    ]
    assert all((a, b) in oracle.populations.cells for a, b in product((0, 4, 5), (3, 4, 5)))
    assert len(oracle.populations.cells) == 9
    new = matrix.simulated[-1][1]
    assert set(new) == {(5, 2), (5, 3), (5, 4), (5, 5), (0, 5), (3, 5), (4, 5)}  # who leaves still meets the newest


def test_the_newest_stays_though_it_has_no_mass() -> None:
    oracle, _ = loop(Matrix(CYCLE), 3, solver=by_hand([0.6, 0.4, 0.0], [0.6, 0.4, 0.0]), max_policies=2)
    newest = [oracle.populations.members[0][-1].number for _ in oracle.iterations()]
    assert newest == [1, 2, 3]
    assert [len(members) for members in oracle.populations.members] == [2, 2]


def scripted(*values: float) -> tuple[Measure, list[Mixtures]]:
    """A measure that returns these numbers one after the other, and what it was asked."""
    asked: list[Mixtures] = []

    def measure(mixtures: Mixtures) -> float:
        asked.append(mixtures)
        return values[len(asked) - 1]

    return measure, asked


def test_the_best_solution_is_kept_when_the_measured_one_rises_again() -> None:
    measure, asked = scripted(0.9, 0.5, 0.1, 0.3)
    oracle, _ = loop(Matrix(CYCLE), 3, measure=measure)
    list(oracle.iterations())
    assert len(asked) == 4  # the start and each iteration
    assert oracle.best is not None
    assert oracle.best.gap == 0.1
    assert oracle.best.mixtures is asked[2]


def test_of_solutions_as_good_the_one_of_higher_total_is_kept() -> None:
    nobody: Mixtures = ([], [])
    low, high, worse = Profile(nobody, 1e-12, 1.0), Profile(nobody, 2e-12, 2.0), Profile(nobody, 1e-6, 3.0)
    assert low.is_better(None)
    assert high.is_better(low)
    assert not low.is_better(high)
    assert not worse.is_better(low)
    assert low.is_better(worse)
    assert not low.is_better(low)  # of the same, the first stays


def test_without_a_measure_a_solution_is_judged_by_what_is_gained_on_it_next() -> None:
    matrix = Matrix(np.random.default_rng(3).normal(size=(8, 8, 2)))
    oracle, _ = loop(matrix, 6)
    gaps, solutions = [], [oracle.populations]
    for metrics in oracle.iterations():
        gaps.append(metrics["gap"])
        solutions.append(oracle.populations)
    best = int(np.argmin(np.round(gaps, 9)))
    assert best > 0
    assert oracle.best is not None
    assert oracle.best.gap == gaps[best]
    assert oracle.best.mixtures == solutions[best].mixtures()


@pytest.mark.parametrize("hook", ["stop_respond", "stop_simulate"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("measured", [True, False])
def test_nothing_of_an_interrupted_iteration_is_kept(hook: str, number: int, measured: bool) -> None:
    stops: dict[str, Any] = {hook: number}
    matrix, shorter = Matrix(CYCLE, **stops), Matrix(CYCLE)
    oracle, run = loop(matrix, 5, measure=matrix.nash_conv if measured else None)
    whole, other = (
        loop(shorter, number - 1, measure=shorter.nash_conv if measured else None) if number > 1 else (None, None)
    )
    assert len(list(oracle.iterations())) == run.updates == number - 1
    if whole is None or other is None:
        assert oracle.populations.members == (((Member(0, 0),), (Member(0, 0),)))
        assert not oracle.populations.cells
        assert run.step == 0
        return
    list(whole.iterations())
    assert oracle.populations.members == whole.populations.members
    assert oracle.populations.cells == whole.populations.cells
    assert [weights.tolist() for weights in oracle.populations.weights] == [
        weights.tolist() for weights in whole.populations.weights
    ]
    assert oracle.best == whole.best
    assert run.step == other.step


def test_the_loop_ends_at_the_budget_and_counts_all_steps() -> None:
    oracle, run = loop(Matrix(CYCLE), 3)
    assert len(list(oracle.iterations())) == run.updates == 3
    assert run.step == 3 * 2 * RESPONSE_STEPS + 4 * 4 * CELL_STEPS
    assert list(oracle.iterations()) == []


def test_a_stopped_run_ends_the_loop_after_its_iteration() -> None:
    oracle, run = loop(Matrix(CYCLE), 9)
    for _ in oracle.iterations():
        run.stopped = run.updates == 2
    assert run.updates == 2


def test_metrics_of_responses_carry_their_seat() -> None:
    (line,) = loop(Matrix(STAG_HUNT), 1)[0].iterations()
    assert (line["br_loss_0"], line["br_loss_1"]) == (0.5, 1.5)
    assert line["agreement_rate"] == 1.0


def both_known() -> Populations:
    members = (Member(0, HARE), Member(99, STAG))
    return Populations((members, members))


@pytest.mark.parametrize(("solver", "payoff"), [("replicator", 1.0), ("max_welfare", 2.0), ("nbs", 2.0)])
def test_of_two_known_equilibria_the_solver_selects(solver: str, payoff: float) -> None:
    oracle, _ = loop(Matrix(STAG_HUNT), 3, solver=solver, start=both_known())
    *_, line = oracle.iterations()
    assert (line["payoff_0"], line["payoff_1"]) == pytest.approx((payoff, payoff), abs=5e-3)
    assert line["gap"] == pytest.approx(0.0, abs=1e-2)


@pytest.mark.parametrize("solver", ["replicator", "max_welfare"])
def test_from_the_low_equilibrium_responses_never_find_the_high_one(solver: str) -> None:
    oracle, _ = loop(Matrix(STAG_HUNT), 4, solver=solver, start=HARE)
    *_, line = oracle.iterations()
    assert rows_of(oracle.populations, 0) == [HARE] * 5
    assert (line["payoff_0"], line["payoff_1"]) == pytest.approx((1.0, 1.0))
    assert line["gap"] == pytest.approx(0.0, abs=1e-12)

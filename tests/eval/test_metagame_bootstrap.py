"""The bootstrap: what it draws, and whether its intervals cover the truth as often as they say."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from bargain_eval.metagame.analysis import Solver
from bargain_eval.metagame.bootstrap import Bootstrap, Statistics, bootstrap, pool_runs, symmetrise
from bargain_eval.metagame.solution import Solution
from bargain_eval.metagame.solvers import solve
from numpy.typing import NDArray

MENE: Solver = partial(solve, solver="mene")

# Rows T, B and columns L, R have one equilibrium, (3/4, 1/4) against (1/2, 1/2), which pays (1, 3); the third row loses
# .4 and the third column 1 against it, and both are dominated.
TRUTH = np.zeros((3, 3, 2))
TRUTH[:2, :2] = [[[2.0, 4.0], [0.0, 3.0]], [[1.0, 0.0], [1.0, 3.0]]]
TRUTH[2] = [[0.6, 9.0], [0.6, 9.0], [0.6, 9.0]]
TRUTH[:, 2, 1] = [2.0, 2.0, 8.0]
TRUTH[:2, 2, 0] = 2.0


def closed_form(payoffs: NDArray[np.float64]) -> Solution:
    """The mixed equilibrium of the first two policies of each seat, all others unplayed."""
    (a, b), (c, d) = payoffs[:2, :2, 0]
    (e, f), (g, h) = payoffs[:2, :2, 1]
    row, column = np.zeros(payoffs.shape[0]), np.zeros(payoffs.shape[1])
    row[0] = (h - g) / (e - f - g + h)
    column[0] = (d - b) / (a - b - c + d)
    row[1], column[1] = 1 - row[0], 1 - column[0]
    inside = min(row.min(), column.min()) >= 0
    joint = np.outer(row, column)
    first, second = np.einsum("ij,ijk->k", joint, payoffs)
    return Solution("closed form", row, column, joint, (float(first), float(second)), (0.0, 0.0), bool(inside), 0)


def first_pure(payoffs: NDArray[np.float64]) -> Solution:
    row, column = np.eye(payoffs.shape[0])[0], np.eye(payoffs.shape[1])[0]
    paid = (float(payoffs[0, 0, 0]), float(payoffs[0, 0, 1]))
    return Solution("first", row, column, np.outer(row, column), paid, (0.0, 0.0), True, 0)


def simulate(games: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Games around `TRUTH`: an effect of the deal on all cells and seats, an effect per seat, and noise."""
    effect = rng.normal(0, 0.3, (games, 1, 1, 1)) + rng.normal(0, 0.2, (games, 1, 1, 2))
    payoffs = TRUTH + effect + rng.normal(0, 0.5, (games, 3, 3, 2))
    return np.concatenate([payoffs, payoffs.sum(axis=3, keepdims=True)], axis=3)


def covered(result: Bootstrap) -> dict[str, NDArray[np.bool_]]:
    """Which of the true values lie in their 95% intervals."""
    truths = {
        "payoff": np.array([1.0, 3.0]),
        "mass": np.array([[0.75, 0.5], [0.25, 0.5]]),
        "uniform": np.stack([TRUTH[:, :, 0].mean(axis=1), TRUTH[:, :, 1].mean(axis=0)], axis=1),
        "regret": np.array([[0.4, 1.0]]),
        "measure": np.array([1.0, 3.0, 4.0]),
    }
    pick = {"mass": slice(2), "regret": slice(2, 3)}
    hits = {}
    for name, truth in truths.items():
        low, high = result.interval(name)[:, pick.get(name, slice(None))]
        hits[name] = (low <= truth) & (truth <= high)
    return hits


def coverage(repetitions: int, games: int, num_resamples: int, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    hits = [
        covered(bootstrap(simulate(games, rng), closed_form, num_resamples, seed=run)) for run in range(repetitions)
    ]
    return {name: float(np.mean([hit[name] for hit in hits])) for name in hits[0]}


def test_intervals_cover_the_truth() -> None:
    # 120 repetitions: 3 binomial standard errors below 95% are 89%.
    for name, share in coverage(repetitions=120, games=150, num_resamples=200, seed=0).items():
        assert 0.89 <= share < 1, name


@pytest.mark.slow
def test_intervals_cover_the_truth_19_times_in_20() -> None:
    # Each has a binomial standard error of 1.3%; 1,000 repetitions with 500 resamples gave 93.9% to 94.7%.
    for name, share in coverage(repetitions=300, games=400, num_resamples=300, seed=1).items():
        assert 0.925 <= share <= 0.975, name


def seeds_coverage(runs: int, repetitions: int, *, grouped: bool) -> float:
    """How often the interval of seat 0's payoff covers the algorithm's own, whose runs differ by chance."""
    rng = np.random.default_rng(runs)
    hits = []
    for repetition in range(repetitions):
        skill = rng.normal(0, 0.2, 2 * runs)
        cells = 1.0 + skill[:, None] + skill[None, :]
        noise = rng.normal(0, 0.5, (60, 1, 1, 2)) + rng.normal(0, 0.3, (60, 2 * runs, 2 * runs, 2))
        samples = cells[None, :, :, None] + noise
        if grouped:
            result = bootstrap(samples, first_pure, 200, repetition, groups=[0] * runs + [1] * runs)
        else:
            pooled = np.stack([pool_runs(game, np.repeat([0, 1], runs), np.ones(2 * runs)) for game in samples])
            result = bootstrap(pooled, first_pure, 200, repetition)
        low, high = result.interval("payoff")[:, 0]
        hits.append(low <= 1.0 <= high)
    return float(np.mean(hits))


@pytest.mark.slow
def test_intervals_of_algorithms_need_the_resampling_of_their_runs() -> None:
    assert 0.88 <= seeds_coverage(12, 100, grouped=True) <= 0.99
    assert seeds_coverage(12, 100, grouped=False) < 0.85


def test_the_same_deals_are_drawn_in_all_cells() -> None:
    # Every cell is its own constant plus a number of the deal alone, so a resample moves all cells alike.
    rng = np.random.default_rng(2)
    constants = rng.random((3, 3, 2))
    samples = constants + rng.normal(size=(40, 1, 1, 1))
    seen: list[NDArray[np.float64]] = []

    def spy(payoffs: NDArray[np.float64]) -> Solution:
        seen.append(payoffs - constants)
        return first_pure(payoffs)

    bootstrap(samples, spy, 300, seed=3)
    moves = np.array(seen[1:])
    np.testing.assert_allclose(np.ptp(moves, axis=(1, 2, 3)), 0, atol=1e-12)
    drawn = moves[:, 0, 0, 0]
    assert len(np.unique(drawn.round(12))) == 300
    deals = (samples - constants)[:, 0, 0, 0]
    assert drawn.mean() == pytest.approx(deals.mean(), abs=4 * deals.std() / np.sqrt(40 * 300))
    assert drawn.std() == pytest.approx(deals.std() / np.sqrt(40), rel=0.2)


def test_errors_are_those_of_paired_differences() -> None:
    # The deal moves both rows alike: the payoff is uncertain, the regret of the second row is not.
    rng = np.random.default_rng(4)
    samples = np.array([[[1.0, 1.0]], [[0.5, 1.0]]]).repeat(2, axis=1) + rng.normal(0, 1, (400, 1, 1, 2))
    result = bootstrap(samples, first_pure, 400, seed=5)
    assert result.standard_error("payoff")[0] == pytest.approx(1 / 20, rel=0.2)
    np.testing.assert_allclose(result.standard_error("regret"), 0, atol=1e-12)
    np.testing.assert_allclose(result.interval("regret")[:, 1, 0], 0.5)


def test_the_estimate_is_the_analysis_of_the_data() -> None:
    samples = simulate(200, np.random.default_rng(6))
    result = bootstrap(samples, closed_form, 20, seed=0)
    table = samples.mean(axis=0)
    solution = closed_form(table[:, :, :2])
    np.testing.assert_allclose(result.estimate.mass, np.stack([solution.row, solution.column], axis=1))
    np.testing.assert_allclose(result.estimate.payoff, solution.payoff)
    np.testing.assert_allclose(result.estimate.measure[2], sum(solution.payoff))
    np.testing.assert_allclose(result.estimate.uniform[:, 0], table[:, :, 0].mean(axis=1))
    assert result.resamples.best_response.shape == (20, 2, 3, 3)
    np.testing.assert_allclose(result.resamples.best_response.sum(axis=2), 1)
    assert result.support_frequency().tolist() == [[1, 1], [1, 1], [0, 0]]


def test_the_default_solver_is_solved_again_in_each_resample() -> None:
    samples = simulate(300, np.random.default_rng(7))
    result = bootstrap(samples, MENE, 60, seed=1)
    exact = bootstrap(samples, closed_form, 60, seed=1)
    assert result.failures == 0
    np.testing.assert_allclose(result.resamples.mass, exact.resamples.mass, atol=1e-4)
    assert np.ptp(result.resamples.mass[:, 0, 0]) > 0.01


def test_the_seed_decides_the_resamples() -> None:
    samples = simulate(50, np.random.default_rng(8))
    first, again, other = (bootstrap(samples, closed_form, 260, seed=seed) for seed in (1, 1, 2))
    for field in dataclasses.fields(Statistics):
        np.testing.assert_array_equal(getattr(first.resamples, field.name), getattr(again.resamples, field.name))
    assert not np.array_equal(first.resamples.payoff, other.resamples.payoff)


def test_failed_solves_are_counted_and_left_out() -> None:
    samples = simulate(100, np.random.default_rng(9))
    limit = samples.mean(axis=0)[0, 0, 0]
    calls = []

    def sometimes(payoffs: NDArray[np.float64]) -> Solution:
        calls.append(payoffs[0, 0, 0] > limit)
        return dataclasses.replace(first_pure(payoffs), converged=not calls[-1], regret=(0.5, 0.5))

    result = bootstrap(samples, sometimes, 100, seed=2)
    assert result.failures == sum(calls) > 20
    assert len(result.resamples.payoff) == 100 - result.failures
    assert np.isfinite(result.interval("payoff")).all()


def test_nothing_is_claimed_if_nothing_could_be_solved() -> None:
    solved = iter([True])

    def once(payoffs: NDArray[np.float64]) -> Solution:
        return dataclasses.replace(first_pure(payoffs), converged=next(solved, False), regret=(0.5, 0.5))

    result = bootstrap(simulate(20, np.random.default_rng(10)), once, 5, seed=0)
    assert result.failures == 5
    with pytest.raises(ValueError, match="no resample could be solved"):
        result.interval("payoff")
    with pytest.raises(ValueError, match="did not converge on the payoff table itself"):
        bootstrap(simulate(20, np.random.default_rng(10)), once, 5, seed=0)


def test_intervals_are_quantiles_or_their_reflection() -> None:
    result = bootstrap(simulate(60, np.random.default_rng(11)), closed_form, 400, seed=0)
    draws, estimate = result.resamples.payoff, result.estimate.payoff
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    np.testing.assert_allclose(result.interval("payoff", 0.9), [low, high])
    np.testing.assert_allclose(result.interval("payoff", 0.9, "basic"), [2 * estimate - high, 2 * estimate - low])
    with pytest.raises(ValueError, match=r"level must lie between 0 and 1, got 1\.5"):
        result.interval("payoff", 1.5)


def test_pooling_is_the_mean_over_pairs_of_runs_and_of_different_runs_within() -> None:
    rng = np.random.default_rng(12)
    table, algorithm = rng.random((6, 6, 3)), np.array([0, 1, 0, 1, 0, 2])
    runs = np.array([2.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    pooled = pool_runs(table, algorithm, runs)
    drawn = {0: [0, 0, 4], 1: [1, 3], 2: [5]}
    for a in range(3):
        for b in range(3):
            pairs = [(i, j) for i in drawn[a] for j in drawn[b] if a != b or i != j or len(drawn[a]) == 1]
            np.testing.assert_allclose(pooled[a, b], np.mean([table[i, j] for i, j in pairs], axis=0), atol=1e-12)


def test_one_run_drawn_every_time_keeps_the_mean_over_different_runs() -> None:
    table = np.random.default_rng(13).random((3, 3, 2))
    pooled = pool_runs(table, np.array([0, 0, 1]), np.array([2.0, 0.0, 1.0]))
    np.testing.assert_allclose(pooled[0, 0], (table[0, 1] + table[1, 0]) / 2)
    np.testing.assert_allclose(pooled[0, 1], table[0, 2])
    np.testing.assert_allclose(pooled[1, 1], table[2, 2])


def test_policies_by_themselves_keep_their_table() -> None:
    table = np.random.default_rng(14).random((4, 4, 2))
    np.testing.assert_array_equal(pool_runs(table, np.arange(4), np.ones(4)), table)
    order = np.array([2, 0, 3, 1])
    pooled = pool_runs(table, order, np.ones(4))
    np.testing.assert_array_equal(pooled[np.ix_(order, order)], table)


def test_symmetrising_averages_the_seatings() -> None:
    table = np.random.default_rng(15).random((3, 3, 3))
    both = symmetrise(table)
    for i in range(3):
        for j in range(3):
            assert both[i, j, 0] == pytest.approx((table[i, j, 0] + table[j, i, 1]) / 2)
            assert both[i, j, 1] == pytest.approx(both[j, i, 0])
            assert both[i, j, 2] == pytest.approx((table[i, j, 2] + table[j, i, 2]) / 2)


def test_a_symmetric_bootstrap_solves_symmetric_games() -> None:
    seen: list[NDArray[np.float64]] = []

    def spy(payoffs: NDArray[np.float64]) -> Solution:
        seen.append(payoffs)
        return first_pure(payoffs)

    bootstrap(simulate(30, np.random.default_rng(16)), spy, 4, seed=0, symmetric=True)
    for payoffs in seen:
        np.testing.assert_allclose(payoffs[:, :, 0], payoffs[:, :, 1].T)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_resamples": 1}, "num_resamples must be at least 2, got 1"),
        ({"groups": [0, 2, 2]}, r"groups must give each of the 3 policies an algorithm 0, 1, ..., got \[0, 2, 2\]"),
        ({"groups": [0, 1]}, "each of the 3 policies"),
        ({"samples": np.zeros((4, 2, 3, 2))}, r"samples must have shape .* got \(4, 2, 3, 2\)"),
        ({"samples": np.zeros((1, 2, 2, 2))}, r"got \(1, 2, 2, 2\)"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, object], message: str) -> None:
    arguments = {"samples": np.zeros((4, 3, 3, 2)), "num_resamples": 3, "groups": None} | change
    with pytest.raises(ValueError, match=message):
        bootstrap(solve=first_pure, seed=0, **arguments)  # type: ignore[arg-type]

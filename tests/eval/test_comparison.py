"""Aggregates, intervals, curves and costs of a comparison against independent computations and curves made by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from bargain_eval.comparison.curves import (
    MOST_POINTS,
    Cost,
    Evaluations,
    common_grid,
    cost_to_reach,
    held,
    learning_curve,
    median_cost,
    window_means,
)
from bargain_eval.comparison.statistics import Bootstrap, interquartile_mean, iqm, probability_of_improvement
from scipy import stats

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 20)


def run(*points: tuple[float, float], pace: float = 0.01) -> Evaluations:
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return Evaluations(steps, steps * pace, values)


@pytest.mark.parametrize("size", SIZES)
def test_the_iqm_is_the_mean_trimmed_by_a_quarter(size: int) -> None:
    values = np.random.default_rng(size).standard_t(2, (6, size))
    np.testing.assert_allclose(iqm(values), stats.trim_mean(values, 0.25, axis=-1), rtol=1e-13)


@pytest.mark.parametrize(("values", "expected"), [([3, 1, 8], 4.0), ([9, 1, 2, 4], 3.0), ([0, 9, 1, 2, 3], 2.0)])
def test_the_iqm_cuts_whole_values(values: list[float], expected: float) -> None:
    assert iqm(values) == pytest.approx(expected)


def test_the_iqm_of_tasks_is_that_of_all_their_runs() -> None:
    tasks = [np.array([0.1, 0.9, 0.4]), np.array([3.0, 2.0, 5.0, 4.0])]
    assert interquartile_mean(tasks).value == pytest.approx(stats.trim_mean(np.concatenate(tasks), 0.25))


def test_the_interval_of_two_runs_is_that_of_all_their_resamples() -> None:
    """Of two runs the mean of a resample is the smaller, the middle or the larger value, with 1/4, 1/2 and 1/4."""
    estimate = interquartile_mean([[1.0, 3.0]], Bootstrap(4000, level=0.4))
    assert estimate == (2.0, (2.0, 2.0))
    assert interquartile_mean([[1.0, 3.0]], Bootstrap(4000, level=0.6)).interval == (1.0, 3.0)


def test_a_resample_keeps_the_runs_of_every_task() -> None:
    """Tasks whose runs agree leave nothing to draw, however far apart the tasks are."""
    apart = [np.zeros(4), np.full(8, 5.0), np.full(4, 10.0)]
    assert interquartile_mean(apart) == (5.0, (5.0, 5.0))
    assert interquartile_mean([np.concatenate(apart)]).interval != (5.0, 5.0)


@pytest.mark.parametrize(("size", "least", "most"), [(3, 0.64, 0.86), (5, 0.83, 0.96), (12, 0.88, 0.985)])
def test_an_interval_covers_the_truth_as_often_as_it_is_said_to(size: int, least: float, most: float) -> None:
    generator = np.random.default_rng(size)
    draws = generator.normal(2.0, 1.0, (250, size))
    found = [interquartile_mean([values], Bootstrap(400, seed=k)).interval for k, values in enumerate(draws)]
    covered = np.mean([low <= 2.0 <= high for low, high in filter(None, found)])
    assert len(found) == 250
    assert least < covered < most


def test_the_interval_of_an_improvement_covers_the_truth() -> None:
    generator, truth = np.random.default_rng(4), float(stats.norm.cdf(0.5 / math.sqrt(2)))
    found = [
        probability_of_improvement(
            [generator.normal(0.5, 1.0, 10)], [generator.normal(0.0, 1.0, 10)], Bootstrap(400, seed=k)
        ).interval
        for k in range(250)
    ]
    assert 0.89 < np.mean([low <= truth <= high for low, high in filter(None, found)]) < 0.985


@pytest.mark.parametrize("sizes", [(1, 1), (2, 5), (7, 3), (6, 6)])
def test_the_probability_of_improvement_counts_pairs_and_half_of_the_ties(sizes: tuple[int, int]) -> None:
    generator = np.random.default_rng(sum(sizes))
    first, second = (generator.integers(0, 4, size).astype(float) for size in sizes)
    pairs = [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in itertools.product(first, second)]
    assert probability_of_improvement([first], [second]).value == pytest.approx(np.mean(pairs))
    rank_sum = stats.mannwhitneyu(first, second).statistic
    assert probability_of_improvement([first], [second]).value == pytest.approx(rank_sum / (sizes[0] * sizes[1]))


def test_the_improvement_over_tasks_is_the_mean_of_theirs() -> None:
    first, second = [np.array([1.0, 2.0]), np.array([0.0, 0.0, 0.0])], [np.array([0.0, 3.0]), np.array([-1.0, 1.0])]
    assert probability_of_improvement(first, second).value == pytest.approx((0.5 + 0.5) / 2)
    first[1] += 10
    assert probability_of_improvement(first, second).value == pytest.approx((0.5 + 1.0) / 2)


def test_the_interval_of_an_improvement_is_that_of_drawn_pairs() -> None:
    """The counts of a multinomial are those of runs drawn one by one."""
    first, second = np.array([0.1, 0.5, 0.55, 0.9]), np.array([0.2, 0.4, 0.6])
    generator = np.random.default_rng(1)
    draws = []
    for _ in range(6000):
        x, y = generator.choice(first, 4), generator.choice(second, 3)
        draws.append((x[:, None] > y).mean())
    expected = np.quantile(draws, [0.025, 0.975])
    found = probability_of_improvement([first], [second], Bootstrap(6000, seed=2)).interval
    np.testing.assert_allclose(np.array(found), expected, atol=1 / 12 + 1e-9)
    half = probability_of_improvement([first], [second], Bootstrap(6000, level=0.5)).interval
    np.testing.assert_allclose(np.array(half), np.quantile(draws, [0.25, 0.75]), atol=1 / 12 + 1e-9)


def test_one_run_has_a_value_and_no_interval() -> None:
    assert interquartile_mean([[0.4]]) == (0.4, None)
    assert interquartile_mean([[0.4], [1.0, 2.0, 3.0]]).interval is None
    assert probability_of_improvement([[0.4]], [[0.1, 0.5]]) == (0.5, None)
    assert probability_of_improvement([[0.1, 0.5]], [[0.4]]) == (0.5, None)


def test_the_seed_decides_the_intervals() -> None:
    scores = [np.random.default_rng(0).normal(size=9)]
    assert interquartile_mean(scores, Bootstrap(seed=3)) == interquartile_mean(scores, Bootstrap(seed=3))
    assert interquartile_mean(scores, Bootstrap(seed=3)) != interquartile_mean(scores, Bootstrap(seed=4))


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [([], "at least one run"), ([[]], "at least one run"), ([[[1.0]]], "at least one run"), ([[math.nan]], "finite")],
)
def test_scores_that_say_nothing_are_refused(scores: list[list[float]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        interquartile_mean(scores)


def test_bad_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        iqm([])
    with pytest.raises(ValueError, match="the same tasks, got 1 and 2"):
        probability_of_improvement([[1.0]], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="at least 1 resample"):
        Bootstrap(0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Bootstrap(level=1.0)
    with pytest.raises(ValueError, match="at least 1 evaluation"):
        cost_to_reach(run((1, 1)), 0.0, window=0)
    with pytest.raises(ValueError, match="at least one run"):
        median_cost([])


def test_a_value_is_held_until_the_next_and_unknown_outside() -> None:
    found = held([10, 20, 20, 40], [1, 2, 3, 4], [9, 10, 19, 20, 39.9, 40, 40.1])
    np.testing.assert_array_equal(found, [math.nan, 1, 1, 3, 3, 4, math.nan])
    assert np.isnan(held([], [], [1.0, 2.0])).all()


def test_a_curve_stands_where_all_runs_are_and_holds_their_values() -> None:
    runs = [run((10, 1), (20, 2), (30, 3), (40, 4)), run((15, 10), (25, 20), (35, 30)), run((5, 100), (50, 200))]
    curve = learning_curve(runs)
    assert curve is not None
    np.testing.assert_array_equal(curve.steps, [15, 20, 25, 30, 35])
    np.testing.assert_allclose(curve.iqm, [111 / 3, 112 / 3, 122 / 3, 123 / 3, 133 / 3])


def test_the_band_at_each_step_is_the_interval_of_the_values_there() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(6, 4))
    curve = learning_curve([run(*zip((1, 2, 3, 4), row, strict=True)) for row in values])
    assert curve is not None
    assert curve.low is not None
    assert curve.high is not None
    for point in range(4):
        estimate = interquartile_mean([values[:, point]])
        assert curve.iqm[point] == estimate.value
        assert (curve.low[point], curve.high[point]) == estimate.interval


def test_one_run_has_a_curve_and_no_band_and_no_run_has_none() -> None:
    curve = learning_curve([run((1, 5), (2, 6))])
    assert curve is not None
    assert (curve.iqm.tolist(), curve.low, curve.high) == ([5, 6], None, None)
    assert learning_curve([]) is None
    assert learning_curve([run((1, 5)), run()]) is None
    assert learning_curve([run((1, 5), (2, 6)), run((3, 5), (4, 6))]) is None


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    grid = common_grid([run(*((step, 0) for step in range(1, 1001)))])
    assert len(grid) == MOST_POINTS
    assert (grid[0], grid[-1]) == (1, 1000)
    assert set(np.diff(grid)) <= {10, 11}


@pytest.mark.parametrize(
    ("threshold", "window", "minimize", "steps"),
    [
        (0.5, 1, False, 20),  # the first time, though it is lost again
        (0.5, 2, False, 50),
        (0.6, 1, False, 50),  # reached exactly
        (0.61, 1, False, None),
        (0.29, 2, True, 40),
        (0.1, 1, True, 10),
        (0.1, 5, True, None),
        (0.0, 6, False, None),  # fewer evaluations than a window has
    ],
)
def test_the_cost_is_that_of_the_first_evaluation_that_gets_there(
    threshold: float, window: int, minimize: bool, steps: float | None
) -> None:
    curve = run((10, 0.1), (20, 0.5), (30, 0.1), (40, 0.45), (50, 0.6))
    expected = None if steps is None else Cost(steps, steps * 0.01)
    assert cost_to_reach(curve, threshold, window=window, minimize=minimize) == expected


def test_windows_are_means_of_successive_values() -> None:
    np.testing.assert_allclose(window_means(np.array([1.0, 2.0, 6.0, 0.0]), 3), [3.0, 8 / 3])
    assert not window_means(np.array([1.0]), 2).size


@pytest.mark.parametrize(
    ("steps", "median"),
    [
        ([10, 30, 20], 20),
        ([10, None, 20], 20),
        ([10, None, None], math.inf),
        ([10, None], math.inf),
        ([None, None], math.inf),
        ([10, 20, None, 30], 25),
    ],
)
def test_a_run_that_never_gets_there_counts_as_infinite(steps: list[float | None], median: float) -> None:
    costs = [None if step is None else Cost(step, 2 * step) for step in steps]
    assert median_cost(costs) == (median, 2 * median)

"""Shapley and Banzhaf values against sums over all orders and all sets, and on games whose values are known."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
from bargain_eval.metagame.analysis import CellMeasure
from bargain_eval.metagame.coalitions import CoalitionValues, Worth, equilibrium_welfare, exact_values, sampled_values
from bargain_eval.metagame.solution import Solution
from bargain_eval.metagame.solvers import solve
from numpy.typing import NDArray

MENE = partial(solve, solver="mene")


def random_worth(num_policies: int, num_measures: int, seed: int) -> Worth:
    values = np.random.default_rng(seed).random((2**num_policies, num_measures))
    values[0] = 0
    return lambda coalition: values[coalition]


def glove_worth(coalition: int) -> NDArray[np.float64]:
    """One left glove (policy 0) and two right gloves; a pair is worth 1. Shapley: 2/3, 1/6, 1/6."""
    return np.array([float(coalition & 1 > 0 and coalition & 6 > 0)])


def utilitarian(payoffs: NDArray[np.float64]) -> dict[str, CellMeasure]:
    return {"utilitarian": CellMeasure(payoffs.sum(axis=2), np.ones(payoffs.shape[:2]))}


def by_orders(worth: Worth, num_policies: int) -> NDArray[np.float64]:
    result = []
    for order in itertools.permutations(range(num_policies)):
        added: list[NDArray[np.float64]] = [np.zeros(0)] * num_policies
        coalition = 0
        for policy in order:
            added[policy] = worth(coalition | 1 << policy) - worth(coalition)
            coalition |= 1 << policy
        result.append(added)
    mean: NDArray[np.float64] = np.array(result).mean(axis=0)
    return mean


def by_sets(worth: Worth, num_policies: int) -> NDArray[np.float64]:
    result = []
    for policy in range(num_policies):
        others = [k for k in range(num_policies) if k != policy]
        sets = [sum(1 << k for k in s) for size in range(num_policies) for s in itertools.combinations(others, size)]
        result.append(np.mean([worth(s | 1 << policy) - worth(s) for s in sets], axis=0))
    return np.array(result)


@pytest.mark.parametrize("num_policies", [1, 2, 5])
def test_exact_values_are_the_means_over_all_orders_and_all_sets(num_policies: int) -> None:
    worth = random_worth(num_policies, 2, seed=num_policies)
    values = exact_values(worth, num_policies)
    np.testing.assert_allclose(values.shapley, by_orders(worth, num_policies), atol=1e-14)
    np.testing.assert_allclose(values.banzhaf, by_sets(worth, num_policies), atol=1e-14)
    assert values.exact
    assert values.solved == 2**num_policies - 1
    assert not values.shapley_error.any()


def test_the_glove_game() -> None:
    values = exact_values(glove_worth, 3)
    np.testing.assert_allclose(values.shapley[:, 0], [2 / 3, 1 / 6, 1 / 6])
    np.testing.assert_allclose(values.banzhaf[:, 0], [3 / 4, 1 / 4, 1 / 4])


def test_shapley_values_sum_to_the_worth_of_all_at_12_policies() -> None:
    values = exact_values(random_worth(12, 3, seed=9), 12)
    assert np.abs(values.shapley.sum(axis=0) - values.total).max() < 1e-9


def test_a_policy_that_adds_nothing_gets_nothing_and_equals_get_the_same() -> None:
    # Policy 3 never matters; policies 0 and 1 are interchangeable.
    def worth(coalition: int) -> NDArray[np.float64]:
        members = [coalition >> k & 1 for k in range(4)]
        return np.array([(members[0] + members[1]) ** 2 + 3.0 * members[2]])

    values = exact_values(worth, 4)
    np.testing.assert_allclose(values.shapley[:, 0], [2, 2, 3, 0], atol=1e-14)


def test_each_coalition_is_solved_once() -> None:
    payoffs = np.random.default_rng(0).random((5, 5, 2))
    asked: list[tuple[int, ...]] = []

    def counting(table: NDArray[np.float64]) -> Solution:
        asked.append(table.shape)
        return solve(table, solver="mene")

    worth, converged = equilibrium_welfare(payoffs, utilitarian(payoffs), counting)
    exact_values(worth, 5)
    sampled_values(worth, 5, 20, seed=0)
    assert len(asked) == 31 == len(converged)
    assert all(converged.values())
    assert [asked.count((size, size, 2)) for size in range(1, 6)] == [math.comb(5, size) for size in range(1, 6)]


def test_the_worth_of_a_coalition_is_the_welfare_of_its_own_equilibrium() -> None:
    payoffs = np.random.default_rng(1).random((4, 4, 2))
    worth, _ = equilibrium_welfare(payoffs, utilitarian(payoffs), MENE)
    assert worth(0)[0] == 0
    assert worth(0b0100)[0] == pytest.approx(payoffs[2, 2].sum())
    inner = payoffs[np.ix_([0, 3], [0, 3])]
    assert worth(0b1001)[0] == pytest.approx(float((MENE(inner).joint * inner.sum(axis=2)).sum()))


def test_equilibrium_contributions_are_efficient_and_follow_the_policies_when_reordered() -> None:
    payoffs = np.random.default_rng(2).random((5, 5, 2))
    order = np.array([3, 0, 1, 4, 2])

    def values(table: NDArray[np.float64]) -> CoalitionValues:
        return exact_values(equilibrium_welfare(table, utilitarian(table), MENE)[0], 5)

    straight, shuffled = values(payoffs), values(payoffs[np.ix_(order, order)])
    assert abs(straight.shapley.sum() - straight.total[0]) < 1e-9
    np.testing.assert_allclose(shuffled.shapley, straight.shapley[order], atol=1e-4)
    np.testing.assert_allclose(shuffled.banzhaf, straight.banzhaf[order], atol=1e-4)


def test_samples_agree_with_the_exact_values_within_their_errors() -> None:
    worth = random_worth(6, 2, seed=3)
    exact, sampled = exact_values(worth, 6), sampled_values(worth, 6, 3000, seed=4)
    for name in ("shapley", "banzhaf"):
        distance = np.abs(getattr(sampled, name) - getattr(exact, name)) / getattr(sampled, f"{name}_error")
        assert distance.max() < 4
        assert distance.max() > 0
    assert not sampled.exact
    np.testing.assert_allclose(sampled.shapley.sum(axis=0), exact.total, atol=1e-12)


def test_the_errors_of_samples_are_honest() -> None:
    worth = random_worth(5, 1, seed=5)
    exact = exact_values(worth, 5)
    runs = [sampled_values(worth, 5, 60, seed=seed) for seed in range(300)]
    for name in ("shapley", "banzhaf"):
        spread = np.std([getattr(run, name) - getattr(exact, name) for run in runs], axis=0)
        claimed = np.mean([getattr(run, f"{name}_error") for run in runs], axis=0)
        np.testing.assert_allclose(claimed, spread, rtol=0.2)


def test_the_seed_decides_the_samples() -> None:
    worth = random_worth(8, 1, seed=6)
    first, again, other = (sampled_values(worth, 8, 10, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.shapley, again.shapley)
    np.testing.assert_array_equal(first.banzhaf, again.banzhaf)
    assert not np.array_equal(first.shapley, other.shapley)


def test_sampling_serves_more_policies_than_can_be_enumerated() -> None:
    def worth(coalition: int) -> NDArray[np.float64]:
        return np.array([float(coalition.bit_count())])

    values = sampled_values(worth, 70, 3, seed=0)
    np.testing.assert_allclose(values.shapley, 1)
    np.testing.assert_allclose(values.banzhaf, 1)


@pytest.mark.parametrize("num_policies", [0, 21])
def test_exact_values_refuse_too_many_policies(num_policies: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 20 policies, got {num_policies}"):
        exact_values(glove_worth, num_policies)


def test_one_sample_has_no_error() -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        sampled_values(glove_worth, 3, 1, seed=0)

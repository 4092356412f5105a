"""Regrets, scores and welfare against games solved by hand, and their invariances under the default solver."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from bargain_eval.metagame.analysis import (
    CellMeasure,
    Solver,
    best_response_graph,
    deviation_gains,
    is_solved,
    leave_one_out,
    leave_one_out_regrets,
    ne_regrets,
    policy_values,
    solution_values,
    solve_among,
    solver_sensitivity,
    uniform_scores,
    welfare,
)
from bargain_eval.metagame.solution import Solution
from bargain_eval.metagame.solvers import solve
from numpy.typing import ArrayLike, NDArray

MENE: Solver = partial(solve, solver="mene")

# Row plays T or B, column L or R. The only equilibrium is mixed: the row mixes 3/4, 1/4 so that the column is
# indifferent (4 p = 3 p + 3 (1 - p)), the column 1/2, 1/2 (2 q = q + (1 - q)).
MIXED = np.array([[[2.0, 4.0], [0.0, 3.0]], [[1.0, 0.0], [1.0, 3.0]]])


def joint_solution(joint: ArrayLike, payoffs: NDArray[np.float64]) -> Solution:
    table = np.asarray(joint, dtype=np.float64)
    return Solution(
        solver="given",
        row=table.sum(axis=1),
        column=table.sum(axis=0),
        joint=table,
        payoff=(float((table * payoffs[:, :, 0]).sum()), float((table * payoffs[:, :, 1]).sum())),
        regret=(0.0, 0.0),
        converged=True,
        iterations=0,
    )


def product_solution(row: ArrayLike, column: ArrayLike, payoffs: NDArray[np.float64]) -> Solution:
    return joint_solution(np.outer(np.asarray(row), np.asarray(column)), payoffs)


def random_payoffs(size: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random((size, size, 2))


def everything(amount: NDArray[np.float64]) -> CellMeasure:
    return CellMeasure(amount, np.ones_like(amount))


def test_regrets_are_0_where_all_policies_are_played() -> None:
    solution = product_solution([0.75, 0.25], [0.5, 0.5], MIXED)
    np.testing.assert_allclose(solution_values(MIXED, solution), [1.0, 3.0])
    for regrets in ne_regrets(MIXED, solution):
        np.testing.assert_allclose(regrets, [0, 0], atol=1e-15)


def test_the_regret_of_a_worse_policy_is_what_it_loses() -> None:
    # Adding a third row that earns .4 less than B everywhere, and a third column that earns 2 in all cells.
    payoffs = np.zeros((3, 3, 2))
    payoffs[:2, :2] = MIXED
    payoffs[2, :2] = [[0.6, 9.0], [0.6, 9.0]]
    payoffs[:, 2, 1] = 2.0
    payoffs[2, 2, 1] = 9.0
    solution = product_solution([0.75, 0.25, 0.0], [0.5, 0.5, 0.0], payoffs)
    regrets, gains = ne_regrets(payoffs, solution), deviation_gains(payoffs, solution)
    np.testing.assert_allclose(regrets.row, [0, 0, 0.4], atol=1e-15)
    np.testing.assert_allclose(regrets.column, [0, 0, 1.0], atol=1e-15)
    np.testing.assert_allclose(gains.row, -regrets.row)
    np.testing.assert_allclose(gains.column, -regrets.column)
    np.testing.assert_allclose(regrets.average, [0, 0, 0.7], atol=1e-15)


def test_a_profile_that_is_no_equilibrium_has_a_negative_regret_somewhere() -> None:
    regrets = ne_regrets(MIXED, product_solution([1, 0], [0, 1], MIXED))
    np.testing.assert_allclose(regrets.row, [0, -1])
    np.testing.assert_allclose(regrets.column, [-1, 0])


@pytest.mark.parametrize("seed", range(10))
def test_equilibrium_regrets_are_never_negative_and_0_on_the_support(seed: int) -> None:
    payoffs = random_payoffs(5, seed)
    solution = MENE(payoffs)
    assert solution.converged
    for regrets, mass in zip(ne_regrets(payoffs, solution), (solution.row, solution.column), strict=True):
        assert regrets.min() > -1e-6
        assert np.abs(regrets[mass > 1e-6]).max() < 1e-5
        assert regrets.max() > 1e-3


def test_values_under_a_correlated_solution_use_the_joint() -> None:
    # Chicken (6,6; 2,7; 7,2; 0,0) with a traffic light: a third each on (D,D), (D,H), (H,D) pays 5 each.
    chicken = np.array([[[6.0, 6.0], [2.0, 7.0]], [[7.0, 2.0], [0.0, 0.0]]])
    light = joint_solution([[1 / 3, 1 / 3], [1 / 3, 0]], chicken)
    np.testing.assert_allclose(solution_values(chicken, light), [5, 5])
    total = everything(chicken.sum(axis=2))
    assert welfare({"total": total}, light.joint)["total"] == pytest.approx(10)
    assert total.under(np.outer(light.row, light.column)) == pytest.approx(4 / 9 * 12 + 4 / 9 * 9)
    # Unconditional deviations against the marginal 2/3, 1/3 earn 14/3 in either pure strategy.
    np.testing.assert_allclose(policy_values(chicken, light).row, [14 / 3, 14 / 3])
    np.testing.assert_allclose(ne_regrets(chicken, light).column, [1 / 3, 1 / 3])


def test_welfare_of_games_is_not_welfare_of_means() -> None:
    # Half of the games pay (.9, .1), half (.1, .9): sqrt of the product is .3 in each, though it is .5 for the means.
    games = np.array([[0.9, 0.1], [0.1, 0.9]])
    nash = everything(np.full((1, 1), np.sqrt(games.prod(axis=1)).mean()))
    assert nash.under(np.ones((1, 1))) == pytest.approx(0.3)


def test_a_share_of_deals_weighs_the_cells_by_their_deals() -> None:
    # 10 deals of 100 games, 9 of them fair, in one cell; 50 deals of 100, 10 of them fair, in the other.
    fair = CellMeasure(np.array([[0.09, 0.10]]), np.array([[0.10, 0.50]]))
    assert fair.under(np.array([[0.5, 0.5]])) == pytest.approx(19 / 60)
    assert fair.under(np.array([[1.0, 0.0]])) == pytest.approx(0.9)
    assert np.isnan(CellMeasure(np.zeros((1, 1)), np.zeros((1, 1))).under(np.ones((1, 1))))


def test_uniform_scores_are_the_means_of_rows_and_of_columns() -> None:
    scores = uniform_scores(MIXED)
    np.testing.assert_allclose(scores.row, [1, 1])
    np.testing.assert_allclose(scores.column, [2, 3])
    with_seats_swapped = uniform_scores(MIXED.transpose(1, 0, 2)[:, :, ::-1])
    np.testing.assert_allclose(with_seats_swapped.row, scores.column)


def test_leaving_out_a_policy_solves_the_game_without_it() -> None:
    payoffs = random_payoffs(4, 21)
    for policy, solution in enumerate(leave_one_out(payoffs, MENE)):
        members = np.delete(np.arange(4), policy)
        inner = MENE(payoffs[np.ix_(members, members)])
        assert solution.row[policy] == solution.column[policy] == 0
        np.testing.assert_array_equal(solution.row[members], inner.row)
        np.testing.assert_array_equal(solution.column[members], inner.column)
        np.testing.assert_array_equal(solution.joint[np.ix_(members, members)], inner.joint)
        assert solution.joint.sum() == pytest.approx(1)


def test_leave_one_out_regret_is_negative_for_a_policy_that_would_enter() -> None:
    # A prisoners' dilemma: without defecting (1) both cooperate and earn 3; the defector entering earns 5.
    dilemma = np.array([[[3.0, 3.0], [0.0, 5.0]], [[5.0, 0.0], [1.0, 1.0]]])
    regrets = leave_one_out_regrets(dilemma, leave_one_out(dilemma, MENE))
    np.testing.assert_allclose(regrets.row, [1, -2], atol=1e-9)
    np.testing.assert_allclose(regrets.column, [1, -2], atol=1e-9)


def test_leaving_out_needs_a_square_table_of_two() -> None:
    with pytest.raises(ValueError, match=r"square table of two or more, got \(2, 3\)"):
        leave_one_out(np.zeros((2, 3, 2)), MENE)
    with pytest.raises(ValueError, match=r"got \(1, 1\)"):
        leave_one_out(np.zeros((1, 1, 2)), MENE)


def test_best_responses_are_edges_and_ties_share() -> None:
    payoffs = np.array([[[1.0, 0.0], [2.0, 5.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 1.0], [3.0, 1.0]]])
    graph = best_response_graph(payoffs)
    np.testing.assert_allclose(graph.row, [[0.5, 1, 0], [0.5, 0, 1]])
    np.testing.assert_allclose(graph.column, [[0, 1 / 3], [1, 1 / 3], [0, 1 / 3]])


def test_the_solvers_are_compared_to_the_first() -> None:
    # Stag hunt: both hunt stag (4 each) or both hare (3 each).
    hunt = np.array([[[4.0, 4.0], [0.0, 3.0]], [[3.0, 0.0], [3.0, 3.0]]])
    given = {
        "hare": lambda payoffs: product_solution([0, 1], [0, 1], payoffs),
        "stag": lambda payoffs: product_solution([1, 0], [1, 0], payoffs),
    }
    result = solver_sensitivity(hunt, {"total": everything(hunt.sum(axis=2))}, given)
    assert list(result) == ["hare", "stag"]
    assert result["hare"]["welfare"] == {"total": 6}
    assert result["hare"]["welfare_difference"] == {"total": 0}
    assert result["stag"]["welfare_difference"] == {"total": 2}
    np.testing.assert_array_equal(result["stag"]["payoff"], [4, 4])


@pytest.mark.parametrize("seed", range(6))
def test_a_clone_changes_no_regret_no_welfare_and_no_mass_of_its_class(seed: int) -> None:
    # Strategically zero-sum, so that the equilibrium is unique: seat 1 earns 1 - u0 plus a gift that seat 0 decides.
    rng = np.random.default_rng(100 + seed)
    first = rng.random((4, 4))
    payoffs = np.stack([first, 1 - first + rng.random((4, 1))], axis=2)
    cloned = payoffs[np.ix_([0, 1, 2, 3, 1], [0, 1, 2, 3, 1])]
    before, after = MENE(payoffs), MENE(cloned)
    merged = [(mass[:4] + np.eye(4)[1] * mass[4]) for mass in (after.row, after.column)]
    np.testing.assert_allclose(merged[0], before.row, atol=1e-3)
    np.testing.assert_allclose(merged[1], before.column, atol=1e-3)
    for old, new in zip(ne_regrets(payoffs, before), ne_regrets(cloned, after), strict=True):
        np.testing.assert_allclose(new[:4], old, atol=1e-3)
        assert new[4] == pytest.approx(new[1], abs=1e-12)
    total_before = everything(payoffs.sum(axis=2)).under(before.joint)
    assert everything(cloned.sum(axis=2)).under(after.joint) == pytest.approx(total_before, abs=1e-3)


@pytest.mark.parametrize("scale", [0.1, 10.0, 1000.0])
def test_regrets_scale_with_the_payoffs_and_mixtures_do_not(scale: float) -> None:
    payoffs = random_payoffs(5, 3)
    small, large = MENE(payoffs), MENE(scale * payoffs + 2)
    np.testing.assert_allclose(large.row, small.row, atol=1e-4)
    np.testing.assert_allclose(large.column, small.column, atol=1e-4)
    for old, new in zip(ne_regrets(payoffs, small), ne_regrets(scale * payoffs + 2, large), strict=True):
        np.testing.assert_allclose(new, scale * old, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("converged", "regret", "usable"),
    [(True, (0.3, 0.0), True), (False, (0.0, 1e-7), True), (False, (0.0, 1e-3), False), (False, (1e-3, 0.0), False)],
)
def test_a_solution_without_regret_is_one_though_its_choice_is_not_proven(
    converged: bool, regret: tuple[float, float], usable: bool
) -> None:
    solution = dataclasses.replace(product_solution([1, 0], [1, 0], MIXED), converged=converged, regret=regret)
    assert is_solved(MIXED, solution) is usable


def test_solving_among_all_is_solving() -> None:
    payoffs = random_payoffs(3, 8)
    np.testing.assert_array_equal(solve_among(payoffs, np.arange(3), MENE).joint, MENE(payoffs).joint)

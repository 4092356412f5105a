"""Lifts against their formulas written out, and against games in which the answer is plain."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from bargain_eval.metagame.analysis import CellMeasure, leave_one_out, policy_values
from bargain_eval.metagame.lift import ecosystem_lift, partner_lift, summarise_partner_lift
from bargain_eval.metagame.solution import Solution
from bargain_eval.metagame.solvers import solve
from numpy.typing import ArrayLike, NDArray

MENE = partial(solve, solver="mene")


def profile(row: ArrayLike, column: ArrayLike) -> Solution:
    first, second = np.asarray(row, dtype=np.float64), np.asarray(column, dtype=np.float64)
    return Solution("given", first, second, np.outer(first, second), (0.0, 0.0), (0.0, 0.0), True, 0)


def total(payoffs: NDArray[np.float64]) -> dict[str, CellMeasure]:
    return {"total": CellMeasure(payoffs.sum(axis=2), np.ones(payoffs.shape[:2]))}


def test_partner_lift_is_its_formula_in_each_seat() -> None:
    rng = np.random.default_rng(0)
    payoffs = rng.random((4, 4, 2))
    base = profile([0.5, 0.3, 0.2, 0], [0.1, 0.2, 0.7, 0])
    lift = partner_lift(payoffs, base, 3)
    for i in range(4):
        usual = sum(base.column[k] * payoffs[i, k, 0] for k in range(4))
        assert lift.row[i] == pytest.approx(payoffs[i, 3, 0] - usual)
        usual = sum(base.row[k] * payoffs[k, i, 1] for k in range(4))
        assert lift.column[i] == pytest.approx(payoffs[3, i, 1] - usual)
    np.testing.assert_allclose(lift.average, (lift.row + lift.column) / 2)


def test_the_summary_weighs_by_the_base_and_leaves_out_who_is_not_there() -> None:
    payoffs = np.random.default_rng(1).random((3, 3, 2))
    base = profile([0.25, 0.75, 0], [1, 0, 0])
    lift = partner_lift(payoffs, base, 2)
    summary = summarise_partner_lift(lift, base, np.array([0, 1]))
    assert summary["mean"] == pytest.approx((lift.row[:2].mean(), lift.column[:2].mean()))
    assert summary["weighted"] == pytest.approx((0.25 * lift.row[0] + 0.75 * lift.row[1], lift.column[0]))
    assert summary["min"] == pytest.approx((lift.row[:2].min(), lift.column[:2].min()))
    assert summary["max"] == pytest.approx((lift.row[:2].max(), lift.column[:2].max()))


def test_a_clone_of_the_mixture_lifts_nobody() -> None:
    payoffs = np.random.default_rng(2).random((3, 3, 2))
    base = profile([0, 1, 0], [0, 1, 0])
    lift = partner_lift(payoffs, base, 1)
    np.testing.assert_allclose(lift.row, 0, atol=1e-15)
    np.testing.assert_allclose(lift.column, 0, atol=1e-15)


def test_the_lifts_of_the_seats_differ_where_the_seats_do() -> None:
    # The partner gives 1 to whoever moves first and 0 to whoever moves second; the others give .5.
    payoffs = np.full((2, 2, 2), 0.5)
    payoffs[:, 1, 0], payoffs[1, :, 1] = 1.0, 0.0
    lift = partner_lift(payoffs, profile([1, 0], [1, 0]), 1)
    np.testing.assert_allclose(lift.row, 0.5)
    np.testing.assert_allclose(lift.column, -0.5)


def test_the_shift_counts_the_entrant() -> None:
    payoffs = np.random.default_rng(3).random((3, 3, 2))
    before, after = profile([0.6, 0.4, 0], [0.5, 0.5, 0]), profile([0.45, 0.3, 0.25], [0.5, 0.5, 0])
    lift = ecosystem_lift(payoffs, total(payoffs), before, after, 2)
    # The incumbents of seat 0 shrink in proportion, so that the shift is twice the entrant's mass.
    assert lift.entry_mass == pytest.approx((0.25, 0))
    assert lift.shift == pytest.approx((0.5, 0))


def test_ecosystem_lift_is_the_difference_of_two_equilibria() -> None:
    payoffs = np.random.default_rng(4).random((4, 4, 2))
    after, without = MENE(payoffs), leave_one_out(payoffs, MENE)
    for entrant in range(4):
        lift = ecosystem_lift(payoffs, total(payoffs), without[entrant], after, entrant)
        expected = (after.joint * payoffs.sum(axis=2)).sum() - (without[entrant].joint * payoffs.sum(axis=2)).sum()
        assert lift.welfare["total"] == pytest.approx(expected)
        values, were = policy_values(payoffs, after), policy_values(payoffs, without[entrant])
        incumbents = np.delete(np.arange(4), entrant)
        np.testing.assert_allclose(lift.incumbent_shift.row[incumbents], (values.row - were.row)[incumbents])
        np.testing.assert_allclose(lift.incumbent_shift.column[incumbents], (values.column - were.column)[incumbents])
        assert np.isnan(lift.incumbent_shift.row[entrant])
        assert lift.entry_mass == (after.row[entrant], after.column[entrant])


def test_a_policy_that_is_not_played_shifts_nothing() -> None:
    # The third policy is strictly dominated in both seats.
    payoffs = np.random.default_rng(5).random((3, 3, 2))
    payoffs[2, :, 0], payoffs[:, 2, 1] = -1.0, -1.0
    after, before = MENE(payoffs), leave_one_out(payoffs, MENE)[2]
    lift = ecosystem_lift(payoffs, total(payoffs), before, after, 2)
    assert lift.entry_mass == pytest.approx((0, 0), abs=1e-9)
    assert lift.shift == pytest.approx((0, 0), abs=1e-4)
    assert lift.welfare["total"] == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(lift.incumbent_shift.row[:2], 0, atol=1e-4)


def test_a_defector_lowers_the_welfare_of_cooperators() -> None:
    dilemma = np.array([[[3.0, 3.0], [0.0, 5.0]], [[5.0, 0.0], [1.0, 1.0]]])
    lift = ecosystem_lift(dilemma, total(dilemma), leave_one_out(dilemma, MENE)[1], MENE(dilemma), 1)
    assert lift.welfare["total"] == pytest.approx(2 - 6)
    assert lift.entry_mass == pytest.approx((1, 1))
    assert lift.shift == pytest.approx((2, 2))
    assert lift.incumbent_shift.row[0] == pytest.approx(0 - 3)

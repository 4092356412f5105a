"""Solvers of meta-games against known solutions, brute force, pygambit and OpenSpiel."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
from bargain_eval.metagame.alpharank import alpha_rank
from bargain_eval.metagame.joint import coarse_correlated, correlated_equilibrium, nash_bargaining
from bargain_eval.metagame.milp import undominated
from bargain_eval.metagame.payoffs import PayoffTable
from bargain_eval.metagame.solution import Solution, nash_regret
from bargain_eval.metagame.solvers import SOLVERS, SYMMETRIC, solve, solve_batch, solve_symmetric

EXACT = ("mene", "max_welfare")
ITERATIVE = ("fictitious_play", "replicator")


def bimatrix(first: Any, second: Any) -> np.ndarray:
    return np.stack([np.asarray(first, dtype=float), np.asarray(second, dtype=float)], axis=2)


def zero_sum(first: Any) -> np.ndarray:
    return bimatrix(first, -np.asarray(first, dtype=float))


PENNIES = bimatrix([[5, 0], [0, 1]], [[0, 1], [1, 0]])  # rows mix .5/.5, columns 1/6, 5/6
ROCK_PAPER_SCISSORS = zero_sum([[0, -1, 3], [1, 0, -1], [-1, 2, 0]])
BATTLE = bimatrix([[2, 0], [0, 1]], [[1, 0], [0, 2]])
DILEMMA = bimatrix([[3, 0], [5, 1]], [[3, 5], [0, 1]])
STAG_HUNT = bimatrix([[4, 0], [3, 2]], [[4, 3], [0, 2]])
COORDINATION = bimatrix([[2, 0], [0, 1]], [[2, 0], [0, 1]])
FIVE = (PENNIES, ROCK_PAPER_SCISSORS, BATTLE, DILEMMA, STAG_HUNT)


def welfare(solution: Solution) -> float:
    return sum(solution.payoff)


def entropy(*mixtures: np.ndarray) -> float:
    return -sum(float(p * math.log(p)) for mixture in mixtures for p in mixture.tolist() if p > 0)


@functools.cache
def all_equilibria(seed: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Returns a random game of 2 to 5 policies a seat and its extreme equilibria, which pygambit enumerates."""
    gambit = pytest.importorskip("pygambit")
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(2, 6, size=2)
    payoffs = np.round(rng.random((rows, columns, 2)), 3)
    game = gambit.Game.from_arrays(payoffs[:, :, 0], payoffs[:, :, 1])
    found = []
    for profile in gambit.nash.enummixed_solve(game, rational=False).equilibria:
        first, second = (np.array([float(profile[s]) for s in player.strategies]) for player in game.players)
        found.append((first, second))
    return payoffs, found


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_reports_what_it_returns(solver: str) -> None:
    payoffs = np.random.default_rng(0).random((3, 4, 2))
    found = solve(payoffs, solver)
    assert found.solver == solver
    assert found.joint.shape == (3, 4)
    np.testing.assert_allclose(found.joint.sum(axis=1), found.row, atol=1e-12)
    np.testing.assert_allclose(found.joint.sum(axis=0), found.column, atol=1e-12)
    assert found.joint.sum() == pytest.approx(1)
    assert found.joint.min() >= 0
    np.testing.assert_allclose(found.payoff, np.einsum("ij,ijp->p", found.joint, payoffs))
    assert min(found.regret) >= 0
    assert found.nash_conv == sum(found.regret)


@pytest.mark.parametrize("solver", [name for name in SOLVERS if name != "nbs"])
def test_units_and_origin_of_a_seats_payoffs_do_not_matter(solver: str) -> None:
    payoffs = np.random.default_rng(5).random((4, 3, 2))
    factors = np.array([10.0, 10.0])
    if solver in ("mene", *ITERATIVE, "rrd", "uniform"):
        factors = np.array([10.0, 0.3])
    base, scaled = solve(payoffs, solver), solve(payoffs * factors + np.array([-3.0, 7.0]), solver)
    np.testing.assert_allclose(scaled.joint, base.joint, atol=1e-6)
    np.testing.assert_allclose(scaled.regret, np.array(base.regret) * factors, atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_missing_payoffs_and_wrong_shapes_are_errors(solver: str) -> None:
    payoffs = np.ones((2, 2, 2))
    payoffs[1, 0, 1] = np.nan
    with pytest.raises(ValueError, match="missing pairs"):
        solve(payoffs, solver)
    with pytest.raises(ValueError, match=r"\[M, N, 2\]"):
        solve(np.ones((2, 2)), solver)


def test_unknown_solvers_are_errors() -> None:
    with pytest.raises(ValueError, match="solver must be one of mene"):
        solve(BATTLE, "linear_program")
    with pytest.raises(ValueError, match="solver must be one of"):
        solve_symmetric(np.eye(2), "nbs")
    with pytest.raises(ValueError, match="square"):
        solve_symmetric(np.ones((2, 3)))


@pytest.mark.parametrize("solver", [*EXACT, *ITERATIVE])
@pytest.mark.parametrize("game", range(len(FIVE)))
def test_five_games_are_solved(game: int, solver: str) -> None:
    found = solve(FIVE[game], solver)
    limit = 1e-9 if solver in EXACT else 0.02
    assert found.nash_conv <= limit
    assert found.nash_conv == pytest.approx(sum(nash_regret(FIVE[game], found.row, found.column)))


def test_seats_are_not_interchangeable() -> None:
    found = solve(PENNIES)
    np.testing.assert_allclose(found.row, [0.5, 0.5], atol=1e-9)
    np.testing.assert_allclose(found.column, [1 / 6, 5 / 6], atol=1e-9)
    assert found.converged


def test_of_two_planted_equilibria_welfare_picks_the_better() -> None:
    found = solve(COORDINATION, "max_welfare")
    assert found.payoff == pytest.approx((2, 2))
    assert found.row[0] == pytest.approx(1)


def test_entropy_picks_the_most_mixed() -> None:
    found = solve(COORDINATION, "mene")
    np.testing.assert_allclose(found.row, [1 / 3, 2 / 3], atol=1e-9)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_in_a_constant_game_entropy_is_uniform_whatever_the_scale(size: int) -> None:
    for scale in (1.0, 10.0):
        found = solve(np.full((size, size, 2), scale), "mene")
        np.testing.assert_allclose(found.row, np.full(size, 1 / size), atol=1e-3)
        np.testing.assert_allclose(found.column, np.full(size, 1 / size), atol=1e-3)


@pytest.mark.parametrize("seeds", [range(start, start + 25) for start in range(0, 100, 25)], ids=str)
def test_random_games_agree_with_all_their_equilibria(seeds: range) -> None:
    for seed in seeds:
        payoffs, equilibria = all_equilibria(seed)
        most_mixed, best = solve(payoffs, "mene"), solve(payoffs, "max_welfare")
        assert most_mixed.nash_conv <= 1e-6, seed
        assert best.nash_conv <= 1e-6, seed
        assert most_mixed.converged, seed
        assert best.converged, seed
        known = [float(np.einsum("i,j,ijp->", *pair, payoffs)) for pair in equilibria]
        assert welfare(best) == pytest.approx(max(known), abs=1e-6), seed
        mixed = max(entropy(*pair) for pair in equilibria)
        assert entropy(most_mixed.row, most_mixed.column) >= mixed - 2e-3, seed


@pytest.mark.parametrize("seed", range(4))
def test_larger_games_are_solved_exactly(seed: int) -> None:
    payoffs = np.random.default_rng(seed).random((8, 7, 2))
    for solver in EXACT:
        assert solve(payoffs, solver).nash_conv <= 1e-9


def test_the_limit_of_the_search_is_said() -> None:
    payoffs = np.random.default_rng(1).random((16, 16, 2))
    found = solve(payoffs, "mene", node_limit=1)
    assert not found.converged
    assert found.row.sum() == pytest.approx(1)


def test_strictly_dominated_policies_are_removed_again_and_again() -> None:
    rows, columns = undominated(DILEMMA)
    assert rows.tolist() == [1]
    assert columns.tolist() == [1]
    assert [part.tolist() for part in undominated(ROCK_PAPER_SCISSORS)] == [[0, 1, 2], [0, 1, 2]]


def test_a_copy_of_a_policy_changes_no_welfare_and_no_regret() -> None:
    payoffs = np.random.default_rng(3).random((4, 4, 2))
    copied = payoffs[np.ix_([0, 1, 2, 3, 1], [0, 1, 2, 3, 1])]
    for solver in ("max_welfare", "cce", "ce", "nbs"):
        base, more = solve(payoffs, solver), solve(copied, solver)
        assert welfare(more) == pytest.approx(welfare(base), abs=1e-8)
        np.testing.assert_allclose(more.regret, base.regret, atol=1e-8)


def test_where_the_equilibrium_is_unique_a_copy_keeps_the_mass_of_its_kind() -> None:
    copied = ROCK_PAPER_SCISSORS[np.ix_([0, 1, 2, 1], [0, 1, 2, 1])]
    for solver in EXACT:
        base, more = solve(ROCK_PAPER_SCISSORS, solver), solve(copied, solver)
        assert more.row[1] + more.row[3] == pytest.approx(base.row[1], abs=1e-3)
        assert more.column[1] + more.column[3] == pytest.approx(base.column[1], abs=1e-3)


def test_a_copy_can_draw_mass_under_maximal_entropy() -> None:
    constant = np.ones((2, 2, 2))
    copied = constant[np.ix_([0, 1, 1], [0, 1])]
    assert solve(copied, "mene").row[1:].sum() == pytest.approx(2 / 3, abs=1e-3)


@pytest.mark.parametrize("solver", SYMMETRIC)
def test_symmetric_solutions_are_symmetric(solver: str) -> None:
    payoff = np.random.default_rng(8).random((4, 4))
    found = solve_symmetric(payoff, solver)
    np.testing.assert_allclose(found.row, found.column, atol=1e-6)
    if solver in EXACT:
        assert found.nash_conv <= 1e-9


def test_the_symmetric_equilibrium_of_hawk_and_dove_is_mixed() -> None:
    hawk_dove = np.array([[-1.0, 2.0], [0.0, 1.0]])
    np.testing.assert_allclose(solve_symmetric(hawk_dove, "max_welfare").row, [0.5, 0.5], atol=1e-9)
    table = PayoffTable.of_means(np.stack([hawk_dove, hawk_dove.T], axis=2), ("h", "d"), ("h", "d"))
    np.testing.assert_allclose(table.symmetrised(), hawk_dove)


@pytest.mark.parametrize("solver", ["fictitious_play", "replicator", "rrd"])
def test_a_batch_gives_what_single_games_give(solver: str) -> None:
    games = np.random.default_rng(2).random((6, 3, 3, 2))
    for game, found in zip(games, solve_batch(games, solver), strict=True):
        alone = solve(game, solver)
        assert found.converged == alone.converged
        assert max(found.regret) <= max(alone.regret) + 1e-3
    assert [each.solver for each in solve_batch(games, "max_welfare")] == ["max_welfare"] * 6


def test_replicator_agrees_with_open_spiel_on_the_direction_of_its_first_step() -> None:
    dynamics = pytest.importorskip("open_spiel.python.egt.dynamics")
    payoffs = np.random.default_rng(1).random((3, 4, 2))
    field = dynamics.MultiPopulationDynamics(payoffs.transpose(2, 0, 1), dynamics.replicator)
    theirs = field(np.r_[np.full(3, 1 / 3), np.full(4, 1 / 4)])
    early = solve(payoffs, "rrd", iterations=50, regret=0.0, rate=1e-6)
    scale = payoffs.max(axis=(0, 1)) - payoffs.min(axis=(0, 1))
    ours = np.r_[(early.row - 1 / 3) * scale[0], (early.column - 1 / 4) * scale[1]] / 50e-6
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_stopping_early_keeps_the_replicator_mixed() -> None:
    loose, tight = (solve(DILEMMA, "rrd", regret=regret) for regret in (0.1, 0.001))
    assert loose.converged
    assert tight.converged
    assert loose.row[0] > tight.row[0] > 0
    assert loose.iterations < tight.iterations
    assert max(loose.regret) <= 0.1 * 5


def test_correlated_equilibria_contain_the_nash_equilibria_and_earn_more() -> None:
    chicken = bimatrix([[6, 2], [7, 0]], [[6, 7], [2, 0]])
    nash, ce, cce = (solve(chicken, name) for name in ("max_welfare", "ce", "cce"))
    assert welfare(ce) == pytest.approx(10.5)  # Aumann's: (1/2, 1/4, 1/4, 0)
    assert welfare(cce) >= welfare(ce) >= welfare(nash) - 1e-9
    for found in (ce, cce):
        assert max(found.regret) <= 1e-9
        assert abs(found.joint - np.outer(found.row, found.column)).max() > 0.01


@pytest.mark.parametrize("seed", range(5))
def test_entropy_of_correlated_equilibria_is_maximal(seed: int) -> None:
    payoffs = np.random.default_rng(seed).random((3, 3, 2))
    ce, cce = (f(payoffs, objective="max_entropy") for f in (correlated_equilibrium, coarse_correlated))
    nash = solve(payoffs, "mene")
    assert entropy(cce.joint.ravel()) >= entropy(ce.joint.ravel()) - 1e-4
    assert entropy(ce.joint.ravel()) >= entropy(nash.joint.ravel()) - 1e-4
    for found in (ce, cce):
        assert found.converged
        assert max(found.regret) <= 1e-7


def test_correlated_objectives_are_named() -> None:
    with pytest.raises(ValueError, match="objective"):
        coarse_correlated(BATTLE, objective="gini")  # type: ignore[arg-type]


def test_nash_bargaining_splits_the_gains() -> None:
    battle = nash_bargaining(BATTLE, disagreement=(0.0, 0.0))
    np.testing.assert_allclose(battle.joint, [[0.5, 0], [0, 0.5]], atol=1e-12)
    skewed = nash_bargaining(BATTLE, disagreement=(1.0, 0.0))
    assert skewed.payoff[0] > battle.payoff[0]
    dilemma = nash_bargaining(DILEMMA)
    assert dilemma.payoff == pytest.approx((3, 3))
    assert dilemma.converged
    assert max(dilemma.regret) == pytest.approx(2)


@pytest.mark.parametrize("seed", range(10))
def test_nash_bargaining_maximises_the_product_over_all_joint_distributions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    payoffs = rng.random((3, 3, 2))
    found = nash_bargaining(payoffs)
    low = payoffs[:, :, 0].min(axis=1).max(), payoffs[:, :, 1].min(axis=0).max()
    value = (found.payoff[0] - low[0]) * (found.payoff[1] - low[1])
    points = rng.dirichlet(np.full(9, 0.15), size=20_000) @ payoffs.reshape(9, 2) - low
    assert found.converged
    assert (np.clip(points, 0, None).prod(axis=1) <= value + 1e-12).all()


def test_nash_bargaining_without_a_gain_for_both_says_so() -> None:
    assert not nash_bargaining(BATTLE, disagreement=(3.0, 3.0)).converged


@pytest.mark.parametrize("alpha", [0.1, 1.0, 5.0])
def test_alpha_rank_agrees_with_open_spiel(alpha: float) -> None:
    theirs = pytest.importorskip("open_spiel.python.egt.alpharank")
    payoffs = np.random.default_rng(4).random((3, 4, 2))
    spread = (payoffs.max(axis=(0, 1)) - payoffs.min(axis=(0, 1))).max()
    tables = [payoffs[:, :, 0], payoffs[:, :, 1]]
    *_, stationary, _, _ = theirs.compute(tables, m=50, alpha=alpha / spread)
    found = alpha_rank(payoffs, alpha=alpha, population=50)
    np.testing.assert_allclose(found.joint.ravel(), stationary, atol=1e-8)


def test_alpha_rank_in_the_limit_agrees_with_open_spiel() -> None:
    theirs = pytest.importorskip("open_spiel.python.egt.alpharank")
    payoffs = np.random.default_rng(4).random((3, 4, 2))
    *_, stationary, _, _ = theirs.compute(
        [payoffs[:, :, 0], payoffs[:, :, 1]], m=50, use_inf_alpha=True, inf_alpha_eps=0.01
    )
    np.testing.assert_allclose(alpha_rank(payoffs, alpha=math.inf).joint.ravel(), stationary, atol=1e-8)


def test_alpha_rank_bears_any_selection_strength() -> None:
    payoffs = np.random.default_rng(6).random((4, 4, 2))
    strong = alpha_rank(payoffs, alpha=1e6)
    assert np.isfinite(strong.joint).all()
    assert strong.joint.sum() == pytest.approx(1)
    weak = alpha_rank(payoffs, alpha=1e-9)
    np.testing.assert_allclose(weak.joint, np.full((4, 4), 1 / 16), atol=1e-6)
    with pytest.raises(ValueError, match="alpha"):
        alpha_rank(payoffs, alpha=0.0)

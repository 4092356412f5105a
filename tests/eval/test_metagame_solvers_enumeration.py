"""Nash equilibria by enumeration against pygambit, the mixed-integer program and scipy, with ties and without."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from bargain_eval.metagame.milp import max_entropy_nash, max_welfare_nash, symmetric_nash
from bargain_eval.metagame.selection import equilibria, most_mixed, of_most_entropy
from bargain_eval.metagame.solution import Solution, nash_regret, unit_payoffs
from bargain_eval.metagame.solvers import solve
from bargain_eval.metagame.supports import isolated_equilibria
from bargain_eval.metagame.vertices import equilibrium_components, symmetric_components

NASH = {"mene": max_entropy_nash, "max_welfare": max_welfare_nash}


def random_game(seed: int, largest: int, levels: int = 0) -> np.ndarray:
    """Returns a game of 2 to `largest` policies a seat; with few levels of payoff it has many ties."""
    rng = np.random.default_rng(seed)
    payoffs = rng.random((*rng.integers(2, largest + 1, size=2), 2))
    return np.round(payoffs * levels) if levels else payoffs


def walk_game(seed: int, size: int) -> np.ndarray:
    """Returns policies of different skill and style; with the first one, nobody ever agrees."""
    rng = np.random.default_rng(seed)
    skill, style, taste = rng.normal(size=size) / 10, rng.normal(size=(size, 3)) / 20, rng.normal(size=(size, 3))
    payoffs = rng.normal(0.6, 0.01, size=(size, size, 2))
    payoffs[:, :, 0] += skill[:, None] + 0.3 * skill + style @ taste.T
    payoffs[:, :, 1] += 0.3 * skill[:, None] + skill + taste @ style.T
    payoffs[0], payoffs[:, 0] = 0.5, 0.5
    return payoffs


def pure_pairs(pairs: Any) -> set[tuple[float, ...]]:
    return {tuple((np.r_[x, y].round(6) + 0.0).tolist()) for x, y in pairs}


def gambit_equilibria(payoffs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    gambit = pytest.importorskip("pygambit")
    game = gambit.Game.from_arrays(payoffs[:, :, 0], payoffs[:, :, 1])
    found = []
    for profile in gambit.nash.enummixed_solve(game, rational=False).equilibria:
        x, y = (np.array([float(profile[s]) for s in player.strategies]) for player in game.players)
        found.append((x, y))
    return found


def welfare(found: Solution) -> float:
    return float(np.sum(found.payoff))


def entropy(*mixtures: np.ndarray) -> float:
    return -math.fsum(p * math.log(p) for mixture in mixtures for p in mixture.tolist() if p > 0)


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 10])
def test_the_extreme_equilibria_are_those_of_pygambit(levels: int) -> None:
    for seed in range(30):
        payoffs = unit_payoffs(random_game(seed, 5, levels))
        components = equilibria(payoffs)
        assert components is not None
        ours = pure_pairs((x, y) for first, second in components for x in first for y in second)
        assert ours == pure_pairs(gambit_equilibria(payoffs)), seed


@pytest.mark.parametrize("levels", [0, 3])
def test_the_chosen_equilibria_are_the_best_of_pygambits(levels: int) -> None:
    for seed in range(100, 140):
        payoffs = random_game(seed, 5, levels)
        known = gambit_equilibria(payoffs)
        mixed, best = solve(payoffs, "mene"), solve(payoffs, "max_welfare")
        assert welfare(best) == pytest.approx(max(x @ payoffs.sum(axis=2) @ y for x, y in known), abs=1e-9), seed
        assert entropy(mixed.row, mixed.column) >= max(entropy(*pair) for pair in known) - 1e-9, seed


def test_two_hundred_games_of_up_to_eight_policies_are_solved_to_rounding() -> None:
    for seed in range(200):
        payoffs = random_game(seed, 8, 4 if seed % 2 else 0)
        for solver in NASH:
            found = solve(payoffs, solver)
            assert found.converged, (seed, solver)
            assert found.nash_conv <= 1e-9, (seed, solver)


@pytest.mark.parametrize("levels", [0, 2, 5])
@pytest.mark.parametrize("size", [3, 5])
def test_enumeration_and_the_program_agree(size: int, levels: int) -> None:
    for seed in range(6):
        payoffs = random_game(1000 + seed, size, levels)
        for name, nash in NASH.items():
            one, other = nash(payoffs), nash(payoffs, method="program")
            assert one.converged, (seed, name)
            assert other.converged, (seed, name)
            assert max(one.nash_conv, other.nash_conv) <= 1e-9, (seed, name)
            if name == "mene":
                found = entropy(other.row, other.column)
                assert entropy(one.row, one.column) == pytest.approx(found, abs=2e-4), seed
            else:
                assert welfare(one) == pytest.approx(welfare(other), abs=1e-6), seed


def test_ties_are_left_to_the_vertices() -> None:
    payoffs = unit_payoffs(np.array([[[1, 1], [1, 1], [0, 0]], [[1, 1], [1, 1], [2, 0]], [[0, 2], [1, 0], [0, 0.0]]]))
    assert isolated_equilibria(payoffs) is None
    components = equilibrium_components(payoffs)
    assert components is not None
    assert max(len(x) * len(y) for x, y in components) > 1
    rng = np.random.default_rng(0)
    for x, y in components:  # any average of what goes together is an equilibrium
        mixtures = rng.dirichlet(np.ones(len(x))) @ x, rng.dirichlet(np.ones(len(y))) @ y
        assert max(nash_regret(payoffs, *mixtures)) <= 1e-9


def test_both_ways_of_enumeration_agree_without_ties() -> None:
    for seed in range(20):
        payoffs = unit_payoffs(random_game(seed, 6))
        isolated, components = isolated_equilibria(payoffs), equilibrium_components(payoffs)
        assert isolated is not None
        assert components is not None
        assert pure_pairs(isolated) == pure_pairs((x[0], y[0]) for x, y in components)


@pytest.mark.parametrize("size", [6, 20])
def test_tables_with_a_policy_that_always_walks_are_solved(size: int) -> None:
    for seed in range(4):
        payoffs = walk_game(seed, size)
        for solver in NASH:
            found = solve(payoffs, solver)
            assert found.converged, (seed, solver)
            assert found.nash_conv <= 1e-9, (seed, solver)


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_symmetric_solutions_are_symmetric_and_the_best(levels: int) -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(2, 6))
        payoff = np.round(rng.random((size, size)) * levels) if levels else rng.random((size, size))
        payoffs = np.stack([payoff, payoff.T], axis=2)
        twins = [x for x, y in gambit_equilibria(payoffs) if np.allclose(x, y, atol=1e-9)]
        mixed, best = (symmetric_nash(payoff, objective) for objective in ("max_entropy", "max_welfare"))
        for found in (mixed, best):
            assert found.converged, seed
            assert found.nash_conv <= 1e-9, seed
            np.testing.assert_allclose(found.row, found.column, atol=1e-12)
        for x in twins:
            assert entropy(mixed.row) >= entropy(x) - 1e-9, seed
            assert welfare(best) >= 2 * x @ payoff @ x - 1e-9, seed


@pytest.mark.parametrize("levels", [0, 3])
def test_symmetric_enumeration_and_the_program_agree(levels: int) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        payoff = np.round(rng.random((4, 4)) * levels) if levels else rng.random((4, 4))
        one, other = symmetric_nash(payoff), symmetric_nash(payoff, method="program")
        assert entropy(one.row, one.column) == pytest.approx(entropy(other.row, other.column), abs=2e-4), seed
        np.testing.assert_allclose(other.row, other.column, atol=1e-9)
        best = [symmetric_nash(payoff, "max_welfare", method=method) for method in ("auto", "program")]
        assert welfare(best[0]) == pytest.approx(welfare(best[1]), abs=1e-6), seed


def test_symmetric_sets_hold_symmetric_equilibria_only() -> None:
    for seed in range(20):
        payoff = unit_payoffs(np.round(np.random.default_rng(seed).random((4, 4, 1)) * 2))[:, :, 0]
        sets = symmetric_components(payoff)
        assert sets is not None
        for vertices in sets:
            x = np.random.default_rng(seed).dirichlet(np.ones(len(vertices))) @ vertices
            assert (payoff @ x).max() - x @ payoff @ x <= 1e-9, seed


def test_the_most_mixed_average_is_that_of_scipy() -> None:
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    for size, policies in ((2, 2), (3, 5), (6, 4), (8, 8)):
        vertices = rng.dirichlet(np.full(policies, 0.5), size=size)
        vertices[0] = np.eye(policies)[0]
        copies = rng.integers(1, 4, size=policies).astype(float)

        def cost(weights: np.ndarray, vertices: np.ndarray = vertices, copies: np.ndarray = copies) -> float:
            average = np.maximum(weights @ vertices, 1e-300)
            return float(average @ np.log(average / copies))

        sums_to_one = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
        start = np.full(size, 1 / size)
        theirs = minimize(cost, start, bounds=[(0, 1)] * size, constraints=sums_to_one, options={"ftol": 1e-14})
        ours = most_mixed(vertices, copies)
        assert ours.sum() == pytest.approx(1)
        assert float(ours @ np.log(ours / copies)) <= theirs.fun + 1e-9
        np.testing.assert_allclose(ours, theirs.x @ vertices, atol=1e-4)


def test_copies_are_counted_as_if_they_were_policies_of_their_own() -> None:
    for seed in range(30):
        payoffs = unit_payoffs(random_game(seed, 4, 3))
        rows, columns = np.r_[: len(payoffs), 0, 0], np.r_[: payoffs.shape[1], 1]
        copied = payoffs[np.ix_(rows, columns)]
        components = equilibria(copied)
        assert components is not None
        apart = of_most_entropy(components, copied, (np.ones(len(rows)), np.ones(len(columns))))
        found = solve(copied, "mene")
        assert entropy(found.row, found.column) == pytest.approx(entropy(*apart), abs=1e-7), seed


@pytest.mark.parametrize("solver", NASH)
def test_rounding_noise_makes_no_game(solver: str) -> None:
    noise = np.random.default_rng(0).random((3, 3, 2)) * 1e-16
    found = solve(0.3 + noise, solver)
    assert found.converged
    np.testing.assert_allclose(solve(np.full((3, 3, 2), 0.3), "mene").row, np.full(3, 1 / 3), atol=1e-6)
    np.testing.assert_allclose(solve(0.3 + noise, "mene").row, np.full(3, 1 / 3), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-5, 1e-7, 1e-9, 1e-11, 1e-13])
def test_near_ties_are_solved(scale: float) -> None:
    for seed in range(20):
        payoffs = random_game(seed, 6, 3)
        payoffs = payoffs + scale * np.random.default_rng(seed).random(payoffs.shape)
        for solver in NASH:
            found = solve(payoffs, solver)
            assert found.converged, (seed, solver)
            assert found.nash_conv <= 1e-7, (seed, solver)


def test_of_equally_mixed_equilibria_the_better_counts_in_any_order() -> None:
    payoffs = np.array([[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.6, 0.7]]])  # the first policy always walks
    for order in (1, -1):
        found = solve(payoffs[::order, ::order], "mene")
        assert found.payoff == pytest.approx((0.6, 0.7))
        assert found.iterations == 2


def test_unknown_methods_are_errors() -> None:
    with pytest.raises(ValueError, match='"auto" or "program"'):
        solve(np.ones((2, 2, 2)), "mene", method="lemke-howson")


def test_regularised_replicator_stops_at_the_first_point_within_its_regret() -> None:
    dilemma = np.stack([np.array([[3.0, 0.0], [5.0, 1.0]]), np.array([[3.0, 5.0], [0.0, 1.0]])], axis=2)
    for regret in (0.1, 0.05, 0.01):
        found = solve(dilemma, "rrd", regret=regret)
        assert 0.9 * regret <= max(found.regret) / 5 <= regret


def test_units_do_not_matter_to_nash_bargaining() -> None:
    payoffs = np.random.default_rng(5).random((4, 3, 2))
    base, scaled = solve(payoffs, "nbs"), solve(payoffs * [10.0, 0.3] + [-3.0, 7.0], "nbs")
    np.testing.assert_allclose(scaled.joint, base.joint, atol=1e-9)

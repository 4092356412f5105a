"""Best responses on public histories equal the exact ones where all types are known, and bound them elsewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.baselines import AlwaysWalkPolicy, GreedyPolicy
from bargain_eval.exact import best_response_values, flow, policy_strategy, realisation, tabular_game
from bargain_eval.exact.game import TabularGame
from bargain_eval.exact.opponent import OpponentTables, tabulate, tabulate_sample
from bargain_eval.exact.plan import plan_value
from bargain_eval.exact.public_tree import WALK, PublicTree
from bargain_eval.exact.types import Types, outside_limits, sample_deals, sample_types
from bargain_eval.mixture import Mixture
from bargain_eval.policy import Policy
from frozen_policies import ArbitraryPolicy

SPECS = {
    "mini-a": GAMES["mini-a"],
    "mini-b": GAMES["mini-b"],
    "three rounds": dataclasses.replace(GAMES["mini-b"], max_rounds=3),
    "four rounds": GameSpec(item_quantities=(2,), max_rounds=4, max_value=2),
    "discount": dataclasses.replace(GAMES["mini-c"], discount=0.8, max_rounds=2),
    "narrow outside": dataclasses.replace(GAMES["mini-c"], max_rounds=2, outside_range=(0.3, 0.7)),
    "discounted three rounds": GameSpec(item_quantities=(2, 1), max_rounds=3, max_value=2, discount=0.9),
}
ALL = 1000  # more counteroffers than any of these games has


def everyone(game: TabularGame) -> Types:
    return Types(game.values, game.outside, game.chance)


def exact_values(game: TabularGame, opponent: Policy, seat: int) -> np.ndarray:
    against = flow(game, realisation(game, policy_strategy(game, opponent, 1 - seat)))
    return best_response_values(game, seat, against)


def trees(name: str, seat: int, counters: int, opponent: Policy | None = None) -> tuple[PublicTree, np.ndarray]:
    """Returns the tree over all types of a game, and the exact values of the best response by own type."""
    spec = SPECS[name]
    game, opponent = tabular_game(spec), opponent or ArbitraryPolicy(spec, seed=3)
    tables = tabulate(opponent, spec, 1 - seat, everyone(game))
    return PublicTree(spec, seat, tables, everyone(game), counters), exact_values(game, opponent, seat)


@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize("name", SPECS)
def test_with_all_types_and_counteroffers_the_tree_is_exact(name: str, seat: int) -> None:
    tree, exact = trees(name, seat, ALL)
    upper, first = tree.upper()
    np.testing.assert_allclose(upper, exact, atol=2e-6)
    np.testing.assert_allclose(plan_value(tree, tree, first), exact, atol=2e-5)


@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize("name", SPECS)
def test_with_counteroffers_cut_the_tree_bounds_from_above_and_its_plan_from_below(name: str, seat: int) -> None:
    for counters in (1, 2):
        tree, exact = trees(name, seat, counters)
        upper, first = tree.upper()
        assert np.all(upper >= exact - 2e-6)
        assert np.all(plan_value(tree, tree, first) <= exact + 2e-6)


def test_cutting_costs_something_where_types_matter() -> None:
    for seat in range(2):
        tree, exact = trees("discounted three rounds", seat, 1)
        assert (tree.upper()[0] - exact).max() > 1e-3


@pytest.mark.parametrize("seat", [0, 1])
def test_a_mixture_is_known_by_its_members_types(seat: int) -> None:
    spec = SPECS["three rounds"]
    members = [ArbitraryPolicy(spec, seed, temperature=0.1) for seed in (1, 2)]
    mixture = Mixture(members, [0.3, 0.7], spec)
    tree, exact = trees("three rounds", seat, ALL, mixture)
    upper, first = tree.upper()
    np.testing.assert_allclose(upper, exact, atol=2e-6)
    np.testing.assert_allclose(plan_value(tree, tree, first), exact, atol=2e-5)


@pytest.mark.parametrize("seat", [0, 1])
def test_a_part_of_the_types_has_the_same_values(seat: int) -> None:
    tree, _ = trees("three rounds", seat, 2)
    some = np.array([1, 5, 7])
    np.testing.assert_allclose(tree.of_types(some).upper()[0], tree.upper()[0][some], atol=1e-6)
    again = tree.of_types(some).of_types(np.array([2]))
    np.testing.assert_allclose(again.upper()[0], tree.upper()[0][[7]], atol=1e-6)


def test_over_samples_the_optimum_is_above_and_the_plan_below_the_exact_value() -> None:
    spec = GAMES["mini-c"]
    game, opponent = tabular_game(spec), GreedyPolicy(spec)
    exact = float(game.chance @ exact_values(game, opponent, 0))
    uppers, lowers = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        tables, fresh = (tabulate_sample(opponent, spec, 1, 4, rng) for _ in range(2))
        tree, other = (PublicTree(spec, 0, part, everyone(game), ALL) for part in (tables, fresh))
        upper, first = tree.upper()
        uppers.append(game.chance @ upper)
        lowers.append(game.chance @ plan_value(tree, other, first))
    errors = [np.std(sample, ddof=1) / np.sqrt(400) for sample in (uppers, lowers)]
    assert np.mean(uppers) - 3 * errors[0] > exact
    assert np.mean(lowers) + 3 * errors[1] < exact


def test_against_a_policy_that_walks_everyone_walks_at_once() -> None:
    tree, exact = trees("mini-b", 0, ALL, AlwaysWalkPolicy(SPECS["mini-b"]))
    upper, first = tree.upper()
    assert np.all(first == WALK)
    np.testing.assert_array_equal(upper, tree.outside)
    np.testing.assert_allclose(upper, exact, atol=1e-7)


def test_sampled_types_have_the_law_of_the_deals() -> None:
    spec = GameSpec()
    values, outside = sample_deals(spec, 2**16, np.random.default_rng(0))
    assert values.min() == 1
    assert values.max() == 100
    assert np.abs(values.mean(axis=0) - 50.5).max() < 0.05
    total = values @ np.asarray(spec.item_quantities)
    assert np.all((outside >= 1) & (outside <= total))
    assert np.abs((outside / total).mean(axis=0) - 0.50104068).max() < 1e-4
    both = (values[:, :, 0].reshape(-1, 2) - 50.5).prod(axis=1) / 833.25
    assert abs(both.mean()) < 0.005


def test_every_type_of_a_small_game_is_drawn_as_often_as_it_should() -> None:
    spec = GAMES["mini-c"]
    game = tabular_game(spec)
    drawn = np.zeros(game.num_types)
    for seed in range(200):
        types = sample_types(spec, 64, np.random.default_rng(seed))
        match = (types.values[:, None] == game.values).all(axis=2) & (types.outside[:, None] == game.outside)
        drawn += match.sum(axis=0)
    assert drawn.sum() == 200 * 64
    np.testing.assert_allclose(drawn / drawn.sum(), game.chance, atol=0.004)


def test_outside_limits_are_those_of_the_deals() -> None:
    from bargain_env.reference import outside_bounds

    spec = dataclasses.replace(GameSpec(), outside_range=(0.2513, 0.7501))
    totals = np.arange(12, 1201)
    low, high = outside_limits(spec, totals)
    assert [outside_bounds(spec, total) for total in totals.tolist()] == list(zip(low, high, strict=True))


def test_a_sample_of_a_mixture_gives_each_member_its_weight() -> None:
    spec = GAMES["mini-b"]
    mixture = Mixture([ArbitraryPolicy(spec, 1), ArbitraryPolicy(spec, 2)], [0.01, 0.99], spec)
    tables = tabulate_sample(mixture, spec, 1, 1000, np.random.default_rng(0))
    assert isinstance(tables, OpponentTables)
    assert len(tables.weight) == 64 + 990
    assert tables.weight.sum() == pytest.approx(1, abs=1e-5)
    assert tables.weight[:64].sum() == pytest.approx(0.01, abs=1e-6)

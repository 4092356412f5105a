"""The search approaches exact best responses, spends its budget, and never sees what is hidden."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_env.engine import make_engine
from bargain_eval import load_policy
from bargain_eval.arena import play
from bargain_eval.baselines import RandomPolicy
from bargain_eval.exact import TabularPolicy, evaluate, mix_strategies, tabular_game, uniform_profile
from bargain_eval.mixture import Mixture
from bargain_train.search import BeliefOptions, SearchOptions, SearchPolicy, SelectionOptions
from bargain_train.search.beliefs import rejuvenate
from bargain_train.search.opponent import AskedOpponent, Opponent
from bargain_train.search.selection import Root, Rule, halving
from bargain_train.search.tree import Tree

from tests.train.search_games import EXACT, game_of, information_sets, random_profile, regret, searcher, strategy_of

RULES: tuple[Rule, ...] = ("uct", "puct", "gumbel")


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["mini-a", "mini-b"])
def test_search_approaches_the_best_response(name: str, rule: Rule) -> None:
    """With 1,600 simulations and the true model, the reach-weighted mean regret is at most .005 (it is below .001)."""
    game = game_of(name)
    profile = random_profile(game, 0)
    policy = searcher(game, profile, 1600, rule)
    for seat in range(2):
        assert regret(game, profile, strategy_of(game, policy.get_action, seat), seat) <= 0.005


@pytest.mark.slow
def test_so_it_does_where_nothing_is_solved_beforehand() -> None:
    game = game_of("mini-b")
    profile = random_profile(game, 0)
    policy = searcher(game, profile, 1600, solve_last=False)
    assert regret(game, profile, strategy_of(game, policy.get_action, 0), 0) <= 0.005


@pytest.mark.parametrize("rule", RULES)
def test_discounted_payoffs_and_offers_of_several_units(rule: Rule) -> None:
    game = tabular_game(GameSpec((2,), max_rounds=2, max_value=3, discount=0.8, outside_range=(0.1, 0.9)))
    profile = random_profile(game, 1)
    policy = searcher(game, profile, 400, rule)
    for seat in range(2):
        assert regret(game, profile, strategy_of(game, policy.get_action, seat), seat) <= 0.005


def test_more_simulations_do_not_hurt() -> None:
    """Mean regret over both seats and three opponents falls from 4 to 30 to 200 simulations."""
    game = game_of("mini-b")
    means = []
    for budget in (4, 30, 200):
        found = []
        for seed in range(3):
            profile = random_profile(game, seed)
            policy = searcher(game, profile, budget)
            found += [regret(game, profile, strategy_of(game, policy.get_action, seat), seat) for seat in range(2)]
        means.append(np.mean(found))
    assert means[0] > means[1] > means[2]
    assert means[2] <= 0.002


def test_values_are_what_both_seats_earn() -> None:
    """The root values, averaged over own types, are the exact payoffs of both seats: nothing is negated or mixed up."""
    game = game_of("mini-b")
    profile = random_profile(game, 2)
    policy = searcher(game, profile, 300)
    strategy = strategy_of(game, policy.get_action, 0)
    exact = evaluate(game, (strategy, profile[1])).payoffs
    found = policy.search(information_sets(game, 0)[0], np.random.default_rng(0)).value.double()
    np.testing.assert_allclose(torch.tensor(game.chance) @ found, exact, atol=0.02)


def test_the_last_decision_is_solved_exactly() -> None:
    game = game_of("mini-a")
    profile = random_profile(game, 2)
    policy = searcher(game, profile, 1)
    exact = evaluate(game, (strategy_of(game, policy.get_action, 0), profile[1]))
    found = policy.search(information_sets(game, 0)[0]).value.double()
    np.testing.assert_allclose(torch.tensor(game.chance) @ found, exact.payoffs, atol=1e-6)
    assert exact.gains[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("budget", [1, 10, 100])
def test_exactly_the_requested_simulations_are_spent(rule: Rule, budget: int) -> None:
    game = game_of("mini-b")
    policy = searcher(game, uniform_profile(game), budget, rule)
    found = policy.search(information_sets(game, 1)[0], np.random.default_rng(0))
    assert torch.equal(found.visits.sum(1), torch.full((len(found.action),), budget))
    assert torch.equal(torch.isnan(found.means), found.visits == 0)


@pytest.mark.parametrize("spec", [GameSpec(), GAMES["mini-b"]], ids=["standard", "mini-b"])
def test_the_last_move_is_rational(spec: GameSpec) -> None:
    """At the last decision, which only seat 1 reaches, it accepts exactly what is worth at least its outside offer."""
    options = SearchOptions(num_simulations=2)
    policy = SearchPolicy(RandomPolicy(spec), options=options)
    rng = np.random.default_rng(0)
    engine = make_engine(spec.with_observation("history"), 3000, seed=1, autoreset=False)
    engine.reset()
    for _ in range(spec.max_turns - 1):
        engine.step(rng.integers(spec.num_offers, size=3000))
    seen = spec.read_observation(engine.observation)
    worth = (seen.offer * seen.values).sum(1)
    wanted = np.where(worth >= seen.outside, spec.accept_action, spec.walk_action)
    np.testing.assert_array_equal(policy.get_action(engine.observation, engine.action_mask, rng), wanted)
    assert 100 < (wanted == spec.accept_action).sum() < 2900


def test_what_is_hidden_changes_nothing() -> None:
    """Games that differ in the other seat's hand alone are searched alike, at every decision."""
    spec = GAMES["mini-c"].with_observation("history")
    policy = SearchPolicy(RandomPolicy(spec), options=SearchOptions(num_simulations=20))
    rng = np.random.default_rng(0)
    engine = make_engine(spec, 200, seed=1, autoreset=False)
    engine.reset()
    for decision in range(spec.max_turns):
        seat = decision % 2
        shown = engine.observation.copy(), engine.action_mask.copy()
        actions = policy.get_action(*shown, np.random.default_rng(decision))
        state = engine.get_state()
        hidden = engine.get_state()
        hidden["values"][:, 1 - seat], hidden["outside"][:, 1 - seat] = rng.integers(1, 4, (200, 2)), 1
        engine.set_state(hidden)
        again = policy.get_action(engine.observation, engine.action_mask, np.random.default_rng(decision))
        np.testing.assert_array_equal(actions, again)
        engine.set_state(state)
        engine.step(rng.integers(spec.num_offers, size=200))


@pytest.mark.parametrize("count", [1, 2, 7, 33])
def test_batches_of_any_size_and_of_several_parts(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    game = game_of("mini-b")
    policy = searcher(game, random_profile(game, 1), 400)
    obs, _ = information_sets(game, 1)
    whole = policy.search(obs, np.random.default_rng(0))
    monkeypatch.setattr("bargain_train.search.policy._BYTES", 20 * Tree.bytes_of_game(400, 4, 12))
    part = policy.search(obs[:count], np.random.default_rng(1))
    assert part.action.shape == (count,)
    torch.testing.assert_close(part.value, whole.value[:count], atol=0.05, rtol=0)


def test_rows_of_all_decisions_at_once() -> None:
    game = game_of("mini-b")
    policy = searcher(game, random_profile(game, 1), 400)
    views = [information_sets(game, decision) for decision in range(4)]
    order = np.random.default_rng(0).permutation(sum(len(obs) for obs, _ in views))
    obs, mask = (np.concatenate(parts)[order] for parts in zip(*views, strict=True))
    actions = policy.get_action(obs, mask, np.random.default_rng(0))
    assert mask[np.arange(len(mask)), actions].all()
    last = order >= len(order) - len(views[3][0])
    alone = policy.get_action(*views[3], np.random.default_rng(1))
    np.testing.assert_array_equal(actions[last], alone[order[last] - (len(order) - len(alone))])


def test_search_on_a_random_policy_beats_greedy() -> None:
    """As seat 0 against greedy, which it knows, it earns at least .10 more than without search."""
    spec = GameSpec()
    greedy = load_policy("greedy")
    options = SearchOptions(num_simulations=32, selection=SelectionOptions(rule="gumbel"))
    searching = SearchPolicy(RandomPolicy(spec), greedy, options=options)
    with_search, without = (
        play((policy, greedy), 300, seed=1).payoff[:, 0] for policy in (searching, RandomPolicy(spec))
    )
    gain = with_search - without
    assert gain.mean() - 2 * gain.std() / np.sqrt(len(gain)) >= 0.10


def test_the_seed_decides() -> None:
    game = game_of("mini-b")
    policy = searcher(game, random_profile(game, 1), 20, "gumbel")
    obs, mask = information_sets(game, 1)
    first, again, other = (policy.get_action(obs, mask, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_worn_beliefs_are_rejuvenated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offers that tell much of a hand wear few particles out; those rows get new ones, and keep their places."""
    spec = GameSpec((3, 2), max_rounds=2, max_value=20, observation="history")
    model = load_policy("aspiration", spec)
    belief = BeliefOptions(particles=64, rejuvenated=32, least_ess=0.2)
    policy = SearchPolicy(RandomPolicy(spec), model, options=SearchOptions(num_simulations=5, belief=belief))
    engine = make_engine(spec, 64, seed=1, autoreset=False)
    engine.reset()
    engine.step(np.arange(64) % 4)
    engine.step(model.get_action(engine.observation[:, : spec.standing_dim], engine.action_mask))
    going = ~engine.terminated
    renewed = []

    def spy(opponent: Opponent, offers: torch.Tensor, *others: Any) -> AskedOpponent:
        renewed.append(len(offers))
        return rejuvenate(opponent, offers, *others)

    monkeypatch.setattr("bargain_train.search.policy.rejuvenate", spy)
    found = policy.search(engine.observation[going], np.random.default_rng(0))
    seen = spec.read_observation(engine.observation[going])
    offer = (seen.offer * seen.values).sum(1)
    assert 0 < sum(renewed) < len(np.unique(engine.get_state()["actions"][going, :2], axis=0))
    np.testing.assert_allclose(found.stop[:, 0], np.maximum(offer, seen.outside) / seen.total, rtol=1e-6)


def test_a_tree_keeps_both_seats_payoffs() -> None:
    """Two tries of one offer and one of another: weighted sums, the mean passed up, stopping where it pays more."""
    tree = Tree(2, 4, num_offers=3, num_hands=0, max_turns=4, device="cpu")
    games, nodes = torch.arange(2), torch.zeros(2, dtype=torch.int64)
    tree.stop[:, 0] = torch.tensor([[0.1, 0.2], [0.9, 0.3]])
    payoffs = torch.tensor([[0.5, 0.25], [0.5, 0.25]])
    up = tree.back_up(games, nodes, torch.tensor([1, 1]), 0, payoffs)
    torch.testing.assert_close(up, torch.tensor([[0.5, 0.25], [0.9, 0.3]]))
    tree.back_up(games, nodes, torch.tensor([1, 1]), 0, payoffs + 0.25)
    up = tree.back_up(games, nodes, torch.tensor([2, 2]), 0, payoffs)
    torch.testing.assert_close(up[0], torch.tensor([2 / 3, 5 / 12]))
    torch.testing.assert_close(tree.sums[0, 0], torch.tensor([[0, 0], [2.0, 1.25], [0.5, 0.25]]))
    assert tree.visits[0, 0].tolist() == [0, 2, 1]


def test_sequential_halving_spends_its_budget_evenly() -> None:
    assert halving(4, 8) == [0, 0, 0, 0, 1, 1, 2, 2]
    assert halving(1, 3) == [0, 1, 2]
    for considered in (2, 5, 16):
        for budget in (1, 7, 100):
            wanted = halving(considered, budget)
            assert len(wanted) == budget
            assert wanted[:considered] == [0] * min(considered, budget)


def test_the_gumbel_root_draws_from_the_prior_with_one_simulation() -> None:
    """With a single simulation the offer is a draw from the prior (the Gumbel-max trick)."""
    prior = torch.tensor([0.5, 0.3, 0.2]).expand(20_000, 3)
    nothing = torch.zeros(20_000, 3)
    root = Root(SelectionOptions(rule="gumbel"), prior, 1, torch.Generator().manual_seed(0))
    chosen = root.choose(0, nothing, nothing, torch.zeros(20_000))
    np.testing.assert_allclose(torch.bincount(chosen).numpy() / 20_000, prior[0], atol=0.015)


def test_the_searcher_finds_a_mixture_out() -> None:
    """Against one of two policies, drawn once a game, it plays the best response to the draw, which knows both."""
    game = game_of("mini-b")
    profiles = [random_profile(game, seed) for seed in (3, 4)]
    mixture = Mixture([TabularPolicy(game, profile) for profile in profiles], [0.3, 0.7], game.spec)
    mixed = tuple(mix_strategies(game, [profile[seat] for profile in profiles], mixture.weights) for seat in range(2))
    options = SearchOptions(num_simulations=1000, belief=EXACT)
    policy = SearchPolicy(RandomPolicy(game.spec), mixture, options=options)
    for seat in range(2):
        assert regret(game, (mixed[0], mixed[1]), strategy_of(game, policy.get_action, seat), seat) <= 0.005

"""Beliefs are Bayes' rule: exact where hands are enumerated, and kept by resampling and rejuvenation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_eval import load_policy
from bargain_eval.baselines import GreedyPolicy, RandomPolicy
from bargain_eval.exact import TabularPolicy, uniform_profile
from bargain_eval.heuristics import MyopicPolicy
from bargain_train.search.beliefs import (
    BeliefOptions,
    effective_sample_size,
    policy_weights,
    posterior,
    prior_hands,
    rejuvenate,
)
from bargain_train.search.opponent import AskedOpponent, TabledOpponent
from bargain_train.search.rules import Rules

from tests.train.search_games import EXACT, game_of, random_profile

SMALL = GameSpec((2, 1), max_rounds=2, max_value=5)


def asked(spec: GameSpec, seat: int, *policies: Any, particles: int = 1024) -> AskedOpponent:
    shares = [1 / len(policies)] * len(policies)
    hands = prior_hands(spec, particles, shares, np.random.default_rng(0))
    return AskedOpponent(Rules(spec), seat, policies, hands)


def test_the_hands_of_a_small_game_are_enumerated() -> None:
    game = game_of("mini-b")
    hands = prior_hands(game.spec, 12, [1.0], np.random.default_rng(0))
    np.testing.assert_array_equal(hands.values[0], game.values)
    np.testing.assert_allclose(hands.weight[0], game.chance, rtol=1e-6)
    assert prior_hands(game.spec, 11, [1.0], np.random.default_rng(0)).weight.shape == (1, 11)


@pytest.mark.parametrize("seat", [0, 1])
def test_the_posterior_is_that_of_the_opponents_table(seat: int) -> None:
    game = game_of("mini-b")
    profile = random_profile(game, 5)
    opponent = asked(game.spec, seat, TabularPolicy(game, profile))
    offers = torch.tensor([[0, 1, 2], [3, 3, 0], [2, 0, 1]])[:, : 3 - seat]
    weight = posterior(opponent, offers, EXACT).numpy()
    made = offers.tolist()
    for row, offer in enumerate(made):
        if seat == 0:
            likelihood = profile[0][0][0, :, offer[0]] * profile[0][1][offer[0] * 4 + offer[1], :, offer[2]]
        else:
            likelihood = profile[1][0][offer[0], :, offer[1]]
        expected = game.chance * likelihood
        np.testing.assert_allclose(weight[row], expected / expected.sum(), rtol=1e-4)


def test_floor_and_temper_soften_the_likelihood() -> None:
    game = game_of("mini-b")
    profile = random_profile(game, 5)
    opponent = asked(game.spec, 1, TabularPolicy(game, profile))
    told = profile[1][0][2, :, 3]
    weight = posterior(opponent, torch.tensor([[2, 3]]), BeliefOptions(floor=0.3, temper=0.5))
    expected = game.chance * np.sqrt(0.7 * told + 0.3 / 6)
    np.testing.assert_allclose(weight[0], expected / expected.sum(), rtol=1e-5)


def test_a_move_that_no_hand_makes_leaves_the_prior() -> None:
    spec = GAMES["mini-b"]
    opponent = asked(spec, 0, GreedyPolicy(spec))
    impossible = posterior(opponent, torch.tensor([[0], [3]]), EXACT)
    torch.testing.assert_close(impossible, opponent.hands.weight.expand(2, -1))


def test_effective_sample_sizes() -> None:
    weight = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0], [0.5, 0.5, 0, 0]])
    torch.testing.assert_close(effective_sample_size(weight), torch.tensor([4.0, 1.0, 2.0]))


def test_moves_tell_which_policy_the_opponent_is() -> None:
    spec = GAMES["mini-b"]
    opponent = asked(spec, 0, RandomPolicy(spec), GreedyPolicy(spec))
    told = policy_weights(opponent, posterior(opponent, torch.tensor([[0], [1]]), EXACT))
    torch.testing.assert_close(told, torch.tensor([[1 / 6, 5 / 6], [1.0, 0.0]]))


@pytest.mark.parametrize("seat", [0, 1])
def test_tables_answer_as_the_policy_does(seat: int) -> None:
    spec = GameSpec((2, 1), max_rounds=3, max_value=4)
    policies = load_policy("aspiration", spec), RandomPolicy(spec)
    hands = prior_hands(spec, 40, [0.3, 0.7], np.random.default_rng(0))
    rules = Rules(spec)
    tabled, slow = (kind(rules, seat, policies, hands) for kind in (TabledOpponent, AskedOpponent))
    rng = np.random.default_rng(1)
    rows = torch.arange(9)
    weight = torch.tensor(rng.dirichlet(np.ones(80), 9), dtype=torch.float32)
    for decision in range(seat, spec.max_turns, 2):
        offers = torch.tensor(rng.integers(spec.num_offers, size=(9, decision)))
        torch.testing.assert_close(
            tabled.replies(decision, offers, weight, rows), slow.replies(decision, offers, weight, rows)
        )
        if decision < rules.last_turn:
            actions = torch.tensor(rng.integers(spec.num_offers, size=9))
            both = (each.likelihood(decision, offers, actions, rows) for each in (tabled, slow))
            torch.testing.assert_close(*both)
    if seat == 1:
        offers = torch.tensor(rng.integers(spec.num_offers, size=(9, rules.last_turn - 1)))
        torch.testing.assert_close(tabled.last_replies(offers, weight, rows), slow.last_replies(offers, weight, rows))


def test_many_rows_are_answered_by_one_product_for_each_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SMALL
    opponent = TabledOpponent(
        Rules(spec), 1, (MyopicPolicy(spec),), prior_hands(spec, 64, [1.0], np.random.default_rng(0))
    )
    rng = np.random.default_rng(2)
    offers, rows = torch.tensor(rng.integers(6, size=(30, 1))), torch.arange(30)
    weight = torch.tensor(rng.dirichlet(np.ones(opponent.num_hands), 30), dtype=torch.float32)
    at_once = opponent.replies(1, offers, weight, rows)
    monkeypatch.setattr("bargain_train.search.opponent._GATHERED", 0)
    torch.testing.assert_close(opponent.replies(1, offers, weight, rows), at_once)


def test_rejuvenated_hands_have_the_same_belief() -> None:
    """A worn sample of 20 hands becomes 4,000 that agree with all hands of the game on means and on spread."""
    spec = SMALL
    policy = load_policy("aspiration?beta=2", spec)
    options = BeliefOptions(rejuvenated=4000, floor=0.1)
    offers = torch.tensor([[0, 3], [1, 5]])
    full = asked(spec, 1, policy)
    weight = posterior(full, offers, options).numpy()
    assert full.num_hands > 200
    few = asked(spec, 1, policy, particles=20)
    moved = rejuvenate(few, offers, posterior(few, offers, options), options, np.random.default_rng(0), sweeps=8)
    assert moved.hands.values.shape == (2, 4000, 2)
    for row in range(2):
        exact = np.stack([*full.hands.values[0].T.numpy(), full.walks[0].numpy()])
        found = np.stack([*moved.hands.values[row].T.numpy(), moved.walks[row].numpy()])
        mean = exact @ weight[row]
        np.testing.assert_allclose(found.mean(1), mean, atol=0.1)
        np.testing.assert_allclose(found[2].mean(), mean[2], atol=0.02)
        spread = np.sqrt((exact - mean[:, None]) ** 2 @ weight[row])
        np.testing.assert_allclose(found.std(1), spread, rtol=0.1)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"floor must lie in \[0, 1\], got 2"):
        BeliefOptions(floor=2)
    with pytest.raises(ValueError, match="needs particles"):
        BeliefOptions(particles=0)


def test_a_uniform_opponent_tells_nothing() -> None:
    game = game_of("mini-b")
    opponent = asked(game.spec, 1, TabularPolicy(game, uniform_profile(game)))
    torch.testing.assert_close(posterior(opponent, torch.tensor([[0, 2]]), EXACT), opponent.hands.weight)

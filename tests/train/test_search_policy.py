"""The searching policy: its policy string, the contract of policies, and the policies it can search with."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_eval import load_policy
from bargain_eval.arena import play
from bargain_eval.baselines import GreedyPolicy, RandomPolicy
from bargain_eval.by_seat import BySeat
from bargain_eval.checkpoint import write_checkpoint
from bargain_eval.mixture import Mixture
from bargain_train.networks import build_network
from bargain_train.policies import networks_policy, policy_checkpoint
from bargain_train.search import BeliefOptions, SearchOptions, SearchPolicy, SelectionOptions
from bargain_train.search.beliefs import prior_hands
from bargain_train.search.opponent import TabledOpponent
from bargain_train.search.rules import Rules
from bargain_train.search.search import Searcher, Situation

from tests.train.search_games import game_of, information_sets

SPEC = GAMES["mini-b"]
NETWORK = {"network": "mlp", "hidden_dims": [8]}


def options_of(policy: Any) -> SearchOptions:
    assert isinstance(policy, SearchPolicy)
    return policy.options


def test_a_policy_string_says_everything() -> None:
    text = (
        "search:fair_split?accept_threshold=.3?num_simulations=7&gumbel&c_puct=2.5&considered=4&gumbel_scale=0"
        f"&particles=99&floor=.1&temper=.5&least_ess=0&opponent={quote('aspiration?beta=.2')}"
    )
    options = options_of(load_policy(text))
    assert options == SearchOptions(
        num_simulations=7,
        selection=SelectionOptions(rule="gumbel", c_puct=2.5, considered=4, gumbel_scale=0.0),
        belief=BeliefOptions(particles=99, floor=0.1, temper=0.5, least_ess=0.0),
    )
    assert options_of(load_policy("search:random?uct&c_uct=1")).selection == SelectionOptions(rule="uct", c_uct=1.0)
    assert options_of(load_policy("search:random")) == SearchOptions(num_simulations=100)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("search", "needs the policy that it improves"),
        ("search:random?num_simulations=0", "num_simulations must be at least 1, got 0"),
        ("search:random?depth=2", "no option 'depth'; its options are num_simulations, gumbel"),
        ("search:random?gumbel&uct", "gumbel and uct exclude each other"),
        ("search:random?c_puct=-1", "c_puct must be finite and at least 0, got -1"),
        ("search:random?considered=0", "considered must be at least 1"),
        ("search:random?evaluation=guess", "'guess' is neither rollout nor values"),
        ("search:random?opponent=nobody", "unknown policy 'nobody'"),
        ("search:search:random", "SearchPolicy does not tell its action probabilities"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        load_policy(text)


def test_an_opponent_of_another_game_is_refused() -> None:
    with pytest.raises(ValueError, match="the opponent was made for another game"):
        SearchPolicy(RandomPolicy(SPEC), RandomPolicy())


def test_it_searches_against_the_opponent_named() -> None:
    """Who takes a greedy seat 1 for a random one asks for too much."""
    spec = GameSpec()
    named = play((load_policy("search:random?num_simulations=50&opponent=greedy"), GreedyPolicy(spec)), 150, 1)
    plain = play((load_policy("search:random?num_simulations=50"), GreedyPolicy(spec)), 150, 1)
    assert named.payoff[:, 0].mean() > plain.payoff[:, 0].mean() + 0.05


@pytest.mark.parametrize("row", [0, 3])
def test_one_row_and_tensors(row: int) -> None:
    policy = SearchPolicy(RandomPolicy(SPEC), options=SearchOptions(num_simulations=4))
    obs, mask = information_sets(game_of("mini-b"), 1)
    one = policy.get_action(obs[row], mask[row], np.random.default_rng(0))
    assert one.shape == ()
    assert one.dtype == np.int64
    many = policy.get_action(torch.tensor(obs), torch.tensor(mask), np.random.default_rng(0))
    assert isinstance(many, torch.Tensor)
    assert many.dtype == torch.int64
    np.testing.assert_array_equal(many.numpy(), policy.get_action(obs, mask, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="obs must be"):
        policy.get_action(obs[:, :12], mask)


def test_a_single_legal_action_is_taken() -> None:
    policy = SearchPolicy(RandomPolicy(SPEC), options=SearchOptions(num_simulations=4))
    obs, mask = information_sets(game_of("mini-b"), 1)
    only = np.zeros_like(mask[:3])
    only[:, SPEC.walk_action] = True
    np.testing.assert_array_equal(policy.get_action(np.zeros_like(obs[:3]), only), [SPEC.walk_action] * 3)


def mixture() -> Mixture:
    return Mixture(
        [RandomPolicy(SPEC), Mixture([GreedyPolicy(SPEC), RandomPolicy(SPEC)], [1.0, 0.0], SPEC)], [0.4, 0.6], SPEC
    )


@pytest.mark.parametrize(
    "policy", [mixture(), BySeat((mixture(), RandomPolicy(SPEC)), SPEC)], ids=["mixture", "by seat"]
)
def test_mixtures_and_policies_by_seat_can_be_searched(policy: Any) -> None:
    searching = SearchPolicy(policy, options=SearchOptions(num_simulations=10))
    rows = play((searching, searching), 50, 1, spec=SPEC)
    assert not rows.illegal.any()
    assert rows.payoff.mean() > 0.6


@pytest.mark.parametrize("evaluation", ["rollout", "values"])
@pytest.mark.parametrize("observation", ["standing", "history"])
def test_a_checkpoint_searches(evaluation: str, observation: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(NETWORK, SPEC.with_observation(observation))
    path = tmp_path / "policy.pt"
    write_checkpoint(path, policy_checkpoint("ppo", (network, network), 0))
    policy = load_policy(f"search:{path}?num_simulations=10&evaluation={evaluation}", SPEC)
    rows = play((policy, RandomPolicy(SPEC)), 40, 1, spec=SPEC)
    assert not rows.illegal.any()


class Valued(RandomPolicy):
    """A random policy that expects .2 in seat 0 and .3 in seat 1."""

    def values(self, obs: Any) -> Any:
        return 0.2 + 0.1 * obs[:, self.spec.slices["state"]][:, 2]


def test_values_are_asked_of_both_seats() -> None:
    """A new node is worth what both policies say: seat 1's after an offer of seat 0, unless seat 0's move ends it."""
    game, policy = game_of("mini-b"), Valued(SPEC)
    hands = prior_hands(SPEC, 12, [1.0], np.random.default_rng(0))
    searcher = Searcher(
        rules=Rules(SPEC),
        seat=0,
        values=torch.tensor(game.values),
        outside=torch.tensor(game.outside),
        opponent=TabledOpponent(Rules(SPEC), 1, (policy,), hands),
        policy=policy,
        selection=SelectionOptions(),
        generator=torch.Generator().manual_seed(0),
        evaluation="values",
    )
    root = Situation(torch.arange(12), torch.zeros(12, 0, dtype=torch.int64), hands.weight.expand(12, -1))
    walk = torch.zeros(12, 6)
    walk[:, SPEC.walk_action] = 1
    torch.testing.assert_close(searcher._say(root, walk), torch.tensor([[0.2, 0.677083333]]).expand(12, -1))
    torch.testing.assert_close(searcher._say(root, walk.roll(1, 1)), torch.tensor([[0.2, 0.3]]).expand(12, -1))


def test_values_need_policies_that_have_them() -> None:
    obs, _ = information_sets(game_of("mini-b"), 0)
    for policy, model in ((RandomPolicy(SPEC), Valued(SPEC)), (Valued(SPEC), RandomPolicy(SPEC))):
        with pytest.raises(ValueError, match="RandomPolicy has no values; evaluate by rollout"):
            SearchPolicy(policy, model, options=SearchOptions(evaluation="values")).search(obs)


@pytest.mark.gpu
@pytest.mark.parametrize("evaluation", ["rollout", "values"])
def test_a_network_searches_on_a_gpu(evaluation: Any) -> None:
    """The trees lie where the network does, and against the same baseline both devices gain alike."""
    torch.manual_seed(0)
    network = build_network(NETWORK, GameSpec())
    earned = []
    for device in ("cpu", "cuda:0"):
        policy = networks_policy((network, network), device=device)
        options = SearchOptions(num_simulations=30, evaluation=evaluation)
        searching = SearchPolicy(policy, options=options)
        rows = play((searching, policy), 300, 1, device=device)
        assert not rows.illegal.any()
        earned.append(rows.payoff[:, 0].mean())
    assert earned[0] == pytest.approx(earned[1], abs=0.08)

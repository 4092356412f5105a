"""Networks as policies: shapes, seats, greed, mixtures, and files that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, make_engine
from bargain_eval.arena import play
from bargain_eval.by_seat import BySeat
from bargain_eval.checkpoint import make_checkpoint
from bargain_eval.mixture import Mixture
from bargain_eval.policy import HasProbabilities, HasValues
from bargain_train.networks import Network, build_network
from bargain_train.policies import ActorPolicy, NetworkPolicy, build_policy, policy_checkpoint

SPEC = GAMES["mini-b"]


def _network(seed: int = 0, observation: Any = "standing") -> Network:
    torch.manual_seed(seed)
    network = build_network({"network": "mlp", "hidden_dims": [8]}, SPEC.with_observation(observation))
    torch.nn.init.normal_(network.policy_head.bias)  # type: ignore[arg-type]
    return network


def _rows(steps: int = 3) -> tuple[np.ndarray, np.ndarray]:
    engine = make_engine(SPEC, 40)
    for step in range(steps):
        engine.step(engine.random_actions(step))
    return engine.observation.copy(), engine.action_mask.copy()


def test_probabilities_values_and_actions_keep_the_callers_kind_and_shape() -> None:
    policy = NetworkPolicy((_network(0), _network(1)))
    obs, mask = _rows()
    probs, values, actions = policy.action_probs(obs, mask), policy.values(obs), policy.get_action(obs, mask)
    assert isinstance(probs, np.ndarray)
    assert probs.shape == mask.shape
    assert values.shape == actions.shape == (40,)
    assert not probs[~mask].any()
    np.testing.assert_allclose(probs.sum(1), 1, atol=1e-6)
    assert mask[np.arange(40), actions].all()
    tensors = torch.from_numpy(obs), torch.from_numpy(mask)
    assert torch.equal(policy.action_probs(*tensors), torch.from_numpy(probs))
    assert policy.get_action(*tensors).dtype == torch.int64
    np.testing.assert_allclose(policy.action_probs(obs[5], mask[5]), probs[5], atol=1e-6)
    assert policy.values(obs[5]) == pytest.approx(values[5], abs=1e-6)
    assert mask[5, int(policy.get_action(obs[5], mask[5]))]


@pytest.mark.parametrize("without", [{"values": False}, {"play": "regret-argmax"}])
def test_networks_without_values_are_played_by_policies_without(without: dict[str, Any]) -> None:
    valued = _network()
    network = build_network({"network": "mlp", "hidden_dims": [8], **without}, SPEC)
    for pair in ((network, network), (network, valued), (valued, network)):
        policy = build_policy(policy_checkpoint("test", pair, 0), device="cpu")
        assert isinstance(policy, HasProbabilities)
        assert not isinstance(policy, HasValues)
        with pytest.raises(ValueError, match="nobody trained this policy's values"):
            NetworkPolicy(pair).values(_rows()[0])
    assert isinstance(build_policy(policy_checkpoint("test", (valued, valued), 0), device="cpu"), HasValues)


def test_each_seat_is_played_by_its_own_network() -> None:
    networks = _network(0), _network(1)
    obs, mask = _rows()
    seats = SPEC.read_observation(obs).seat
    assert set(seats) == {0, 1}
    both = NetworkPolicy(networks).action_probs(obs, mask)
    for seat, network in enumerate(networks):
        alone = NetworkPolicy((network, network)).action_probs(obs, mask)
        np.testing.assert_allclose(both[seats == seat], alone[seats == seat], atol=1e-6)


def test_a_greedy_policy_takes_the_most_probable_action() -> None:
    network = _network()
    obs, mask = _rows()
    probs = NetworkPolicy((network, network)).action_probs(obs, mask)
    greedy = NetworkPolicy((network, network), greedy=True)
    assert np.array_equal(greedy.get_action(obs, mask), probs.argmax(1))
    assert np.array_equal(greedy.action_probs(obs, mask).argmax(1), probs.argmax(1))
    assert set(np.unique(greedy.action_probs(obs, mask))) == {0.0, 1.0}


def test_actions_follow_the_generator() -> None:
    policy = NetworkPolicy((_network(), _network()))
    obs, mask = _rows()
    drawn = [policy.get_action(obs, mask, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_a_stored_policy_is_rebuilt_exactly_and_a_shared_network_stored_once() -> None:
    shared, history = _network(0), _network(1, "history")
    assert len(policy_checkpoint("ppo", (shared, shared), 5)["networks"]) == 1
    checkpoint = policy_checkpoint("ppo", (shared, history), 5)
    assert len(checkpoint["networks"]) == 2
    policy = build_policy(checkpoint, device="cpu")
    assert policy.observation == "history"
    assert policy.spec == SPEC.with_observation("history")
    original = play((NetworkPolicy((shared, history)),) * 2, 100, 1, spec=SPEC)
    assert np.array_equal(play((policy, policy), 100, 1, spec=SPEC).payoff, original.payoff)


def test_several_networks_a_seat_make_a_mixture() -> None:
    networks = [
        {"config": network.config, "policy_state_dict": network.state_dict()} for network in map(_network, range(3))
    ]
    seats = [[(0, 3.0), (1, 1.0)], [(2, 1.0)]]
    checkpoint = make_checkpoint(algorithm="fcp", spec=SPEC.to_dict(), networks=networks, seats=seats, step=0)
    policy = build_policy(checkpoint, device="cpu")
    assert isinstance(policy, BySeat)
    first, second = policy.policies
    assert isinstance(first, Mixture)
    assert isinstance(second, Mixture)
    assert first.weights.tolist() == [0.75, 0.25]
    assert second.weights.tolist() == [1.0]
    assert len(play((policy, policy), 50, 0, spec=SPEC)) == 50


@pytest.mark.parametrize("play_by", ["regret-argmax", "regret-uniform"])
def test_advantages_are_played_in_proportion_to_their_positive_parts(play_by: str) -> None:
    network = build_network({"network": "mlp", "hidden_dims": [4], "play": play_by}, SPEC)
    head = network.policy_head
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-1.0)
        head.bias[SPEC.walk_action] = -0.5
        head.bias[:2] = torch.tensor([3.0, 1.0])
    policy = build_policy(policy_checkpoint("sampled-cfr", (network, network), 1), device="cpu")
    assert isinstance(policy, ActorPolicy)
    obs, mask = torch.zeros(2, SPEC.observation_dim), torch.zeros(2, SPEC.num_actions, dtype=torch.bool)
    mask[0], mask[1, 2:] = True, True
    probs = policy.action_probs(obs, mask)
    assert probs[0, :2].tolist() == [0.75, 0.25]
    assert probs[0, 2:].sum() == 0
    expected = mask[1] / mask[1].sum()
    if play_by == "regret-argmax":
        expected = torch.nn.functional.one_hot(torch.tensor(SPEC.walk_action), SPEC.num_actions)
    assert torch.equal(probs[1], expected.float())


def test_an_unknown_way_to_play_is_refused() -> None:
    with pytest.raises(ValueError, match="plays by one of softmax"):
        build_network({"network": "mlp", "hidden_dims": [4], "play": "argmax"}, SPEC)


def test_weights_that_do_not_fit_are_refused() -> None:
    checkpoint = policy_checkpoint("ppo", (_network(), _network()), 5)
    checkpoint["networks"][0]["config"]["hidden_dims"] = [9]
    with pytest.raises(ValueError, match="do not fit their network"):
        build_policy(checkpoint, device="cpu")

"""The PPO update against one written out by hand, and what every number of it changes."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from bargain_env import GAMES
from bargain_train.collect import Rollouts
from bargain_train.config import PpoOptions
from bargain_train.learner import explained_variance, learner_rows
from bargain_train.networks import Network, build_network
from bargain_train.updates import Learner, ppo_update, read_rows
from tensordict import TensorDict, TensorDictBase

SPEC = GAMES["mini-b"]
CONFIGS: dict[str, dict[str, Any]] = {
    "mlp": {"network": "mlp", "hidden_dims": [16]},
    "transformer": {"network": "transformer", "d_model": 16, "nhead": 2, "num_layers": 2},
}
each_network = pytest.mark.parametrize("name", CONFIGS)


def _network(name: str = "mlp", seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_network(CONFIGS[name], SPEC)


def _rollouts(network: Network, num_envs: int = 32, length: int = 8) -> Rollouts:
    return Rollouts(SPEC, (network, network), num_envs=num_envs, length=length, seed=1)


def _rows(learner: Learner, **sizes: int) -> TensorDictBase:
    return learner_rows(_rollouts(learner.network, **sizes).collect(), learner)[1]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _flat(network: Network) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


@each_network
def test_the_first_probability_ratios_are_one(name: str) -> None:
    learner = Learner(_network(name), (0, 1), PpoOptions())
    rows = _rows(learner)
    logits, _ = learner.network(rows["observation"])
    log_probs = logits.masked_fill(~rows["action_mask"], -1e9).log_softmax(-1)
    ratio = (log_probs.gather(1, rows["action"].unsqueeze(1)).squeeze(1) - rows["action_log_prob"]).exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-5, rtol=0)
    assert abs(ppo_update(learner, rows, _generator())["first_ratio_error"]) <= 1e-5


def _loss_by_hand(network: Network, rows: TensorDictBase, options: PpoOptions, entropy_coef: float) -> torch.Tensor:
    logits, value = network(rows["observation"])
    log_probs = logits.masked_fill(~rows["action_mask"], -1e9).log_softmax(-1)
    ratio = (log_probs.gather(1, rows["action"].unsqueeze(1)).squeeze(1) - rows["action_log_prob"]).exp()
    advantage = rows["advantage"].squeeze(-1)
    clipped = ratio.clamp(1 - options.clip_eps, 1 + options.clip_eps)
    gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    error = (value - rows["value_target"].squeeze(-1)).square().mean()
    return options.value_coef * error - gain - entropy_coef * entropy


@each_network
def test_loss_and_gradient_equal_those_written_out_by_hand(name: str) -> None:
    options = PpoOptions(value_coef=0.7, clip_eps=0.1, entropy_coef=0.3)
    learner = Learner(_network(name), (0, 1), options)
    rows = _rows(learner)
    with torch.no_grad():  # away from ratio 1, so that the clip takes part
        for parameter in learner.network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=_generator()), alpha=0.05)
    by_hand = _loss_by_hand(learner.network, rows, options, 0.3)
    expected = torch.autograd.grad(by_hand, list(learner.network.parameters()))
    output = learner.loss(read_rows(learner.network, rows))
    loss = output["loss_objective"] + output["loss_critic"] + output["loss_entropy"]
    assert 0 < output["clip_fraction"] < 1
    torch.testing.assert_close(loss, by_hand)
    for got, wanted in zip(torch.autograd.grad(loss, list(learner.network.parameters())), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-4)


def test_an_update_is_adam_on_clipped_gradients_of_shuffled_equal_minibatches() -> None:
    options = PpoOptions(minibatch_size=50, ppo_epochs=2, max_grad_norm=0.1)
    learner = Learner(_network(), (0, 1), options)
    rows = _rows(learner)
    twin = _network()
    optimizer = torch.optim.Adam(twin.parameters(), lr=options.lr, eps=1e-5)
    generator, losses, norms = _generator(), [], []
    count = -(-len(rows) // 50)
    for _ in range(2):
        for index in torch.tensor_split(torch.randperm(len(rows), generator=generator), count):
            loss = _loss_by_hand(twin, rows[index], options, options.entropy_coef)
            optimizer.zero_grad()
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.1)))
            optimizer.step()
            losses.append(float(loss.detach()))
    metrics = ppo_update(learner, rows, _generator())
    torch.testing.assert_close(_flat(learner.network), _flat(twin), atol=1e-5, rtol=1e-4)
    assert metrics["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert metrics["grad_norm"] == pytest.approx(sum(norms) / len(norms), rel=1e-3)


def test_the_value_gradient_reaches_the_trunk() -> None:
    learner = Learner(_network(), (0, 1), PpoOptions())
    rows = _rows(learner)
    loss = learner.loss(read_rows(learner.network, rows))
    (gradient,) = torch.autograd.grad(loss["loss_critic"], [learner.network.trunk.layers[0].weight])  # type: ignore[index,union-attr]
    assert gradient.abs().sum() > 0


def test_a_batch_smaller_than_a_minibatch_still_trains() -> None:
    learner = Learner(_network(), (0, 1), PpoOptions(minibatch_size=100_000))
    before = _flat(learner.network)
    ppo_update(learner, _rows(learner, num_envs=2, length=4), _generator())
    assert not torch.equal(before, _flat(learner.network))


def test_no_rows_make_no_update() -> None:
    learner = Learner(_network(), (0, 1), PpoOptions())
    rows = _rows(learner)
    before = _flat(learner.network)
    assert ppo_update(learner, rows[:0], _generator()) == {}
    assert torch.equal(before, _flat(learner.network))


def test_advantages_are_normalised_seat_by_seat_over_valid_rows() -> None:
    learner = Learner(_network(), (0, 1), PpoOptions())
    rollout = _rollouts(learner.network).collect()
    credit, rows = learner_rows(rollout, learner)
    assert len(rows) == int(credit.valid.sum()) < rollout.rows.numel()
    player = rollout.rows["player"][credit.valid]
    for seat in (0, 1):
        sample = rows["advantage"].squeeze(-1)[player == seat]
        assert sample.mean().item() == pytest.approx(0, abs=1e-6)
        assert sample.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_a_learner_of_one_seat_gets_that_seats_rows() -> None:
    learner = Learner(_network(), (1,), PpoOptions())
    rollout = _rollouts(learner.network).collect()
    credit, rows = learner_rows(rollout, learner)
    assert (rollout.rows["player"][credit.valid] == 1).all()
    assert (rows["observation"][:, SPEC.slices["state"]][:, 2] == 1).all()


def test_explained_variance_is_one_for_perfect_values_and_zero_without_variance() -> None:
    learner = Learner(_network(), (0, 1), PpoOptions())
    credit, _ = learner_rows(_rollouts(learner.network).collect(), learner)
    perfect = credit._replace(advantage=torch.zeros_like(credit.advantage))
    assert explained_variance(perfect) == 1.0
    target = credit.value_target[credit.valid]
    useless = credit._replace(advantage=credit.value_target - 0.3)
    assert explained_variance(useless) == pytest.approx(0.0, abs=1e-5)
    assert target.var() > 0
    assert explained_variance(credit._replace(valid=torch.zeros_like(credit.valid))) == 0.0
    assert explained_variance(credit._replace(value_target=torch.ones_like(credit.advantage))) == 0.0


@pytest.mark.parametrize(
    ("progress", "lr", "entropy_coef"),
    [(0.0, 0.1, 0.4), (0.5, 0.06, 0.2), (1.0, 0.02, 0.1), (7.0, 0.02, 0.1), (-1.0, 0.1, 0.4)],
)
def test_annealing_is_linear_or_geometric_and_stops_at_the_ends(
    progress: float, lr: float, entropy_coef: float
) -> None:
    options = PpoOptions(lr=0.1, lr_final=0.2, entropy_coef=0.4, entropy_coef_final=0.1)
    learner = Learner(_network(), (0, 1), options)
    assert learner.anneal(progress) == pytest.approx({"lr": lr, "entropy_coef": entropy_coef})
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(lr)
    assert float(learner.loss.entropy_coeff) == pytest.approx(entropy_coef)


@pytest.mark.parametrize(("first", "last", "middle"), [(0.4, 0.0, 0.2), (0.0, 0.1, 0.05), (0.0, 0.0, 0.0)])
def test_an_entropy_weight_that_starts_or_ends_at_0_is_linear(first: float, last: float, middle: float) -> None:
    assert PpoOptions(entropy_coef=first, entropy_coef_final=last).at(0.5)["entropy_coef"] == pytest.approx(middle)


def _train(options: PpoOptions, updates: int = 3) -> torch.Tensor:
    learner = Learner(_network(), (0, 1), options)
    rollouts, generator = _rollouts(learner.network), _generator()
    for update in range(updates):
        learner.anneal(update / updates)
        ppo_update(learner, learner_rows(rollouts.collect(), learner)[1], generator)
    return _flat(learner.network)


OTHER: dict[str, Any] = {
    "lr": 1e-3,
    "lr_final": 0.9,
    "clip_eps": 1e-4,
    "entropy_coef": 0.2,
    "entropy_coef_final": 0.2,
    "value_coef": 2.0,
    "max_grad_norm": 0.01,
    "ppo_epochs": 1,
    "minibatch_size": 100,
    "kl_rollout_coef": 0.5,
    "kl_rollout_coef_final": 0.5,
    "kl_magnet_coef": 0.5,
    "kl_magnet_coef_final": 0.5,
    "magnet_interval": 2,
    "anneal": "root",
    "gamma": 0.5,
    "gae_lambda": 0.2,
}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(PpoOptions)])
def test_every_option_changes_what_is_learned(name: str) -> None:
    base = PpoOptions(lr=3e-3, kl_magnet_coef=0.1 if name == "magnet_interval" else 0.0)
    assert torch.equal(_train(base), _train(base))
    assert not torch.equal(_train(base), _train(dataclasses.replace(base, **{name: OTHER[name]})))


def test_state_dict_restores_learning_exactly() -> None:
    learner, twin = (Learner(_network(seed=seed), (0, 1), PpoOptions()) for seed in (0, 1))
    rows, generator = _rows(learner), _generator()
    ppo_update(learner, rows, generator)
    twin.load_state_dict(copy.deepcopy(learner.state_dict()))
    for each in (learner, twin):
        ppo_update(each, rows, torch.Generator().manual_seed(9))
    assert torch.equal(_flat(learner.network), _flat(twin.network))


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    learner = Learner(_network(), (0, 1), PpoOptions())
    rows = _rows(learner)
    assert isinstance(rows, TensorDict)
    rows["value_target"][0] = float("nan")
    with pytest.raises(FloatingPointError, match="try a smaller --lr"):
        ppo_update(learner, rows, _generator())

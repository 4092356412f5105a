"""The masked policy head against torch's own Categorical, and its sampler."""

from __future__ import annotations

import pytest
import torch
from bargain_train.actors import MaskedCategorical, ppo_modules, sample_cdf
from bargain_train.networks import build_network
from scipy.stats import chisquare
from torch.distributions import Categorical


def _rows(count: int, actions: int = 9, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, actions, generator=generator)
    mask = torch.rand(count, actions, generator=generator) < 0.5
    mask[torch.arange(count), torch.randint(actions, (count,), generator=generator)] = True
    return logits, mask


def test_log_prob_entropy_and_their_gradients_equal_torchs() -> None:
    logits, mask = _rows(200)
    mine, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours = MaskedCategorical(mine, mask)
    reference = Categorical(logits=theirs.masked_fill(~mask, -1e9))
    action = ours.sample()
    torch.testing.assert_close(ours.log_prob(action), reference.log_prob(action))
    torch.testing.assert_close(ours.entropy(), reference.entropy())
    torch.testing.assert_close(ours.probs, reference.probs)
    for distribution in (ours, reference):
        (distribution.log_prob(action) + 0.3 * distribution.entropy()).sum().backward()
    assert mine.grad is not None
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert not mine.grad[~mask].any()


def test_illegal_actions_have_probability_zero_and_entropy_counts_legal_ones() -> None:
    logits, mask = torch.zeros(1, 5), torch.tensor([[True, False, True, False, False]])
    distribution = MaskedCategorical(logits, mask)
    assert distribution.probs.tolist() == [[0.5, 0.0, 0.5, 0.0, 0.0]]
    assert distribution.entropy().item() == pytest.approx(torch.tensor(2.0).log().item())


def test_a_single_legal_action_is_certain() -> None:
    logits, mask = torch.randn(50, 7), torch.zeros(50, 7, dtype=torch.bool)
    legal = torch.randint(7, (50,))
    mask[torch.arange(50), legal] = True
    distribution = MaskedCategorical(logits, mask)
    assert torch.equal(distribution.sample(), legal)
    assert torch.equal(distribution.mode, legal)
    assert not distribution.entropy().any()
    assert not distribution.log_prob(legal).any()


def test_samples_are_always_legal() -> None:
    logits, mask = _rows(20_000)
    action = MaskedCategorical(logits, mask).sample()
    assert mask.gather(1, action.unsqueeze(1)).all()


def test_frequencies_match_the_probabilities() -> None:
    logits, mask = _rows(1, actions=12, seed=3)
    count = 200_000
    distribution = MaskedCategorical(logits.expand(count, -1), mask.expand(count, -1))
    drawn = torch.bincount(distribution.sample(generator=torch.Generator().manual_seed(1)), minlength=12)
    legal = mask[0]
    assert not drawn[~legal].any()
    expected = distribution.probs[0][legal].double()
    assert chisquare(drawn[legal].numpy(), (expected / expected.sum() * count).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("row", [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1e-30, 0.0, 0.0], [0, 0.3, 0, 0.7]])
def test_actions_of_probability_zero_are_never_drawn(row: list[float]) -> None:
    probs = torch.tensor(row).expand(100_000, -1)
    assert probs.gather(1, sample_cdf(probs).unsqueeze(1)).min() > 0


def test_the_largest_uniform_does_not_run_off_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    probs = torch.tensor([[0.1, 0.2, 0.7, 0.0]])
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(*shape))
    assert sample_cdf(probs).item() == 2
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.zeros(*shape))
    assert sample_cdf(probs.flip(1)).item() == 1


def test_the_same_generator_state_draws_the_same_actions() -> None:
    distribution = MaskedCategorical(*_rows(1000))
    first, again, other = (distribution.sample(generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_logits_that_are_not_finite_have_no_entropy() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        MaskedCategorical(torch.full((2, 3), torch.inf), torch.ones(2, 3, dtype=torch.bool)).entropy()


def test_one_action_a_row_is_all_that_can_be_drawn() -> None:
    with pytest.raises(ValueError, match="one action a row"):
        MaskedCategorical(*_rows(3)).sample((2,))


def test_actor_and_critic_run_the_trunk_once_and_equal_the_network() -> None:
    from bargain_env import GAMES
    from tensordict import TensorDict

    network = build_network({"network": "mlp", "hidden_dims": [8]}, GAMES["mini-b"])
    calls = []
    network.trunk.register_forward_hook(lambda *_: calls.append(1))
    actor, critic = ppo_modules(network)
    observation = torch.rand(6, GAMES["mini-b"].observation_dim)
    mask = torch.ones(6, GAMES["mini-b"].num_actions, dtype=torch.bool)
    rows = TensorDict({"features": network.reader(observation), "action_mask": mask}, [6])
    distribution = actor.get_dist(rows)
    value = critic(rows)["state_value"].squeeze(-1)
    assert len(calls) == 1
    logits, expected = network(observation)
    torch.testing.assert_close(distribution.log_probs, logits.log_softmax(-1))
    torch.testing.assert_close(value, expected)

"""A response held close to a guide: the divergence and its gradient, the adaptive coefficient, and where it leads."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from bargain_env import GAMES
from bargain_train import updates
from bargain_train.actors import ILLEGAL_LOGIT, MaskedCategorical
from bargain_train.collect import Rollouts
from bargain_train.config import ExplorationOptions, PpoOptions
from bargain_train.guide import MAX_COEF, MIN_COEF, Guide
from bargain_train.learner import learner_rows
from bargain_train.networks import Network, build_network
from bargain_train.updates import Learner, forward_kl_divergence, kl_divergence, ppo_update
from pydantic import ValidationError
from tensordict import TensorDictBase

SPEC = GAMES["mini-b"].with_observation("history")


def _network(seed: int = 0, sharpness: float = 1.0, observation: str = "history") -> Network:
    torch.manual_seed(seed)
    spec = SPEC if observation == "history" else GAMES["mini-b"]
    network = build_network({"network": "mlp", "hidden_dims": [32]}, spec)
    with torch.no_grad():
        network.policy_head.weight.mul_(sharpness)  # type: ignore[operator]
    return network


def _rollouts(network: Network) -> Rollouts:
    return Rollouts(SPEC, (network, network), num_envs=32, length=8, seed=1)


def _rows(learner: Learner) -> TensorDictBase:
    return learner_rows(_rollouts(learner.network).collect(), learner)[1]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _flat(network: Network) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


def _two_policies() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, others = (torch.randn(50, 9, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    mask = torch.rand(50, 9, generator=generator) < 0.6
    mask[:, 4] = True
    return logits, MaskedCategorical(others, mask).log_probs, mask


def test_the_forward_kl_and_its_gradient_are_those_of_autograd_and_of_torch() -> None:
    logits, others, mask = _two_policies()
    weights = torch.linspace(-1, 2, 50, dtype=torch.float64)
    given = logits.clone().requires_grad_()
    kl = forward_kl_divergence(others, MaskedCategorical(given, mask))
    (gradient,) = torch.autograd.grad((weights * kl).sum(), [given])

    given = logits.clone().requires_grad_()
    log_probs = given.masked_fill(~mask, ILLEGAL_LOGIT).log_softmax(-1)
    expected = torch.where(mask, others.exp() * (others - log_probs), 0.0).sum(-1)
    torch.testing.assert_close(kl, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad((weights * expected).sum(), [given])[0])
    torch.testing.assert_close(gradient, weights[:, None] * (log_probs.exp() - others.exp()).detach())
    assert (gradient[~mask] == 0).all()
    distributions = (torch.distributions.Categorical(logits=numbers) for numbers in (others, log_probs))
    torch.testing.assert_close(kl, torch.distributions.kl_divergence(*distributions))
    reverse = kl_divergence(MaskedCategorical(logits, mask), others)
    assert (kl - reverse).abs().median() > 0.1


@pytest.mark.parametrize("scale", [1.0, 60.0])
@pytest.mark.parametrize("legal", [1, 3])
def test_it_is_finite_and_not_negative_with_few_legal_actions_of_82(legal: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits, others = (torch.randn(500, 82, generator=generator) * scale for _ in range(2))
    mask = torch.zeros(500, 82, dtype=torch.bool)
    mask[:, 82 - legal :] = True
    given = logits.requires_grad_()
    kl = forward_kl_divergence(MaskedCategorical(others, mask).log_probs, MaskedCategorical(given, mask))
    (gradient,) = torch.autograd.grad(kl.sum(), [given])
    assert kl.isfinite().all()
    assert gradient.isfinite().all()
    assert (kl >= 0).all()
    assert (gradient[~mask] == 0).all()
    assert (kl == 0).all() if legal == 1 else kl.mean() > 0.1


def test_it_is_0_between_equals_and_never_below_between_almost_equals() -> None:
    logits, _, mask = _two_policies()
    given = logits.float().requires_grad_()
    distribution = MaskedCategorical(given, mask)
    kl = forward_kl_divergence(distribution.log_probs.clone(), distribution)
    (gradient,) = torch.autograd.grad(kl.sum(), [given])
    assert (kl == 0).all()
    assert (gradient == 0).all()
    noise = torch.randn(logits.shape, generator=_generator()) * 1e-5
    near = MaskedCategorical(logits.float() + noise, mask).log_probs
    assert (forward_kl_divergence(near, distribution) >= 0).all()


def _guide(coef: float = 0.1, **options: Any) -> Guide:
    return Guide(_network(9), coef, **options)


def test_the_coefficient_adapts_step_by_step() -> None:
    guide = _guide(0.1, target=0.02, horizon=3, factor=0.5)
    found = []
    for kl in (0.05, 0.05, 0.002, 0.002, 0.002, 0.02, 0.02, 0.02):
        guide.adapt(kl)
        found.append(guide.coef)
        assert guide.weight == 0.5 * guide.coef
    # The means are .05, .05, .034, .018, .002, .008, .014 and .02; twice the target is .04, half of it .01.
    steps = [1.5, 1.5, 1, 1, 0.5, 0.5, 1, 1]
    expected, coef = [], 0.1
    for step in steps:
        coef *= step
        expected.append(coef)
    assert found == pytest.approx(expected)


def test_the_coefficient_stays_within_its_bounds() -> None:
    guide = _guide(0.1)
    for _ in range(50):
        guide.adapt(1.0)
    assert guide.coef == MAX_COEF == 10
    for _ in range(100):
        guide.adapt(0.0)
    assert guide.coef == MIN_COEF == 1e-4


def test_a_coefficient_that_is_fixed_stays() -> None:
    guide = _guide(25.0, adaptive=False)
    for kl in (1.0, 0.0):
        guide.adapt(kl)
    assert guide.weight == 25


@pytest.mark.parametrize(
    ("coef", "options"), [(0.0, {}), (-1.0, {}), (1.0, {"target": 0.0}), (1.0, {"horizon": 0}), (1.0, {"factor": 1.1})]
)
def test_a_guide_that_cannot_be_is_refused(coef: float, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a guide needs a positive coefficient"):
        _guide(coef, **options)


def _kl(guide: Network, network: Network, rows: TensorDictBase) -> torch.Tensor:
    others, own = (MaskedCategorical(n(rows["observation"])[0].detach(), rows["action_mask"]) for n in (guide, network))
    return forward_kl_divergence(others.log_probs, own)


def test_an_update_reports_the_divergence_and_the_coefficient_in_force_and_then_adapts() -> None:
    guide = Guide(_network(9, 100.0), 0.4, factor=0.5)
    learner = Learner(_network(), (0, 1), PpoOptions(ppo_epochs=1, minibatch_size=10_000), guide)
    rows = _rows(learner)
    expected = float(_kl(guide.network, learner.network, rows).mean())
    metrics = ppo_update(learner, rows, _generator())
    assert metrics["kl_guide"] == pytest.approx(expected, rel=1e-4)
    assert expected > 2 * 0.01
    assert metrics["kl_coef"] == 0.4
    assert guide.coef == pytest.approx(0.6)
    plain = Learner(_network(), (0, 1), PpoOptions(ppo_epochs=1, minibatch_size=10_000))
    difference = metrics["loss"] - ppo_update(plain, rows, _generator())["loss"]
    assert difference == pytest.approx(0.2 * expected, rel=1e-3)


def test_a_huge_weight_leads_to_the_policy_of_the_guide() -> None:
    """In a history network, whose guide reads the standing offer alone."""
    guide = Guide(_network(9, 300.0, "standing"), 1000.0, adaptive=False)
    learner = Learner(_network(), (0, 1), PpoOptions(lr=1e-2, max_grad_norm=100.0), guide)
    rollouts, generator, before = _rollouts(learner.network), _generator(), _flat(guide.network)
    for _ in range(60):
        rows = learner_rows(rollouts.collect(), learner)[1]
        metrics = ppo_update(learner, rows, generator)
    others, own = (
        MaskedCategorical(network(rows["observation"])[0].detach(), rows["action_mask"]).probs
        for network in (guide.network, learner.network)
    )
    assert _kl(guide.network, _network(), rows).mean() > 0.3
    assert metrics["kl_guide"] < 0.005
    assert (others - own).abs().mean() < 0.01
    assert torch.equal(before, _flat(guide.network))


def _trained(guide: Guide | None, count: int = 3) -> tuple[torch.Tensor, list[dict[str, float]], torch.Tensor]:
    learner = Learner(_network(), (0, 1), PpoOptions(lr=3e-3, minibatch_size=64), guide)
    rollouts, generator = _rollouts(learner.network), _generator()
    metrics = [ppo_update(learner, learner_rows(rollouts.collect(), learner)[1], generator) for _ in range(count)]
    return _flat(learner.network), metrics, generator.get_state()


def test_without_a_guide_nothing_is_computed_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits as with a guide of weight 0, whose gradient is 0, and no reading of any other network."""
    guided, told, generator = _trained(Guide(_network(9), 1.0, factor=0.0))
    pulled, _, _ = _trained(Guide(_network(9, 100.0), 1.0))
    assert not torch.equal(guided, pulled)

    def never(*_: Any) -> Any:
        raise AssertionError("this belongs to a guide or a reference")

    monkeypatch.setattr(updates, "forward_kl_divergence", never)
    monkeypatch.setattr(updates, "policy_log_probs", never)
    free, metrics, state = _trained(None)
    assert torch.equal(free, guided)
    assert torch.equal(state, generator)
    for with_guide, without in zip(told, metrics, strict=True):
        assert with_guide.keys() - without.keys() == {"kl_guide", "kl_coef"}
        assert with_guide == without | {name: with_guide[name] for name in ("kl_guide", "kl_coef")}


def test_a_response_goes_on_with_the_state_of_its_guide_and_a_new_one_begins_afresh() -> None:
    learner, twin = (Learner(_network(seed), (0, 1), PpoOptions(), Guide(_network(9, 100.0), 0.3)) for seed in (0, 1))
    rows, generator = _rows(learner), _generator()
    for _ in range(3):
        ppo_update(learner, rows, generator)
    state = copy.deepcopy(learner.state_dict())
    assert state["guide"]["coef"] == pytest.approx(0.3 * 1.5**3)
    twin.load_state_dict(state)
    first, second = (ppo_update(each, rows, torch.Generator().manual_seed(9)) for each in (learner, twin))
    assert first == second
    assert torch.equal(_flat(learner.network), _flat(twin.network))
    assert "guide" not in Learner(_network(), (0, 1), PpoOptions()).state_dict()
    assert Guide(_network(9), 0.3).coef == 0.3


@pytest.mark.parametrize(("over", "factors"), [(None, [1, 0.75, 0.5, 0.25, 0]), (2, [1, 0.5, 0, 0, 0])])
def test_the_factor_falls_linearly_over_the_run_or_as_many_iterations(over: int | None, factors: list[float]) -> None:
    options = ExplorationOptions(kl_anneal_iterations=over)
    assert [options.kl_factor(done, 4) for done in range(5)] == pytest.approx(factors)


@pytest.mark.parametrize(
    "change",
    [
        {"welfare_fn": "maximin"},
        {"exploration_top_k": 0},
        {"exploration_temperature": 0.0},
        {"kl_coef": -0.1},
        {"kl_target": 0.0},
        {"kl_horizon": 0},
        {"kl_anneal_iterations": 0},
        {"imitation_epochs": 0},
        {"imitation_lr": 0.0},
        {"imitation_batch_size": 0},
        {"imitation_data_size": 0},
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        ExplorationOptions(**change)

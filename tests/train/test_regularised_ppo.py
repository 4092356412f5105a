"""Self-play held close to the rollout's policy and to a magnet: gradients, closed forms, schedules, equilibria."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from bargain_env import GAMES
from bargain_eval.exact import evaluate, policy_profile, tabular_game
from bargain_eval.exact.mmd import mmd_step
from bargain_eval.exact.profile import uniform_profile
from bargain_eval.exact.values import action_values, flow, history_weights, realisation
from bargain_eval.exact.views import decision_views
from bargain_train.actors import ILLEGAL_LOGIT, MaskedCategorical, ppo_modules
from bargain_train.algorithms import ALGORITHMS
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.collect import Rollouts
from bargain_train.config import MAGNET_INTERVAL, PpoOptions, between
from bargain_train.learner import learner_rows
from bargain_train.networks import Network, build_network
from bargain_train.policies import NetworkPolicy
from bargain_train.run import Run
from bargain_train.updates import Learner, kl_divergence, policy_log_probs, ppo_update, read_rows
from tensordict import TensorDict, TensorDictBase
from torchrl.objectives import ClipPPOLoss

if TYPE_CHECKING:
    from tests.train.conftest import Train

SPEC = GAMES["mini-b"]


def _network(hidden: int = 16, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build_network({"network": "mlp", "hidden_dims": [hidden]}, SPEC)


def _learner(network: Network | None = None, **options: Any) -> Learner:
    return Learner(network or _network(), (0, 1), PpoOptions(**options))


def _rows(learner: Learner) -> TensorDictBase:
    rollouts = Rollouts(SPEC, (learner.network, learner.network), num_envs=32, length=8, seed=1)
    return learner_rows(rollouts.collect(), learner)[1]


def _flat(network: Network) -> torch.Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])


def _two_policies() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, others = (torch.randn(50, 9, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    mask = torch.rand(50, 9, generator=generator) < 0.6
    mask[:, 4] = True
    return logits, MaskedCategorical(others, mask).log_probs, mask


def test_the_kl_and_its_gradient_are_those_of_autograd_and_of_torch() -> None:
    logits, others, mask = _two_policies()
    weights = torch.linspace(-1, 2, 50, dtype=torch.float64)
    given = logits.clone().requires_grad_()
    kl = kl_divergence(MaskedCategorical(given, mask), others)
    (gradient,) = torch.autograd.grad((weights * kl).sum(), [given])

    given = logits.clone().requires_grad_()
    log_probs = given.masked_fill(~mask, ILLEGAL_LOGIT).log_softmax(-1)
    expected = torch.where(mask, log_probs.exp() * (log_probs - others), 0.0).sum(-1)
    torch.testing.assert_close(kl, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad((weights * expected).sum(), [given])[0])
    assert (gradient[~mask] == 0).all()
    distributions = (torch.distributions.Categorical(logits=numbers) for numbers in (log_probs, others))
    torch.testing.assert_close(kl, torch.distributions.kl_divergence(*distributions))
    assert torch.autograd.gradcheck(
        lambda numbers: kl_divergence(MaskedCategorical(numbers, mask[:5]), others[:5]), logits[:5].requires_grad_()
    )


def test_the_kl_and_its_gradient_are_0_between_equals_and_positive_between_others() -> None:
    logits, others, mask = _two_policies()
    given = logits.float().requires_grad_()
    distribution = MaskedCategorical(given, mask)
    kl = kl_divergence(distribution, distribution.log_probs.clone())
    (gradient,) = torch.autograd.grad(kl.sum(), [given])
    assert (kl == 0).all()
    assert (gradient == 0).all()
    assert (kl_divergence(distribution, others.float())[mask.sum(-1) > 1] > 0).all()


def test_log_probabilities_by_chunks_are_those_of_the_network() -> None:
    learner = _learner()
    rows = read_rows(learner.network, _rows(learner))
    whole = policy_log_probs(learner.network, rows, len(rows))
    distribution = learner.actor.get_dist(rows)
    torch.testing.assert_close(whole, distribution.log_probs)
    torch.testing.assert_close(policy_log_probs(learner.network, rows, 7), whole)
    assert not whole.requires_grad


@pytest.mark.parametrize(("rollout", "magnet", "entropy"), [(0.9, 0.0, 0.1), (0.0, 1.2, 0.0), (0.7, 0.3, 0.2)])
def test_an_update_carried_to_its_optimum_is_the_closed_form_of_mirror_descent(
    rollout: float, magnet: float, entropy: float
) -> None:
    """With the exact worth of every action of the replies in mini-b against uniform play: `mmd_step`, by a network."""
    game = tabular_game(SPEC)
    against = flow(game, realisation(game, uniform_profile(game)[0]))
    worth = action_values(game, 1, against, uniform_profile(game)[1])[0][0]
    payoff = (worth / history_weights(game, 1, against)[:, None, None]).reshape(-1, len(game.actions(1)))
    offer, kind = np.divmod(np.arange(len(payoff)), game.num_types)
    observation, mask = map(
        torch.as_tensor, decision_views(SPEC, game.values[kind], game.outside[kind], 1, offer[:, None])
    )

    options: dict[str, Any] = {
        "entropy_coef": entropy,
        "entropy_coef_final": entropy,
        "magnet_interval": 3 if magnet else None,
    }
    learner = _learner(
        _network(64),
        kl_rollout_coef=rollout,
        kl_magnet_coef=magnet,
        value_coef=1e-9,
        clip_eps=0.999,
        lr=3e-3,
        ppo_epochs=500,
        **options,
    )
    with torch.no_grad():
        next(learner.network.policy_head.parameters()).mul_(60.0)  # away from uniform play
    start = NetworkPolicy((learner.network, learner.network)).action_probs(observation, mask)
    if learner.magnet is not None:  # a magnet that is neither the policy nor uniform
        learner.magnet.load_state_dict(learner.network.state_dict())
        next(learner.magnet.policy_head.parameters()).data.mul_(0.5)
        learner.updates = 1
        pull = NetworkPolicy((learner.magnet, learner.magnet)).action_probs(observation, mask)

    actions = game.actions(1)
    rows = TensorDict(
        {"observation": observation, "action_mask": mask, "worth": torch.as_tensor(payoff)}, [len(payoff)]
    )
    rows = rows.repeat_interleave(len(actions), 0)
    rows["action"] = torch.as_tensor(actions).repeat(len(payoff))
    probs = start[:, actions].reshape(-1)
    # Every action stands in one row, so weighted by its probability the surrogate is the expected worth.
    rows["advantage"] = (
        rows["worth"].float().reshape(-1, len(actions), len(actions))[:, 0].reshape(-1) * probs
    ).unsqueeze(-1)
    rows["advantage"] *= len(actions)
    rows["action_log_prob"] = probs.log()
    rows["value_target"] = torch.zeros_like(rows["advantage"])
    ppo_update(learner, rows, torch.Generator().manual_seed(0))

    got = NetworkPolicy((learner.network, learner.network)).action_probs(observation, mask)[:, actions].double().numpy()
    before = start[:, actions].double().numpy()
    if magnet:
        logits = payoff + rollout * np.log(before) + magnet * np.log(pull[:, actions].double().numpy())
        expected = np.exp(logits / (rollout + magnet + entropy))
        expected /= expected.sum(-1, keepdims=True)
    else:
        expected = mmd_step(before, payoff, alpha=entropy, eta=1 / rollout)

    assert np.abs(before - expected).max() > 0.08
    assert np.abs(got - expected).max() < 0.005


def test_without_weights_an_update_is_plain_ppo_bit_for_bit() -> None:
    learner, network = _learner(entropy_coef=0.2), _network()
    rows = _rows(learner)
    actor, critic = ppo_modules(network)
    loss = ClipPPOLoss(
        actor,
        critic,
        clip_epsilon=0.2,
        entropy_coeff=0.2,
        critic_coeff=0.5,
        loss_critic_type="l2",
        normalize_advantage=False,
        functional=False,
        log_explained_variance=False,
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-4, eps=1e-5, fused=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        batch = read_rows(network, rows)[torch.randperm(len(rows), generator=generator)]
        output = loss(batch)
        optimizer.zero_grad()
        (output["loss_objective"] + output["loss_critic"] + output["loss_entropy"]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
    metrics = ppo_update(learner, rows, torch.Generator().manual_seed(0))
    assert torch.equal(_flat(learner.network), _flat(network))
    assert "magnet" not in learner.state_dict()
    assert not [name for name in metrics | learner.weights if name.startswith("kl_")]


@pytest.mark.parametrize("interval", [2, 3, None])
def test_the_magnet_is_copied_when_it_should_and_is_frozen_between(interval: int | None) -> None:
    learner = _learner(kl_magnet_coef=0.2, magnet_interval=interval, lr=1e-2, ppo_epochs=1)
    assert learner.magnet is not None
    rows, generator, copied = _rows(learner), torch.Generator().manual_seed(0), []
    for update in range(2 * MAGNET_INTERVAL + 1):
        network, magnet = _flat(learner.network), _flat(learner.magnet)
        metrics = ppo_update(learner, rows, generator)
        if torch.equal(_flat(learner.magnet), network):
            copied.append(update)
            assert metrics["kl_magnet"] == pytest.approx(0, abs=1e-6)
        else:
            assert torch.equal(_flat(learner.magnet), magnet)
            assert metrics["kl_magnet"] > 1e-6
    assert copied == list(range(0, 2 * MAGNET_INTERVAL + 1, interval or MAGNET_INTERVAL))


def test_a_weight_holds_the_policy_back() -> None:
    moved = {}
    weights: dict[str, dict[str, Any]] = {
        "none": {},
        "rollout": {"kl_rollout_coef": 3.0},
        "magnet": {"kl_magnet_coef": 3.0},
    }
    for name, weight in weights.items():
        learner = _learner(lr=1e-2, **weight)
        rows = read_rows(learner.network, _rows(learner))
        before = policy_log_probs(learner.network, rows, len(rows))
        ppo_update(learner, _rows(learner), torch.Generator().manual_seed(0))
        moved[name] = float(kl_divergence(learner.actor.get_dist(rows), before).mean().detach())
    assert moved["rollout"] < 0.5 * moved["none"]
    assert moved["magnet"] < 0.5 * moved["none"]


def test_each_kl_is_logged_with_its_weight_as_of_the_update() -> None:
    learner = _learner(kl_rollout_coef=0.4, kl_magnet_coef=0.1, kl_magnet_coef_final=0.001)
    assert learner.anneal(0.5) == pytest.approx(
        {"lr": 3e-4 * 0.55, "entropy_coef": math.sqrt(0.05 * 0.001), "kl_rollout_coef": 0.4, "kl_magnet_coef": 0.01}
    )
    metrics = ppo_update(learner, _rows(learner), torch.Generator().manual_seed(0))
    assert metrics["kl_rollout"] > 0
    assert metrics["kl_rollout"] == pytest.approx(metrics["kl_magnet"], rel=1e-5)  # the magnet was just copied


def test_weights_go_down_as_one_over_the_root_and_up_as_the_root() -> None:
    names: tuple[Literal["geometric", "root"], ...] = ("geometric", "root")
    for done in (0.0, 0.25, 0.7, 1.0):
        assert between(0.4, 0.1, done, "root") == pytest.approx(0.4 / math.sqrt(1 + 15 * done))
        assert between(0.1, 0.4, done, "root") == pytest.approx(0.1 * math.sqrt(1 + 15 * done))
        assert between(0.4, 0.1, done, "geometric") == pytest.approx(0.4 * 0.25**done)
        for anneal in names:
            assert between(0.3, 0.3, done, anneal) == pytest.approx(0.3)
            assert between(0.4, 0.0, done, anneal) == pytest.approx(0.4 * (1 - done))
            assert between(0.0, 0.4, done, anneal) == pytest.approx(0.4 * done)


def test_a_state_without_its_magnet_is_refused() -> None:
    with pytest.raises(KeyError, match="magnet"):
        _learner(kl_magnet_coef=0.1).load_state_dict(_learner().state_dict())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"magnet_interval": 5}, "needs a --kl-magnet-coef above 0"),
        ({"magnet_interval": 1, "kl_magnet_coef": 0.1}, "greater than or equal to 2"),
        ({"kl_rollout_coef": -0.1}, "greater than or equal to 0"),
        ({"kl_rollout_coef": 0.1, "ppo_epochs": 1, "minibatch_size": 32768}, "one gradient step"),
    ],
)
def test_impossible_combinations_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        PPOConfig(**settings)


def test_a_magnet_alone_and_a_weight_that_starts_at_0_are_possible() -> None:
    assert PPOConfig(magnet_interval=5, kl_magnet_coef_final=0.1).kl_terms == ("magnet",)
    assert PPOConfig(kl_rollout_coef=0.1, ppo_epochs=1).kl_terms == ("rollout",)


def test_both_networks_of_a_run_have_magnets_of_their_own(train: Train) -> None:
    run = train("--no-share", "--kl-magnet-coef", "0.1", "--magnet-interval", "2", "--checkpoint-interval", "512")
    state = torch.load(run.folder / "checkpoints" / "step_512.pt", weights_only=True)["resume"]["learners"]
    first, second = (learner["magnet"]["policy_head.weight"] for learner in state)
    assert not torch.equal(first, second)
    assert [learner["updates"] for learner in state] == [2, 2]
    assert {"kl_magnet_0", "kl_magnet_1", "kl_magnet_coef"} <= run.metrics[-1].keys()


RECOMMENDED: dict[str, Any] = {
    "hidden_dims": (64, 64),
    "rollout_steps": 32,
    "total_timesteps": 2_000_000,
    "lr": 3e-3,
    "lr_final": 0.02,
    "entropy_coef": 0.2,
    "entropy_coef_final": 0.005,
    "gae_lambda": 1.0,
    "eval_interval": 2_000_000,
    "threads": 1,
    "device": "cpu",
}
"""The documentation's settings for the small games."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most", "least"), [("mini-b", 0.01, 1.38), ("mini-c", 0.02, 1.26)])
def test_self_play_ends_near_an_equilibrium_with_deals(tmp_path: Path, name: str, most: float, least: float) -> None:
    places = {"results_dir": str(tmp_path / "results"), "checkpoint_dir": str(tmp_path)}
    config = PPOConfig(**(RECOMMENDED | places | {"game": name, "seed": 1}))
    with Run("ppo", config, console=False) as run:
        policy = ALGORITHMS["ppo"].train(config, run)
    game = tabular_game(config.spec())
    found = evaluate(game, policy_profile(game, policy))
    assert found.nash_conv <= most
    assert found.welfare >= least
    lines = (run.record.path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["agreement_rate"] > 0.1

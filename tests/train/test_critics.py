"""Critics apart from the actors: what each reads, whom it serves, whose gradients meet, how values are normalised."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_env.spec import ObservationKind
from bargain_env.torchrl_env import BargainEnv
from bargain_train.collect import Rollout, Rollouts
from bargain_train.config import MappoOptions, PpoOptions
from bargain_train.critics import NORM_DECAY, ActorCritic, build_actor_critics
from bargain_train.hands import Hands
from bargain_train.learner import learner_rows
from bargain_train.networks import Network
from bargain_train.updates import Learner, ppo_update, read_rows
from tensordict import TensorDictBase
from torch import nn

SPEC = GAMES["mini-c"]
HISTORY = SPEC.with_observation("history")
HAND = SPEC.num_items + 1
CONFIGS: dict[str, dict[str, Any]] = {
    "mlp": {"network": "mlp", "hidden_dims": [16]},
    "transformer": {"network": "transformer", "d_model": 8, "nhead": 2, "num_layers": 1},
}


def _build(
    config: str = "mlp", observation: ObservationKind = "standing", **options: Any
) -> tuple[list[Network], list[ActorCritic]]:
    torch.manual_seed(0)
    chosen = MappoOptions(critic_hidden_dims=(16,), **options)
    return build_actor_critics(CONFIGS[config], SPEC.with_observation(observation), chosen)


def _networks(*arguments: Any, **options: Any) -> list[ActorCritic]:
    """Networks whose policies and values are far from constant."""
    _, networks = _build(*arguments, **options)
    with torch.no_grad():
        for network in networks:
            for head in (network.policy_head, *(critic.head for critic in _critics(network))):
                for parameter in head.parameters():
                    nn.init.normal_(parameter, std=0.5)
    return networks


def _critics(network: ActorCritic) -> list[Any]:
    return list(network.critics)


def _rollouts(networks: list[ActorCritic], num_envs: int = 40, length: int = 9, seed: int = 3) -> Rollouts:
    return Rollouts(HISTORY, (networks[0], networks[-1]), num_envs=num_envs, length=length, seed=seed)


def _learners(networks: list[ActorCritic], **options: Any) -> list[Learner]:
    seats: tuple[tuple[int, ...], ...] = ((0, 1),) if len(networks) == 1 else ((0,), (1,))
    numbers = PpoOptions(**options)
    return [Learner(network, own, numbers) for network, own in zip(networks, seats, strict=True)]


def _rows(learner: Learner, rollout: Rollout) -> TensorDictBase:
    return learner_rows(rollout, learner)[1]


@pytest.mark.parametrize("spec", [SPEC, GameSpec(), GameSpec(observation="history", discount=0.9)])
def test_hands_are_those_of_the_seats_that_wait_as_an_observation_shows_them(spec: GameSpec) -> None:
    env = BargainEnv(spec, 200, 5)
    hands, games = Hands(env), np.arange(200)
    env.engine.autoreset = True
    ended = 0
    for step in range(12):
        state = env.engine.get_state()
        seat = 1 - env.engine.mover.astype(np.int64)
        values, outside = state["values"][games, seat], state["outside"][games, seat]
        shown = hands.waiting().numpy()
        assert shown.dtype == np.float32
        np.testing.assert_allclose(shown[:, :-1], values / spec.max_value, rtol=1e-6)
        np.testing.assert_allclose(shown[:, -1], outside / (values @ spec.item_quantities), rtol=1e-6)
        mover = env.current_root()["observation"][:, : spec.num_items + 1].numpy()
        env.engine.step(env.engine.random_actions(step))
        going_on = ~env.engine.terminated
        turned = env.current_root()["observation"][:, : spec.num_items + 1].numpy()
        np.testing.assert_array_equal(turned[going_on], shown[going_on])  # who waited now moves, and sees just that
        np.testing.assert_array_equal(hands.waiting().numpy()[going_on], mover[going_on])
        ended += int(env.engine.terminated.sum())
    assert ended > 200


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("observation", ["standing", "history"])
@pytest.mark.parametrize("config", CONFIGS)
def test_the_other_seats_hand_changes_what_critics_say_and_never_the_actor(
    config: str, observation: ObservationKind, share: bool
) -> None:
    networks = _networks(config, observation, share_actor=share)
    rows = _rollouts(networks).collect().rows.flatten()
    dealt_anew = torch.cat([rows["observation"][:, :-HAND], torch.rand(len(rows), HAND)], -1)
    for network in networks:
        (logits, value), (same, other) = network(rows["observation"]), network(dealt_anew)
        assert torch.equal(logits, same)
        assert ((value - other).abs() > 1e-6).float().mean() > 0.9  # a row whose ReLUs all rest may stay
        torch.testing.assert_close(network.values(dealt_anew), other)
        shown = dealt_anew.clone().requires_grad_()
        own, values = network(shown)
        (gradient,) = torch.autograd.grad(own.square().sum(), shown, retain_graph=True)
        assert not gradient[:, -HAND:].any()
        assert gradient[:, : SPEC.num_items].any()
        if observation == "standing":
            assert not gradient[:, SPEC.standing_dim :].any()
        (gradient,) = torch.autograd.grad(values.sum(), shown)
        assert gradient[:, -HAND:].any(0).all()
        assert gradient[:, HISTORY.slices["history"]].any(0).all()


def test_values_and_actions_of_a_rollout_are_those_of_the_networks_at_both_hands() -> None:
    kinds: list[dict[str, Any]] = [{}, {"share_actor": True}, {"centralized_critic": False}]
    for options in kinds:
        networks = _networks(**options)
        rollouts = _rollouts(networks)
        first = rollouts.collect()
        head_value = first.head_value.clone()
        rows = first.rows.clone()
        width = HISTORY.observation_dim + (HAND if networks[0].reads_hands else 0)
        assert rows["observation"].shape == (9, 40, width)
        after = rollouts.collect().rows[0]
        for seat, network in enumerate((networks[0], networks[-1])):
            own = rows["player"] == seat
            logits, value = network(rows["observation"][own])
            torch.testing.assert_close(rows["state_value"][own], value)
            log_probs = logits.masked_fill(~rows["action_mask"][own], -1e9).log_softmax(-1)
            taken = log_probs.gather(1, rows["action"][own].unsqueeze(1)).squeeze(1)
            torch.testing.assert_close(rows["action_log_prob"][own], taken)
            head = after["player"] == seat
            torch.testing.assert_close(head_value[head], network.values(after["observation"][head]))


def test_a_shared_actor_is_one_set_of_parameters_and_learns_from_both_seats() -> None:
    actors, networks = _build(share_actor=True)
    (actor,), (network,) = actors, networks
    assert {id(p) for p in actor.parameters()} <= {id(p) for p in network.parameters()}
    (learner,) = _learners(networks)
    rollout = _rollouts(networks).collect()
    rows = _rows(learner, rollout)
    seat_one = rows["observation"][:, HISTORY.slices["state"].stop - 1] > 0.5
    parameters = list(actor.parameters())

    def gradient(part: TensorDictBase) -> torch.Tensor:
        loss = learner.loss(read_rows(network, part))["loss_objective"]
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])

    first, second, both = gradient(rows[~seat_one]), gradient(rows[seat_one]), gradient(rows)
    share = float(seat_one.float().mean())
    assert 0.2 < share < 0.8
    assert min(first.norm(), second.norm()) > 1e-3
    assert torch.nn.functional.cosine_similarity(first, second, 0) < 0.99
    torch.testing.assert_close(both, (1 - share) * first + share * second, atol=1e-6, rtol=1e-4)


def test_each_seats_critic_learns_from_its_own_rows_alone() -> None:
    (network,) = networks = _networks(share_actor=True)
    (learner,) = _learners(networks)
    rows = _rows(learner, _rollouts(networks).collect())
    seat_one = rows["observation"][:, HISTORY.slices["state"].stop - 1] > 0.5
    for chosen, own in ((~seat_one, 0), (seat_one, 1)):
        network.zero_grad()
        learner.loss(read_rows(network, rows[chosen]))["loss_critic"].backward()
        for number, critic in enumerate(network.critics):
            touched = [p.grad is not None and bool(p.grad.any()) for p in critic.parameters()]
            touched += [p.grad is not None and bool(p.grad.any()) for p in network.hand_maps[number].parameters()]
            assert all(touched) if number == own else not any(touched)
        assert all(p.grad is None for p in (*network.trunk.parameters(), *network.policy_head.parameters()))


def test_two_actors_are_apart_and_so_are_their_critics() -> None:
    first, second = _networks()
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert not torch.equal(first.policy_head.weight, second.policy_head.weight)  # type: ignore[arg-type]


def _moments(batches: list[np.ndarray]) -> tuple[float, float]:
    """The weighted mean and standard deviation of batches, the last of which weighs 1 and each earlier one less."""
    weights = NORM_DECAY ** np.arange(len(batches))[::-1]
    mean, square = (np.average([np.mean(batch**k) for batch in batches], weights=weights) for k in (1, 2))
    return float(mean), float(np.sqrt(square - mean**2))


@pytest.mark.parametrize("share", [False, True])
def test_running_means_follow_the_targets_of_each_seat(share: bool) -> None:
    networks = _networks(share_actor=share)
    learners, rollouts, generator = _learners(networks, lr=3e-3), _rollouts(networks), torch.Generator().manual_seed(0)
    seen: dict[int, list[np.ndarray]] = {0: [], 1: []}
    for _ in range(4):
        rollout = rollouts.collect()
        for learner in learners:
            rows = _rows(learner, rollout)
            seats = rows["observation"][:, HISTORY.slices["state"].stop - 1].round().long()
            for seat in learner.seats:
                seen[seat].append(rows["value_target"][seats == seat].double().numpy())
            ppo_update(learner, rows, generator)
        norms = [critic.norm for network in networks for critic in _critics(network)]
        for seat, norm in enumerate(norms):
            mean, deviation = _moments(seen[seat])
            zero, one = norm.denormalize(torch.tensor([[0.0], [1.0]])).flatten().tolist()
            assert zero == pytest.approx(mean, abs=1e-6)
            assert one - zero == pytest.approx(deviation, rel=1e-4)
    assert abs(_moments(seen[0])[0] - _moments(seen[1])[0]) > 1e-3  # the seats differ, and so do their statistics


@pytest.mark.parametrize("share", [False, True])
def test_critics_predict_normalised_targets_and_tell_payoffs(share: bool) -> None:
    networks = _networks(share_actor=share)
    for learner in _learners(networks, value_coef=0.7):
        network: Any = learner.network
        rows = _rows(learner, _rollouts(networks).collect())
        seats = rows["observation"][:, HISTORY.slices["state"].stop - 1].round().long()
        payoff, read = rows["value_target"], read_rows(network, rows)
        read["value_target"] = network.value_targets(read["features"], payoff)
        expected = torch.zeros(len(rows))
        for seat in learner.seats:
            own = payoff[seats == seat, 0]
            expected[seats == seat] = (own - own.mean()) / own.std(correction=0)
        torch.testing.assert_close(read["value_target"].squeeze(-1), expected, atol=1e-4, rtol=1e-4)
        _, said = network.outputs(read["features"])
        loss = learner.loss(read)["loss_critic"]
        torch.testing.assert_close(loss, 0.7 * (said - expected).square().mean(), atol=1e-4, rtol=1e-4)
        for seat in learner.seats:
            own, z = payoff[seats == seat, 0], said[seats == seat]
            told = network.values(rows["observation"][seats == seat])
            torch.testing.assert_close(told, z * own.std(correction=0) + own.mean(), atol=1e-4, rtol=1e-4)


def test_without_normalisation_targets_and_values_are_payoffs() -> None:
    (network, _) = networks = _networks(value_norm=False)
    rows = _rows(_learners(networks)[0], _rollouts(networks).collect())
    features = network.reader(rows["observation"])
    assert torch.equal(network.value_targets(features, rows["value_target"]), rows["value_target"])
    assert torch.equal(network.outputs(features)[1], network.values(rows["observation"]))
    assert not any("norm" in name for name in network.state_dict())


@pytest.mark.parametrize("share", [False, True])
def test_maps_of_hands_are_drawn_after_everything_else(share: bool) -> None:
    seeing, blind = (_build(share_actor=share, centralized_critic=hands)[1] for hands in (True, False))
    for one, other in zip(seeing, blind, strict=True):
        mine, theirs = one.state_dict(), other.state_dict()
        assert set(mine) - set(theirs) == {f"hand_maps.{number}.weight" for number in range(len(one.critics))}
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        rows = torch.rand(30, HISTORY.observation_dim)
        rows[:, HISTORY.slices["state"].stop - 1].round_()
        dark = torch.cat([rows, torch.zeros(30, HAND)], -1)
        for ours, expected in zip(one(dark), other(rows), strict=True):
            assert torch.equal(ours, expected)


def test_a_seat_without_rows_leaves_its_running_mean_alone() -> None:
    (network,) = networks = _networks(share_actor=True)
    rows = _rows(_learners(networks)[0], _rollouts(networks).collect())
    first = rows[rows["observation"][:, HISTORY.slices["state"].stop - 1] < 0.5]
    network.value_targets(network.reader(first["observation"]), first["value_target"])
    zero, one = _critics(network)
    assert zero.norm.debiasing_term > 0 == one.norm.debiasing_term
    assert network.values(rows["observation"]).isfinite().all()


def test_the_actor_alone_has_no_values() -> None:
    (actor, _), networks = _build()
    assert type(actor) is Network
    assert not actor.has_values
    assert networks[0].has_values
    logits, value = actor(torch.rand(5, SPEC.observation_dim))
    assert logits.isfinite().all()
    assert value.isnan().all()
    assert not any("value" in name for name in actor.state_dict())

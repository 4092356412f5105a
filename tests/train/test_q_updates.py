"""Best responses by double DQN and their averages by imitation, against TorchRL's loss, by hand and exact values."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_eval.exact import (
    TabularGame,
    action_values,
    best_response,
    flow,
    policy_profile,
    realisation,
    tabular_game,
)
from bargain_eval.exact.profile import history_offers
from bargain_eval.exact.values import history_weights, own_reach
from bargain_eval.exact.views import decision_views
from bargain_train.buffers import pack_observation, unpack_observation
from bargain_train.config import FictitiousOptions
from bargain_train.modes import ModePlayers, ModeRollouts
from bargain_train.networks import Network, build_network
from bargain_train.policies import NetworkPolicy
from bargain_train.q_updates import FictitiousLearner, imitation_loss, q_loss, q_values
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModule, TensorDictSequential
from torchrl.modules import QValueModule
from torchrl.objectives import DQNLoss, HardUpdate

SPEC = GAMES["mini-b"].with_observation("history")
MLP = {"network": "mlp", "hidden_dims": [32]}
LARGER = {"network": "mlp", "hidden_dims": [64, 64]}


def _network(seed: int, spec: GameSpec = SPEC, std: float = 0.5, config: Mapping[str, Any] = MLP) -> Network:
    torch.manual_seed(seed)
    network = build_network(config, spec)
    for parameter in network.policy_head.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network


def _rollouts(learners: list[FictitiousLearner], spec: GameSpec = SPEC, eta: float = 0.3, **sizes: int) -> ModeRollouts:
    first, second = learners
    responses, averages = (first.response, second.response), (first.average, second.average)
    players = ModePlayers(spec, responses, averages, num_envs=sizes.get("num_envs", 64), eta=eta, seed=5)
    return ModeRollouts(spec, players, length=sizes.get("length", 16), seed=5)


def _learners(spec: GameSpec = SPEC, config: Mapping[str, Any] = MLP, **options: Any) -> list[FictitiousLearner]:
    torch.manual_seed(2)
    return [FictitiousLearner(seat, FictitiousOptions(**options), config, spec, seed=1) for seat in range(2)]


@pytest.fixture
def rows() -> TensorDictBase:
    """Transitions of random play of both seats."""
    return _rollouts(_learners()).collect(1.0)[1]


def test_q_values_are_dueling_over_legal_actions(rows: TensorDictBase) -> None:
    network = _network(1)
    observation, mask = unpack_observation(SPEC, rows["observation"])
    assert not mask.all()
    q = q_values(network, observation, mask)
    logits, value = network(observation)
    assert torch.equal(q.isneginf(), ~mask)
    for row in range(20):
        legal = mask[row]
        expected = value[row] + logits[row][legal] - logits[row][legal].mean()
        torch.testing.assert_close(q[row][legal], expected)
        torch.testing.assert_close(q[row][legal].mean(), value[row])


class _Q(torch.nn.Module):
    """Q of a network with 0 for illegal actions, for TorchRL's modules."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, observation: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return q_values(self.network, observation, mask).masked_fill(~mask, 0.0)


def test_the_loss_and_its_gradient_are_those_of_torchrls_double_dqn(rows: TensorDictBase) -> None:
    network, target, gamma = _network(1), _network(2), 0.9
    reference = copy.deepcopy(network)
    q = TensorDictModule(_Q(reference), in_keys=["observation", "action_mask"], out_keys=["action_value"])
    value = QValueModule(action_space="categorical", action_mask_key="action_mask")
    theirs = DQNLoss(TensorDictSequential(q, value), loss_function="l2", double_dqn=True, action_space="categorical")
    theirs.make_value_estimator(gamma=gamma)
    HardUpdate(theirs, value_network_update_interval=1)  # it would warn without an updater
    for name, parameter in _Q(target).named_parameters():
        theirs.target_value_network_params.get(("module", "0", "module", *name.split("."))).data.copy_(parameter)
    observation, mask = unpack_observation(SPEC, rows["observation"])
    following, legal = unpack_observation(SPEC, rows["successor"])
    over = rows["over"].unsqueeze(-1)
    after = {"observation": following, "action_mask": legal, "reward": rows["reward"].unsqueeze(-1)}
    after |= {"done": over, "terminated": over}
    batch = {"observation": observation, "action_mask": mask, "action": rows["action"].long()}
    expected = theirs(TensorDict(batch | {"next": TensorDict(after, [len(rows)])}, [len(rows)]))["loss"]
    expected.backward()
    loss, statistics = q_loss(network, target, SPEC, rows, gamma=gamma)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    gradients = dict(theirs.value_network_params.flatten_keys(".").items())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[f"module.0.module.network.{name}"].grad, msg=name)
    assert float(statistics[0]) < float(statistics[1])


def test_the_target_is_the_reward_where_the_game_is_over_and_the_best_legal_action_elsewhere(
    rows: TensorDictBase,
) -> None:
    network, target = _network(1), _network(2)
    observation, mask = unpack_observation(SPEC, rows["observation"])
    following, legal = unpack_observation(SPEC, rows["successor"])
    played = q_values(network, observation, mask).gather(1, rows["action"].long()[:, None]).squeeze(1)
    chosen = q_values(network, following, legal).argmax(-1, keepdim=True)
    value = rows["reward"] + 0.5 * ~rows["over"] * q_values(target, following, legal).gather(1, chosen).squeeze(1)
    loss, _ = q_loss(network, target, SPEC, rows, gamma=0.5)
    torch.testing.assert_close(loss, (played - value).square().mean())
    ended = rows[rows["over"]]
    garbage = ended.clone().set("successor", torch.full_like(ended["successor"], torch.nan))
    assert torch.equal(q_loss(network, target, SPEC, garbage)[0], q_loss(network, target, SPEC, ended)[0])


def test_illegal_actions_have_no_say(rows: TensorDictBase) -> None:
    """At the last decision offers are illegal: what a network says of them changes neither targets nor losses."""
    spec = SPEC
    last = rows[unpack_observation(spec, rows["observation"])[1][:, 0].logical_not()]
    leads = rows[unpack_observation(spec, rows["successor"])[1][:, 0].logical_not() & ~rows["over"]]
    assert len(last) > 20
    assert len(leads) > 20
    network, target = _network(1), _network(2)
    with torch.no_grad():
        before = imitation_loss(network, spec, last), q_loss(network, target, spec, last)[0]
        aim = _targets(network, target, leads)
        for part in (network, target):
            part.policy_head.bias[: spec.num_offers] += 50.0  # type: ignore[index,operator]
        after = imitation_loss(network, spec, last), q_loss(network, target, spec, last)[0]
    torch.testing.assert_close(after, before)
    torch.testing.assert_close(_targets(network, target, leads), aim)


def _targets(network: Network, target: Network, rows: TensorDictBase) -> torch.Tensor:
    """The targets of the rows, read off the loss of a network whose Q is 0 for the played action of every row."""
    following, legal = unpack_observation(SPEC, rows["successor"])
    chosen = q_values(network, following, legal).argmax(-1, keepdim=True)
    losses = []
    for number in range(len(rows)):
        row = rows[number : number + 1]
        observation, mask = unpack_observation(SPEC, row["observation"])
        played = q_values(network, observation, mask)[0, row["action"].long()]
        squared = q_loss(network, target, SPEC, row)[0]
        aim = row["reward"] + q_values(target, following, legal)[number, chosen[number]]
        torch.testing.assert_close(squared, (played - aim).square().squeeze())
        losses.append(aim)
    return torch.cat(losses).detach()


def test_imitation_is_the_log_loss_of_the_masked_policy(rows: TensorDictBase) -> None:
    network = _network(1)
    observation, mask = unpack_observation(SPEC, rows["observation"])
    probs = torch.as_tensor(NetworkPolicy((network, network)).action_probs(observation, mask))
    expected = -probs.gather(1, rows["action"].long()[:, None]).log().mean()
    torch.testing.assert_close(imitation_loss(network, SPEC, rows), expected)


def test_each_memory_holds_the_rows_it_should() -> None:
    learners = _learners()
    rollouts = _rollouts(learners)
    found: TensorDictBase = torch.cat([rollouts.collect(0.2)[1] for _ in range(3)])
    rollouts = _rollouts(learners)
    for _ in range(3):
        _, transitions = rollouts.collect(0.2)
        for learner in learners:
            learner.keep(transitions)
    seat = SPEC.slices["state"].start + 2
    for learner in learners:
        own = found[found["player"] == learner.seat]
        replay, reservoir = learner.replay.rows, learner.reservoir.rows
        for key in ("observation", "successor", "action", "reward", "over"):
            assert torch.equal(replay[key], own[key]), key
        assert set(replay.keys()) == {"observation", "successor", "action", "reward", "over"}
        assert (replay["observation"][:, seat] == learner.seat).all()
        assert (replay["successor"][~replay["over"]][:, seat] == learner.seat).all()
        best = own[own["best_response"]]
        assert 0 < len(best) < len(own)
        assert set(reservoir.keys()) == {"observation", "action"}
        assert torch.equal(reservoir["observation"], best["observation"])
        assert torch.equal(reservoir["action"], best["action"])


def test_the_target_is_copied_when_it_is_due() -> None:
    learner = _learners(br_target_update_freq=4)[0]
    learner.keep(_rollouts(_learners()).collect(0.2)[1])
    start = copy.deepcopy(learner.response.state_dict())
    learner.improve_response(3)
    _same(learner.state_dict()["target"], start)
    learner.improve_response(1)
    _same(learner.state_dict()["target"], learner.response.state_dict())
    copied = copy.deepcopy(learner.response.state_dict())
    learner.improve_response(3)
    _same(learner.state_dict()["target"], copied)


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_nothing_is_learned_without_rows_or_steps() -> None:
    learner = _learners()[1]
    assert learner.improve_response(5) == learner.improve_average(5) == {}
    learner.keep(_rollouts(_learners()).collect(0.2)[1])
    assert learner.improve_response(0) == learner.improve_average(0) == {}
    assert learner.improve_response(2).keys() == {"br_loss", "q_played", "q_best"}
    assert learner.improve_average(2).keys() == {"avg_loss"}


@pytest.mark.parametrize("kind", ["response", "average"])
def test_a_loss_that_is_not_finite_names_the_learning_rate(kind: str) -> None:
    learner = _learners()[0]
    learner.keep(_rollouts(_learners()).collect(0.2)[1])
    with torch.no_grad():
        for parameter in getattr(learner, kind).parameters():
            parameter.fill_(torch.nan)
    flag = {"response": "--br-lr", "average": "--avg-lr"}[kind]
    with pytest.raises(FloatingPointError, match=rf"^the loss is not finite; try a smaller {flag}\.$"):
        getattr(learner, f"improve_{kind}")(1)


@pytest.mark.slow
def test_the_average_converges_to_the_frequencies_of_a_frozen_best_response() -> None:
    """The Q networks stay as they are; the average networks must find their epsilon-greedy play."""
    spec, epsilon = GAMES["mini-a"].with_observation("history"), 0.3
    learners = _learners(spec, LARGER, avg_lr=3e-3, avg_batch_size=512)
    for number, learner in enumerate(learners):
        learner.response.load_state_dict(_network(10 + number, spec, config=LARGER).state_dict())
    rollouts = _rollouts(learners, spec, eta=0.5, num_envs=512)
    for _ in range(40):
        _, transitions = rollouts.collect(epsilon)
        for learner in learners:
            learner.keep(transitions)
            learner.improve_average(20)
    for learner in learners:
        _at_rate(learner._average_optimizer, 3e-4)
        learner.improve_average(300)
        observation, _ = unpack_observation(spec, learner.reservoir.rows["observation"])
        states, counts = observation.unique(dim=0, return_counts=True)
        assert len(states) == (12, 48)[learner.seat]
        assert counts.min() > 300
        mask = unpack_observation(spec, pack_observation(spec, states))[1]
        greedy = torch.nn.functional.one_hot(q_values(learner.response, states, mask).argmax(-1), mask.shape[1])
        expected = (1 - epsilon) * greedy + epsilon * mask / mask.sum(-1, keepdim=True)
        found = learner.average(states)[0].detach().masked_fill(~mask, -torch.inf).softmax(-1)
        assert torch.equal(found.argmax(-1), expected.argmax(-1))
        assert float((found - expected).abs().sum(-1).mean()) < 0.06


def _at_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


@pytest.mark.slow
@pytest.mark.parametrize("game", ["mini-a", "mini-b"])
def test_q_converges_to_the_exact_values_of_a_best_response(game: str) -> None:
    """Against nearly uniform opponents that stay as they are, over what both seats' play reaches."""
    spec = GAMES[game].with_observation("history")
    learners = _learners(
        spec, LARGER, br_lr=3e-3, br_batch_size=512, br_target_update_freq=100, br_buffer_size=1_000_000
    )
    for number, learner in enumerate(learners):
        learner.average.load_state_dict(_network(20 + number, spec, 0.2, {**LARGER, "values": False}).state_dict())
    rollouts = _rollouts(learners, spec, eta=1e-9, num_envs=2048)
    for _ in range(12):
        _, transitions = rollouts.collect(0.0)
        for learner in learners:
            learner.keep(transitions)
    for rate in (3e-3, 1e-3, 3e-4):
        for learner in learners:
            _at_rate(learner._response_optimizer, rate)
            learner.improve_response(400)
    table = tabular_game(spec)
    profile = policy_profile(table, NetworkPolicy((learners[0].average, learners[1].average)))
    for seat, learner in enumerate(learners):
        against, plan = flow(table, realisation(table, profile[1 - seat])), realisation(table, profile[seat])
        response, best = best_response(table, seat, against)
        exact, _ = action_values(table, seat, against, response)
        greedy, error, weight = [], 0.0, 0.0
        for decision, worth, played in zip(range(seat, spec.max_turns, 2), exact, profile[seat], strict=True):
            chance = history_weights(table, decision, against)[:, None, None]
            reach = own_reach(table, plan[decision // 2 - 1]) if decision > 1 else np.ones(played.shape[:2])
            share = played * (reach * table.chance)[:, :, None] * chance
            q = _table_of_q(learner.response, spec, table, decision)
            error, weight = error + float((np.abs(q - worth / chance) * share).sum()), weight + float(share.sum())
            greedy.append((q.argmax(2)[:, :, None] == np.arange(q.shape[2])).astype(np.float64))
        assert error / weight < 0.02
        _, earned = action_values(table, seat, against, tuple(greedy))
        _, before = action_values(table, seat, against, profile[seat])
        gain, possible = (earned - before) @ table.chance, (best - before) @ table.chance
        assert possible > 0.05
        assert 0.97 * possible < gain <= possible + 1e-9


def _table_of_q(network: Network, spec: GameSpec, table: TabularGame, decision: int) -> Any:
    """Q in every information set of a decision, `[H, T, A]`."""
    offers = history_offers(spec.num_offers, decision)
    history, kind = np.divmod(np.arange(len(offers) * table.num_types), table.num_types)
    shown, mask = decision_views(spec, table.values[kind], table.outside[kind], decision, offers[history])
    q = q_values(network, torch.from_numpy(shown), torch.from_numpy(mask)).detach().numpy()
    return q[:, table.actions(decision)].reshape(len(offers), table.num_types, -1)

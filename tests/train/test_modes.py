"""Play of fictitious self-play: modes are drawn once a game and seat, and each plays what it should."""

from __future__ import annotations

import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_train.modes import ModePlayers, ModeRollouts, mode_metrics
from bargain_train.networks import Network, build_network
from bargain_train.q_updates import q_values
from scipy.stats import chi2
from tensordict import TensorDict, TensorDictBase

SPEC = GAMES["mini-b"].with_observation("history")


def _network(seed: int, spec: GameSpec = SPEC) -> Network:
    torch.manual_seed(seed)
    network = build_network({"network": "mlp", "hidden_dims": [16]}, spec)
    for parameter in network.policy_head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def _rollouts(
    eta: float = 0.3, num_envs: int = 40, length: int = 9, spec: GameSpec = SPEC
) -> tuple[ModeRollouts, list[Network]]:
    networks = [_network(number, spec) for number in range(4)]
    responses, averages = (networks[0], networks[1]), (networks[2], networks[3])
    players = ModePlayers(spec, responses, averages, num_envs=num_envs, eta=eta, seed=3)
    return ModeRollouts(spec, players, length=length, seed=3), networks


def _play(rollouts: ModeRollouts, count: int, epsilon: float = 0.0) -> TensorDictBase:
    return torch.cat([rollouts.collect(epsilon)[0].clone() for _ in range(count)])


@pytest.mark.parametrize("eta", [0.1, 0.5])
def test_each_seat_of_each_game_has_one_mode_and_their_share_is_eta(eta: float) -> None:
    rows = _play(_rollouts(eta, num_envs=400)[0], 12)
    game = torch.cat([torch.zeros(1, 400, dtype=torch.int64), rows["done"].long().cumsum(0)[:-1]])
    drawn = []
    for n in range(400):
        for number in range(int(game[-1, n]) + 1):
            modes = rows["modes"][game[:, n] == number, n]
            assert (modes == modes[0]).all()
            drawn.append(modes[0])
    modes = torch.stack(drawn).float()
    games = len(modes)
    assert games > 10_000
    error = (eta * (1 - eta) / games) ** 0.5
    assert (modes.mean(0) - eta).abs().max() < 4 * error
    both = eta * eta
    assert abs(float(modes.prod(1).mean()) - both) < 4 * (both * (1 - both) / games) ** 0.5
    own = rows["modes"].gather(-1, rows["player"].unsqueeze(-1)).squeeze(-1)
    assert torch.equal(rows["best_response"], own)


def test_modes_of_one_game_say_nothing_about_those_of_the_next() -> None:
    rows = _play(_rollouts(0.5, num_envs=500)[0], 12)
    changed = rows["modes"][1:][rows["done"][:-1]] != rows["modes"][:-1][rows["done"][:-1]]
    assert abs(float(changed.float().mean()) - 0.5) < 4 * 0.5 / changed.numel() ** 0.5


def test_best_response_mode_takes_the_greatest_q_and_average_mode_draws_from_the_average_network() -> None:
    rollouts, networks = _rollouts(0.5, num_envs=500)
    rows = _play(rollouts, 10).flatten()
    for seat in range(2):
        own = rows[(rows["player"] == seat) & rows["best_response"]]
        assert len(own) > 5000
        q = q_values(networks[seat], own["observation"], own["action_mask"])
        assert torch.equal(own["action"], q.argmax(-1))
        own = rows[(rows["player"] == seat) & ~rows["best_response"]]
        logits, _ = networks[2 + seat](own["observation"])
        probs = logits.masked_fill(~own["action_mask"], -torch.inf).softmax(-1).detach()
        expected = probs.sum(0)
        counts = own["action"].bincount(minlength=probs.shape[-1])
        statistic = float(((counts - expected) ** 2 / (probs * (1 - probs)).sum(0)).sum())
        assert statistic < chi2.ppf(1 - 1e-5, probs.shape[-1])


def test_a_share_epsilon_of_the_best_response_is_uniform_over_legal_actions() -> None:
    rollouts, networks = _rollouts(0.5, num_envs=1000)
    epsilon = 0.4
    rows = _play(rollouts, 10, epsilon).flatten()
    own = rows[(rows["player"] == 1) & rows["best_response"]]
    greedy = q_values(networks[1], own["observation"], own["action_mask"]).argmax(-1)
    legal = own["action_mask"].sum(-1)
    expected = 1 - epsilon + epsilon / legal
    error = float((expected * (1 - expected)).sum().sqrt()) / len(own)
    assert abs(float((own["action"] == greedy).float().mean() - expected.mean())) < 4 * error
    others = own["action_mask"].clone().scatter_(1, greedy[:, None], False) * (epsilon / legal)[:, None]
    counts = torch.nn.functional.one_hot(own["action"], others.shape[1]) * (own["action"] != greedy)[:, None]
    assert ((counts.sum(0) - others.sum(0)).abs() <= 4.5 * (others.sum(0)).sqrt()).all()


@pytest.mark.parametrize("spec", [SPEC, GameSpec()])
def test_no_illegal_action_is_played(spec: GameSpec) -> None:
    rows = _play(_rollouts(0.5, num_envs=100, spec=spec)[0], 6, 0.5).flatten()
    assert rows["action_mask"].gather(1, rows["action"].unsqueeze(-1)).all()


def test_a_step_costs_at_most_one_pass_for_each_seat_and_mode() -> None:
    rollouts, networks = _rollouts(0.5)
    calls: list[int] = []
    for network in networks:
        network.trunk.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    rows = _play(rollouts, 1)
    assert len(calls) <= 4 * 9
    assert sum(calls) == rows.numel()


def test_a_stored_state_goes_on_exactly() -> None:
    first, second = _rollouts()[0], _rollouts()[0]
    first.collect(0.1)
    second.collect(0.5)
    second.collect(0.5)
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        expected, found = first.collect(0.1), second.collect(0.1)
        for mine, other in zip(expected, found, strict=True):
            for key in mine.keys():  # noqa: SIM118
                assert torch.equal(mine[key], other[key]), key
    first.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        first.collect(0.1)


def test_metrics_compare_the_payoffs_of_both_modes() -> None:
    done = torch.tensor([[True, True, False, True, True]])
    modes = torch.tensor([[[True, False], [False, False], [True, True], [True, True], [False, False]]])
    reward = torch.tensor([[[0.9, 0.1], [0.4, 0.3], [7.0, 7.0], [0.5, 0.8], [0.2, 0.5]]])
    rollout = TensorDict({"done": done, "modes": modes, "reward": reward}, [1, 5])
    assert mode_metrics(rollout) == pytest.approx(
        {"eta": 3 / 8, "response_gain_0": 0.7 - 0.3, "response_gain_1": 0.8 - 0.3}
    )
    assert mode_metrics(rollout[:, 2:3]) == {}
    assert mode_metrics(rollout[:, :1]) == {"eta": 0.5}

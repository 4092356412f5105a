"""The distance from equilibrium that training measures: exact on small games, bounds that hold on large ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_eval import load_policy
from bargain_eval.by_seat import BySeat
from bargain_eval.exact import Budget, evaluate, policy_profile, tabular_game
from bargain_eval.mixture import Mixture
from bargain_train import nash_conv
from bargain_train.nash_conv import ROUTINE, measure_nash_conv
from bargain_train.networks import build_network
from bargain_train.policies import NetworkPolicy

UNIFORM = {"mini-a": 0.3850694444, "mini-b": 0.4697337963, "mini-c": 0.4928708895}
SMALL = Budget(types=32, own_types=16, counters=1, repeats=3, games=1024, mimic_types=16, mimic_games=16)


def network_policy(spec: GameSpec, seed: int) -> NetworkPolicy:
    torch.manual_seed(seed)
    networks = [build_network({"network": "mlp", "hidden_dims": [16]}, spec) for _ in range(2)]
    for network in networks:
        with torch.no_grad():
            for weights in network.policy_head.parameters():
                weights.mul_(300.0)  # far from uniform
    return NetworkPolicy((networks[0], networks[1]))


class ActsOnly:
    """A network's player that does not tell its probabilities and has a generator of its own."""

    observation: Any = "standing"
    device = "cpu"

    def __init__(self, spec: GameSpec) -> None:
        self._policy = load_policy("random", spec)
        self.rng = np.random.default_rng(3)

    def get_action(self, obs: Any, action_mask: Any, rng: Any = None, game_ids: Any = None) -> Any:
        return self._policy.get_action(obs, action_mask, self.rng if rng is None else rng, game_ids)


@pytest.mark.parametrize("game", list(UNIFORM))
def test_uniform_play_has_its_known_nash_conv(game: str) -> None:
    found = measure_nash_conv(load_policy("random", GAMES[game]), GAMES[game], 0)
    assert found["nash_conv"] == pytest.approx(UNIFORM[game], abs=1e-9)
    assert set(found) == {"nash_conv", "gain_0", "gain_1"}


@pytest.mark.parametrize("game", list(UNIFORM))
@pytest.mark.parametrize("name", ["tioli", "always_walk"])
def test_equilibria_of_small_games_have_none(game: str, name: str) -> None:
    assert measure_nash_conv(load_policy(name, GAMES[game]), GAMES[game], 0)["nash_conv"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("observation", ["standing", "history"])
def test_networks_get_the_exact_number_of_small_games(observation: Any) -> None:
    spec = GAMES["mini-b"].with_observation(observation)
    policy, game = network_policy(spec, 1), tabular_game(spec)
    exact = evaluate(game, policy_profile(game, policy))
    found = measure_nash_conv(policy, spec, 0)
    assert found == {"nash_conv": exact.nash_conv, "gain_0": exact.gains[0], "gain_1": exact.gains[1]}
    assert exact.nash_conv != pytest.approx(UNIFORM["mini-b"], abs=1e-3)


def test_mixtures_by_seat_get_the_exact_number() -> None:
    spec, game = GAMES["mini-b"], tabular_game(GAMES["mini-b"])
    members = [network_policy(spec, seed) for seed in range(3)]
    first, second = Mixture(members, [0.5, 0.3, 0.2], spec), Mixture(members[:2], [0.9, 0.1], spec)
    exact = evaluate(game, policy_profile(game, first, second)).nash_conv
    assert measure_nash_conv(BySeat((first, second), spec), spec, 0)["nash_conv"] == pytest.approx(exact, abs=1e-12)


def test_the_limit_of_the_tables_counts_all_members(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = GAMES["mini-b"]
    members = [network_policy(spec, seed) for seed in range(3)]
    monkeypatch.setattr(nash_conv, "EXACT_BYTES", 2 * 24_288)  # two profiles of mini-b
    pair, three = (Mixture(members[:count], [1 / count] * count, spec) for count in (2, 3))
    assert "nash_conv" in measure_nash_conv(pair, spec, 0, budget=SMALL)
    assert "nash_conv_lower" in measure_nash_conv(three, spec, 0, budget=SMALL)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_cover_the_exact_number(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = GAMES["mini-c"]
    policy = network_policy(spec, seed)
    exact = measure_nash_conv(policy, spec, 0)
    monkeypatch.setattr(nash_conv, "EXACT_BYTES", 1)
    found = measure_nash_conv(policy, spec, seed)
    for name in ("nash_conv", "gain_0", "gain_1"):
        pattern = "nash_conv_{}" if name == "nash_conv" else f"gain_{{}}_{name[-1]}"
        lower, number, upper = found[pattern.format("lower")], exact[name], found[pattern.format("upper")]
        assert lower is not None
        assert upper is not None
        assert number is not None
        assert lower <= number <= upper
        assert upper - lower < 0.2
    for seat in range(2):
        regret, gain = found[f"mimic_regret_{seat}"], exact[f"gain_{seat}"]
        assert regret is not None
        assert gain is not None
        assert regret <= gain + 0.02


def test_players_without_probabilities_have_lower_bounds_alone() -> None:
    policy = ActsOnly(GAMES["mini-b"])
    before = policy.rng.bit_generator.state
    found = measure_nash_conv(policy, GAMES["mini-b"], 1)
    assert policy.rng.bit_generator.state == before
    assert found["nash_conv_upper"] is found["gain_upper_0"] is found["gain_upper_1"] is None
    lower, regret = found["nash_conv_lower"], found["mimic_regret_1"]
    assert lower is not None
    assert regret is not None
    assert 0.05 < lower <= UNIFORM["mini-b"]
    assert 0.05 < regret <= 0.21053241


def test_large_mixtures_have_lower_bounds_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nash_conv, "EXACT_BYTES", 1)
    spec = GAMES["mini-b"]
    members = [network_policy(spec, seed) for seed in range(nash_conv.MOST_MEMBERS + 1)]
    uppers = []
    for count in (len(members) - 1, len(members)):
        found = measure_nash_conv(Mixture(members[:count], [1 / count] * count, spec), spec, 0, budget=SMALL)
        assert found["nash_conv_lower"] is not None
        uppers.append(found["nash_conv_upper"])
    assert uppers[0] is not None
    assert uppers[1] is None


def test_the_numbers_depend_on_the_seed_and_not_on_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nash_conv, "EXACT_BYTES", 1)
    spec = GameSpec(item_quantities=(2, 1), max_value=20)
    policy = network_policy(spec, 0)
    torch_before, own_before = torch.get_rng_state(), policy._rng.bit_generator.state
    first, second, other = (
        measure_nash_conv(policy, spec, seed, budget=SMALL, threads=threads)
        for seed, threads in ((2**63, 1), (2**63, 3), (2**63 + 1, 1))
    )
    assert first == second
    assert first["nash_conv_lower"] != other["nash_conv_lower"]
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert policy._rng.bit_generator.state == own_before


@pytest.mark.slow
def test_the_interval_of_the_standard_game_covers_what_is_known() -> None:
    uniform = measure_nash_conv(load_policy("random"), GameSpec(), 2**63, budget=ROUTINE)
    lower, upper = uniform["nash_conv_lower"], uniform["nash_conv_upper"]
    assert lower is not None
    assert upper is not None
    assert 0.52 < lower <= 0.545053 <= upper < 0.56
    tioli = measure_nash_conv(load_policy("tioli"), GameSpec(), 2**63, budget=ROUTINE)
    assert tioli["nash_conv_lower"] == 0.0
    assert tioli["nash_conv_upper"] is not None
    assert tioli["nash_conv_upper"] < 0.015


@pytest.mark.slow
def test_a_history_network_on_the_standard_game_has_a_lower_bound() -> None:
    spec = GameSpec().with_observation("history")
    torch.manual_seed(0)
    network = build_network({"network": "mlp", "hidden_dims": [16]}, spec)  # nearly uniform
    found = measure_nash_conv(NetworkPolicy((network, network)), spec, 0)
    assert found["nash_conv_upper"] is None
    assert found["nash_conv_lower"] is not None
    assert 0.1 < found["nash_conv_lower"] < 0.56

"""The exact oracle: known numbers, agreement with the exact evaluation, what it keeps, and the double oracle by it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_eval.baselines import AlwaysWalkPolicy
from bargain_eval.equilibria import TioliPolicy
from bargain_eval.exact import (
    best_response,
    best_response_values,
    evaluate,
    flow,
    policy_profile,
    policy_strategy,
    realisation,
)
from bargain_eval.metagame.solvers import solve
from bargain_eval.mixture import Mixture
from bargain_eval.policy import Policy
from bargain_train import exact_oracle
from bargain_train.exact_oracle import ExactOracle
from bargain_train.networks import Network, build_network
from bargain_train.policies import NetworkPolicy
from bargain_train.table_network import network_of_strategy

# Computed by another implementation: gains of both seats and the payoff of each from uniform play; always walking.
UNIFORM = {
    "mini-a": ((0.23229167, 0.15277778), 0.60625),
    "mini-b": ((0.25920139, 0.21053241), 0.60625),
    "mini-c": ((0.27441368, 0.21845721), 0.55307382),
}
WALK = {"mini-a": 0.67708333, "mini-b": 0.67708333, "mini-c": 0.59287919}


def learned(name: str, seed: int, observation: Any = "standing") -> Network:
    torch.manual_seed(seed)
    network = build_network({"network": "mlp", "hidden_dims": [16]}, GAMES[name].with_observation(observation))
    with torch.no_grad():
        for weights in network.policy_head.parameters():
            weights.mul_(300.0)  # far from uniform
    return network


def policy_of(network: Network) -> NetworkPolicy:
    return NetworkPolicy((network, network))


def mixture_of(networks: list[Network], shares: list[float]) -> Mixture:
    return Mixture([policy_of(network) for network in networks], shares, networks[0].spec_of_game)


def gains(oracle: ExactOracle, first: Network, second: Network) -> list[float]:
    """Returns what each seat of a pair gains by its best response."""
    responses = oracle.respond(0, [(second, 1.0)]), oracle.respond(1, [(first, 1.0)])
    payoffs = oracle.payoffs(first, second)
    best = oracle.payoffs(responses[0], second)[0], oracle.payoffs(first, responses[1])[1]
    return [best[seat] - payoffs[seat] for seat in range(2)]


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_play_has_its_known_numbers(name: str) -> None:
    oracle = ExactOracle(GAMES[name])
    first, second = oracle.initial(), oracle.initial()
    expected, payoff = UNIFORM[name]
    assert oracle.payoffs(first, second) == pytest.approx((payoff, payoff), abs=5.1e-9)
    assert gains(oracle, first, second) == pytest.approx(expected, abs=5.1e-9)


@pytest.mark.parametrize("name", WALK)
@pytest.mark.parametrize("kind", [AlwaysWalkPolicy, TioliPolicy])
def test_nothing_is_gained_in_an_equilibrium(name: str, kind: type[Policy]) -> None:
    oracle, policy = ExactOracle(GAMES[name]), kind(GAMES[name])  # type: ignore[call-arg]
    first, second = (
        network_of_strategy(oracle.game, seat, policy_strategy(oracle.game, policy, seat)) for seat in range(2)
    )
    assert gains(oracle, first, second) == pytest.approx([0, 0], abs=1e-14)
    if kind is AlwaysWalkPolicy:
        assert oracle.payoffs(first, second) == pytest.approx((WALK[name],) * 2, abs=5.1e-9)


@pytest.mark.parametrize("name", UNIFORM)
@pytest.mark.parametrize("observations", [("standing", "history"), ("history", "standing")])
def test_payoffs_and_gains_are_those_of_the_exact_evaluation(name: str, observations: tuple[str, str]) -> None:
    oracle = ExactOracle(GAMES[name].with_observation("history"))
    first, second = (learned(name, seed, kind) for seed, kind in enumerate(observations))
    exact = evaluate(oracle.game, policy_profile(oracle.game, policy_of(first), policy_of(second)))
    assert oracle.payoffs(first, second) == pytest.approx(exact.payoffs, abs=1e-14)
    assert oracle.agreement_rate(first, second) == pytest.approx(exact.agreement_rate, abs=1e-14)
    assert gains(oracle, first, second) == pytest.approx(exact.gains, abs=1e-13)
    assert exact.nash_conv > 0.05


@pytest.mark.parametrize("seat", [0, 1])
def test_a_response_to_a_mixture_is_the_best_against_one_opponent_a_game(seat: int) -> None:
    oracle = ExactOracle(GAMES["mini-b"])
    game, opponents = oracle.game, [learned("mini-b", 0), learned("mini-b", 1, "history"), oracle.initial()]
    shares = np.array([0.5, 0.2, 0.3])
    mixture = policy_strategy(game, mixture_of(opponents, shares.tolist()), 1 - seat)
    against = flow(game, realisation(game, mixture))
    response = oracle.respond(seat, [(network, 7 * share) for network, share in zip(opponents, shares, strict=True)])
    for found, expected in zip(
        policy_strategy(game, policy_of(response), seat), best_response(game, seat, against)[0], strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    pairs = [(response, other) if seat == 0 else (other, response) for other in opponents]
    earned = shares @ [oracle.payoffs(*pair)[seat] for pair in pairs]
    assert earned == pytest.approx(best_response_values(game, seat, against) @ game.chance, abs=1e-14)


def test_a_member_without_weight_does_not_count() -> None:
    oracle = ExactOracle(GAMES["mini-b"])
    one, other = learned("mini-b", 0), learned("mini-b", 1)
    responses = [oracle.respond(0, [(one, 1.0)]), oracle.respond(0, [(one, 1.0), (other, 0.0)])]
    states = [response.state_dict() for response in responses]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_network_is_asked_once_a_seat_and_kept_as_long_as_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(game: Any, policy: Any, seat: int) -> Any:
        asked.append(seat)
        return policy_strategy(game, policy, seat)

    monkeypatch.setattr(exact_oracle, "policy_strategy", counted)
    oracle = ExactOracle(GAMES["mini-a"])
    network, other = oracle.initial(), learned("mini-a", 0)
    for _ in range(3):
        oracle.payoffs(network, network)
        oracle.payoffs(other, network)
        oracle.respond(1, [(network, 0.5), (other, 0.5)])
    assert asked == [0, 1, 0]
    kept = weakref.ref(network)
    del network
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("name", UNIFORM)
def test_the_double_oracle_from_uniform_play_nears_an_equilibrium(name: str) -> None:
    oracle = ExactOracle(GAMES[name])
    first, second = [oracle.initial()], [oracle.initial()]
    nash_conv, total = {}, {}
    for iteration in range(1, 6):
        payoffs = np.array([[oracle.payoffs(row, column) for column in second] for row in first])
        found = solve(payoffs, "max_welfare")
        responses = (
            oracle.respond(0, list(zip(second, found.column, strict=True))),
            oracle.respond(1, list(zip(first, found.row, strict=True))),
        )
        best = (
            found.column @ [oracle.payoffs(responses[0], network)[0] for network in second],
            found.row @ [oracle.payoffs(network, responses[1])[1] for network in first],
        )
        nash_conv[iteration], total[iteration] = sum(best) - sum(found.payoff), sum(found.payoff)
        mixtures = (mixture_of(first, found.row.tolist()), mixture_of(second, found.column.tolist()))
        exact = evaluate(oracle.game, policy_profile(oracle.game, *mixtures))
        measured = oracle.nash_conv(
            list(zip(first, found.row, strict=True)), list(zip(second, found.column, strict=True))
        )
        assert measured == pytest.approx(exact.nash_conv, abs=1e-13)
        assert (nash_conv[iteration], total[iteration]) == pytest.approx((exact.nash_conv, exact.welfare), abs=1e-13)
        first, second = [*first, responses[0]], [*second, responses[1]]
    assert nash_conv[1] == pytest.approx(sum(UNIFORM[name][0]), abs=1.1e-8)
    assert total[2] == pytest.approx(2 * WALK[name], abs=1.1e-8)  # everybody walks
    assert min(nash_conv.values()) <= 0.012
    if name == "mini-a":
        assert nash_conv[3] == pytest.approx(0, abs=1e-6)
        assert total[3] == pytest.approx(1.39970341, abs=5.1e-9)


def test_too_large_a_game_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="--oracle exact needs a small game, and this game is too large") as error:
        ExactOracle(GameSpec())
    assert "\n" not in str(error.value)


def test_opponents_that_cannot_be_mixed_are_refused() -> None:
    oracle = ExactOracle(GAMES["mini-a"])
    network = oracle.initial()
    for weights in ([], [0.0], [1.0, -0.5], [float("nan")]):
        with pytest.raises(ValueError, match="opponents need weights that are not negative and not all zero"):
            oracle.respond(0, [(network, weight) for weight in weights])
    with pytest.raises(ValueError, match="was made for another game"):
        oracle.payoffs(network, learned("mini-b", 0))

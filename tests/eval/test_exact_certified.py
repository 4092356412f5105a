"""Certificates hold the known best responses of the standard game, and the exact NashConv of small ones."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.baselines import AlwaysWalkPolicy, FairSplitPolicy, RandomPolicy
from bargain_eval.cli import main
from bargain_eval.exact import TabularPolicy, best_response, evaluate, policy_profile, tabular_game
from bargain_eval.exact.certified import Budget, Certificate, certify
from bargain_eval.exact.mimic import mimic_value
from bargain_eval.exact.values import flow, realisation
from bargain_eval.mixture import Mixture
from bargain_eval.policy import Policy
from bargain_eval.registry import load_policy
from frozen_policies import ArbitraryPolicy

SMALL = Budget(
    types=256, own_types=32, counters=3, repeats=3, games=8192, mimic_types=32, mimic_games=32, responder_games=8192
)
MINI = GAMES["mini-b"]


def contains(low: float, number: float, high: float | None, slack: float = 0.0) -> bool:
    assert high is not None
    return low - slack <= number <= high + slack


@pytest.fixture(scope="module")
def uniform() -> Certificate:
    policy = RandomPolicy()
    return certify((policy, policy), budget=dataclasses.replace(SMALL, own_types=64), seed=3)


def test_uniform_play_has_its_known_best_responses(uniform: Certificate) -> None:
    for seat, (value, gain) in enumerate([(0.800648, 0.30012), (0.745459, 0.24493)]):
        bounds = uniform.seats[seat]
        assert contains(bounds.value_lower, value, bounds.value_upper)
        assert contains(bounds.gain_lower, gain, bounds.gain_upper)
        assert bounds.gain_lower > gain - 0.03
        assert bounds.estimates["plan"] > 0.97 * value
        assert bounds.estimates["plan"] == pytest.approx(bounds.estimates["upper"], abs=2e-4)
        assert contains(bounds.payoff - 4 * bounds.payoff_se, 0.500527, bounds.payoff + 4 * bounds.payoff_se)


def test_nash_conv_is_the_sum_of_the_gains(uniform: Certificate) -> None:
    assert contains(uniform.nash_conv_lower, 0.545053, uniform.nash_conv_upper)
    assert uniform.nash_conv_lower > 0.52
    assert uniform.total == pytest.approx(1.001053, abs=4 * uniform.total_se + 1e-3)
    assert uniform.agreement_rate == pytest.approx(0.493827, abs=0.01)


@pytest.mark.parametrize(
    ("name", "payoffs"),
    [("always_walk", (0.50104, 0.50104)), ("tioli", (0.634137, 0.58754))],
)
def test_equilibria_have_no_gain(name: str, payoffs: tuple[float, float]) -> None:
    policy = load_policy(name)
    found = certify((policy, policy), budget=SMALL, seed=1)
    assert found.nash_conv_lower == 0
    assert found.nash_conv_upper is not None
    assert found.nash_conv_upper < 0.02
    for bounds, payoff in zip(found.seats, payoffs, strict=True):
        assert bounds.gain_lower == 0
        assert bounds.payoff == pytest.approx(payoff, abs=0.003)
        assert bounds.estimates["plan"] <= payoff + 0.004


def test_the_second_movers_equilibrium_has_no_gain() -> None:
    policy = load_policy("tioli-second")
    found = certify((policy, policy), budget=SMALL, seed=1)
    assert found.nash_conv_lower == 0
    assert found.nash_conv_upper is not None
    assert found.nash_conv_upper < 0.02
    assert found.total > 1.2


def test_the_best_response_to_the_myopic_responder_is_known() -> None:
    policies = load_policy("always_walk"), load_policy("myopic")
    budget = dataclasses.replace(SMALL, types=1024, own_types=128, games=64)
    bounds = certify(policies, budget=budget, seed=2).seats[0]
    assert contains(bounds.value_lower, 0.6863, bounds.value_upper, slack=5e-4)
    assert bounds.value_upper is not None
    assert bounds.value_upper - bounds.value_lower < 0.02


@pytest.mark.parametrize("name", ["mini-b", "mini-c"])
def test_intervals_cover_the_exact_nash_conv(name: str) -> None:
    spec = GAMES[name]
    covered = 0
    for seed in range(10):
        policy = ArbitraryPolicy(spec, seed)
        found = certify((policy, policy), spec, budget=dataclasses.replace(SMALL, own_types=64), seed=seed)
        game = tabular_game(spec)
        exact = evaluate(game, policy_profile(game, policy))
        covered += contains(found.nash_conv_lower, exact.nash_conv, found.nash_conv_upper)
        assert found.agreement_rate == pytest.approx(exact.agreement_rate, abs=0.02)
    assert covered >= 9


def test_a_mixture_is_certified_as_one_opponent() -> None:
    spec = GAMES["mini-b"]
    mixture = Mixture([FairSplitPolicy(spec), AlwaysWalkPolicy(spec), ArbitraryPolicy(spec, 1)], [0.5, 0.2, 0.3], spec)
    found = certify((mixture, mixture), spec, budget=dataclasses.replace(SMALL, own_types=64), seed=5)
    game = tabular_game(spec)
    exact = evaluate(game, policy_profile(game, mixture))
    assert contains(found.nash_conv_lower, exact.nash_conv, found.nash_conv_upper)


class HistoryReader(RandomPolicy):
    observation: Any = "history"


class Silent:
    """Acts without telling its probabilities."""

    observation: Any = "standing"
    device = "cpu"

    def __init__(self) -> None:
        self.get_action = AlwaysWalkPolicy(MINI).get_action


@pytest.mark.parametrize(
    ("opponent", "why"),
    [(HistoryReader(MINI), "it reads the history"), (Silent(), "it does not tell its action probabilities")],
)
def test_without_tables_there_are_lower_bounds_alone(opponent: Policy, why: str) -> None:
    found = certify((RandomPolicy(MINI), opponent), MINI, budget=SMALL, seed=0)
    assert found.no_upper == {"seat 1": why}
    assert found.nash_conv_upper is None
    assert found.seats[0].gain_upper is None
    assert found.seats[0].value_upper is None
    assert set(found.seats[0].estimates) == {"mimic"}
    assert found.seats[1].gain_upper is not None


def test_a_given_responder_is_a_lower_bound() -> None:
    spec = GAMES["mini-b"]
    game, opponent = tabular_game(spec), HistoryReader(spec)
    profile = policy_profile(game, opponent)
    plan, values = best_response(game, 0, flow(game, realisation(game, profile[1])))
    responder = TabularPolicy(game, (plan, profile[1]))
    found = certify((opponent, opponent), spec, budget=SMALL, responders=((responder,), ()), seed=1)
    best = float(game.chance @ values)
    assert found.seats[0].estimates["responder 0"] == pytest.approx(best, abs=0.01)
    assert best - 0.03 < found.seats[0].value_lower <= best + 1e-6
    assert found.seats[0].gain_lower > 0.2


def test_the_same_seed_gives_the_same_certificate_on_any_number_of_threads() -> None:
    spec, policy = GAMES["mini-b"], RandomPolicy(GAMES["mini-b"])
    one, two, other = (
        dataclasses.replace(certify((policy, policy), spec, budget=SMALL, seed=seed, threads=threads), seconds=0.0)
        for seed, threads in ((4, 1), (4, 2), (5, 1))
    )
    assert one == two
    assert one != other


def test_mimicking_finds_a_policy_that_ignores_its_type() -> None:
    """Seat 0 asks for everything where its first value is low and gives all away where it is high."""

    class Careless(FairSplitPolicy):
        def _decide(self, obs: Any, action_mask: Any) -> Any:
            seen = self.spec.read_observation(obs)
            accept = super()._decide(obs, action_mask)
            generous = seen.values[:, 0] > 50
            return np.where(seen.seat == 1, accept, np.where(generous, self.spec.num_offers - 1, 40))

    pair = Careless(), FairSplitPolicy()
    rng = np.random.default_rng(0)
    mimic = mimic_value(pair, GameSpec(), 0, rng)
    found = certify(pair, budget=dataclasses.replace(SMALL, mimic_types=128), seed=0)
    assert mimic - found.seats[0].payoff > 0.1
    assert found.seats[0].value_upper is not None
    assert mimic < found.seats[0].value_upper + 0.01
    assert found.seats[0].gain_lower > 0.1


def test_nobody_gains_by_mimicking_where_all_types_walk() -> None:
    policy, spec = AlwaysWalkPolicy(), GameSpec()
    value = mimic_value((policy, policy), spec, 1, np.random.default_rng(0), types=4096)
    assert value == pytest.approx(0.50104, abs=1e-3)


@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize("name", ["mini-b", "mini-c"])
def test_mimicking_never_beats_the_best_response(name: str, seat: int) -> None:
    spec = dataclasses.replace(GAMES[name], discount=0.9)
    game, policy = tabular_game(spec), ArbitraryPolicy(spec, 2)
    exact = evaluate(game, policy_profile(game, policy))
    values = [mimic_value((policy, policy), spec, seat, np.random.default_rng(seed)) for seed in range(10)]
    error = np.std(values, ddof=1) / np.sqrt(10)
    assert np.mean(values) - 4 * error <= exact.best_payoffs[seat]
    assert np.mean(values) > exact.payoffs[seat] - 0.05


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--policy rondom", "random"),
        ("--policy random --repeats 2", "--repeats"),
        ("--policy random --confidence 1.5", "--confidence"),
        ("--policy random --game mini-b --rounds 3", "--game"),
        ("", "--policy"),
    ],
)
def test_bad_input_is_answered_by_one_sentence(flags: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["best-response", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_the_command_prints_a_table_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--policy random --policy-1 myopic --responder-0 tioli --game mini-b --types 64 --own-types 16 --games 256"
    assert main(["best-response", *flags.split()]) == 0
    printed = capsys.readouterr().out
    assert "NashConv" in printed
    assert "estimate: responder 0" in printed
    assert main(["best-response", *flags.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["policies"] == ["random", "myopic"]
    assert 0 <= found["nash_conv_lower"] <= found["nash_conv_upper"]
    assert found["budget"]["types"] == 64


def test_impossible_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 3"):
        Budget(repeats=1)
    with pytest.raises(ValueError, match="confidence"):
        certify((RandomPolicy(), RandomPolicy()), confidence=1.0)


def test_a_game_of_too_many_histories_has_no_upper_bound() -> None:
    spec = dataclasses.replace(GameSpec(), max_rounds=5)
    policy = AlwaysWalkPolicy(spec)
    found = certify((policy, policy), spec, budget=dataclasses.replace(SMALL, types=32), seed=0)
    assert found.no_upper == {f"seat {seat}": "the tree of public histories would be too large" for seat in range(2)}
    assert found.nash_conv_upper is None

"""A policy of two: each seat is played, and measured, as its own policy alone would be."""

from __future__ import annotations

import numpy as np
import pytest
from bargain_env import GAMES, make_engine
from bargain_eval import AlwaysWalkPolicy, GreedyPolicy, RandomPolicy
from bargain_eval.arena import play
from bargain_eval.by_seat import BySeat, policy_of_seat
from bargain_eval.exact import Budget, certify, evaluate, policy_profile, tabular_game
from bargain_eval.mixture import Mixture

SPEC = GAMES["mini-b"]


def test_each_seat_is_played_by_its_own_policy() -> None:
    both = BySeat((GreedyPolicy(SPEC), AlwaysWalkPolicy(SPEC)), SPEC)
    pair = play((GreedyPolicy(SPEC), AlwaysWalkPolicy(SPEC)), 500, 3, spec=SPEC)
    assert np.array_equal(play((both, both), 500, 3, spec=SPEC).payoff, pair.payoff)


def test_a_mixture_keeps_one_member_a_game() -> None:
    mixture = Mixture([AlwaysWalkPolicy(SPEC), GreedyPolicy(SPEC)], [0.5, 0.5], SPEC)
    both = BySeat((mixture, RandomPolicy(SPEC)), SPEC)
    rows = play((both, both), 2000, 3, spec=SPEC)
    walked = float((rows.decisions == 1).mean())
    expected = 0.5 + 0.5 * float(
        (play((GreedyPolicy(SPEC), RandomPolicy(SPEC)), 2000, 3, spec=SPEC).decisions == 1).mean()
    )
    assert walked == pytest.approx(expected, abs=0.04)


def test_exact_evaluation_sees_each_seats_policy() -> None:
    game = tabular_game(SPEC)
    both = BySeat((GreedyPolicy(SPEC), RandomPolicy(SPEC)), SPEC)
    expected = evaluate(game, policy_profile(game, GreedyPolicy(SPEC), RandomPolicy(SPEC)))
    assert evaluate(game, policy_profile(game, both)).nash_conv == expected.nash_conv


def test_the_certificate_has_upper_bounds_for_each_seats_policy() -> None:
    budget = Budget(types=64, own_types=16, counters=4, repeats=3, games=512)
    both = BySeat((RandomPolicy(SPEC), RandomPolicy(SPEC)), SPEC)
    found = certify((both, both), SPEC, budget=budget)
    assert not found.no_upper
    assert found.nash_conv_lower <= 0.4697337963 <= (found.nash_conv_upper or 0.0)


def test_one_row_is_answered_by_one_action() -> None:
    engine = make_engine(SPEC, 4)
    both = BySeat((AlwaysWalkPolicy(SPEC), GreedyPolicy(SPEC)), SPEC)
    assert both.get_action(engine.observation[0], engine.action_mask[0]) == SPEC.walk_action


def test_the_policy_of_a_seat() -> None:
    first, second = RandomPolicy(SPEC), GreedyPolicy(SPEC)
    both = BySeat((first, second), SPEC)
    assert policy_of_seat(both, 0) is first
    assert policy_of_seat(both, 1) is second
    assert policy_of_seat(first, 1) is first

"""OpenSpiel's own algorithms, on the same games through the adapter, find the same numbers; its rewards are float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pyspiel = pytest.importorskip("pyspiel")

from bargain_env import GAMES, GameSpec  # noqa: E402
from bargain_env.openspiel import openspiel_game  # noqa: E402
from bargain_eval.exact import (  # noqa: E402
    Profile,
    TabularGame,
    TabularPolicy,
    cfr,
    evaluate,
    nash_conv,
    tabular_game,
    uniform_profile,
)
from bargain_eval.exact.cfr import Variant  # noqa: E402
from bargain_eval.exact.profile import history_offers  # noqa: E402
from open_spiel.python import policy as openspiel_policy  # noqa: E402
from open_spiel.python.algorithms import expected_game_score, exploitability  # noqa: E402
from open_spiel.python.algorithms.cfr import CFRPlusSolver, CFRSolver  # noqa: E402
from test_exact_values import random_strategy  # noqa: E402


class FromTables(openspiel_policy.Policy):  # type: ignore[misc]
    """A profile of ours as an OpenSpiel policy."""

    def __init__(self, game: Any, ours: TabularPolicy) -> None:
        super().__init__(game, [0, 1])
        self._ours = ours

    def action_probabilities(self, state: Any, player_id: int | None = None) -> dict[int, float]:
        seen = np.array(state.information_state_tensor(state.current_player()), np.float32)
        told = self._ours.action_probs(seen, np.array(state.legal_actions_mask(), bool))
        return {action: float(told[action]) for action in state.legal_actions()}


def tabulated(game: TabularGame, theirs: Any, policy: Any) -> Profile:
    """Returns the tables of an OpenSpiel policy."""
    tables = []
    for decision in range(game.spec.max_turns):
        table = np.empty(game.shape(decision))
        for history, kind in np.ndindex(table.shape[:2]):
            deals = [(game.values[kind], game.outside[kind]), (game.values[0], game.outside[0])]
            deals = deals if decision % 2 == 0 else deals[::-1]
            state = theirs.new_initial_state()
            for number in [*deals[0][0], *deals[1][0], deals[0][1], deals[1][1]]:
                state.apply_action(int(number) - state.table.bounds()[0])
            for offer in history_offers(game.spec.num_offers, decision)[history]:
                state.apply_action(int(offer))
            told = policy.action_probabilities(state)
            table[history, kind] = [told[action] for action in game.actions(decision).tolist()]
        tables.append(table)
    return tuple(tables[::2]), tuple(tables[1::2])


def test_uniform_play_on_mini_a() -> None:
    theirs = openspiel_game(GAMES["mini-a"])
    expected = exploitability.nash_conv(theirs, openspiel_policy.UniformRandomPolicy(theirs), use_cpp_br=False)
    game = tabular_game(GAMES["mini-a"])
    assert nash_conv(game, uniform_profile(game)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_uniform_play_on_mini_b() -> None:
    theirs = openspiel_game(GAMES["mini-b"])
    expected = exploitability.nash_conv(theirs, openspiel_policy.UniformRandomPolicy(theirs), use_cpp_br=False)
    game = tabular_game(GAMES["mini-b"])
    assert nash_conv(game, uniform_profile(game)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        GAMES["mini-a"],
        GameSpec(item_quantities=(2,), max_rounds=2, max_value=2, discount=0.75, outside_range=(0.2, 0.8)),
        GameSpec(item_quantities=(1,), max_rounds=2, min_value=2, max_value=3, discount=0.5),
    ],
)
def test_a_random_profile(spec: GameSpec) -> None:
    game, rng = tabular_game(spec), np.random.default_rng(0)
    profile = random_strategy(game, 0, rng), random_strategy(game, 1, rng)
    theirs = openspiel_game(spec)
    policy = FromTables(theirs, TabularPolicy(game, profile))
    found = evaluate(game, profile)
    payoffs = expected_game_score.policy_value(theirs.new_initial_state(), [policy, policy])
    assert found.payoffs == pytest.approx(payoffs, abs=1e-6)
    expected = exploitability.nash_conv(theirs, policy, return_only_nash_conv=False, use_cpp_br=False)
    assert found.gains == pytest.approx(expected.player_improvements, abs=1e-6)
    assert found.nash_conv == pytest.approx(expected.nash_conv, abs=1e-6)


@pytest.mark.parametrize(("variant", "solver"), [("cfr", CFRSolver), ("cfr+", CFRPlusSolver)])
def test_ten_iterations_of_cfr_on_mini_a(variant: Variant, solver: Any) -> None:
    theirs = openspiel_game(GAMES["mini-a"])
    solver = solver(theirs)
    for _ in range(10):
        solver.evaluate_and_update_policy()
    expected = exploitability.nash_conv(theirs, solver.average_policy())
    game = tabular_game(GAMES["mini-a"])
    ((_, ours),) = cfr(game, (10,), variant)
    assert nash_conv(game, ours) == pytest.approx(expected, abs=1e-4)
    assert nash_conv(game, tabulated(game, theirs, solver.average_policy())) == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_three_iterations_of_cfr_on_mini_b() -> None:
    theirs = openspiel_game(GAMES["mini-b"])
    solver = pyspiel.CFRSolver(theirs)
    for _ in range(3):
        solver.evaluate_and_update_policy()
    game = tabular_game(GAMES["mini-b"])
    expected = tabulated(game, theirs, solver.average_policy())
    ((_, ours),) = cfr(game, (3,))
    assert nash_conv(game, ours) == pytest.approx(nash_conv(game, expected), abs=1e-4)
    assert evaluate(game, ours).payoffs == pytest.approx(evaluate(game, expected).payoffs, abs=1e-4)

"""The game in OpenSpiel: its own tests, the deals' law, the engine's payoffs and the numbers that solvers must find."""

from __future__ import annotations

import importlib
import itertools
import math
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pyspiel = pytest.importorskip("pyspiel")

from bargain_env import GAMES, GameSpec, make_engine  # noqa: E402
from bargain_env.openspiel import MAX_OUTCOMES, BargainGame, openspiel_game  # noqa: E402
from open_spiel.python import policy  # noqa: E402
from open_spiel.python.algorithms import expected_game_score, exploitability, get_all_states  # noqa: E402
from open_spiel.python.observation import INFO_STATE_OBS_TYPE, make_observation  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "openspiel.md"
SPECS = {
    "default": GameSpec(),
    "history": GameSpec(max_rounds=5, discount=0.98, observation="history"),
    "mini-a": GAMES["mini-a"],
    "mini-c": GAMES["mini-c"],
    "outside": GameSpec(item_quantities=(2,), max_rounds=2, min_value=2, max_value=5, outside_range=(0.1, 0.55)),
    "empty interval": GameSpec(item_quantities=(1, 1), max_value=3, outside_range=(0.45, 0.5)),
}
each_spec = pytest.mark.parametrize("name", SPECS)


def _random_state(game: BargainGame, rng: np.random.Generator) -> Any:
    """Returns a finished game of random moves."""
    state = game.new_initial_state()
    while not state.is_terminal():
        state.apply_action(int(rng.choice(state.legal_actions())))
    return state


def _chance(state: Any) -> Any:
    """Yields every deal below `state` with its probability."""
    if not state.is_chance_node():
        yield state, Fraction(1)
        return
    outcomes = state.chance_outcomes()
    for action, probability in outcomes:
        assert probability == 1 / len(outcomes)
        for dealt, below in _chance(state.child(action)):
            yield dealt, below / len(outcomes)


@each_spec
def test_openspiels_own_simulations(name: str) -> None:
    pyspiel.random_sim_test(openspiel_game(SPECS[name]), num_sims=20, serialize=True, verbose=False)


@each_spec
def test_the_name_holds_the_whole_game(name: str) -> None:
    game = openspiel_game(SPECS[name])
    again = pyspiel.load_game(str(game))
    assert game.spec == again.spec == SPECS[name]
    assert str(again) == str(game)


def test_parameters_that_are_not_given_are_the_standard_games() -> None:
    assert pyspiel.load_game("python_bargain").spec == openspiel_game().spec == GameSpec()
    loaded = pyspiel.load_game("python_bargain(quantities=1;1,max_value=2,max_rounds=1)")
    assert loaded.spec == GAMES["mini-a"]
    assert pyspiel.load_game("python_bargain(quantities=3;)").spec == GameSpec(item_quantities=(3,))


@each_spec
def test_no_number_has_more_values_than_the_game_says(name: str) -> None:
    game = openspiel_game(SPECS[name])
    largest = 0
    for last in (0, -1):
        state = game.new_initial_state()
        while state.is_chance_node():
            largest = max(largest, len(state.chance_outcomes()))
            state.apply_action(state.legal_actions()[last])
    assert largest == game.max_chance_outcomes()


@pytest.mark.parametrize("name", ["mini-a", "mini-c", "outside", "empty interval"])
def test_the_deals_follow_the_games_law(name: str) -> None:
    spec = SPECS[name]
    found: dict[Any, Fraction] = {}
    for state, probability in _chance(openspiel_game(spec).new_initial_state()):
        game = state.table.game
        deal = tuple(map(tuple, game.values)), tuple(game.outside)
        assert deal not in found
        found[deal] = probability
    vectors = list(itertools.product(range(spec.min_value, spec.max_value + 1), repeat=spec.num_items))
    low, high = (Fraction(units, 10_000) for units in spec.outside_units)
    types = {}
    for values in vectors:
        total = sum(v * q for v, q in zip(values, spec.item_quantities, strict=True))
        first = max(1, math.ceil(low * total))
        last = max(first, math.floor(high * total))
        for outside in range(first, last + 1):
            types[values, outside] = Fraction(1, len(vectors) * (last - first + 1))
    assert found == {
        ((mine, yours), (my_outside, your_outside)): p * q
        for ((mine, my_outside), p), ((yours, your_outside), q) in itertools.product(types.items(), repeat=2)
    }
    assert sum(found.values()) == 1


@each_spec
def test_random_games_are_the_engines(name: str) -> None:
    spec, rng, size = SPECS[name], np.random.default_rng(5), 60
    game, engine = openspiel_game(spec), make_engine(spec, size, autoreset=False)
    observer, recall = make_observation(game), make_observation(game, INFO_STATE_OBS_TYPE)
    histories = make_engine(spec.with_observation("history"), size, autoreset=False)
    states = [_random_state(game, rng) for _ in range(size)]
    tables = [state.table.game for state in states]
    deals = {
        "values": np.array([table.values for table in tables]),
        "outside": np.array([table.outside for table in tables]),
    }
    engine.reset(options=deals)
    histories.reset(options=deals)
    moves = [[a for a in state.full_history() if a.player >= 0] for state in states]
    replayed = [game.new_initial_state() for _ in states]
    for state, finished in zip(replayed, states, strict=True):
        for action in finished.full_history()[: game.max_chance_nodes_in_history()]:
            state.apply_action(action.action)
    for turn in range(spec.max_turns):
        played = np.full(size, spec.walk_action)
        for row, state in enumerate(replayed):
            if state.is_terminal():
                continue
            player = state.current_player()
            assert player == engine.mover[row]
            assert state.legal_actions() == np.flatnonzero(engine.action_mask[row]).tolist()
            observer.set_from(state, player)
            recall.set_from(state, player)
            assert np.array_equal(observer.tensor, engine.observation[row])
            assert np.array_equal(recall.tensor, histories.observation[row])
            assert np.array_equal(state.information_state_tensor(player), histories.observation[row])
            played[row] = moves[row][turn].action
            state.apply_action(int(played[row]))
        for each in (engine, histories):
            each.step(played)
        for row, state in enumerate(replayed):
            paid = engine.reward[row].tolist() if len(moves[row]) == turn + 1 else [0.0, 0.0]
            assert (state.returns() if len(moves[row]) == turn + 1 else [0.0, 0.0]) == paid
            assert state.is_terminal() == engine.terminated[row]
    assert engine.terminated.all()


def test_a_clone_goes_its_own_way() -> None:
    state = openspiel_game(GAMES["mini-b"]).new_initial_state()
    while state.is_chance_node():
        state.apply_action(0)
    state.apply_action(2)
    games: list[Any] = []
    for action in (1, 3):
        clone: Any = state.clone()
        clone.apply_action(action)
        games.append(clone.table.game)
    original: Any = state.table.game
    assert original.moves == [2]
    assert [game.moves for game in games] == [[2, 1], [2, 3]]
    assert all(game.values == original.values and game.spec is original.spec for game in games)


def test_strings_show_what_a_seat_sees() -> None:
    state = openspiel_game(GAMES["mini-b"]).new_initial_state()
    names = []
    for action in (0, 1, 1, 1, 2, 0, 1, 3, 4):
        names.append(state.action_to_string(action))
        state.apply_action(action)
    assert names[0] == "value 0 of seat 0: 1"
    assert names[3] == "value 1 of seat 1: 2"
    assert names[4:6] == ["outside offer of seat 0: 3", "outside offer of seat 1: 1"]
    assert names[6:] == ["offer 0 1", "offer 1 1", "accept"]
    assert state.information_state_string(0) == "seat 0 values 1 2 outside 3 | offer 0 1 | offer 1 1 | accept"
    assert state.information_state_string(1) == "seat 1 values 2 2 outside 1 | offer 0 1 | offer 1 1 | accept"
    assert state.observation_string(1) == "seat 1 values 2 2 outside 1 | decisions 3 | accepted"
    state = openspiel_game(GAMES["mini-b"]).new_initial_state()
    for action in (0, 1, 1, 1, 2, 0, 1, 3):
        state.apply_action(action)
    assert state.observation_string(0) == "seat 0 values 1 2 outside 3 | decisions 2 | offer 1 1"
    assert str(state) == "seat 0 values 1 2 outside 3 | seat 1 values 2 2 outside 1 | offer 0 1 | offer 1 1"


@pytest.mark.parametrize(("name", "counts"), [("mini-a", (12, 48)), ("mini-b", (204, 816))])
def test_the_information_states_are_all_that_a_seat_can_know(name: str, counts: tuple[int, int]) -> None:
    states = get_all_states.get_all_states(
        openspiel_game(GAMES[name]), include_terminals=False, include_chance_states=False, to_string=str
    ).values()
    for seat in range(2):
        deciding = [state for state in states if state.current_player() == seat]
        seen = {state.information_state_string() for state in deciding}
        tensors = {tuple(state.information_state_tensor()) for state in deciding}
        assert len(seen) == len(tensors) == counts[seat]


UNIFORM = {"mini-a": 0.3850694444, "mini-b": 0.4697337963}


@pytest.mark.parametrize("name", UNIFORM)
def test_uniform_play_is_worth_what_it_should_be(name: str) -> None:
    game = openspiel_game(GAMES[name])
    uniform = policy.UniformRandomPolicy(game)
    assert exploitability.nash_conv(game, uniform) == pytest.approx(UNIFORM[name], abs=1e-7)
    values = expected_game_score.policy_value(game.new_initial_state(), [uniform, uniform])
    assert values == pytest.approx([0.60625, 0.60625], abs=1e-7)


def test_always_walking_is_an_equilibrium() -> None:
    game = openspiel_game(GAMES["mini-a"])
    walk = policy.tabular_policy_from_callable(game, lambda state: {game.spec.walk_action: 1.0})
    assert exploitability.nash_conv(game, walk) == pytest.approx(0.0, abs=1e-7)
    values = expected_game_score.policy_value(game.new_initial_state(), [walk, walk])
    assert values == pytest.approx([0.67708333, 0.67708333], abs=1e-7)


@pytest.mark.slow
def test_openspiels_cfr_converges_as_it_should() -> None:
    game = openspiel_game(GAMES["mini-a"])
    solver, found = pyspiel.CFRSolver(game), {}
    for iteration in range(1, 101):
        solver.evaluate_and_update_policy()
        if iteration in (10, 100):
            found[iteration] = pyspiel.nash_conv(game, solver.average_policy())
    assert found == {10: pytest.approx(0.041371, abs=1e-4), 100: pytest.approx(0.0042000, abs=1e-4)}


BAD = {
    "quantities=0;1": r"^item_quantities must all be at least 1",
    "quantities=a;1": r"^quantities must be numbers joined by semicolons, got 'a;1'\.$",
    "outside_range=0.5;": r"^outside_range needs two fractions",
    "quantities=1;1,max_value=200000": rf"^a number of this game's deals has 400000 values.*{MAX_OUTCOMES}\.$",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_parameters_are_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=BAD[text]):
        pyspiel.load_game(f"python_bargain({text})")


def test_observers_see_their_own_seat_and_the_public() -> None:
    game = openspiel_game(GAMES["mini-a"])
    for kind in (
        pyspiel.IIGObservationType(public_info=False, perfect_recall=False),
        pyspiel.IIGObservationType(perfect_recall=False, private_info=pyspiel.PrivateInfoType.ALL_PLAYERS),
    ):
        with pytest.raises(ValueError, match="an observer sees the public information"):
            game.make_py_observer(kind)
    with pytest.raises(ValueError, match="observers take no parameters"):
        game.make_py_observer(None, {"colour": 1})


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {})
    assert "0.0413711" in capsys.readouterr().out


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bargain_env.openspiel")
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(ModuleNotFoundError, match=r'^OpenSpiel is missing: pip install "bargain-env\[openspiel\]"\.$'):
        importlib.import_module("bargain_env.openspiel")

import itertools

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.arena import play
from bargain_eval.baselines import GreedyPolicy
from bargain_eval.equilibria import TioliPolicy, acceptance_weights
from bargain_eval.policy import UnsupportedGame


def test_the_weights_of_the_standard_game() -> None:
    # GAME.md; enumerated there over all 10**6 triples of values.
    np.testing.assert_allclose(acceptance_weights(GameSpec()), [0.078591187, 0.087504526, 0.099843590], atol=5e-10)


@pytest.mark.parametrize(
    "spec",
    [
        GAMES["mini-a"],
        GAMES["mini-c"],
        GameSpec(item_quantities=(3,), max_value=5),
        GameSpec(item_quantities=(2, 1, 3, 1), min_value=2, max_value=4),
    ],
)
def test_the_weights_are_the_enumerated_expectation(spec: GameSpec) -> None:
    values = np.array(list(itertools.product(range(spec.min_value, spec.max_value + 1), repeat=spec.num_items)))
    expected = (values / (values @ np.array(spec.item_quantities))[:, None]).mean(axis=0)
    np.testing.assert_allclose(acceptance_weights(spec), expected, rtol=1e-13)


def _types(spec: GameSpec) -> tuple[list[tuple[tuple[int, ...], int]], list[float]]:
    """All (values, outside) of a seat and their probabilities."""
    types, weights = [], []
    vectors = list(itertools.product(range(spec.min_value, spec.max_value + 1), repeat=spec.num_items))
    for values in vectors:
        total = sum(q * v for q, v in zip(spec.item_quantities, values, strict=True))
        for outside in range(1, total + 1):
            types.append((values, outside))
            weights.append(1 / len(vectors) / total)
    return types, weights


# ALGORITHMS.md 4.1; mini-b adds a round of stalling to mini-a.
@pytest.mark.parametrize(
    ("game", "num_types", "expected"),
    [
        ("mini-a", 12, (0.71267361, 0.68702980, 0.114583)),
        ("mini-b", 12, (0.71267361, 0.68702980, 0.114583)),
        ("mini-c", 54, (0.66516738, 0.61406283, 0.196164)),
    ],
)
def test_the_values_of_the_small_games(game: str, num_types: int, expected: tuple[float, float, float]) -> None:
    spec = GAMES[game]
    types, weights = _types(spec)
    assert len(types) == num_types
    pairs = list(itertools.product(range(num_types), repeat=2))
    values = np.array([[types[a][0], types[b][0]] for a, b in pairs])
    outside = np.array([[types[a][1], types[b][1]] for a, b in pairs])
    chance = np.array([weights[a] * weights[b] for a, b in pairs])
    policy = TioliPolicy(spec)
    rows = play((policy, policy), len(pairs), 0, spec=spec, deals=(values, outside))
    np.testing.assert_allclose(chance @ rows.payoff, expected[:2], rtol=0, atol=1e-8)
    assert abs(float(chance @ (rows.outcome == 1)) - expected[2]) < 5e-7
    assert (rows.decisions == spec.max_turns).all()


def test_the_values_of_the_standard_game() -> None:
    policy = TioliPolicy()
    rows = play((policy, policy), 200_000, 0)
    summary = rows.summary()
    for name, expected in {
        "payoff_0": 0.634137,
        "payoff_1": 0.58754,
        "total": 1.22168,
        "agreement_rate": 0.34549,
    }.items():
        value, error = summary[name], summary[f"{name}_se"]
        assert value is not None
        assert error is not None
        assert abs(value - expected) < 4 * error, name
    assert summary["illegal_rate"] == 0


def test_the_single_offer_is_the_best_response_to_greedy() -> None:
    # GAME.md: the best response of seat 0 to greedy earns 0.634137; with one round that is tioli's offer.
    spec = GameSpec(max_rounds=1)
    payoff = play((TioliPolicy(spec), GreedyPolicy(spec)), 100_000, 1, spec=spec).payoff[:, 0]
    assert abs(payoff.mean() - 0.634137) < 4 * payoff.std() / np.sqrt(len(payoff))


def test_both_halves_stall_until_the_last_round() -> None:
    spec = GameSpec()
    game = ReferenceGame(spec, values=[[10, 20, 30], [30, 20, 10]], outside=[50, 100])
    policy = TioliPolicy()
    moves = []
    while not game.finished:
        action = int(policy.get_action(game.observation(), game.action_mask()))
        assert not game.play(action)
        moves.append(action)
    kept = np.array([10 * (7 - a) + 20 * (4 - b) + 30 * (1 - c) for a, b, c in spec.offers])
    gain = spec.offers @ np.array([0.078591187, 0.087504526, 0.099843590]) * (kept - 50)
    assert moves[:5] == [0, 79, 0, 79, int(gain.argmax())]
    worth = int(spec.offers[moves[4]] @ [30, 20, 10])
    assert moves[5] == (80 if worth >= 100 else 81)


def test_a_generous_counter_is_ignored_and_a_poor_type_offers_nothing() -> None:
    policy = TioliPolicy()
    game = ReferenceGame(GameSpec(), values=[[1, 1, 1], [1, 1, 1]], outside=[12, 1])
    for move in (0, 0, 0, 0):  # seat 1 gives everything away
        game.play(move)
    # With outside = total nothing can be gained: all offers tie at 0 with the empty one, or lose.
    assert policy.get_action(game.observation(), game.action_mask()) == 0


def test_games_without_the_closed_form_are_refused() -> None:
    with pytest.raises(UnsupportedGame, match="outside_range"):
        TioliPolicy(GameSpec(outside_range=(0.0, 0.5)))
    with pytest.raises(UnsupportedGame, match="discount 1"):
        TioliPolicy(GameSpec(discount=0.98))
    TioliPolicy(GameSpec(discount=0.98, max_rounds=1))

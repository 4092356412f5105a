import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.arena import play
from bargain_eval.baselines import AlwaysWalkPolicy
from bargain_eval.equilibria import TioliPolicy
from bargain_eval.exact import evaluate, policy_profile, tabular_game
from bargain_eval.heuristics import AspirationPolicy, MyopicPolicy, SoftPolicy, ToughPolicy
from bargain_eval.policy import NumpyPolicy
from bargain_eval.registry import load_policy

SPECS = [
    GameSpec(),
    GAMES["mini-a"],
    GAMES["mini-c"],
    GameSpec(item_quantities=(3,), max_rounds=5, max_value=7),
    GameSpec(item_quantities=(2, 1, 1, 2), max_rounds=2, discount=0.9, outside_range=(0.3, 0.6)),
]
NAMES = ["myopic", "soft", "tough", "aspiration", "aspiration?beta=.2", "aspiration?beta=5&k=.1"]


def positions(spec: GameSpec, count: int, seed: int = 0) -> list[ReferenceGame]:
    """Unfinished games, each after a random number of random offers."""
    rng = np.random.default_rng(seed)
    games = [ReferenceGame(spec, seed, game) for game in range(count)]
    for game in games:
        for _ in range(int(rng.integers(spec.max_turns))):
            game.play(int(rng.integers(spec.num_offers)))
    return games


def _worth(game: ReferenceGame) -> list[int]:
    return [game.bundle_value(game.mover, offer) for offer in range(game.spec.num_offers)]


def myopic(game: ReferenceGame) -> int:
    if game.offer >= 0 and _worth(game)[game.offer] >= game.outside[game.mover]:
        return game.spec.accept_action
    return _worth(game).index(game.totals[game.mover]) if game.is_legal(0) else game.spec.walk_action


def soft(game: ReferenceGame) -> int:
    if game.offer >= 0:
        return game.spec.accept_action
    worth = _worth(game)
    return worth.index(min(w for w in worth if 2 * w >= game.totals[game.mover]))


def tough(game: ReferenceGame) -> int:
    worth = _worth(game)
    second = max(w for w in worth if w < game.totals[game.mover])
    return worth.index(second) if game.is_legal(0) else game.spec.walk_action


def aspiration(beta: float, k: float) -> Callable[[ReferenceGame], int]:
    def act(game: ReferenceGame) -> int:
        outside, total, worth = game.outside[game.mover], game.totals[game.mover], _worth(game)
        time = game.turn / (game.spec.max_turns - 1)
        conceded = Fraction(round((k + (1 - k) * time ** (1 / beta)) * 10**6), 10**6)
        level = outside + (total - outside) * (1 - conceded)
        if game.offer >= 0 and worth[game.offer] >= level:
            return game.spec.accept_action
        if not game.is_legal(0):
            return game.spec.walk_action
        return worth.index(min(w for w in worth if w >= level))

    return act


RULES: dict[str, Callable[[ReferenceGame], int]] = {
    "myopic": myopic,
    "soft": soft,
    "tough": tough,
    "aspiration": aspiration(1, 0),
    "aspiration?beta=.2": aspiration(0.2, 0),
    "aspiration?beta=5&k=.1": aspiration(5, 0.1),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spec", SPECS)
def test_each_follows_its_stated_rule_legally_in_both_seats(spec: GameSpec, name: str) -> None:
    policy = load_policy(name, spec)
    games = positions(spec, 300)
    assert {game.turn for game in games} == set(range(spec.max_turns))
    obs, mask = np.stack([g.observation() for g in games]), np.stack([g.action_mask() for g in games])
    actions = policy.get_action(obs, mask)
    assert actions.tolist() == [RULES[name](game) for game in games]
    assert mask[np.arange(300), actions].all()
    assert isinstance(policy, NumpyPolicy)
    probs = policy.action_probs(obs, mask)
    np.testing.assert_array_equal(probs, np.eye(spec.num_actions)[actions])
    history = spec.with_observation("history")
    assert policy.get_action(
        np.pad(obs, ((0, 0), (0, history.observation_dim - spec.observation_dim))), mask
    ).tolist() == (actions.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_no_game_has_an_illegal_move(name: str) -> None:
    policies = [load_policy(name), load_policy("random", seed=1)]
    for pair in itertools.permutations(policies):
        assert play(pair, 2000, 3).summary()["illegal_rate"] == 0


def test_the_best_response_to_myopic_in_small_games() -> None:
    # Against a seat 1 that accepts from its outside offer on, one last offer is tioli's; screening earns no less.
    for spec in (GAMES["mini-b"], GAMES["mini-c"]):
        game = tabular_game(spec)
        best = evaluate(game, policy_profile(game, AlwaysWalkPolicy(spec), MyopicPolicy(spec))).best_payoffs[0]
        single = evaluate(game, policy_profile(game, TioliPolicy(spec), MyopicPolicy(spec))).payoffs[0]
        assert best >= single - 1e-12
    assert best > single + 0.01


def test_tioli_earns_its_value_against_myopic() -> None:
    rows = play((TioliPolicy(), MyopicPolicy()), 200_000, 2)
    for seat, expected in enumerate((0.634137, 0.587542)):
        payoff = rows.payoff[:, seat]
        assert abs(payoff.mean() - expected) < 4 * payoff.std() / np.sqrt(len(payoff))


def test_myopic_never_agrees_with_itself_and_walks_at_the_end() -> None:
    rows = play((MyopicPolicy(), MyopicPolicy()), 500, 0)
    assert (rows.decisions == 6).all()
    assert (rows.points == rows.outside).all()


def test_soft_always_agrees_and_tough_never_agrees_with_tough() -> None:
    soft_rows = play((SoftPolicy(), SoftPolicy()), 500, 0)
    assert (soft_rows.outcome == 1).all()
    assert (2 * soft_rows.points[:, 0] >= soft_rows.total[:, 0]).all()
    tough_rows = play((ToughPolicy(), ToughPolicy()), 500, 0)
    assert (tough_rows.outcome == 2).all()
    assert (tough_rows.actions[:, :5] < 80).all()
    mixed = play((SoftPolicy(), ToughPolicy()), 500, 0)  # tough refuses half and offers one unit, which soft takes
    assert (mixed.points[:, 1] == mixed.total[:, 1] - mixed.values[:, 1].min(axis=1)).all()


def _opening(policy: NumpyPolicy, decision: int) -> tuple[np.ndarray, ReferenceGame]:
    """What each of 200 types asks for at a decision where nothing was offered to it, and the last game."""
    asked = []
    for index in range(200):
        game = ReferenceGame(GameSpec(), 5, index)
        for turn in range(decision):
            game.play(0 if turn % 2 == 0 else 79)
        action = int(policy.get_action(game.observation(), game.action_mask()))
        asked.append(game.bundle_value(game.mover, action) / game.totals[game.mover])
    return np.array(asked), game


def test_aspiration_concedes_from_everything_towards_its_outside_offer() -> None:
    linear = AspirationPolicy()
    asked = np.stack([_opening(linear, decision)[0] for decision in (0, 2, 4)])
    assert (asked[0] == 1).all()
    assert (np.diff(asked, axis=0) <= 0).all()
    early, late = AspirationPolicy(beta=5), AspirationPolicy(beta=0.2)
    for decision in (2, 4):
        assert _opening(early, decision)[0].mean() < _opening(linear, decision)[0].mean() - 0.02
        assert _opening(late, decision)[0].mean() > _opening(linear, decision)[0].mean() + 0.02
    assert _opening(AspirationPolicy(k=0.5), 0)[0].mean() < 0.85


@pytest.mark.parametrize(("outside", "action"), [(140, 80), (141, 81)])
def test_at_the_deadline_aspiration_is_the_outside_offer(outside: int, action: int) -> None:
    game = ReferenceGame(GameSpec(), values=[[1, 1, 1], [20, 7, 100]], outside=[1, outside])
    for move in (0, 79, 0, 79, int(game.spec.encode_offer([2, 0, 1]))):
        game.play(move)
    assert AspirationPolicy().get_action(game.observation(), game.action_mask()) == action


def test_aspiration_compares_exactly() -> None:
    # At decision 1 of 5 it has conceded a fifth: 10 + 90 * 4/5 = 82 of 100 points.
    spec = GameSpec(item_quantities=(100,), max_value=1)
    policy = AspirationPolicy(spec)
    for units, accepts in ((81, False), (82, True)):
        game = ReferenceGame(spec, values=[[1], [1]], outside=[1, 10])
        game.play(units)
        assert policy.get_action(game.observation(), game.action_mask()) == (spec.accept_action if accepts else 82)


@pytest.mark.parametrize("options", ["beta=0", "beta=-1", "beta=inf", "beta=nan", "k=-.1", "k=1.5", "k=nan"])
def test_impossible_concessions_are_refused(options: str) -> None:
    name = options.partition("=")[0]
    with pytest.raises(ValueError, match=f"{name} must"):
        load_policy(f"aspiration?{options}")


def test_options_and_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="its options are beta, k"):
        load_policy("aspiration?e=2")
    for name in ("myopic", "soft", "tough"):
        with pytest.raises(ValueError, match="it has none"):
            load_policy(f"{name}?beta=2")
        with pytest.raises(ValueError, match="takes no argument"):
            load_policy(f"{name}:x")


def test_the_table_of_the_page_is_what_they_earn() -> None:
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    lines = page[page.index("| seat 0 \\ seat 1 |") :].partition("\n\n")[0].splitlines()
    heading, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "---" not in line]
    assert heading[1:] == [row[0] for row in body]
    assert {"soft", "tough", "aspiration", "myopic", "tioli-second"} < set(heading)
    policies = {name: load_policy(name) for name in heading[1:]}
    for first, *cells in body:
        for second, cell in zip(heading[1:], cells, strict=True):
            summary = play((policies[first], policies[second]), 4000, 9).summary()
            for name, text in zip(("payoff_0", "payoff_1", "agreement_rate"), cell.split(), strict=True):
                assert abs(float(summary[name] or 0) - float(text)) < 4.2 * float(summary[f"{name}_se"] or 0) + 0.006

import itertools
import re

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.llm.prompt import PlayerView, bundle_text, describe_state, offer_text, reply_format, rules
from bargain_eval.llm.reply import read_reply

SPEC = GameSpec(observation="history")
SPECS = [
    SPEC,
    GAMES["mini-a"].with_observation("history"),
    GameSpec(item_quantities=(3,), max_rounds=4, observation="history"),
    GameSpec(item_quantities=(1, 2, 1, 2), discount=0.9, outside_range=(0.2, 0.75), observation="history"),
]


def games_after(spec: GameSpec, count: int, seed: int = 0) -> list[ReferenceGame]:
    rng = np.random.default_rng(seed)
    games = [ReferenceGame(spec, seed, game) for game in range(count)]
    for index, game in enumerate(games):
        for _ in range(index % spec.max_turns):
            game.play(int(rng.integers(spec.num_offers)))
    return games


def view(game: ReferenceGame, seat: int | None = None) -> PlayerView:
    return PlayerView.from_observation(game.spec, game.observation(seat))


@pytest.mark.parametrize("spec", SPECS)
def test_the_view_holds_exactly_what_its_player_knows(spec: GameSpec) -> None:
    for game in games_after(spec, 60):
        for seat in (0, 1):
            seen = view(game, seat)
            assert seen == PlayerView(spec, seat, tuple(game.values[seat]), game.outside[seat], tuple(game.moves))
            assert seen.total == game.totals[seat]
            assert seen.my_turn == (game.mover == seat)
        assert view(game).can_offer == game.is_legal(0)


@pytest.mark.parametrize("seat", [0, 1])
def test_every_offer_is_shown_with_exact_counts_and_read_back(seat: int) -> None:
    game = ReferenceGame(SPEC, seed=4)
    for offer in range(SPEC.num_offers):
        seen = PlayerView(SPEC, seat, tuple(game.values[seat]), game.outside[seat], (offer, offer, offer))
        mine = game.bundle(seat, offer)
        assert seen.bundle(offer) == tuple(mine)
        assert seen.offer_keeping(mine) == offer
        own, other = (offer_text(seen, 1 + (seat + whose) % 2) for whose in (0, 1))
        assert own.startswith("You offered to keep")
        assert other.startswith("The other player offered you")
        for text, last in ((own, "the other player"), (other, "itself")):
            shown, left = re.split(r", worth .* of your total, and ", text)
            assert shown.endswith(f" {bundle_text(SPEC, mine)}")
            assert left == f"{bundle_text(SPEC, game.bundle(1 - seat, offer))} for {last}."
            assert f"worth {game.bundle_value(seat, offer)} point" in text


def test_bundles_are_told_in_full() -> None:
    told = {bundle_text(SPEC, bundle) for bundle in SPEC.offers.tolist()}
    assert len(told) == 80
    assert bundle_text(SPEC, (3, 2, 1)) == "3 A, 2 B and 1 C"
    assert bundle_text(SPEC, (0, 2, 0)) == "2 B"
    assert bundle_text(SPEC, (0, 0, 0)) == "nothing"
    assert bundle_text(SPEC, (7, 4, 1)) == "everything"


def test_all_of_it_from_either_seat_is_the_right_index() -> None:
    game = ReferenceGame(SPEC, seed=1)
    assert view(game).offer_keeping((7, 4, 1)) == 0
    game.play(0)
    assert view(game).offer_keeping((7, 4, 1)) == 79


@pytest.mark.parametrize("spec", SPECS)
def test_moves_rounds_and_what_is_left(spec: GameSpec) -> None:
    game = ReferenceGame(spec, seed=2)
    for turn in range(spec.max_turns):
        text = describe_state(view(game))
        assert f"Move {turn + 1} of {spec.max_turns}, in round {turn // 2 + 1} of {spec.max_rounds}." in text
        mine, theirs = len(range(turn, spec.max_turns, 2)), len(range(turn + 1, spec.max_turns, 2))
        if theirs:
            moves = "1 move" if mine == 1 else f"{mine} moves"
            assert f"You have {moves} left, this one included; the other player has {theirs}." in text
        assert ("This is the last move of the game." in text) == (theirs == 0)
        assert ("OFFER a split" in text) == game.is_legal(0)
        assert (f"ACCEPT the offer of move {turn}" in text) == (turn > 0)
        assert "WALK" in text
        assert len(re.findall(r"(?m)^  \d+\. ", text)) == turn
        waiting = describe_state(view(game, 1 - game.mover))
        assert "The other player is to move" in waiting
        assert "You can" not in waiting
        if game.is_legal(0):
            game.play(1)


def test_everything_of_its_own_and_nothing_of_the_other_player() -> None:
    for first, second in itertools.pairwise(games_after(SPEC, 12)):
        game = ReferenceGame(SPEC, values=first.values, outside=first.outside)
        for move in second.moves:
            game.play(move)
        seat = game.mover
        text = describe_state(view(game))
        for value, name in zip(game.values[seat], "ABC", strict=True):
            assert f"{value} for each {name}" in text
        assert f"The whole pool is worth {game.totals[seat]} to you" in text
        share = float(game.observation()[SPEC.slices["outside"]][0])
        found = re.search(r"Your outside offer: (\d+) points? or (\d+)% of your total", text)
        assert found
        assert int(found[1]) == game.outside[seat]
        assert abs(int(found[2]) / 100 - share) <= 0.005 + 1e-6
        other = 1 - seat
        game.values[other], game.outside[other] = [99, 98, 97], 96
        assert describe_state(view(game)) == text


def test_the_rules_tell_each_seat_its_order() -> None:
    first, second = rules(SPEC, 0), rules(SPEC, 1)
    for text in (first, second):
        assert "7 of item A, 4 of item B and 1 of item C" in text
        assert "from 1 to 100" in text
        assert "drawn evenly from 1 to what the whole pool is worth" in text
        assert "at most 3 rounds of one move each, hence 6 moves" in text
        assert "Delay" not in text
    assert "You move first." in first
    assert "The other player makes move 6" in first
    assert "the odd numbers are yours" in first
    assert "The other player moves first." in second
    assert "You make move 6" in second
    assert "the even numbers are yours" in second


def test_the_rules_tell_what_a_variant_changes() -> None:
    spec = SPECS[3]
    text = rules(spec, 0)
    assert "multiplied by 0.9" in text
    assert "from 20% to 75% of what the whole pool is worth" in text
    game = ReferenceGame(spec)
    assert "points are multiplied by 1." in describe_state(view(game))
    for _ in range(4):
        game.play(3)
    assert "points are multiplied by 0.81." in describe_state(view(game))


@pytest.mark.parametrize("spec", SPECS)
def test_the_example_of_the_reply_format_is_a_legal_offer(spec: GameSpec) -> None:
    seen = view(ReferenceGame(spec))
    example = next(line for line in reply_format(spec).splitlines() if line.startswith("OFFER"))
    action = read_reply(seen, example).action
    assert action is not None
    assert list(seen.bundle(action)) == [int(count) for count in example.split()[1:]]
    assert f"{seen.bundle(action)[0]} of item A" in reply_format(spec)


def test_what_is_no_history_observation_is_refused() -> None:
    game = ReferenceGame(SPEC)
    with pytest.raises(ValueError, match="one history observation of 107 features"):
        PlayerView.from_observation(SPEC, game.observation()[:92])
    with pytest.raises(ValueError, match="one history observation"):
        PlayerView.from_observation(SPEC, game.observation()[None])
    game.play(SPEC.walk_action)
    with pytest.raises(ValueError, match="finished game"):
        PlayerView.from_observation(SPEC, game.observation())


def test_a_standing_spec_means_the_same_game() -> None:
    game = games_after(SPEC, 5)[4]
    assert PlayerView.from_observation(GameSpec(), game.observation()) == view(game)

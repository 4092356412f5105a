import time

import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.llm.prompt import PlayerView
from bargain_eval.llm.reply import read_reply

SPEC = GameSpec(observation="history")
MIDDLE = PlayerView(SPEC, 0, (10, 20, 30), 50, (5, 33))
FIRST = PlayerView(SPEC, 0, (10, 20, 30), 50)
LAST = PlayerView(SPEC, 1, (10, 20, 30), 50, (5, 33, 5, 33, 5))

Decision = str | tuple[int, int, int] | None

CORPUS: list[tuple[str, Decision]] = [
    ("OFFER 5 3 1", (5, 3, 1)),
    ("offer 5 3 1", (5, 3, 1)),
    ("Offer: 5, 3, 1", (5, 3, 1)),
    ("OFFER (5, 3, 1)", (5, 3, 1)),
    ("OFFER [5,3,1].", (5, 3, 1)),
    ("offer 5/3/1", (5, 3, 1)),
    ("offer 5-3-1", (5, 3, 1)),
    ("offer = 5 3 1", (5, 3, 1)),
    ("**OFFER 5 3 1**", (5, 3, 1)),
    ("COUNTEROFFER 5 3 1", (5, 3, 1)),
    ("counter-offer: 5 3 1", (5, 3, 1)),
    ("I keep 5 A, 3 B and 1 C.", (5, 3, 1)),
    ("I'd keep C 1, A 5, B 3", (5, 3, 1)),
    ("offer A: 5, B: 3, C: 1", (5, 3, 1)),
    ("I propose that I keep 5 of item A, 3 of item B and 1 of item C, and you get the rest.", (5, 3, 1)),
    ("I take everything.", (7, 4, 1)),
    ("keep all", (7, 4, 1)),
    ("keep nothing", (0, 0, 0)),
    ("give 2 1 0", (5, 3, 1)),
    ("I offer you 2 A, 1 B and 0 C", (5, 3, 1)),
    ("Give me 5 3 1.", (5, 3, 1)),
    ("walk away, but COUNTEROFFER 5 3 1", (5, 3, 1)),
    ("Your offer of 1 1 1 is too low. OFFER 5 3 1", (5, 3, 1)),
    ("OFFER 7 4 1\nNo, that is greedy.\nOFFER 5 3 1", (5, 3, 1)),
    ("I could ACCEPT.\nI would rather not.\n\nOFFER 5 3 1\n", (5, 3, 1)),
    ('{"action": "offer", "keep": [5, 3, 1]}', (5, 3, 1)),
    ('{"action": "OFFER", "keep": {"A": 5, "B": 3, "C": 1}}', (5, 3, 1)),
    ('{"action": "offer", "give": [2, 1, 0]}', (5, 3, 1)),
    ('```json\n{"reason": "OFFER 1 1 1 is too little", "action": "counteroffer", "keep": [5, 3, 1]}\n```', (5, 3, 1)),
    ("ACCEPT", "accept"),
    ("accept", "accept"),
    ("**ACCEPT**", "accept"),
    ("- Accept!", "accept"),
    ("1. ACCEPT", "accept"),
    ("I accept.", "accept"),
    ("I accept your offer.", "accept"),
    ("I accept your offer of 5 3 1.", "accept"),
    ("Okay, I'll accept the current offer.", "accept"),
    ("My decision: ACCEPT", "accept"),
    ("Final answer: accept", "accept"),
    ("The move is accept.", "accept"),
    ("I thought of OFFER 5 3 1.\nBut time is short.\nACCEPT", "accept"),
    ("Should I WALK? No.\n> ACCEPT", "accept"),
    ("I\u2019ll accept", "accept"),
    ('Thinking {about} it. {"action": "accept"}', "accept"),
    ("WALK", "walk"),
    ("walk away", "walk"),
    ("I walk away from the table.", "walk"),
    ("Therefore, I will walk away.", "walk"),
    ("Their offer is too low. Walk.", "walk"),
    ("ACCEPT\nOn second thought:\nWALK", "walk"),
    ("action: walk", "walk"),
    ('ACCEPT\n{"action": "walk"}', "walk"),
    ('{"action": "walk"}\nACCEPT', "accept"),
    ("", None),
    ("not ACCEPT", None),
    ("This is acceptable.", None),
    ("I do not accept.", None),
    ("I can't accept this offer.", None),
    ("ACCEPT?", None),
    ("Should I accept? Or walk away?", None),
    ("I would accept if you gave me more.", None),
    ("You should accept.", None),
    ("If you refuse, I walk.", None),
    ("A walk in the park.", None),
    ("Your last offer 5 3 1 was poor.", None),
    ("You keep 2 1 0.", None),
    ("I will not offer 5 3 1.", None),
    ("I won't keep 5 3 1.", None),
    ("5 3 1", None),
    ("I keep a lot.", None),
    ('{"keep": [5, 3, 1]}', None),
    ('{"action": "bid", "keep": [5, 3, 1]}', None),
    ('{"action": "accept"', None),
]


def decided(view: PlayerView, action: int | None) -> Decision:
    if action is None:
        return None
    if action >= view.spec.num_offers:
        return "accept" if action == view.spec.accept_action else "walk"
    first, second, third = view.bundle(action)
    return first, second, third


@pytest.mark.parametrize(("text", "meant"), CORPUS)
@pytest.mark.parametrize("seat", [0, 1])
def test_utterances_mean_what_they_say(text: str, meant: Decision, seat: int) -> None:
    view = PlayerView(SPEC, seat, (10, 20, 30), 50, (5, 33, 5)[: 2 + seat])
    reply = read_reply(view, text)
    assert decided(view, reply.action) == meant
    assert (reply.problem == "") == (meant is not None)
    if meant is None:
        assert "No move was found" in reply.problem


def test_no_text_is_no_move() -> None:
    assert read_reply(MIDDLE, None).action is None


@pytest.mark.parametrize(
    ("view", "text", "problem"),
    [
        (FIRST, "ACCEPT", "There is no offer to accept yet."),
        (LAST, "OFFER 5 3 1", "This is the last move of the game, which can be no offer"),
        (MIDDLE, "OFFER", "An offer needs 3 numbers, the units of A B C that you keep; got 0."),
        (MIDDLE, "OFFER 5 3", "got 2."),
        (MIDDLE, "OFFER 5 3 1 2", "got 4."),
        (MIDDLE, "GIVE 5 3", "that you give; got 2."),
        (MIDDLE, '{"action": "offer"}', "got 0."),
        (MIDDLE, '{"action": "offer", "keep": 5}', "got 1."),
        (MIDDLE, "OFFER 8 3 1", "You cannot keep 8 of item A: there are 7."),
        (MIDDLE, "GIVE 0 0 2", "You cannot give 2 of item C: there are 1."),
        (MIDDLE, "OFFER 5 -3 1", "You cannot keep -3 of item B: there are 4."),
        (MIDDLE, f"OFFER 5 3 {'9' * 5000}", "You cannot keep 999999999 of item C"),
        (MIDDLE, "OFFER 5.5 3 1", "Items cannot be divided"),
        (MIDDLE, "OFFER 5 A 3 B 1 A", "An offer names each of A B C once, or none of them."),
        (MIDDLE, "OFFER 5 A, 3, 1", "An offer names each of A B C once, or none of them."),
        (MIDDLE, "OFFER 5 3 1\nOFFER 9 9 9", "You cannot keep 9 of item A"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_reason(view: PlayerView, text: str, problem: str) -> None:
    reply = read_reply(view, text)
    assert reply.action is None
    assert problem in reply.problem


@pytest.mark.parametrize("spec", [SPEC, GAMES["mini-c"].with_observation("history"), GameSpec(item_quantities=(3,))])
def test_every_offer_can_be_said_in_every_form(spec: GameSpec) -> None:
    for seat in (0, 1):
        offers = (0,) if seat else ()
        view = PlayerView(spec, seat, (1,) * spec.num_items, 1, offers)
        game = ReferenceGame(spec)
        for offer in range(spec.num_offers):
            kept, given = game.bundle(seat, offer), game.bundle(1 - seat, offer)
            named = " and ".join(f"{count} {name}" for count, name in zip(kept, "ABC", strict=False))
            for text in (
                f"OFFER {' '.join(map(str, kept))}",
                f"I keep {named}",
                f"give {', '.join(map(str, given))}",
                f'{{"action": "offer", "keep": {kept}}}',
            ):
                assert read_reply(view, text).action == offer, text


def test_walking_and_accepting_are_always_understood_where_they_are_legal() -> None:
    for view in (FIRST, MIDDLE, LAST):
        assert read_reply(view, "WALK").action == SPEC.walk_action
    for view in (MIDDLE, LAST):
        assert read_reply(view, "ACCEPT").action == SPEC.accept_action


@pytest.mark.parametrize(
    "piece", ["a", "{", "{}", "offer ", "so ", "i will ", "- ", "1", ".", "the last ", "accept of ", '"']
)
def test_long_nonsense_is_read_in_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            read_reply(MIDDLE, text)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(80_000) < 8 * seconds(20_000) + 0.05

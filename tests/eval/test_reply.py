import json
import time

import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.llm.reply import read_reply, reply_schema
from bargain_eval.llm.view import PlayerView

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
    ('{"action": "walk"}\nACCEPT', "walk"),
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

MODELS: list[tuple[str, Decision]] = [
    # the object of the schema, alone and dressed up
    ('{"reasoning": "C is cheap.", "action": "offer", "keep": {"A": 5, "B": 3, "C": 1}}', (5, 3, 1)),
    ('{"reasoning": "It beats my outside offer.", "action": "accept", "keep": null}', "accept"),
    ('{"reasoning": "Nothing to gain here.", "action": "walk", "keep": null}', "walk"),
    (' \n{\n  "reasoning": "x",\n  "action": "offer",\n  "keep": {"B": 3, "C": 1, "A": 5}\n}\n', (5, 3, 1)),
    ('```json\n{"reasoning": "A fair split.", "action": "offer", "keep": {"A": 5, "B": 3, "C": 1}}\n```', (5, 3, 1)),
    ('```\n{"reasoning": "ok", "action": "accept", "keep": null}\n```\nThank you for the game!', "accept"),
    ('Let me think. I could ACCEPT.\n\n{"reasoning": "No.", "action": "walk", "keep": null}', "walk"),
    ('My move:\n{"action": "offer", "keep": {"A": 5, "B": 3, "C": 1}}\nThat gives you 2 A and 1 B.', (5, 3, 1)),
    ('{"action": "offer", "keep": {"A": 5, "B": 3, "C": 1}}\n\nI accept that this is bold. Walk.', (5, 3, 1)),
    # several objects: the last one with an action decides
    ('{"action": "walk"}\nWait, that is hasty.\n{"action": "accept", "keep": null}', "accept"),
    ('First {"action": "offer", "keep": [1, 1, 1]}, better {"action": "offer", "keep": [5, 3, 1]}.', (5, 3, 1)),
    ('{"action": "offer", "keep": [5, 3, 1]}\n{"confidence": 0.8}', (5, 3, 1)),
    ('{"action": "accept"}\n{"action": "hesitate"}', None),
    ('[{"action": "walk"}, {"action": "offer", "keep": [5, 3, 1]}]', (5, 3, 1)),
    # other keys, other shapes
    ('{"thought": "hm", "confidence": 0.9, "action": "accept", "keep": {}, "message": "deal!"}', "accept"),
    ('{"reasoning": "r", "action": "offer", "keep": ["5", "3", "1"]}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "offer", "keep": {"A": "5", "B": "3", "C": "1"}}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "offer", "keep": {"A": 5.0, "B": 3.0, "C": 1}}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "offer", "keep": {"item_C": 1, "item_A": 5, "item_B": 3}}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "offer", "keep": {"item C": 1, "Item B": 3, "a": 5}}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "offer", "keep": "5 A, 3 B and 1 C"}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "offer", "keep": "all"}', (7, 4, 1)),
    ('{"reasoning": "r", "action": "offer", "keep": null, "give": {"A": 2, "B": 1, "C": 0}}', (5, 3, 1)),
    ('{"reasoning": "r", "Action": "Counter-Offer", "Keep": [5, 3, 1]}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "counter_offer", "keep": [5, 3, 1]}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "propose", "keep": [5, 3, 1]}', (5, 3, 1)),
    ('{"reasoning": "r", "action": "walk away", "keep": null}', "walk"),
    ('{"move": {"reasoning": "r", "action": "offer", "keep": {"A": 5, "B": 3, "C": 1}}}', (5, 3, 1)),
    ('{"response": {"decision": {"action": "accept", "keep": null}}}', "accept"),
    ('{"action": "offer", "keep": [5, 3, 1], "last": {"action": "accept", "keep": [1, 1, 1]}}', (5, 3, 1)),
    ('{"reasoning": "They said {\\"action\\": \\"accept\\"}, I do not.", "action": "walk"}', "walk"),
    ('{"reasoning": "Braces } and { and \\" in a string.", "action": "accept"}', "accept"),
    ('{"reasoning": "Two\nlines,\tin one string.", "action": "accept"}', "accept"),
    # cut off or damaged: whatever they say on the way is no decision
    ('{"reasoning": "My last chance. I accept.\\n Or rather, I walk away.', None),
    ('{"reasoning": "I accept. No: I want 5 A, 3 B', None),
    ('{"reasoning": "r", "action": "offer", "keep": {"A": 5, "B": 3, "C": 1}', None),
    ('```json\n{"reasoning": "r", "action": "offer", "keep": {"A": 5, "B":', None),
    ('{"action": "accept", "keep": null}\n{"reasoning": "On second thought, an offer', None),
    ('{"action": "offer", "last": {"action": "accept"}, "keep": {"A": 5, "B"', None),
    ('{"reasoning": "A "fair" split", "action": "accept"}', None),
    ('{"action": "accept", "keep": null,}', None),
    ("{'action': 'offer', 'keep': {'A': 5, 'B': 3, 'C': 1}}", None),
    ('{"reasoning": "r", "action": "accept" // take it\n}', None),
    ('{"action": "offer", "keep": [5, 3, 1],}\nIn words: OFFER 5 3 1', (5, 3, 1)),
    ('I must say {"action": "offer"|"accept"|"walk"}. So:\nACCEPT', "accept"),
    # thoughts
    ('<think>I could {"action": "accept"}.\nI walk away.</think>\n{"action": "offer", "keep": [5, 3, 1]}', (5, 3, 1)),
    ("<think>\nOFFER 1 1 1?\nACCEPT\n</think>\n\nOFFER 5 3 1", (5, 3, 1)),
    ("The user wants a move. ACCEPT would do.\nWALK\n</think>\nOFFER 5 3 1", (5, 3, 1)),
    ('<thinking>Hm.</thinking>{"action": "accept"}<thinking>WALK</thinking>', "accept"),
    ("[THINK]WALK[/THINK]ACCEPT", "accept"),
    ('<think>Time is short. I accept.\n{"action": "accept"}', None),
    ('<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>{"action": "walk"}', "walk"),
    # words
    ("**Final Decision:** ACCEPT", "accept"),
    ("### Move\n\n**OFFER 5 3 1**", (5, 3, 1)),
    ("Reasoning: the pool is worth 500 points to me.\n\nOFFER 5 3 1", (5, 3, 1)),
    ("My total is 500. I walk away.\nNo, wait: I keep 5 A, 3 B and 1 C.", (5, 3, 1)),
    ("OFFER 5 – 3 – 1", (5, 3, 1)),
    ("OFFER 5\u00a03\u00a01", (5, 3, 1)),
    # other languages
    ('Ich überlege: Das Angebot ist zu niedrig.\n{"reasoning": "Zu wenig", "action": "walk", "keep": null}', "walk"),
    ('我认为这个提议很好。\n{"reasoning": "这个提议超过了我的外部选择", "action": "accept", "keep": null}', "accept"),
    (
        'Voici mon offre : {"reasoning": "équitable", "action": "offer", "keep": {"A": 5, "B": 3, "C": 1}} Merci !',
        (5, 3, 1),
    ),
    ('{"reasoning": "\\u0441\\u043f\\u043b\\u0438\\u0442", "action": "offer", "keep": [5, 3, 1]}', (5, 3, 1)),
    ("Ich nehme an.", None),
    # no move at all
    ("I'm sorry, but I can't help with that request.", None),
    ("As an AI language model, I cannot accept offers or walk away from negotiations.", None),
    ("What are the values of the other player?", None),
    ('{"reasoning": "I need more information.", "action": null, "keep": null}', None),
    ('{"reasoning": "r", "action": ["accept"], "keep": null}', None),
    ('{"error": {"message": "overloaded", "code": 529}}', None),
    ("null", None),
    ("[]", None),
    ("{}", None),
]
"""Replies as language models give them, by what they decide."""


def decided(view: PlayerView, action: int | None) -> Decision:
    if action is None:
        return None
    if action >= view.spec.num_offers:
        return "accept" if action == view.spec.accept_action else "walk"
    first, second, third = view.bundle(action)
    return first, second, third


@pytest.mark.parametrize(("text", "meant"), CORPUS + MODELS)
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
        (
            MIDDLE,
            '{"action": "offer", "keep": null}',
            "An offer needs 3 numbers, the units of A B C that you keep; got 0.",
        ),
        (MIDDLE, '{"action": "offer", "keep": {"A": 5, "B": 3}}', "An offer names each of A B C once"),
        (MIDDLE, '{"action": "offer", "keep": {"A": 5, "B": 3, "D": 1}}', "An offer names each of A B C once"),
        (
            MIDDLE,
            '{"action": "offer", "keep": {"apples": 5, "books": 3, "cups": 1}}',
            "An offer names each of A B C once",
        ),
        (
            MIDDLE,
            '{"action": "offer", "keep": {"A": 5, "B": 3, "C": 1, "total": 9}}',
            "An offer names each of A B C once",
        ),
        (MIDDLE, '{"action": "offer", "keep": {"A": 8, "B": 3, "C": 1}}', "You cannot keep 8 of item A: there are 7."),
        (
            MIDDLE,
            '{"action": "offer", "keep": {"A": -1, "B": 3, "C": 1}}',
            "You cannot keep -1 of item A: there are 7.",
        ),
        (MIDDLE, '{"action": "offer", "give": {"A": 2, "B": 5, "C": 1}}', "You cannot give 5 of item B: there are 4."),
        (MIDDLE, '{"action": "offer", "keep": {"A": 2.5, "B": 3, "C": 1}}', "Items cannot be divided"),
        (MIDDLE, '{"action": "offer", "keep": {"A": true, "B": 3, "C": 1}}', "got 2."),
        (FIRST, '{"action": "accept", "keep": null}', "There is no offer to accept yet."),
        (LAST, '{"action": "offer", "keep": {"A": 5, "B": 3, "C": 1}}', "This is the last move of the game"),
        (MIDDLE, '{"action": "hold"}', '"action" of a JSON object is "offer", "accept" or "walk".'),
        (MIDDLE, '{"action": "accept", "ke', "No move was found: the JSON object does not end."),
        (MIDDLE, '{"action": "accept",}', "No move was found: the JSON object cannot be read."),
        (MIDDLE, "OFFER 5 \u22123 1", "You cannot keep -3 of item B"),
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
                json.dumps({"reasoning": "", "action": "offer", "keep": dict(zip("ABC", kept, strict=False))}),
            ):
                assert read_reply(view, text).action == offer, text


def test_walking_and_accepting_are_always_understood_where_they_are_legal() -> None:
    for view in (FIRST, MIDDLE, LAST):
        assert read_reply(view, "WALK").action == SPEC.walk_action
    for view in (MIDDLE, LAST):
        assert read_reply(view, "ACCEPT").action == SPEC.accept_action


PIECES = ["a", "{", "{}", "offer ", "so ", "i will ", "- ", "1", ".", "the last ", "accept of ", '"', "<think>"]
OBJECT_PIECES = ['{"', '{"a":', '{"a":{', '{"}', '{"a":1,', '{\\"', '{"\\"', '{"a":[', '{ "', '}"', '{"a":{}}', "{'a':"]


@pytest.mark.parametrize("piece", [*PIECES, *OBJECT_PIECES, "</think>"])
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


@pytest.mark.parametrize("text", ['{"action": ' + "[" * 100_000, '{"action": ' + "[" * 100_000 + "]" * 100_000 + "}"])
def test_deep_nesting_is_no_move(text: str) -> None:
    assert "No move was found: the JSON object" in read_reply(MIDDLE, text).problem


def test_a_number_of_any_length_is_too_large_or_no_number() -> None:
    for digits in (5, 50, 5000):
        text = f'{{"action": "offer", "keep": [5, 3, {"9" * digits}]}}'
        assert read_reply(MIDDLE, text).action is None


@pytest.mark.parametrize(
    "spec", [SPEC, GAMES["mini-b"], GameSpec(item_quantities=(3,)), GameSpec((1, 1, 1, 1, 1, 1, 1, 1))]
)
def test_the_schema_is_strict_and_takes_what_the_prompt_asks_for(spec: GameSpec) -> None:
    schema = reply_schema(spec)
    names = list("ABCDEFGH"[: spec.num_items])
    bundle, nothing = schema["properties"]["keep"]["anyOf"]
    assert list(schema["properties"]) == ["reasoning", "action", "keep"]
    assert schema["properties"]["action"]["enum"] == ["offer", "accept", "walk"]
    assert list(bundle["properties"]) == names
    assert nothing == {"type": "null"}
    for part in (schema, bundle):
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False
    assert json.loads(json.dumps(schema)) == schema


def test_every_value_of_the_action_in_the_schema_is_a_move() -> None:
    for action, meant in zip(
        reply_schema(SPEC)["properties"]["action"]["enum"], [(5, 3, 1), "accept", "walk"], strict=True
    ):
        text = json.dumps({"reasoning": "", "action": action, "keep": {"A": 5, "B": 3, "C": 1}})
        assert decided(MIDDLE, read_reply(MIDDLE, text).action) == meant

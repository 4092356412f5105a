"""The prompts, read back by parsers that know nothing of the templates: every fact is there, and nothing hidden is."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.llm.prompt import PROMPTS, Prompt, load_prompt, prompt_file
from bargain_eval.llm.reply import read_reply, reply_schema
from bargain_eval.llm.view import PlayerView, bundle_text

SPEC = GameSpec(observation="history")
SPECS = {
    "standard": SPEC,
    "mini-b": GAMES["mini-b"].with_observation("history"),
    "mini-c": GAMES["mini-c"].with_observation("history"),
    "one type": GameSpec((3,), max_rounds=4, discount=0.9, outside_range=(0.2, 0.75), observation="history"),
    "four types": GameSpec((1, 2, 1, 2), min_value=5, max_value=30, discount=0.98, observation="history"),
}
PAGE = Path(__file__).parents[2] / "docs" / "prompts.md"


class ShownOffer(NamedTuple):
    """An offer as a prompt tells it; worth and percent are None where it says neither."""

    number: int
    mine: bool
    kept: list[int]
    rest: list[int]
    worth: int | None
    percent: int | None


def view(game: ReferenceGame, seat: int | None = None) -> PlayerView:
    return PlayerView.from_observation(game.spec, game.observation(seat))


def played(spec: GameSpec, count: int, seed: int = 0) -> Iterator[ReferenceGame]:
    """Yields games before each of their moves, all of which are offers, up to the last move."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        game = ReferenceGame(spec, seed, index)
        for _ in range(spec.max_turns - 1):
            yield game
            game.play(int(rng.integers(spec.num_offers)))
        yield game


def counts(text: str, spec: GameSpec) -> list[int]:
    """Returns the units that "5 A, 3 B and 1 C" counts, by a reading of its own."""
    if text in ("everything", "nothing"):
        return [quantity if text == "everything" else 0 for quantity in spec.item_quantities]
    said = dict.fromkeys("ABCDEFGH"[: spec.num_items], 0)
    for part in re.split(", | and ", text):
        number, name = part.split(" ")
        assert said[name] == 0
        said[name] = int(number)
    return list(said.values())


OFFER_LINES = {
    "baseline": r"  (\d+)\. (You) offered to keep (.+), worth (\d+) points? or (\d+)% of your total, and (.+) for the "
    r"other player\.|  (\d+)\. (The other player) offered you (.+), worth (\d+) points? or (\d+)% of your total, and "
    r"(.+) for itself\.",
    "compact": r"(\d+)\. (You|The other player) offered: you (.+), worth (\d+) points? \((\d+)%\); "
    r"the other player (.+)\.",
    "minimal": r"(\d+)\. by (you|other): you (.+)()(); other (.+)",
}


def shown_offers(variant: str, spec: GameSpec, state: str) -> list[ShownOffer]:
    shown = []
    for line in state.splitlines():
        if re.match(r"\s*\d+\.", line):
            found = re.fullmatch(OFFER_LINES[variant], line)
            assert found, line
            number, who, kept, worth, percent, rest = [group for group in found.groups() if group is not None]
            points = (int(worth), int(percent)) if worth else (None, None)
            shown.append(ShownOffer(int(number), who.lower() == "you", counts(kept, spec), counts(rest, spec), *points))
    return shown


@pytest.mark.parametrize("variant", PROMPTS)
@pytest.mark.parametrize("seat", [0, 1])
def test_every_offer_of_either_player_is_shown_with_exact_counts(variant: str, seat: int) -> None:
    prompt = load_prompt(variant)
    seen: dict[bool, set[int]] = {True: set(), False: set()}
    for offer in range(SPEC.num_offers):
        game = ReferenceGame(SPEC, seed=4, game=offer)
        moves = [offer, 79 - offer, (7 * offer + 3) % 80, offer][: 3 + (seat + 1) % 2]
        for move in moves:
            game.play(move)
        shown = shown_offers(variant, SPEC, prompt.state(view(game)))
        assert [line.number for line in shown] == list(range(1, len(moves) + 1))
        for move, line in zip(moves, shown, strict=True):
            assert line.mine == ((line.number - 1) % 2 == seat)
            assert (line.kept, line.rest) == (game.bundle(seat, move), game.bundle(1 - seat, move))
            seen[line.mine].add(move)
            if line.worth is not None and line.percent is not None:
                assert line.worth == game.bundle_value(seat, move)
                assert abs(line.percent - 100 * line.worth / game.totals[seat]) <= 0.5
        assert (shown[0].worth is None) == (variant == "minimal")
    assert seen[True] == seen[False] == set(range(80))


RULES = {
    "baseline": {
        "pool": r"a pool of items: (.+)\.\n",
        "values": r"worth a whole number of points from (\d+) to (\d+), drawn evenly at random",
        "outside": r"private outside offer: the points it gets if there is no deal\. It is a whole number drawn evenly "
        r"from (.+) what the whole pool is worth to that player",
        "first": r"(You|The other player) moves? first\.",
        "parity": r"the (odd|even) numbers are yours",
        "last": r"(You|The other player) makes? move (\d+), the last one, which can be no offer",
        "score": r"(Your score is your points divided by what the whole pool is worth to you)",
        "accept": r"ACCEPT: take the offer that the other player has just made\. The game ends, (and both get) their",
        "walk": r"WALK: walk away without a deal\. The game ends, (and both get their outside offers)",
    },
    "compact": {
        "pool": r"You and one other player split (.+)\.\n",
        "values": r"worth (\d+) to (\d+) whole points to a player: uniform",
        "outside": r"Without a deal each player gets its private outside offer: uniform, independent, whole points "
        r"from (.+) what the whole pool is worth to that player",
        "first": r"(odd|even) numbers are yours",
        "parity": r"(odd|even) numbers are yours",
        "last": r"(You|The other player) makes? the last, move (\d+), which can be no offer",
        "score": r"(Score: your points / what the whole pool is worth to you)",
        "accept": r"accept the other player's last offer \((deal)\)",
        "walk": r"walk \((no deal)\)",
    },
    "minimal": {
        "pool": r"Pool: (.+)\n",
        "values": r"Value of a unit, per player and item: (\d+) to (\d+) points, uniform",
        "outside": r"Outside offer, per player: (.+) own total",
        "first": r"You are (player [12]) of 2.[^$]*player 1 first",
        "parity": r"You are (player [12]) of 2",
        "last": r"at most (\d+), player 1 first, in turns; the last, by (player 2), is no offer",
        "score": r"(Score: own points / own total)",
        "accept": r"accept \(the last offer; (deal)\)",
        "walk": r"walk \(no deal; (both get their outside offers)\)",
    },
}


@pytest.mark.parametrize("variant", PROMPTS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("seat", [0, 1])
def test_the_rules_hold_every_fact_of_the_game(variant: str, spec: GameSpec, seat: int) -> None:
    text = load_prompt(variant).system(spec, seat)
    found: dict[str, tuple[str, ...]] = {}
    for fact, pattern in RULES[variant].items():
        (match,) = re.finditer(pattern, text)
        found[fact] = match.groups()
    assert counts(found["pool"][0].replace("of item ", ""), spec) == list(spec.item_quantities)
    assert [int(number) for number in found["values"]] == [spec.min_value, spec.max_value]
    first, parity, mine = ("The other player", "even", "You") if seat else ("You", "odd", "The other player")
    player = f"player {seat + 1}"
    assert found["first"][0] in (first, parity, player)
    assert found["parity"][0] in (parity, player)
    assert str(spec.max_turns) in found["last"]
    assert {mine, "player 2"} & set(found["last"])
    percents = [float(number) for number in re.findall(r"([\d.]+)%", found["outside"][0])]
    assert percents == ([20.0, 75.0] if spec.outside_range == (0.2, 0.75) else [])
    factors = [float(number) for number in re.findall(r"(?:multiplied by|times) (0\.\d+)", text)]
    assert factors == ([spec.discount] if spec.discount < 1 else [])


HANDS: dict[str, Callable[[str], list[str]]] = {
    "baseline": lambda state: re.findall(r"(\d+) for each [A-H]", state),
    "compact": lambda state: re.findall(r"(\d+) per [A-H]", state),
    "minimal": lambda state: re.findall(r"[A-H] (\d+)", state.splitlines()[1]),
}
STATES = {
    "baseline": r"The whole pool is worth (?P<total>\d+) to you: your total\.\n"
    r"Your outside offer: (?P<outside>\d+) points? or (?P<percent>\d+)% of your total\.\n",
    "compact": r"Total: (?P<total>\d+)\. Outside offer: (?P<outside>\d+) points? \((?P<percent>\d+)%\)\.\n",
    "minimal": r"total (?P<total>\d+); outside offer (?P<outside>\d+) points(?P<percent>)\n",
}
LEFT = {
    "baseline": r"You have (\d+) moves? left, this one included; the other player has (\d+)\.|(This is the last move)",
    "compact": r"Left, this one included: (\d+) for you, (\d+) for the other player\.",
    "minimal": r"left: you (\d+), other (\d+)\n",
}


@pytest.mark.parametrize("variant", PROMPTS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_state_holds_every_fact_of_the_player(variant: str, spec: GameSpec) -> None:
    prompt = load_prompt(variant)
    for game in played(spec, 5):
        seat, turn, state = game.mover, game.turn, prompt.state(view(game))
        assert HANDS[variant](state) == [str(value) for value in game.values[seat]]
        (hand,) = re.finditer(STATES[variant], state)
        assert int(hand["total"]) == game.totals[seat]
        assert int(hand["outside"]) == game.outside[seat]
        if hand["percent"]:
            share = float(game.observation()[spec.slices["outside"]][0])
            assert abs(int(hand["percent"]) / 100 - share) <= 0.005 + 1e-6
        assert re.search(rf"Move {turn + 1} of {spec.max_turns}\b", state)
        left = [len(range(first, spec.max_turns, 2)) for first in (turn, turn + 1)]
        (match,) = re.finditer(LEFT[variant], state)
        assert match[0] == "This is the last move" or [int(number) for number in match.groups()[:2]] == left
        assert (left == [1, 0]) == (turn == spec.max_turns - 1)
        assert match[0] != "This is the last move" or left == [1, 0]
        assert [line.kept for line in shown_offers(variant, spec, state)] == [
            game.bundle(seat, move) for move in game.moves
        ]


@pytest.mark.parametrize("variant", ["baseline", "compact"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_state_says_what_accepting_and_walking_give(variant: str, spec: GameSpec) -> None:
    prompt = load_prompt(variant)
    accept, walk, offer = {
        "baseline": (r"ACCEPT the offer of move (\d+) \(for (\d+) point", r"WALK \(for (\d+) point", "OFFER a split"),
        "compact": (r"(^)Accept: (\d+) point", r"Walk: (\d+) point", ""),
    }[variant]
    for game in played(spec, 3):
        seat, state = game.mover, prompt.state(view(game))
        assert re.findall(walk, state) == [str(game.outside[seat])]
        found = re.findall(accept, state, re.MULTILINE)
        assert len(found) == (game.turn > 0)
        for move, worth in found:
            assert int(worth) == game.bundle_value(seat, game.moves[-1])
            assert move in ("", str(game.turn))
        assert ((offer in state) if offer else "No offer is possible" not in state) == game.is_legal(0)
        factor = re.findall(r"(?:points are multiplied by|game ends now:) ([\d.]+)\.", state)
        assert [float(number) for number in factor] == (
            [pytest.approx(spec.discount ** (game.turn // 2), rel=1e-3)] if spec.discount < 1 else []
        )


@pytest.mark.parametrize("variant", PROMPTS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_games_that_differ_in_the_other_hand_alone_have_the_same_text(variant: str, spec: GameSpec) -> None:
    prompt = load_prompt(variant)
    changed = 0
    for game in played(spec, 5, seed=3):
        seat, other = game.mover, 1 - game.mover
        values, outside = [list(hand) for hand in game.values], list(game.outside)
        values[other] = [spec.min_value + spec.max_value - value for value in values[other]]
        outside[other] = 1
        twin = ReferenceGame(spec, values=values, outside=outside)
        for move in game.moves:
            twin.play(move)
        changed += twin.values[other] != game.values[other]
        assert prompt.state(view(twin)) == prompt.state(view(game))
        assert twin.values[seat] == game.values[seat]
    assert changed


@pytest.mark.parametrize("variant", PROMPTS)
def test_every_fact_of_the_player_changes_the_text(variant: str) -> None:
    prompt = load_prompt(variant)
    seen = PlayerView(SPEC, 0, (12, 40, 3), 120, (33, 5))
    others = [
        PlayerView(SPEC, 0, (13, 40, 3), 120, (33, 5)),
        PlayerView(SPEC, 0, (12, 40, 3), 121, (33, 5)),
        PlayerView(SPEC, 0, (12, 40, 3), 120, (33, 6)),
        PlayerView(SPEC, 0, (12, 40, 3), 120, (34, 5)),
        PlayerView(SPEC, 0, (12, 40, 3), 120),
    ]
    assert len({prompt.state(view) for view in [seen, *others]}) == 6
    assert prompt.system(SPEC, 0) != prompt.system(SPEC, 1)


@pytest.mark.parametrize("variant", PROMPTS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_form_of_a_reply_is_that_of_the_schema(variant: str, spec: GameSpec) -> None:
    text = load_prompt(variant).system(spec, 0)
    bundle = reply_schema(spec)["properties"]["keep"]["anyOf"][0]["properties"]
    form = ", ".join(f'"{name}": 0 to {q}' for name, q in zip(bundle, spec.item_quantities, strict=True))
    assert f"{{{form}}}" in text
    places = [text.rindex(f'"{name}":' if f'"{name}":' in text else f'"{name}"') for name in ("reasoning", "action")]
    assert places == sorted(places)
    for action in ("offer", "accept", "walk"):
        assert f'"{action}"' in text


@pytest.mark.parametrize("variant", PROMPTS)
def test_no_prompt_sets_the_players_against_each_other_or_suggests_a_move(variant: str) -> None:
    prompt = load_prompt(variant)
    text = (
        prompt.system(SPEC, 0) + prompt.state(PlayerView(SPEC, 0, (12, 40, 3), 120)) + prompt.retry("It is a question.")
    )
    assert not re.search(r"(?i)\b(beat|win|opponent|defeat|rival|fair|aggressive|cooperat\w+|should)\b", text)
    assert read_reply(PlayerView(SPEC, 0, (12, 40, 3), 120), text).action is None


@pytest.mark.parametrize("variant", PROMPTS)
def test_the_second_request_holds_the_reason(variant: str) -> None:
    assert "You cannot keep 8 of item A: there are 7." in load_prompt(variant).retry(
        "You cannot keep 8 of item A: there are 7."
    )


def test_the_compact_variant_is_shorter_and_the_minimal_one_shortest() -> None:
    seen = PlayerView(SPEC, 0, (12, 40, 3), 120, (33, 5))
    lengths = [len(p.system(SPEC, 0) + p.state(seen)) for p in map(load_prompt, ("minimal", "compact", "baseline"))]
    assert lengths[0] < 0.75 * lengths[1] < 0.75 * 0.75 * lengths[2]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_view_holds_exactly_what_its_player_knows(spec: GameSpec) -> None:
    prompt = load_prompt()
    for game in played(spec, 10):
        for seat in (0, 1):
            seen = view(game, seat)
            assert seen == PlayerView(spec, seat, tuple(game.values[seat]), game.outside[seat], tuple(game.moves))
            assert seen.total == game.totals[seat]
            assert seen.my_turn == (game.mover == seat)
        assert view(game).can_offer == game.is_legal(0)
        with pytest.raises(ValueError, match=f"seat {1 - game.mover} is not"):
            prompt.state(view(game, 1 - game.mover))


@pytest.mark.parametrize("seat", [0, 1])
def test_an_offer_and_the_bundle_that_it_keeps_are_one_to_one(seat: int) -> None:
    game = ReferenceGame(SPEC, seed=4)
    for offer in range(SPEC.num_offers):
        seen = PlayerView(SPEC, seat, tuple(game.values[seat]), game.outside[seat])
        assert seen.bundle(offer) == tuple(game.bundle(seat, offer))
        assert seen.offer_keeping(game.bundle(seat, offer)) == offer
    assert seen.offer_keeping((7, 4, 1)) == (79 if seat else 0)


def test_bundles_are_told_in_full() -> None:
    told = {bundle_text(SPEC, bundle): bundle for bundle in SPEC.offers.tolist()}
    assert len(told) == 80
    assert all(counts(text, SPEC) == bundle for text, bundle in told.items())
    assert bundle_text(SPEC, (3, 2, 1)) == "3 A, 2 B and 1 C"


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
    game = ReferenceGame(SPEC)
    game.play(33)
    assert PlayerView.from_observation(GameSpec(), game.observation()) == view(game)


@pytest.mark.parametrize("variant", PROMPTS)
def test_the_hash_is_that_of_the_bytes_of_the_file(variant: str, tmp_path: Path) -> None:
    prompt = load_prompt(variant)
    data = prompt_file(variant).read_bytes()
    assert (prompt.name, prompt.sha256) == (variant, hashlib.sha256(data).hexdigest())
    own = tmp_path / "mine.txt"
    own.write_bytes(data.replace(b"Reply again", b"Once more").replace(b"say your move again", b"once more"))
    mine = load_prompt(str(own))
    assert (mine.name, mine.sha256) == ("mine", hashlib.sha256(own.read_bytes()).hexdigest())
    assert mine.sha256 != prompt.sha256
    assert "nce more" in mine.retry("It is a question.")
    assert mine.system(SPEC, 1) == prompt.system(SPEC, 1)


def test_a_prompt_can_be_sent_to_another_process() -> None:
    prompt: Prompt = pickle.loads(pickle.dumps(load_prompt("compact")))
    assert prompt == load_prompt("compact")
    assert prompt.rules(SPEC, 0) == load_prompt("compact").rules(SPEC, 0)


FORM = "{{% block rules %}}{rules}{{% endblock %}}{{% block reply %}}{reply}{{% endblock %}}{{% block state %}}{state}"
FORM += "{{% endblock %}}{{% block retry %}}{retry}{{% endblock %}}{rest}"


def template(**blocks: str) -> str:
    return FORM.format(**({"rules": "R", "reply": "F", "state": "S", "retry": "{{ problem }}", "rest": ""} | blocks))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            template().replace("block state", "block status"),
            "has no block 'state': it needs the blocks rules, reply, state",
        ),
        ("", "has no block 'rules'"),
        (template(rest="{% block more %}{% endblock %}"), "all text must be in the blocks"),
        (template(rest="\nGood luck!"), "line 2: all text must be in the blocks"),
        (template(rest="{{ 1 }}"), "all text must be in the blocks"),
        (template(state="{% for offer in offers %}"), "is no template: line 1: "),
        (
            template(state="{{ moves }}"),
            "block 'state': 'moves' is unknown there; it knows bundle, count, counts, factor",
        ),
        (template(rules="{{ view.total }}"), "block 'rules': 'view' is unknown there"),
        (template(retry="{{ offers }}"), "block 'retry': 'offers' is unknown there; it knows"),
        (template(state="{{ view.other_values }}"), "fails in its block 'state': "),
        (template(rules="{{ items[3].name }}"), "fails in its block 'rules': "),
        (template(reply="{{ 1 // 0 }}"), "fails in its block 'reply': "),
        (template(reply="{{ spec.__class__.__mro__ }}"), "fails in its block 'reply': "),
    ],
)
def test_a_template_that_is_none_is_refused_in_one_sentence(text: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^Prompt '.*mine(\.txt)?'[^\n]*\.$") as caught:
        load_prompt(str(file))
    assert problem in str(caught.value)


@pytest.mark.parametrize("block", ["rules", "reply", "state", "retry"])
def test_the_page_explains_every_name_that_a_template_knows(block: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(template(**{block: "{{ unheard_of }}"}), encoding="utf-8")
    with pytest.raises(ValueError, match="unheard_of") as caught:
        load_prompt(str(tmp_path / "mine.txt"))
    rows = [row.split(" | ")[:2] for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")]
    explained = {
        name for names, blocks in rows if block in blocks or blocks == "all" for name in re.findall(r"`(\w+)", names)
    }
    assert set(str(caught.value).rstrip(".").partition("it knows ")[2].split(", ")) == explained


def test_a_template_of_the_right_form_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text(
        template(rest="\n{# why #}\n", state="{{ counts(quantities) }}: {{ view.values[0] }}"), encoding="utf-8"
    )
    prompt = load_prompt(str(file))
    assert prompt.system(SPEC, 0) == "R\n\nF"
    assert prompt.state(PlayerView(SPEC, 0, (12, 40, 3), 120)) == "7 A, 4 B, 1 C: 12"
    assert prompt.retry("It is a question.") == "It is a question."


def test_what_is_no_prompt_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no prompt 'baselin': say baseline, compact or minimal, or the path of a"):
        load_prompt("baselin")
    with pytest.raises(ValueError, match="There is no prompt"):
        load_prompt(str(tmp_path))
    (tmp_path / "latin.txt").write_bytes(template(rules="\xe9").encode("latin-1"))
    with pytest.raises(ValueError, match=r"is no text in UTF-8: .*\.$"):
        load_prompt(str(tmp_path / "latin.txt"))


def test_the_page_shows_the_prompts_as_they_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for variant in PROMPTS:
        assert f"| `{variant}` | {load_prompt(variant).sha256} |" in text
    seen = PlayerView(SPEC, 1, (12, 40, 3), 120, (33,))
    prompt = load_prompt("baseline")
    shown = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert [" ".join(block.split()) for block in shown] == [
        " ".join(part.split())
        for part in (
            prompt.system(SPEC, 1),
            prompt.state(seen),
            prompt.retry("You cannot keep 8 of item A: there are 7."),
            *(load_prompt(variant).state(seen) for variant in ("compact", "minimal")),
        )
    ]
    (reply,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    assert set(json.loads(reply)) == set(reply_schema(SPEC)["properties"])
    action = read_reply(seen, reply).action
    assert action is not None
    assert bundle_text(SPEC, seen.bundle(action)) in text.partition("```json")[2]

"""What a reply means: the last explicit decision in a text, as an action, or the reason why there is none.

The last JSON object with the key `action` decides, whatever stands around it. Without one, words do: a sentence or line
of its own that says accept or walk (`ACCEPT`, `So I walk away.`, `Decision: accept`), or an offer with its counts
(`OFFER 5 3 1`, `I keep 5 A, 3 B and 1 C`), the last one of several. Words in passing (`an acceptable offer`, `not
ACCEPT`, `should I walk?`, `your offer of 5 3 1`) decide nothing, nor does what a model says between thinking tags. A
text with a JSON object that is cut off decides nothing at all.

Legend: `I` item types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from bargain_env.spec import GameSpec

from bargain_eval.llm.json_objects import find_objects
from bargain_eval.llm.view import PlayerView, item_names


class Reply(NamedTuple):
    """What a text decides.

    Attributes:
        action: A legal action, or None.
        problem: Why there is none, as one sentence to the speaker; "" if there is an action.
    """

    action: int | None
    problem: str = ""


class _Decision(NamedTuple):
    """A decision as it was said: which move, and for an offer the words that count what the speaker keeps or gives."""

    position: int
    move: str
    counts: str = ""
    gives: bool = False


_WILL = r"(?:will|would|do|hereby|choose|decide|decided|have|am|going|like|gladly|to)"
_SUBJECT = rf"(?:(?:so|ok|okay|yes|fine|then|therefore|thus|deal)\b[,:]?\s*)*(?:i(?:'ll|'d|'m|'ve)?(?:\s+{_WILL})*\s+)?"
_THAT = r"(?:the|your|this|that|their|it)(?:\s+(?:current|standing|last|latest|other player's))*"
_ACCEPT = re.compile(rf"{_SUBJECT}accept(?:\s+{_THAT}(?:\s+(?:offer|proposal|deal|split))?(?:\s+of\s.*)?)?")
_WALK = re.compile(rf"{_SUBJECT}walk(?:\s*away)?(?:\s+from\s+(?:the|this|your)\s+\w+)?")
_BULLET = re.compile(r"^(?:[\s>*#_`\"'-]|\d+[.)]\s)+")
_LABEL = re.compile(r"^(?:(?:my|the|final|next)\s+)*(?:decision|action|move|answer|reply|choice)\s*(?:is\b|[:=-])\s*")
_SENTENCE = re.compile(r"[^\n]*?(?:[.!?;]+(?=[\s\"'*_`]|$)|\n|$)")
_VERB = re.compile(
    r"(?:(?<![\w'])(?P<before>[\w']+)\s+)?\b(?P<verb>counter-?\s?offer|offer|propose|keep|take|get|want|give)\b"
    r"(?:\s+(?P<object>you|them|the other player|me)\b)?[\s:=]*"
)
_COUNTS = re.compile(
    r"(?:everything|all|nothing)\b|(?:-?\d+(?:\.\d+)?|(?:[a-h]|and|of|items?|units?)\b|[\s,:=()/\[\]&x*-])*"
)
_NUMBER = r"(?<!\d)-?\d+(?:\.\d+)?"
_DIGITS = 9  # of a number that are read; any number that long is too large
_NOT_I = {"you", "your", "they", "their", "its", "previous", "last", "the", "that", "this", "an", "no", "not", "never"}
_TYPOGRAPHY = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-") | {"\u2019": "'"})
_THOUGHT = re.compile(r"[<\[](?P<end>/?)(?:think|thinking|thought|thoughts|reasoning|reflection)[>\]]", re.IGNORECASE)
_HOW = "say OFFER with the units that you keep, ACCEPT or WALK"
_MOVES = {
    **dict.fromkeys(("offer", "counteroffer", "counter", "propose", "proposal"), "offer"),
    **dict.fromkeys(("accept", "acceptoffer"), "accept"),
    **dict.fromkeys(("walk", "walkaway"), "walk"),
}
"""The values of `action` in a JSON object, without spaces, hyphens and underscores."""


def read_reply(view: PlayerView, text: str | None) -> Reply:
    """Returns what `text`, said by the player of `view` when it is to move, decides; linear in its length."""
    found = find_objects(_without_thoughts(text or ""))
    objects = [fields for fields in found.objects if "action" in fields]
    if objects:
        return _read_object(view, objects[-1])
    decisions = list(_decisions(found.words.translate(_TYPOGRAPHY)))
    if not decisions:
        return Reply(None, f"No move was found: {found.problem or _HOW}.")
    last = max(decisions, key=lambda decision: decision.position)
    return _read_move(view, last.move, last.counts, last.gives)


def reply_schema(spec: GameSpec) -> dict[str, Any]:
    """Returns the strict JSON schema of a reply: `reasoning`, then `action`, then `keep` (the units of each item).

    Ranges are left to `read_reply`, since not every server takes them in a schema.
    """
    names = item_names(spec)
    bundle = _strict_object({name: {"type": "integer"} for name in names})
    return _strict_object(
        {
            "reasoning": {"type": "string"},
            "action": {"type": "string", "enum": ["offer", "accept", "walk"]},
            "keep": {"anyOf": [bundle, {"type": "null"}]},
        }
    )


def _strict_object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _without_thoughts(text: str) -> str:
    """Returns what a text says outside of thinking tags; all before an end without a beginning is thought too."""
    said: list[str] = []
    start, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        if not tag["end"] and not thinking:
            said.append(text[start : tag.start()])
        elif tag["end"] and not thinking:
            said.clear()
        start, thinking = tag.end(), not tag["end"]
    return "\n".join(said if thinking else [*said, text[start:]])


def _read_object(view: PlayerView, fields: dict[str, Any]) -> Reply:
    move = _MOVES.get(re.sub(r"[\s_-]", "", str(fields["action"]).lower()))
    if move is None:
        return Reply(None, 'No move was found: the "action" of a JSON object is "offer", "accept" or "walk".')
    gives = fields.get("keep") is None and "give" in fields
    return _read_move(view, move, _counts_of(fields.get("give" if gives else "keep"), item_names(view.spec)), gives)


def _counts_of(field: Any, names: tuple[str, ...]) -> str | None:
    """Returns counts from JSON, by position or by name, in words by position; None if the names are others."""
    if isinstance(field, dict):
        named = {re.sub(r"^items?[\s_-]*", "", str(key).strip().lower()): count for key, count in field.items()}
        if sorted(named) != [name.lower() for name in names]:
            return None
        field = [named[name.lower()] for name in names]
    numbers = field if isinstance(field, list) else [field]
    return " ".join(str(int(n) if isinstance(n, float) and n.is_integer() else n) for n in numbers).lower()


def _decisions(words: str) -> Iterator[_Decision]:
    for found in _SENTENCE.finditer(words):
        yield from _decisions_of_sentence(found.start(), found[0].strip().lower())


def _decisions_of_sentence(start: int, sentence: str) -> Iterator[_Decision]:
    if sentence.endswith("?"):
        return
    plain = _LABEL.sub("", _BULLET.sub("", sentence)).strip(" \t.!;*_`\"'")
    if _ACCEPT.fullmatch(plain):
        yield _Decision(start, "accept")
    elif _WALK.fullmatch(plain):
        yield _Decision(start, "walk")
    elif plain in ("offer", "counteroffer"):
        yield _Decision(start, "offer")
    for found in _VERB.finditer(sentence):
        before, listener = found["before"] or "", found["object"]
        counts = _COUNTS.match(sentence, found.end())
        said = counts[0] if counts else ""
        if re.search(r"\d|everything|all|nothing", said) and before not in _NOT_I and not before.endswith("n't"):
            gives = listener != "me" and (found["verb"] == "give" or listener is not None)
            yield _Decision(start + found.start(), "offer", said, gives)


def _read_move(view: PlayerView, move: str, counts: str | None, gives: bool) -> Reply:
    if move == "walk":
        return Reply(view.spec.walk_action)
    if move == "accept":
        return Reply(view.spec.accept_action) if view.offers else Reply(None, "There is no offer to accept yet.")
    if not view.can_offer:
        return Reply(None, "This is the last move of the game, which can be no offer: ACCEPT or WALK.")
    return _read_offer(view, counts, gives)


def _read_offer(view: PlayerView, said: str | None, gives: bool) -> Reply:
    names, quantities = item_names(view.spec), view.spec.item_quantities
    verb = "give" if gives else "keep"
    counts = _names_problem(names) if said is None else _read_counts(said, verb, names, quantities)
    if isinstance(counts, str):
        return Reply(None, counts)
    for name, count, quantity in zip(names, counts, quantities, strict=True):
        if not 0 <= count <= quantity:
            return Reply(None, f"You cannot {verb} {count} of item {name}: there are {quantity}.")
    return Reply(view.offer_keeping(view.rest(counts) if gives else counts))


def _read_counts(said: str, verb: str, names: tuple[str, ...], quantities: tuple[int, ...]) -> tuple[int, ...] | str:
    """Returns the units `[I]` that the words count, or what is wrong with them."""
    if re.match("everything|all", said):
        return quantities
    if said.startswith("nothing"):
        return (0,) * len(names)
    numbers, letters = re.findall(_NUMBER, said), re.findall(r"\b[a-h]\b", said)
    if len(numbers) != len(names):
        wanted = f"{len(names)} numbers" if len(names) > 1 else "one number"
        return f"An offer needs {wanted}, the units of {' '.join(names)} that you {verb}; got {len(numbers)}."
    if any("." in number for number in numbers):
        return "Items cannot be divided: say whole numbers of units."
    counts = tuple(int(number[:_DIGITS]) for number in numbers)
    if not letters:
        return counts
    if sorted(letters) != [name.lower() for name in names]:
        return _names_problem(names)
    return tuple(counts[letters.index(name.lower())] for name in names)


def _names_problem(names: tuple[str, ...]) -> str:
    return f"An offer names each of {' '.join(names)} once, or none of them."

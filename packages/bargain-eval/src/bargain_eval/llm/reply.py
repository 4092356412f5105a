"""What a reply means: the last explicit decision in a text, as an action, or the reason why there is none.

A decision is explicit if a sentence or line of its own says accept or walk (`ACCEPT`, `So I walk away.`, `Decision:
accept`), if it is an offer with its counts (`OFFER 5 3 1`, `I keep 5 A, 3 B and 1 C`), or a JSON object with the key
`action`. Words in passing (`an acceptable offer`, `not ACCEPT`, `should I walk?`, `your offer of 5 3 1`) decide
nothing. Where a text holds several decisions, the last one counts.

Legend: `I` item types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from bargain_eval.llm.prompt import PlayerView, item_names


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
_OBJECT = re.compile(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}")
_DIGITS = 9  # of a number that are read; any number that long is too large
_NOT_I = {"you", "your", "they", "their", "its", "previous", "last", "the", "that", "this", "an", "no", "not", "never"}
_MOVES = {"offer": "offer", "counteroffer": "offer", "accept": "accept", "walk": "walk"}


def read_reply(view: PlayerView, text: str | None) -> Reply:
    """Returns what `text`, said by the player of `view` when it is to move, decides."""
    decisions = list(_decisions((text or "").replace("\u2019", "'")))
    if not decisions:
        return Reply(None, "No move was found: say OFFER with the units that you keep, ACCEPT or WALK.")
    last = max(decisions, key=lambda decision: decision.position)
    if last.move == "walk":
        return Reply(view.spec.walk_action)
    if last.move == "accept":
        return Reply(view.spec.accept_action) if view.offers else Reply(None, "There is no offer to accept yet.")
    if not view.can_offer:
        return Reply(None, "This is the last move of the game, which can be no offer: ACCEPT or WALK.")
    return _read_offer(view, last)


def _decisions(text: str) -> Iterator[_Decision]:
    for found in _OBJECT.finditer(text):
        yield from _decision_of_object(found)
    words = _OBJECT.sub(lambda found: " " * len(found[0]), text)  # other positions stay as they were
    for found in _SENTENCE.finditer(words):
        yield from _decisions_of_sentence(found.start(), found[0].strip().lower())


def _decision_of_object(found: re.Match[str]) -> Iterator[_Decision]:
    try:
        fields = {str(key).lower(): field for key, field in json.loads(found[0]).items()}
    except ValueError:
        return
    move = _MOVES.get(str(fields.get("action", "")).lower())
    if move is not None:
        gives = "keep" not in fields and "give" in fields
        yield _Decision(found.start(), move, _counts_of(fields.get("give" if gives else "keep")), gives)


def _counts_of(field: Any) -> str:
    """Returns counts from JSON, by position or by name, in the words of a sentence."""
    if isinstance(field, dict):
        return " ".join(f"{name} {count}" for name, count in field.items()).lower()
    return " ".join(map(str, field)) if isinstance(field, list) else str(field)


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


def _read_offer(view: PlayerView, decision: _Decision) -> Reply:
    names, quantities = item_names(view.spec), view.spec.item_quantities
    verb = "give" if decision.gives else "keep"
    counts = _read_counts(decision.counts, verb, names, quantities)
    if isinstance(counts, str):
        return Reply(None, counts)
    for name, count, quantity in zip(names, counts, quantities, strict=True):
        if not 0 <= count <= quantity:
            return Reply(None, f"You cannot {verb} {count} of item {name}: there are {quantity}.")
    return Reply(view.offer_keeping(view.rest(counts) if decision.gives else counts))


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
        return f"An offer names each of {' '.join(names)} once, or none of them."
    return tuple(counts[letters.index(name.lower())] for name in names)

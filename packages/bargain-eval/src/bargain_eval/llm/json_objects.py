"""The JSON objects in a text, and the words around them."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

_DEPTH = 6


def _pattern() -> re.Pattern[str]:
    """Returns the pattern of an object up to `_DEPTH` deep, or of the beginning of one that does not end.

    Every repetition is possessive: a text is searched in linear time, whatever braces and quotes it holds.
    """
    plain, string = r'[^{}"\\]++', r'"(?:[^"\\]++|\\.)*+"'
    whole = rf"\{{(?:{plain}|{string})*+\}}"
    for _ in range(_DEPTH - 1):
        whole = rf"\{{(?:{plain}|{string}|{whole})*+\}}"
    return re.compile(rf'(?=\{{\s*+")(?:(?P<whole>{whole})|\{{)', re.DOTALL)


_OBJECT = _pattern()


class FoundObjects(NamedTuple):
    """What a text holds.

    Attributes:
        objects: The objects in their order, with names in lower case.
        words: The text without anything that looks like an object.
        problem: Why something that looks like an object is none, "" if nothing does.
    """

    objects: list[dict[str, Any]]
    words: str
    problem: str


def find_objects(text: str) -> FoundObjects:
    """Returns the JSON objects in `text`; where one does not end, the text says nothing at all."""
    objects, words, problem, start = [], [], "", 0
    for found in _OBJECT.finditer(text):
        if found["whole"] is None:
            return FoundObjects([], "", "the JSON object does not end")
        words.append(text[start : found.start()])
        start = found.end()
        try:
            objects.append(_fields(json.loads(found["whole"], strict=False)))
        except (ValueError, RecursionError):
            problem = "the JSON object cannot be read"
    return FoundObjects(objects, "\n".join([*words, text[start:]]), problem)


def _fields(parsed: dict[str, Any]) -> dict[str, Any]:
    """Returns an object with its names in lower case, and for one that wraps another, `{"move": {...}}`, that one."""
    if len(parsed) == 1 and isinstance(inner := next(iter(parsed.values())), dict):
        return _fields(inner)
    return {key.lower(): field for key, field in parsed.items()}

"""The section about the language models of a cross-play: how their replies became moves, and what the calls took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bargain_eval.llm.audit import HOWS
from bargain_eval.report.content import Cell, Section, Table, count, number, text


def model_section(name: str, title: str, llm: Mapping[str, Any]) -> Section:
    """Returns the section about the entry `llm` of a cross-play.

    Args:
        name: Its anchor.
        title: Its heading.
        llm: What `write_calls` returned.
    """
    words = (
        "A reply is a JSON object, or a move is found in its text. If it is no move, the model is told why and asked "
        "once more; if that does not help, the fallback moves. Calls that stand behind several moves count once."
    )
    return Section(name, title, (words,), tables=(_replies(llm), _calls(llm)))


def _replies(llm: Mapping[str, Any]) -> Table:
    rows = []
    for name, policy in llm["policies"].items():
        decisions, prompt = policy["decisions"], policy["prompt"]
        shares = (_share(policy["how"][how], decisions) for how in HOWS)
        words = text(f"{prompt['name']} {prompt['sha256'][:8]}")
        rows.append((text(name), words, count(decisions), *shares, text(policy["fallback"])))
    kinds = ("JSON object", "text", "second reply", "fallback", "not recorded")
    headers = ("policy", "prompt", "moves", *kinds, "fallback policy")
    note = "Shares of the moves. Not recorded: the file of calls does not have the answers by which these were played."
    return Table(headers, rows, title="How replies became moves", note=note)


def _calls(llm: Mapping[str, Any]) -> Table:
    rows = [
        (
            text(name),
            count(policy["calls"]),
            *(count(policy[f"{kind}_tokens"]) for kind in ("input", "cached", "output", "reasoning")),
            number(policy["cost"]),
            text(", ".join(f"{finish} {number}" for finish, number in policy["finish"].items() if finish != "stop")),
            text(", ".join(dict.fromkeys(part["model"] for part in policy["sent"]))),
            text(policy["host"]),
            text("; ".join(dict.fromkeys(map(_sent, policy["sent"])))),
        )
        for name, policy in llm["policies"].items()
    ]
    tokens = ("tokens in", "of these cached", "tokens out", "of these reasoning")
    headers = ("policy", "calls", *tokens, "cost in $", "ended otherwise", "model", "server", "parameters")
    prices = llm["prices"]
    note = (
        f"Cost by the prices of {prices['date'] or 'an unknown date'} ({prices['source'] or 'no source'}); empty "
        "where a price is unknown. Parameters are those that were sent, without those that a model refused."
    )
    return Table(headers, rows, title="What the calls took", note=note)


def _share(part: int, whole: int) -> Cell:
    return Cell(f"{part / whole:.1%}", part / whole) if whole else Cell("")


def _sent(part: Mapping[str, Any]) -> str:
    """Returns what was sent beside the conversation, such as `temperature=0.7, without response_format`."""
    values = (
        (key, value if isinstance(value, str) else json.dumps(value)) for key, value in part["parameters"].items()
    )
    sent = [f"{key}={value}" for key, value in values]
    return ", ".join([*sent, *(f"without {name}" for name in part["dropped"])]) or "none"

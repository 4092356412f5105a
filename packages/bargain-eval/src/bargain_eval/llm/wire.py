"""How a request is written in each API, and how the body of a response is read. Pure functions of plain dicts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from bargain_eval.llm.request import Request

_SCHEMA_NAME = "move"
_FIELDS = {
    "temperature": "temperature",
    "reasoning_effort": "reasoning_effort",
    "reasoning.effort": "reasoning_effort",
    "reasoning.summary": "summary",
    "response_format": "schema",
    "text.format": "schema",
    "max_output_tokens": "max_output_tokens",
    "max_completion_tokens": "max_completion_tokens",
    "max_tokens": "max_output_tokens",
    "store": "store",
}
"""The parameters that can be left out, by their names in the APIs, and what each is in a request."""

_COMMON_WORDS = {"store"}  # a name of a parameter only within quotes
_COMPLAINT = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not (?:permitted|allowed|available)"
    r"|extra (?:input|field)|incompatible|only the default",
    re.IGNORECASE,
)


class Sent(NamedTuple):
    """A request as it is sent.

    Attributes:
        arguments: The arguments of the client's `create`.
        parameters: Those beside the conversation, by their names in the API; the schema by its name.
        dropped: The fields of the request that are left out, sorted.
    """

    arguments: dict[str, Any]
    parameters: dict[str, Any]
    dropped: list[str]


class Body(NamedTuple):
    """What the body of a response says; the fields are those of `Answer`."""

    text: str | None
    reasoning: str | None
    finish: str
    model: str
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None


def to_send(request: Request, unsupported: Collection[str]) -> Sent:
    """Returns how `request` is sent without what the model does not take.

    Args:
        request: The request.
        unsupported: Fields to leave out; "max_completion_tokens" stands for the name, and "store" for asking that
            the server keeps nothing.
    """
    asked = {
        "temperature": request.temperature,
        "reasoning_effort": request.reasoning_effort,
        "summary": request.summary,
        "max_output_tokens": request.max_output_tokens,
        "schema": request.schema,
        "store": False if request.api == "responses" else None,
    }
    refused = {name for name in asked if name in unsupported}
    if request.reasoning and request.reasoning_effort != "none":
        refused.add("temperature")
    if request.api == "chat":
        refused.add("summary")
    dropped = sorted(name for name in refused if asked[name] is not None)
    fields = {name: value for name, value in asked.items() if value is not None and name not in refused}
    arguments = _chat(fields, unsupported) if request.api == "chat" else _responses(fields)
    shown = {key: _SCHEMA_NAME if key in ("text", "response_format") else value for key, value in arguments.items()}
    return Sent(_conversation(request) | arguments, shown, dropped)


def _conversation(request: Request) -> dict[str, Any]:
    messages = [{"role": role, "content": text} for role, text in request.messages]
    if request.api == "chat":
        return {"model": request.model, "messages": [{"role": "system", "content": request.system}, *messages]}
    return {"model": request.model, "instructions": request.system, "input": messages}


def _chat(fields: Mapping[str, Any], unsupported: Collection[str]) -> dict[str, Any]:
    limit = "max_tokens" if "max_completion_tokens" in unsupported else "max_completion_tokens"
    named = {"max_output_tokens": limit}
    arguments = {named.get(name, name): value for name, value in fields.items() if name != "schema"}
    if "schema" in fields:
        schema = {"name": _SCHEMA_NAME, "strict": True, "schema": fields["schema"]}
        arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
    return arguments


def _responses(fields: Mapping[str, Any]) -> dict[str, Any]:
    inner = {"reasoning_effort": "effort", "summary": "summary"}
    arguments = {name: value for name, value in fields.items() if name not in inner and name != "schema"}
    if reasoning := {inner[name]: value for name, value in fields.items() if name in inner}:
        arguments["reasoning"] = reasoning
    if "schema" in fields:
        schema = {"type": "json_schema", "name": _SCHEMA_NAME, "strict": True, "schema": fields["schema"]}
        arguments["text"] = {"format": schema}
    return arguments


def refused_fields(sent: Sent, parameter: str | None, message: str) -> set[str]:
    """Returns which fields of what was sent an error of status 400 or 422 says are not supported, else none.

    Args:
        sent: What was sent.
        parameter: The parameter that the error names, None if it names none in a field of its own.
        message: The error's words.
    """
    names = [name for name in _FIELDS if name.partition(".")[0] in sent.parameters]
    if parameter:
        # of reasoning.effort, the error may name reasoning; of text.format, text.format.schema
        named = {name for name in names if f"{parameter}.".startswith(f"{name}.") or name.startswith(f"{parameter}.")}
    else:
        named = {name for name in names if _is_named(name, message)}
    fields = {_FIELDS[name] for name in named}
    return fields if _COMPLAINT.search(message) else fields & {"schema"}


def _is_named(name: str, message: str) -> bool:
    word = re.escape(name)
    pattern = rf"['\"`]{word}['\"`]" if name in _COMMON_WORDS else rf"(?<!\w){word}(?!\w)"
    return re.search(pattern, message) is not None


def read_body(request: Request, body: Any) -> Body:
    """Returns what a response's body says.

    Raises:
        ValueError: If it is none of the API.
    """
    try:
        return _read_chat(request, body) if request.api == "chat" else _read_responses(request, body)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"the body is none of the {request.api} API.") from error


def _read_chat(request: Request, body: Any) -> Body:
    choice = body["choices"][0]
    message, usage = choice["message"], body.get("usage") or {}
    refusal = _text(message.get("refusal"))
    return Body(
        text=_content(message.get("content")) or refusal,
        reasoning=_text(message.get("reasoning_content") or message.get("reasoning")),
        finish="refusal" if refusal else str(choice.get("finish_reason") or "stop"),
        model=str(body.get("model") or request.model),
        input_tokens=_count(usage, "prompt_tokens"),
        cached_tokens=_count(usage.get("prompt_tokens_details") or {}, "cached_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        reasoning_tokens=_count(usage.get("completion_tokens_details") or {}, "reasoning_tokens"),
    )


def _read_responses(request: Request, body: Any) -> Body:
    if body["status"] not in ("completed", "incomplete"):
        raise ValueError(f"the response has the status {body['status']}.")
    items = body["output"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    texts = [part.get("text") or part.get("refusal") or "" for part in parts]
    thoughts = [part["text"] for item in items if item["type"] == "reasoning" for part in item.get("summary") or ()]
    usage = body.get("usage") or {}
    return Body(
        text=_text("".join(texts)),
        reasoning=_text("\n\n".join(thoughts)),
        finish=_finish_of_response(body, parts),
        model=str(body.get("model") or request.model),
        input_tokens=_count(usage, "input_tokens"),
        cached_tokens=_count(usage.get("input_tokens_details") or {}, "cached_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        reasoning_tokens=_count(usage.get("output_tokens_details") or {}, "reasoning_tokens"),
    )


def _finish_of_response(body: Mapping[str, Any], parts: Collection[Mapping[str, Any]]) -> str:
    if any(part["type"] == "refusal" for part in parts):
        return "refusal"
    if body["status"] == "completed":
        return "stop"
    reason = str((body.get("incomplete_details") or {}).get("reason") or "incomplete")
    return "length" if reason == "max_output_tokens" else reason


def _content(value: Any) -> str | None:
    """Returns the text of a message, which some servers send in parts beside those of the reasoning."""
    if isinstance(value, list):
        return _text("".join(part["text"] for part in value if part["type"] == "text"))
    return _text(value)


def _text(value: Any) -> str | None:
    """Returns a text that is not blank, else None.

    Raises:
        TypeError: If the value is no text.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, got {type(value).__name__}.")
    whole = value.encode("utf-8", "replace").decode()  # a reply that is cut off may end with half a character
    return whole if whole.strip() else None


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if type(value) is int and value >= 0 else None

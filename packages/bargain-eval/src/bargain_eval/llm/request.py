"""What is asked of a language model, and what came back: plain data, the same for every API."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, Self

Api = Literal["responses", "chat"]

_REASONING = re.compile(r"(?:.*/|ft:)?(?:o[134](?:-|$)|gpt-[5-9](?!.*-chat)).*")


def is_reasoning_model(model: str) -> bool:
    """Tells by its name whether a model reasons before it answers: OpenAI's o1, o3, o4 and gpt-5 on, not the chat ones.

    Such a model refuses a temperature, unless its effort is "none".
    """
    return _REASONING.fullmatch(model) is not None


@dataclasses.dataclass(frozen=True)
class Request:
    """One call, complete: two equal requests differ only by chance.

    Attributes:
        model: The model's name at the server.
        system: The instructions.
        messages: The conversation, (role, text) with the roles "user" and "assistant".
        schema: The JSON schema of the reply, None = free text.
        temperature: None = the server's own.
        reasoning_effort: "none", "minimal", "low", "medium", "high" and so on; None = the server's own.
        max_output_tokens: Limit of the reply, reasoning included; None = the server's own.
        api: The API that is spoken.
        host: The server's name and path without scheme, user and password, e.g. "api.openai.com/v1".
        reasoning: Whether the model is treated as one that reasons, see `is_reasoning_model`.
        summary: The kind of reasoning summary to ask for, e.g. "auto"; None = none. The Responses API alone has it.
    """

    model: str
    system: str
    messages: tuple[tuple[str, str], ...]
    schema: dict[str, Any] | None
    temperature: float | None
    reasoning_effort: str | None
    max_output_tokens: int | None
    api: Api
    host: str
    reasoning: bool = False
    summary: str | None = None

    def canonical(self) -> str:
        """Returns the request as JSON with sorted keys: equal requests give equal texts."""
        return json.dumps(vars(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    def key(self, sample: str) -> str:
        """Returns the name of the call in the store: 64 hexadecimal digits of the request and the sample's index.

        The index tells repeated draws of one request apart, so that games do not share a draw.
        """
        return hashlib.sha256(f"{self.canonical()}\n{sample}".encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a server answered.

    Attributes:
        text: The reply, None if there is none.
        reasoning: The reasoning that the server tells, None if it tells none.
        finish: Why the reply ended: "stop", "length", "refusal", "content_filter" or the server's own word.
        model: The model as the server names it.
        parameters: What was sent beside the conversation, after drops.
        dropped: The fields of the request that were left out because the model does not take them.
        input_tokens: Tokens of the request, cached ones included; None if the server does not say, as below.
        cached_tokens: Those of them that the server had cached.
        output_tokens: Tokens of the reply, reasoning included.
        reasoning_tokens: Those of them that were reasoning.
        retries: How often the call was repeated before it succeeded.
        latency: Seconds from the first attempt to the end of the last.
        request_id: The server's name of the call.
        created: When the answer came, ISO 8601 in UTC.
    """

    text: str | None
    reasoning: str | None
    finish: str
    model: str
    parameters: dict[str, Any]
    dropped: list[str]
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    retries: int
    latency: float
    request_id: str | None
    created: str

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields in JSON's own types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Returns the answer that `to_dict` gave.

        Raises:
            TypeError: If a field is missing or unknown.
        """
        return cls(**fields)

import dataclasses
import hashlib
import itertools
import json
from typing import Any

import pytest
from bargain_eval.llm.request import Answer, Request, is_reasoning_model

REQUEST = Request(
    model="gpt-4o",
    system="Bargain.",
    messages=(("user", "Your move: é"),),
    schema={"type": "object", "properties": {"b": {}, "a": {}}},
    temperature=0.5,
    reasoning_effort=None,
    max_output_tokens=None,
    api="chat",
    host="localhost:8000/v1",
)
ANSWER = Answer(
    text="WALK",
    reasoning=None,
    finish="stop",
    model="gpt-4o-2024-08-06",
    parameters={"temperature": 0.5},
    dropped=["schema"],
    input_tokens=10,
    cached_tokens=None,
    output_tokens=3,
    reasoning_tokens=0,
    retries=1,
    latency=0.25,
    request_id="req-1",
    created="2026-01-01T00:00:00+00:00",
)


def test_the_canonical_form_is_the_request_as_sorted_json() -> None:
    text = REQUEST.canonical()
    read = json.loads(text)
    assert list(read) == sorted(field.name for field in dataclasses.fields(Request))
    read["messages"] = tuple(map(tuple, read["messages"]))
    assert Request(**read) == REQUEST
    assert text.index('"a":{}') < text.index('"b":{}')
    assert "é" in text


def test_the_key_is_a_hash_of_request_and_sample() -> None:
    assert REQUEST.key("0:7") == hashlib.sha256(f"{REQUEST.canonical()}\n0:7".encode()).hexdigest()


def test_whatever_differs_gives_another_key() -> None:
    others: dict[str, Any] = {
        "model": "o3",
        "system": "Bargain!",
        "messages": (("user", "Your move: é"), ("assistant", "WALK")),
        "schema": None,
        "temperature": 0.25,
        "reasoning_effort": "low",
        "max_output_tokens": 9,
        "api": "responses",
        "host": "localhost:8001/v1",
        "reasoning": True,
        "summary": "auto",
    }
    assert set(others) == {field.name for field in dataclasses.fields(Request)}
    changed = [dataclasses.replace(REQUEST, **{name: value}) for name, value in others.items()]
    keys = [request.key(sample) for request, sample in itertools.product([REQUEST, *changed], ["0:1", "0:2", "1:1"])]
    assert len(set(keys)) == len(keys) == 36
    assert dataclasses.replace(REQUEST).key("0:1") == keys[0]


def test_an_answer_survives_json() -> None:
    assert Answer.from_dict(json.loads(json.dumps(ANSWER.to_dict()))) == ANSWER
    with pytest.raises(TypeError):
        Answer.from_dict(ANSWER.to_dict() | {"speed": 1})


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        *dict.fromkeys(("o1", "o1-pro", "o3", "o3-mini-2025-01-31", "o4-mini", "gpt-5", "gpt-5-mini"), True).items(),
        *dict.fromkeys(("gpt-5.2-pro", "gpt-5.2-thinking", "gpt-6", "openai/o3", "ft:gpt-5-mini:me"), True).items(),
        *dict.fromkeys(("gpt-4o", "gpt-4.1-mini", "gpt-5-chat-latest", "gpt-5.2-chat-latest"), False).items(),
        *dict.fromkeys(("llama3:8b", "o33", "solo3", "mistral-o3", "chatgpt-4o-latest", "gpt-oss-20b"), False).items(),
    ],
)
def test_reasoning_models_are_told_by_name(model: str, reasons: bool) -> None:
    assert is_reasoning_model(model) == reasons

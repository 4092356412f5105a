import asyncio
import dataclasses
import itertools
import logging
import random
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from bargain_eval.llm.client import Client, LlmRefused, LlmUnavailable
from bargain_eval.llm.loop import run_in_loop
from bargain_eval.llm.request import Answer
from bargain_eval.llm.wire import read_body
from llm_server import ACCEPT, LlmServer, hurry
from test_llm_request import REQUEST

SCHEMA = {"type": "object", "properties": {"action": {"type": "string"}}}
SECRET = "sk-proj-THE5ECRET-0123456789"
Connect = Callable[..., Client]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(lambda request: ACCEPT).running() as running:
        yield running


@pytest.fixture
def connect(server: LlmServer) -> Iterator[Connect]:
    """Makes clients of the server, and closes them after the test."""
    clients = []

    def make(**options: Any) -> Client:
        clients.append(Client(server.url, **{"timeout": 5.0, "max_retries": 2} | options))
        return clients[-1]

    yield make
    for client in clients:
        run_in_loop(client.close)


def ask(client: Client, **fields: Any) -> Answer:
    defaults = {"schema": SCHEMA, "temperature": None, "api": client.api, "host": client.host}
    request = dataclasses.replace(REQUEST, **defaults | fields)
    return run_in_loop(client.complete, request)


def mocked(reply: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> Client:
    transport = httpx2.MockTransport(reply)
    return Client(http_client=openai.DefaultAsyncHttpxClient(transport=transport), **options)


@pytest.mark.parametrize(
    ("base_url", "variable", "expected"),
    [
        (None, None, ("responses", "api.openai.com/v1")),
        ("http://[::1]:8000/v1", None, ("chat", "[::1]:8000/v1")),
        (None, "", ("responses", "api.openai.com/v1")),
        (None, "http://localhost:8000/v1/", ("chat", "localhost:8000/v1")),
        ("https://eu.api.openai.com/v1", "http://localhost:8000/v1", ("responses", "eu.api.openai.com/v1")),
        ("https://llm.example.com/a/", None, ("chat", "llm.example.com/a")),
        ("https://api.openai.com.example.com/v1", None, ("chat", "api.openai.com.example.com/v1")),
    ],
)
def test_the_api_follows_from_the_address(
    base_url: str | None, variable: str | None, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("OPENAI_BASE_URL", variable)
    client = Client(base_url)
    assert (client.api, client.host) == expected
    assert Client(base_url, "chat").api == "chat"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "must be like http://localhost:8000/v1"),
        ({"base_url": "https:///v1"}, "must be like"),
        ({"base_url": "http://localhost:port/v1"}, "must be like"),
        ({"base_url": "https://me:secret@llm.example.com/v1"}, "put no secret into it, but OPENAI_API_KEY"),
        ({"base_url": "https://llm.example.com/v1?key=secret"}, "put no secret into it, but OPENAI_API_KEY"),
        ({"api": "soap"}, "api must be auto, responses or chat, got 'soap'"),
        ({"timeout": 0}, "timeout must be positive"),
        ({"concurrency": 0}, "concurrency at least 1"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Client(**options)


def test_a_chat_call_carries_the_request_and_nothing_else(server: LlmServer, connect: Connect) -> None:
    answer = ask(connect(), temperature=0.5, max_output_tokens=900)
    (sent,) = server.seen
    assert sent.path == "/v1/chat/completions"
    assert sent.body == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "Bargain."}, {"role": "user", "content": "Your move: é"}],
        "temperature": 0.5,
        "max_completion_tokens": 900,
        "response_format": {"type": "json_schema", "json_schema": {"name": "move", "strict": True, "schema": SCHEMA}},
    }
    assert answer.text == ACCEPT
    assert answer.parameters == {"temperature": 0.5, "max_completion_tokens": 900, "response_format": "move"}
    assert (answer.finish, answer.model, answer.dropped, answer.retries) == ("stop", "gpt-4o-2026-01-01", [], 0)
    tokens = (answer.input_tokens, answer.cached_tokens, answer.output_tokens, answer.reasoning_tokens)
    assert tokens == (100, 40, 20, 5)
    assert answer.request_id == "req-1"
    assert 0 < answer.latency < 5
    assert answer.created.endswith("+00:00")


def test_a_call_of_the_responses_api_carries_the_same(server: LlmServer, connect: Connect) -> None:
    answer = ask(connect(api="responses"), temperature=0.5, max_output_tokens=900)
    (sent,) = server.seen
    assert sent.path == "/v1/responses"
    schema = {"type": "json_schema", "name": "move", "strict": True, "schema": SCHEMA}
    assert sent.body == {
        "model": "gpt-4o",
        "instructions": "Bargain.",
        "input": [{"role": "user", "content": "Your move: é"}],
        "temperature": 0.5,
        "max_output_tokens": 900,
        "store": False,
        "text": {"format": schema},
    }
    assert answer.text == ACCEPT
    expected = {"temperature": 0.5, "max_output_tokens": 900, "store": False, "text": "move"}
    assert answer.parameters == expected
    tokens = (answer.input_tokens, answer.cached_tokens, answer.output_tokens, answer.reasoning_tokens)
    assert tokens == (100, 40, 20, 5)
    assert answer.reasoning is None


@pytest.mark.parametrize("count", [-5, "many", None, True, 2.5])
def test_a_number_of_tokens_that_is_none_is_unknown(count: Any) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": count}}
    body = {"choices": [{"message": {"content": ACCEPT}}], "usage": usage}
    said = read_body(dataclasses.replace(REQUEST, api="chat"), body)
    assert (said.input_tokens, said.cached_tokens, said.output_tokens) == (None, None, 7)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_nothing_is_limited_unless_asked(api: str, server: LlmServer, connect: Connect) -> None:
    ask(connect(api=api), schema=None)
    names = {"model", "messages"} if api == "chat" else {"model", "instructions", "input", "store"}
    assert set(server.seen[0].body) == names


@pytest.mark.parametrize(
    ("model_class", "effort", "temperature", "sent"),
    [
        (False, None, 0.7, {"temperature": 0.7}),
        (False, None, 0.0, {"temperature": 0.0}),
        (True, None, 0.7, {}),
        (True, None, None, {}),
        (True, "low", 0.7, {"reasoning": {"effort": "low", "summary": "auto"}}),
        (True, "none", 0.7, {"temperature": 0.7, "reasoning": {"effort": "none", "summary": "auto"}}),
    ],
)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_what_is_sent_depends_on_the_class_of_model(
    api: str,
    model_class: bool,
    effort: str | None,
    temperature: float | None,
    sent: dict[str, Any],
    server: LlmServer,
    connect: Connect,
) -> None:
    fields = {"reasoning": model_class, "reasoning_effort": effort, "temperature": temperature, "schema": None}
    answer = ask(connect(api=api), **fields, summary="auto" if effort else None)
    expected = dict(sent)
    if api == "chat" and "reasoning" in sent:
        expected["reasoning_effort"] = expected.pop("reasoning")["effort"]
    names = ("temperature", "reasoning", "reasoning_effort")
    assert {name: server.seen[0].body[name] for name in names if name in server.seen[0].body} == expected
    assert {name: answer.parameters[name] for name in names if name in answer.parameters} == expected
    dropped = {"temperature"} if temperature is not None and "temperature" not in sent else set()
    assert set(answer.dropped) == dropped | ({"summary"} if api == "chat" and effort else set())
    assert answer.reasoning == ("It is enough." if api == "responses" and effort else None)


@pytest.mark.parametrize(
    ("api", "parameter", "field"),
    [
        ("chat", "temperature", "temperature"),
        ("chat", "reasoning_effort", "reasoning_effort"),
        ("chat", "response_format", "schema"),
        ("responses", "temperature", "temperature"),
        ("responses", "reasoning.effort", "reasoning_effort"),
        ("responses", "reasoning", "reasoning_effort"),
        ("responses", "text.format", "schema"),
        ("responses", "text.format.schema", "schema"),
        ("responses", "max_output_tokens", "max_output_tokens"),
        ("responses", "store", "store"),
    ],
)
def test_what_a_model_does_not_take_is_left_out_once_and_told(
    api: str, parameter: str, field: str, server: LlmServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = iter([f"400 {parameter}"])
    client = connect(api=api)
    fields = {"temperature": 0.5, "reasoning_effort": "low", "max_output_tokens": 9}
    answers = [ask(client, **fields) for _ in range(2)]
    assert len(server.attempts) == 3
    assert [answer.dropped for answer in answers] == [[field]] * 2
    assert set(server.attempts[0].body) - set(server.seen[0].body) == {parameter.partition(".")[0]}
    assert server.seen[0].body == server.seen[1].body
    assert [record.getMessage() for record in caplog.records] == [
        f"gpt-4o at {client.host} does not take {field}, which is left out of all calls."
    ]
    other = ask(client, model="gpt-4.1", **fields)
    assert other.dropped == []


def test_an_older_server_is_told_the_limit_by_its_older_name(server: LlmServer, connect: Connect) -> None:
    server.faults = iter(["400 max_completion_tokens"])
    answer = ask(connect(), max_output_tokens=900)
    assert server.seen[0].body["max_tokens"] == 900
    assert (answer.parameters["max_tokens"], answer.dropped) == (900, [])


@pytest.mark.parametrize(
    ("words", "status", "field"),
    [
        ("Unsupported value: 'temperature' does not support 0.5 with this model.", 400, "temperature"),
        ("[{'loc': ['body', 'response_format'], 'msg': 'Extra inputs are not permitted'}]", 422, "schema"),
        ("Unexpected keys in the request: {'max_completion_tokens'}", 422, None),
        ("response_format: the grammar cannot be built", 400, "schema"),
    ],
)
def test_servers_that_name_the_parameter_in_words_are_understood(words: str, status: int, field: str | None) -> None:
    error = {"error": {"message": words, "param": None, "code": None}}
    replies = iter([httpx2.Response(status, json=error)])
    client = mocked(lambda request: next(replies, completion()), base_url="http://mock/v1")
    answer = ask(client, temperature=0.5, max_output_tokens=9)
    assert answer.dropped == ([field] if field else [])
    assert ("max_tokens" in answer.parameters) == (field is None)


def test_a_wrong_value_is_the_callers_mistake_and_not_left_out() -> None:
    error = {"error": {"message": "'temperature' must be at most 2.", "param": "temperature", "code": "above_max"}}
    replies = iter([httpx2.Response(400, json=error)])
    client = mocked(lambda request: next(replies), base_url="http://mock/v1")
    message = r"^mock/v1 refuses a call of gpt-4o with HTTP 400: 'temperature' must be at most 2\.$"
    with pytest.raises(LlmRefused, match=message):
        ask(client, temperature=9.0)


def completion(content: str | None = "WALK", **message: Any) -> httpx2.Response:
    """Returns a minimal completion, as small servers send it."""
    said = {"role": "assistant", "content": content, **message}
    return httpx2.Response(200, json={"choices": [{"message": said}]})


def test_a_minimal_completion_is_enough() -> None:
    answer = ask(mocked(lambda request: completion(), base_url="http://mock/v1"))
    assert (answer.text, answer.finish, answer.model) == ("WALK", "stop", "gpt-4o")
    assert (answer.input_tokens, answer.output_tokens, answer.request_id) == (None, None, None)


def test_a_message_in_parts_is_put_together() -> None:
    parts = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "WA"}, {"type": "text", "text": "LK"}]
    response = httpx2.Response(200, json={"choices": [{"message": {"content": parts}}]})
    assert ask(mocked(lambda request: response, base_url="http://mock/v1")).text == "WALK"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_beside_the_reply_is_kept(name: str) -> None:
    answer = ask(mocked(lambda request: completion(**{name: "Hm."}), base_url="http://mock/v1"))
    assert answer.reasoning == "Hm."


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(
    ("fault", "text", "finish"),
    [("length", ACCEPT, "length"), ("refusal", "I will not.", "refusal"), ("empty", None, "stop")],
)
def test_whatever_a_model_says_or_not_is_an_answer(
    api: str, fault: str, text: str | None, finish: str, server: LlmServer, connect: Connect
) -> None:
    server.faults = iter([fault])
    answer = ask(connect(api=api))
    assert (answer.text, answer.finish) == (text, finish)
    assert answer.output_tokens == 20


@pytest.mark.parametrize("fault", ["429", "500", "503", "408", "broken", "garbage", "foreign"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_fault_that_passes_is_retried_and_counted(api: str, fault: str, server: LlmServer, connect: Connect) -> None:
    server.faults = iter([fault, fault])
    answer = ask(connect(api=api))
    assert (answer.text, answer.retries) == (ACCEPT, 2)
    assert len(server.attempts) == 3


def test_a_silent_server_is_asked_again(server: LlmServer, connect: Connect) -> None:
    server.faults = iter(["slow"])
    assert ask(connect(timeout=0.3)).retries == 1
    server.faults = itertools.repeat("slow")
    with pytest.raises(LlmUnavailable, match=r"did not answer within 0\.05 s, after 1 retries\.$"):
        ask(connect(timeout=0.05, max_retries=1))


@pytest.mark.parametrize(
    ("fault", "kind", "attempts", "message"),
    [
        ("500 Overloaded.", LlmUnavailable, 3, "failed with HTTP 500 after all retries: Overloaded.$"),
        ("429", LlmUnavailable, 3, "failed with HTTP 429"),
        ("garbage", LlmUnavailable, 3, "answers, but not as the chat API does; check the address and the api"),
        ("401", LlmRefused, 1, r"refuses the key \(HTTP 401\); set OPENAI_API_KEY"),
        ("403 No access.", LlmRefused, 1, "refuses a call of gpt-4o with HTTP 403: No access.$"),
        ("404 No model gpt-4o.", LlmRefused, 1, "refuses a call of gpt-4o with HTTP 404: No model gpt-4o.$"),
        ("400", LlmRefused, 1, "with HTTP 400: Something went wrong.$"),
        ("400 model", LlmRefused, 1, "Unsupported parameter: 'model'"),
    ],
)
def test_a_fault_that_stays_is_one_sentence(
    fault: str, kind: type[Exception], attempts: int, message: str, server: LlmServer, connect: Connect
) -> None:
    server.faults = itertools.repeat(fault)
    with pytest.raises(kind, match=message):
        ask(connect())
    assert len(server.attempts) == attempts


def test_an_empty_account_is_no_outage() -> None:
    error = {"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}
    client = mocked(lambda request: httpx2.Response(429, json=error), base_url="http://mock/v1", max_retries=0)
    with pytest.raises(LlmRefused, match="has no credit left"):
        ask(client)


def test_an_unreachable_server_is_one_sentence() -> None:
    def reply(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    with pytest.raises(LlmUnavailable, match=r"^mock/v1 cannot be reached, after 2 retries\.$"):
        ask(mocked(reply, base_url="http://mock/v1", max_retries=2))


def test_openai_needs_a_key_and_others_do_not(server: LlmServer, connect: Connect) -> None:
    with pytest.raises(LlmRefused, match="OPENAI_API_KEY is not set; set it, or name another server"):
        ask(Client())
    ask(connect())
    assert server.seen[0].headers["authorization"] == "Bearer none"


def test_no_more_calls_than_allowed_are_at_the_server_at_once(server: LlmServer, connect: Connect) -> None:
    server.delay = 0.01
    client = connect(concurrency=3)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(client), range(24)))
    assert len(answers) == 24
    assert server.most_at_once == 3


def test_calls_work_from_within_a_running_loop(connect: Connect) -> None:
    client = connect()

    async def cell_of_a_notebook() -> str | None:
        return ask(client).text

    assert asyncio.run(cell_of_a_notebook()) == ACCEPT


def test_a_tenth_of_failures_of_all_kinds_is_survived(server: LlmServer, connect: Connect) -> None:
    chance = random.Random(1)
    kinds = ("429", "500", "broken", "garbage", "slow")
    faults = [chance.choice(kinds) if chance.random() < 0.1 else "" for _ in range(300)]
    server.faults = iter(faults)
    client = connect(timeout=0.3, max_retries=6)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(client), range(200)))
    assert [answer.text for answer in answers] == [ACCEPT] * 200
    assert len(server.attempts) > 210
    assert sum(answer.retries for answer in answers) == len(server.attempts) - 200


def test_the_key_is_never_told(
    server: LlmServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    told = [repr(ask(connect()))]
    assert server.seen[0].headers["authorization"] == f"Bearer {SECRET}"
    for fault in (f"401 Wrong key {SECRET}", f"400 No such thing, {SECRET}", f"500 Key {SECRET[:9]}***6789", "slow"):
        server.faults = itertools.repeat(fault)
        with pytest.raises((LlmRefused, LlmUnavailable)) as caught:
            ask(connect(timeout=0.3, max_retries=1))
        error: BaseException | None = caught.value
        while error is not None:
            told += [repr(error), "".join(traceback.format_exception(error))]
            told += [str(vars(error)), str(error.__notes__ if hasattr(error, "__notes__") else "")]
            error = error.__cause__ or error.__context__
    told += [caplog.text, repr(vars(connect()))]
    assert "refuses a call" in "".join(told)
    for part in (SECRET, SECRET[:9], SECRET[-4:]):
        assert part not in "".join(told)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signal can be sent to a thread here")
def test_an_interruption_ends_the_call_before_it_is_passed_on() -> None:
    told = []

    async def endless() -> None:
        try:
            await asyncio.sleep(0.05)  # until it is waited for
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.02)
            told.append("ended")
            raise

    with pytest.raises(KeyboardInterrupt):
        run_in_loop(endless)
    assert told == ["ended"]


def test_the_loop_is_one_for_all_threads() -> None:
    async def where() -> tuple[int, int]:
        return id(asyncio.get_running_loop()), threading.get_ident()

    with ThreadPoolExecutor(4) as pool:
        places = set(pool.map(lambda _: run_in_loop(where), range(8)))
    assert len(places) == 1
    assert places.pop()[1] != threading.get_ident()

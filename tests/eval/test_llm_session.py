import dataclasses
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bargain_eval.llm import session as module
from bargain_eval.llm.client import Client, LlmRefused, LlmUnavailable
from bargain_eval.llm.loop import run_in_loop
from bargain_eval.llm.request import Answer, Request
from bargain_eval.llm.session import Planned, Session, SessionOptions, current_session, session
from bargain_eval.llm.store import BudgetReached, CallStore, Spent
from llm_server import ACCEPT, LlmServer, hurry
from test_llm_request import REQUEST

COST = (60 * 2.5 + 40 * 1.25 + 20 * 10) / 1e6  # of an answer of the server by gpt-4o

MANY_CALLS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from bargain_eval.llm.loop import run_in_loop
from bargain_eval.llm.request import Request
from bargain_eval.llm.session import Session, SessionOptions
_, store, url, request = sys.argv
session = Session(SessionOptions(store, "run"))
request = eval(request)
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda n: run_in_loop(session.answer, session.client(url), request, str(n)), range(40)))
"""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(lambda request: ACCEPT).running() as running:
        yield running


@pytest.fixture
def options(tmp_path: Path) -> SessionOptions:
    return SessionOptions(str(tmp_path / "calls.sqlite"), "run", timeout=5.0)


def request_to(client: Client, model: str = "gpt-4o") -> Request:
    return dataclasses.replace(REQUEST, api=client.api, host=client.host, model=model)


def ask(session: Session, client: Client, sample: str, model: str = "gpt-4o") -> Answer | None:
    return run_in_loop(session.answer, client, request_to(client, model), sample)


def test_a_call_is_paid_for_once(server: LlmServer, options: SessionOptions) -> None:
    with session(options) as first:
        answers = [ask(first, first.client(server.url), sample) for sample in ("0:1", "0:2", "0:1")]
    assert answers[0] == answers[2]
    assert len(server.seen) == 2
    with session(dataclasses.replace(options, run="another")) as second:
        assert ask(second, second.client(server.url), "0:1") == answers[0]
        calls, cost = second.store.spent("run")
        assert calls == 2
        assert cost == pytest.approx(2 * COST)
        assert second.store.spent("another") == Spent(0, 0.0)
    assert len(server.seen) == 2


def test_threads_at_the_same_call_share_its_answer(server: LlmServer, options: SessionOptions) -> None:
    server.delay = 0.02
    with session(options) as opened, ThreadPoolExecutor(6) as pool:
        client = opened.client(server.url)
        answers = set(pool.map(lambda number: repr(ask(opened, client, str(number % 2))), range(12)))
    assert len(answers) == len(server.seen) == 2


def test_the_limit_of_calls_ends_what_goes_beyond_and_is_raised_to_go_on(
    server: LlmServer, options: SessionOptions
) -> None:
    server.delay = 0.01
    with session(dataclasses.replace(options, max_calls=5)) as limited, ThreadPoolExecutor(8) as pool:
        client = limited.client(server.url)
        futures = [pool.submit(ask, limited, client, str(number)) for number in range(8)]
        errors = [future.exception() for future in futures]
        assert sum(error is None for error in errors) == 5
        assert {type(error) for error in errors} == {type(None), BudgetReached}
        assert limited.store.spent("run").calls == 5
    with session(dataclasses.replace(options, max_calls=8)) as raised:
        assert all(ask(raised, raised.client(server.url), str(number)) for number in range(8))
    assert len(server.seen) == 8


def test_the_limit_in_dollars_is_kept_and_used_up(server: LlmServer, options: SessionOptions) -> None:
    server.delay = 0.005
    server.usage["output"] = 300  # no more than what is expected of a reply
    limit = 10.5 * (60 * 2.5 + 40 * 1.25 + 300 * 10) / 1e6
    with session(dataclasses.replace(options, max_cost=limit)) as limited, ThreadPoolExecutor(8) as pool:
        client = limited.client(server.url)
        futures = [pool.submit(ask, limited, client, str(number)) for number in range(16)]
        errors = [future.exception() for future in futures]
        spent = limited.store.spent("run")
    assert sum(isinstance(error, BudgetReached) for error in errors) == 6
    assert spent.calls == 10
    assert spent.cost is not None
    assert spent.cost <= limit


def test_a_limit_in_dollars_needs_a_price(server: LlmServer, options: SessionOptions, tmp_path: Path) -> None:
    message = r"the price of llama3 is unknown.*copy of the file of prices, or leave"
    with session(dataclasses.replace(options, max_cost=1.0)) as limited, pytest.raises(ValueError, match=message):
        ask(limited, limited.client(server.url), "0:1", "llama3")
    prices = tmp_path / "prices.toml"
    prices.write_text("[models.llama3]\ninput = 0\noutput = 0\n", encoding="utf-8")
    with session(dataclasses.replace(options, max_cost=1.0, prices=str(prices))) as priced:
        assert ask(priced, priced.client(server.url), "0:1", "llama3")
        assert priced.store.spent("run") == Spent(1, 0.0)


def test_a_call_without_a_price_is_paid_for_at_an_unknown_cost(server: LlmServer, options: SessionOptions) -> None:
    with session(options) as opened:
        ask(opened, opened.client(server.url), "0:1", "llama3")
        assert opened.store.spent("run") == Spent(1, None)


@pytest.mark.parametrize(("fault", "kind"), [("500", LlmUnavailable), ("404", LlmRefused)])
def test_a_failed_call_costs_nothing_and_can_be_made_again(
    fault: str, kind: type[Exception], server: LlmServer, options: SessionOptions
) -> None:
    with session(dataclasses.replace(options, max_calls=1)) as opened:
        server.faults = iter([fault] * 7)
        with pytest.raises(kind):
            ask(opened, opened.client(server.url), "0:1")
        assert opened.store.spent("run") == Spent(0, 0.0)
        server.faults = iter(())
        assert ask(opened, opened.client(server.url), "0:1")


def test_a_silent_server_is_given_up_if_so_asked(server: LlmServer, options: SessionOptions) -> None:
    with session(dataclasses.replace(options, give_up=True)) as opened:
        server.faults = iter(["500"] * 7)
        with pytest.raises(LlmUnavailable, match="after all retries"):
            ask(opened, opened.client(server.url), "0:1")
        sent = len(server.attempts)
        with pytest.raises(LlmUnavailable, match="gave no answer before"):
            ask(opened, opened.client(server.url), "0:2")
        assert len(server.attempts) == sent
        assert opened.store.spent("run") == Spent(0, 0.0)


def test_a_dry_run_sends_nothing_and_counts_each_missing_call_once(server: LlmServer, options: SessionOptions) -> None:
    with session(options) as opened:
        ask(opened, opened.client(server.url), "0:0")
    with session(dataclasses.replace(options, dry_run=True)) as dry:
        client = dry.client(server.url)
        asked = [ask(dry, client, sample) for sample in ("0:0", "0:1", "0:2", "0:1")]
        asked += [ask(dry, client, "0:1", model) for model in ("llama3", "o3")]
        plans = dry.planned()
    assert [answer is None for answer in asked] == [False, True, True, True, True, True]
    assert len(server.attempts) == 1
    known, unknown, other = plans
    letters = len(REQUEST.system) + len(REQUEST.messages[0][1]) + len(str(REQUEST.schema))
    each = round(letters / 3.5)
    assert known.cost == pytest.approx((2 * each * 2.5 + 40 * 10) / 1e6)
    assert known == Planned("gpt-4o", 2, 2 * each, 40, known.cost)
    assert unknown == Planned("llama3", 1, each, 300, None)
    assert other.output_tokens == 300  # the request does not say that it reasons


def test_a_reasoning_model_is_expected_to_think_and_a_limit_is_respected(options: SessionOptions) -> None:
    with session(dataclasses.replace(options, dry_run=True)) as dry:
        client = dry.client("http://localhost:1/v1")
        for model, limit in (("o3", None), ("o1", 500)):
            request = dataclasses.replace(REQUEST, model=model, reasoning=True, max_output_tokens=limit)
            assert run_in_loop(dry.answer, client, request, "0:1") is None
        assert [plan.output_tokens for plan in dry.planned()] == [500, 3000]


def test_a_killed_process_has_lost_only_what_was_under_way(server: LlmServer, options: SessionOptions) -> None:
    server.delay = 0.02
    reached = threading.Event()

    def reply(_: object) -> str:
        if len(server.seen) >= 10:
            reached.set()
        return ACCEPT

    server.reply = reply
    request = repr(request_to(Client(server.url)))
    with subprocess.Popen([sys.executable, "-c", MANY_CALLS, options.store, server.url, request]) as process:
        assert reached.wait(20)
        process.kill()
    with CallStore(options.store) as store:
        stored = store.spent("run").calls
    sent = len(server.attempts)
    assert sent - 4 <= stored < 40
    assert stored >= 6
    with session(options) as resumed, ThreadPoolExecutor(4) as pool:
        client = resumed.client(server.url)
        assert all(pool.map(lambda number: ask(resumed, client, str(number)), range(40)))
        assert resumed.store.spent("run").calls == 40
    assert len(server.attempts) - sent == 40 - stored


def test_models_at_one_server_share_its_limit_of_calls(server: LlmServer, options: SessionOptions) -> None:
    with session(dataclasses.replace(options, concurrency=3, timeout=7.0)) as opened:
        client = opened.client(server.url)
        assert opened.client(server.url) is client
        assert opened.client(server.url, "responses") is not client
        assert client.concurrency == 3


def test_the_session_is_that_of_the_thread_else_the_latest_open_one(
    options: SessionOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_open", [])
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / name))
    with session(options) as outer:
        assert current_session() is outer
        with session(dataclasses.replace(options, run="inner")) as inner, ThreadPoolExecutor(1) as pool:
            assert current_session() is inner
            assert pool.submit(current_session).result() is inner
        assert current_session() is outer
    default = current_session()
    assert default.options == SessionOptions(str(tmp_path / "bargain" / "llm_calls.sqlite"))
    assert current_session() is default
    default.close()


def test_the_default_session_ends_with_its_process_and_leaves_no_lock(tmp_path: Path) -> None:
    code = "from bargain_eval.llm.session import current_session; current_session().store.reserve('a', 'r', 'm', 0.0)"
    environment = os.environ | {name: str(tmp_path) for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    (file,) = tmp_path.rglob("llm_calls.sqlite")
    assert list(file.parent.glob("*.lock")) == []
    with CallStore(file) as store:
        assert store.reserve("a", "another", "m", 0.0)


def test_options_travel_to_other_processes_and_are_checked(options: SessionOptions) -> None:
    assert pickle.loads(pickle.dumps(options)) == options
    wrongs: tuple[dict[str, Any], ...] = (
        {"max_calls": -1},
        {"max_cost": float("nan")},
        {"concurrency": 0},
        {"timeout": 0.0},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} "):
            dataclasses.replace(options, **wrong)

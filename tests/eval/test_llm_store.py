import dataclasses
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bargain_eval.llm.store import BudgetReached, CallStore, Spent
from test_llm_request import ANSWER, REQUEST

MODEL = REQUEST.model
HOLD = """
import sys
from bargain_eval.llm.store import CallStore
store = CallStore(sys.argv[1])
assert store.reserve("held", "run", "gpt-4o", 0.25)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "calls.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[CallStore]:
    with CallStore(path) as opened:
        yield opened


def pay(store: CallStore, key: str, cost: float | None, run: str = "run") -> None:
    assert store.reserve(key, run, MODEL, 0.0)
    store.put(key, run, REQUEST, ANSWER, cost)


def test_an_answer_is_found_again_with_all_that_is_known_of_it(store: CallStore, path: Path) -> None:
    assert store.get("a") is None
    assert store.call("a") is None
    pay(store, "a", 0.5)
    with CallStore(path) as other:
        assert other.get("a") == ANSWER
        call = other.call("a")
    assert call is not None
    assert (call.key, call.run, call.cost) == ("a", "run", 0.5)
    assert call.request == REQUEST.canonical()


def test_the_file_is_plain_tables_of_text_and_numbers(store: CallStore, path: Path) -> None:
    pay(store, "a", 0.5)
    database = sqlite3.connect(path)
    query = "SELECT key, model, request, answer, input_tokens, output_tokens, cost, created FROM calls"
    ((key, model, request, answer, *numbers),) = database.execute(query).fetchall()
    database.close()
    assert (key, model) == ("a", MODEL)
    assert json.loads(request)["system"] == REQUEST.system
    assert json.loads(answer) == ANSWER.to_dict()
    assert numbers == [ANSWER.input_tokens, ANSWER.output_tokens, 0.5, ANSWER.created]


def test_the_first_answer_to_a_call_stays(store: CallStore) -> None:
    pay(store, "a", 0.5)
    store.put("a", "run", REQUEST, dataclasses.replace(ANSWER, text="ACCEPT"), 0.5)
    assert store.get("a") == ANSWER
    assert store.spent("run") == Spent(2, 1.0)


def test_a_call_is_taken_on_once(store: CallStore, path: Path) -> None:
    with CallStore(path) as other:
        assert store.reserve("a", "run", MODEL, 0.1)
        assert not store.reserve("a", "run", MODEL, 0.1)
        assert not other.reserve("a", "run", MODEL, 0.1)
        store.release("a")
        assert other.reserve("a", "run", MODEL, 0.1)
        store.release("a")
        assert not store.reserve("a", "run", MODEL, 0.1)
        other.put("a", "run", REQUEST, ANSWER, 0.1)
        assert not store.reserve("a", "run", MODEL, 0.1)


def test_runs_pay_on_their_own(store: CallStore) -> None:
    pay(store, "a", 0.5)
    pay(store, "b", 0.25)
    pay(store, "c", None, "other")
    assert store.spent("run") == Spent(2, 0.75)
    assert store.spent("other") == Spent(1, None)
    assert store.spent("third") == Spent(0, 0.0)


def test_the_limit_of_calls_counts_those_under_way(store: CallStore, path: Path) -> None:
    pay(store, "a", 0.5)
    assert store.reserve("b", "run", MODEL, 0.5, max_calls=2)
    assert not store.reserve("c", "run", MODEL, 0.5, max_calls=2)
    assert store.reserve("c", "other", MODEL, 0.5, max_calls=2)
    store.release("b")
    store.release("c")
    assert store.reserve("c", "run", MODEL, 0.5, max_calls=2)
    store.put("c", "run", REQUEST, ANSWER, 0.5)
    with CallStore(path) as resumed, pytest.raises(BudgetReached, match=r"limit of 2 calls is reached; raise it"):
        resumed.reserve("d", "run", MODEL, 0.5, max_calls=2)


def test_the_limit_in_dollars_expects_the_largest_cost_seen(store: CallStore) -> None:
    pay(store, "a", 0.25)
    pay(store, "b", 0.125)
    assert store.reserve("c", "run", MODEL, 0.01, max_cost=0.7)
    assert not store.reserve("d", "run", MODEL, 0.01, max_cost=0.7)
    assert store.reserve("e", "run", "another model", 0.05, max_cost=0.7)
    store.put("c", "run", REQUEST, ANSWER, 0.25)
    with pytest.raises(BudgetReached, match=r"\$0.7 is reached: \$0.6250 are spent, .* may cost \$0.2500; raise it"):
        store.reserve("d", "run", MODEL, 0.01, max_cost=0.7)


def test_an_unknown_cost_counts_as_expected_towards_the_limit(store: CallStore) -> None:
    assert store.reserve("a", "run", MODEL, 0.5)
    store.put("a", "run", REQUEST, ANSWER, None)
    assert store.spent("run") == Spent(1, None)
    with pytest.raises(BudgetReached, match=r"0\.5000 are spent"):
        store.reserve("b", "run", MODEL, 0.5, max_cost=0.9)


def test_what_a_killed_process_reserved_is_free_again(store: CallStore, path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert not store.reserve("held", "run", MODEL, 0.0)
        assert not store.reserve("mine", "run", MODEL, 0.0, max_calls=1)
        assert not store.reserve("mine", "run", MODEL, 0.1, max_cost=0.3)
        process.kill()
    assert store.reserve("mine", "run", MODEL, 0.1, max_calls=1, max_cost=0.3)
    assert store.reserve("held", "run", MODEL, 0.0)
    assert len(list(path.parent.glob("*.lock"))) == 1  # that of this store


def test_closing_gives_back_what_is_reserved(store: CallStore, path: Path) -> None:
    other = CallStore(path)
    assert other.reserve("a", "run", MODEL, 0.0)
    other.close()
    assert list(path.parent.glob("*.lock")) == []
    assert store.reserve("a", "run", MODEL, 0.0)


def test_threads_and_stores_share_the_file(store: CallStore, path: Path) -> None:
    with CallStore(path) as other, ThreadPoolExecutor(8) as pool:

        def work(number: int) -> bool:
            chosen = (store, other)[number % 2]
            key = str(number // 2)
            if not chosen.reserve(key, "run", MODEL, 0.0):
                return False
            chosen.put(key, "run", REQUEST, ANSWER, 0.25)
            return True

        assert sum(pool.map(work, range(100))) == 50
    assert store.spent("run") == Spent(50, 12.5)


def test_the_mean_length_of_replies_is_known(store: CallStore) -> None:
    assert store.mean_output_tokens(MODEL) is None
    for key, length in (("a", 10), ("b", 30), ("c", None)):
        store.put(key, "run", REQUEST, dataclasses.replace(ANSWER, output_tokens=length), None)
    assert store.mean_output_tokens(MODEL) == 20


def test_another_file_is_refused(tmp_path: Path) -> None:
    text, foreign, later = (tmp_path / name for name in ("text", "foreign.sqlite", "later.sqlite"))
    text.write_text("This is no database at all, only words.\n" * 100, encoding="utf-8")
    for file, statement in ((foreign, "CREATE TABLE t (a)"), (later, "PRAGMA user_version = 2")):
        database = sqlite3.connect(file)
        database.execute(statement)
        database.close()
    for file in (text, foreign, later):
        with pytest.raises(
            ValueError, match=rf"{file.name} cannot be used as a store of calls \(.*\); name another file\.$"
        ):
            CallStore(file)
    with pytest.raises(ValueError, match="cannot be opened"):
        CallStore(text / "calls.sqlite")


def test_a_file_that_is_damaged_later_is_named_by_every_method(path: Path) -> None:
    with CallStore(path) as store:
        pay(store, "a", 0.5)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))  # the first page tells the tables, the others hold them
    with CallStore(path) as store:
        for use in (
            lambda: store.get("a"),
            lambda: store.spent("run"),
            lambda: store.reserve("b", "run", MODEL, 0.0),
            lambda: store.put("b", "run", REQUEST, ANSWER, 0.5),
        ):
            with pytest.raises(ValueError, match=r"calls\.sqlite cannot be used as a store of calls \(.*\)"):
                use()

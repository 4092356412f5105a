"""Cross-play with language models: the files, faults of the server, and what is paid for."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bargain_eval.cli import main
from bargain_eval.crossplay import read_crossplay
from bargain_eval.llm.prompt import prompt_file
from bargain_eval.llm.store import CallStore
from llm_matches import (
    BASELINES,
    GAME,
    MODELS,
    SECRET,
    SMALL,
    Played,
    files,
    forget,
    lines,
    offer,
    played,
    run,
    serving,
    write_checkpoint,
)
from llm_server import WALK, LlmServer, Seen


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(server: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(server)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def whole(server: LlmServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Three models, a checkpoint and three baselines."""
    folder = tmp_path_factory.mktemp("whole")
    checkpoint = ("--rl-checkpoints", write_checkpoint(folder / "best.pt"))
    return played(server, folder, (*GAME, "--policies", *MODELS, *checkpoint, *BASELINES, "--num-games", "4"))


@pytest.fixture(scope="module")
def uninterrupted(server: LlmServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """What `SMALL` gives."""
    return played(server, tmp_path_factory.mktemp("small"), SMALL)


def test_models_checkpoints_and_baselines_play_each_other(whole: Played) -> None:
    matrix = whole.matrix
    assert matrix.names == (*MODELS, "best", "random", "greedy", "fair_split")
    assert matrix.complete
    assert (matrix.table.count == 4).all()


def test_every_move_of_a_model_is_recorded_with_its_calls(whole: Played) -> None:
    matrix = whole.matrix
    moves = {
        (f"{first}_vs_{second}", game, move + 1): (matrix.names[(i, j)[move % 2]], move % 2, int(action))
        for (i, first), (j, second) in itertools.product(enumerate(matrix.names), repeat=2)
        for game, actions in enumerate(matrix.cell(i, j).actions)
        for move, action in enumerate(actions)
        if action >= 0 and (i, j)[move % 2] < len(MODELS)
    }
    told = {(x["cell"], x["game"], x["move"]): (x["policy"], x["seat"], x["action"]) for x in whole.lines}
    assert told == moves
    assert len(told) == len(whole.lines)
    for line in whole.lines:
        (*before, last), how = line["calls"], line["how"]
        assert len(before) == (how in ("retry", "fallback"))
        assert all(call["problem"] for call in before)
        assert bool(last["problem"]) == (how == "fallback")
        if how == "fallback":
            assert line["action"] == matrix.spec.walk_action
        if how == "schema":
            expected = {"accept": matrix.spec.accept_action, "walk": matrix.spec.walk_action}
            said = json.loads(last["text"])["action"]
            assert line["action"] == expected.get(said, line["action"])
            assert (line["action"] < matrix.spec.num_offers) == (said == "offer")


def test_the_summary_is_that_of_the_lines_and_of_the_server(whole: Played) -> None:
    matrix = whole.matrix
    assert matrix.llm is not None
    told = matrix.llm["policies"]
    assert list(told) == list(MODELS)
    assert sum(policy["calls"] for policy in told.values()) == whole.requests.total()
    assert set(whole.requests.values()) == {1}  # what several cells share was asked once
    played: Counter[str] = Counter()
    dollars = {"gpt-5.2-pro": (21, 168, 21), "o3": (2, 8, 0.5), "gpt-4o": (2.5, 10, 1.25)}
    for name, policy in told.items():
        own = [line for line in whole.lines if line["policy"] == name]
        how = Counter(line["how"] for line in own)
        assert policy["decisions"] == len(own)
        assert policy["how"] == {key: how[key] for key in ("schema", "text", "retry", "fallback", "missing")}
        played.update(how)
        assert policy["invalid_first_replies"] == sum(len(line["calls"]) == 2 for line in own)
        assert policy["calls"] == len({call["key"] for line in own for call in line["calls"]})
        assert policy["finish"] == {"stop": policy["calls"]}
        assert policy["input_tokens"] == 100 * policy["calls"]
        fresh, written, cached = dollars[policy["model"]]
        assert policy["cost"] == pytest.approx(policy["calls"] * (60 * fresh + 20 * written + 40 * cached) / 1e6)
        words = hashlib.sha256(prompt_file("baseline").read_bytes()).hexdigest()
        assert policy["prompt"] == {"name": "baseline", "sha256": words}
    assert played.keys() == {"schema", "text", "retry", "fallback"}
    sent = {name: [(part["parameters"], part["dropped"]) for part in policy["sent"]] for name, policy in told.items()}
    schema = {"response_format": "move"}
    assert list(sent.values()) == [[(schema, [])], [(schema | {"reasoning_effort": "low"}, [])], [
        (schema | {"temperature": 0.5}, [])
    ]]  # fmt: skip


def test_a_finished_cross_play_asks_nothing_and_needs_no_key(
    server: LlmServer,
    uninterrupted: Played,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, content in uninterrupted.files.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert run(*SMALL) == 0
    assert server.attempts == []
    out = capsys.readouterr().out
    rows = [line.split() for line in out.partition("Language models")[2].splitlines()]
    told = json.loads(uninterrupted.files["m.json"])["llm"]["policies"]
    for name, policy in told.items():
        row = next(row for row in rows if name in row)
        assert row[2] == str(policy["decisions"])
        assert row[3] == f"{policy['invalid_first_replies'] / policy['decisions']:.1%}"
        assert row[-1] == f"${policy['cost']:.4f}"
        assert f"Prompts: baseline {policy['prompt']['sha256'][:8]} of 1 and 2" in out
    assert "Written: m.json, m.rows.npz, m.calls.jsonl" in out
    assert run(*SMALL, "--json") == 0
    assert json.loads(capsys.readouterr().out)["llm"]["policies"] == told


def injected(share: float, faults: tuple[str, ...]) -> Iterator[str]:
    chance = random.Random(3)
    while True:
        yield chance.choice(faults) if chance.random() < share else ""


def test_a_tenth_of_failed_calls_changes_nothing_but_the_number_of_retries(
    server: LlmServer, uninterrupted: Played, tmp_path: Path
) -> None:
    server.faults = injected(0.1, ("429", "500", "503", "broken", "garbage", "foreign"))
    assert run(*SMALL) == 0
    assert files(tmp_path) == uninterrupted.files
    assert lines(tmp_path) == uninterrupted.lines
    failures = len(server.attempts) - uninterrupted.requests.total()
    assert failures > 5
    stored = [json.loads(line) for line in (tmp_path / "m.calls.jsonl").read_text(encoding="utf-8").splitlines()]
    retries = {call["key"]: call["retries"] for line in stored for call in line["calls"]}
    assert sum(retries.values()) == failures


def test_a_silent_server_is_asked_again(server: LlmServer, tmp_path: Path) -> None:
    server.faults = iter(["", "slow", "", "slow"])
    flags = [*GAME, "--policies", "gpt-4o", "--num-games", "2"]
    assert run(*flags, "--timeout", "0.3") == 0
    assert len(server.attempts) == len(server.seen) + 2


def test_replies_that_are_cut_off_refused_or_no_move_are_counted(server: LlmServer, tmp_path: Path) -> None:
    faults = ("length", "refusal", "empty", "no move")
    given: Counter[str] = Counter()

    def taken() -> Iterator[str]:
        for fault in injected(0.3, faults):
            given[fault] += 1
            yield fault if fault in ("length", "refusal", "empty") else ""

    server.reply = lambda request: "I am thinking." if given["no move"] % 2 else WALK
    server.faults = taken()
    assert run(*GAME, "--policies", "gpt-4o", "--num-games", "40", "--concurrency", "1") == 0
    (told,) = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["llm"]["policies"].values()
    assert told["finish"] == {
        "length": given["length"],
        "refusal": given["refusal"],
        "stop": len(server.seen) - given["length"] - given["refusal"],
    }
    keys: dict[str, bool] = {}
    for line in lines(tmp_path):
        for call in line["calls"]:
            keys[call["key"]] = bool(call["problem"])
            assert bool(call["problem"]) == (call["finish"] != "stop" or call["text"] != WALK)
    assert 10 < sum(keys.values()) < len(keys) == told["calls"] == len(server.seen)
    assert told["how"]["fallback"] > 0
    assert told["how"]["retry"] > 0


KILLED = "import sys; from bargain_eval.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_goes_on_and_pays_for_no_answer_twice(
    server: LlmServer, uninterrupted: Played, tmp_path: Path
) -> None:
    server.delay = 0.01
    command = [sys.executable, "-c", KILLED, "crossplay", "--output", "m.json", *SMALL]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until(lambda: len(server.seen) >= 25 or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    until(lambda: server.is_idle)
    paid, sent = stored_requests(tmp_path), len(server.seen)
    assert 10 < len(paid) <= sent
    server.delay = 0.0
    server.seen.clear()
    assert run(*SMALL) == 0
    assert len(server.seen) == uninterrupted.requests.total() - len(paid)
    assert not paid & set(map(told_by, server.seen))
    assert files(tmp_path) == uninterrupted.files
    assert lines(tmp_path) == uninterrupted.lines


def told_by(request: Seen) -> str:
    return json.dumps([request.body["model"], request.system, request.messages])


def stored_requests(folder: Path) -> set[str]:
    database = sqlite3.connect(folder / "results" / "llm_calls.sqlite")
    rows = [json.loads(text) for (text,) in database.execute("SELECT request FROM calls").fetchall()]
    database.close()
    return {json.dumps([row["model"], row["system"], row["messages"]]) for row in rows}


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_limit_of_calls_stops_the_models_and_a_larger_one_goes_on(
    server: LlmServer,
    uninterrupted: Played,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*SMALL, "--max-calls", "25") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(server.attempts) == 25
    assert "of 16 cells failed, first " in err
    assert "the limit of 25 calls is reached; raise it to go on" in err
    assert "Paid for so far: 25 calls for $0.0" in err
    assert err.count("\n") == 1
    partial = read_crossplay(tmp_path / "m.json")
    assert not partial.complete
    assert (partial.table.count[2:, 2:] == 5).all()
    assert partial.llm is not None
    played = {line["cell"] for line in lines(tmp_path)}
    assert len(played) == (partial.table.count > 0).sum() - 4 < 12
    assert run(*SMALL, "--max-calls", "25") == 1
    assert len(server.attempts) == 25
    total = uninterrupted.requests.total()
    assert run(*SMALL, "--max-calls", str(total)) == 0
    assert len(server.attempts) == total
    assert files(tmp_path) == uninterrupted.files
    assert lines(tmp_path) == uninterrupted.lines


def test_a_limit_in_dollars_counts_all_runs_of_the_output(
    server: LlmServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.usage["output"] = 300
    server.reply = lambda request: WALK
    flags = [*GAME, "--policies", "gpt-4o", "--num-games", "20", "--concurrency", "2"]
    cost = (60 * 2.5 + 40 * 1.25 + 300 * 10) / 1e6
    try:
        for limit, calls in ((6.5 * cost, 6), (6.6 * cost, 6), (1.0, 20)):
            code = run(*flags, "--max-cost", str(limit))
            assert code == (limit < 1)
            assert len(server.attempts) <= calls
            assert len(server.attempts) >= calls - 1
    finally:
        server.usage["output"] = 20
    assert "raise it to go on" in capsys.readouterr().err


def test_an_outage_costs_only_the_cells_of_the_model(
    server: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*GAME, "--policies", "gpt-4o", "o3", "random", "--num-games", "4"]
    server.reply = lambda request: offer(0, 1)
    with monkeypatch.context() as patch:
        honest = server.take_fault
        patch.setattr(server, "take_fault", lambda request: (honest(request), "503")[request.body["model"] == "o3"])
        assert run(*flags) == 1
    err = capsys.readouterr().err
    assert "5 of 9 cells failed, first gpt-4o_vs_o3: 127.0.0.1" in err
    assert "failed with HTTP 503 after all retries" in err
    assert (read_crossplay(tmp_path / "m.json").table.count > 0).tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    server.attempts.clear()
    assert run(*flags) == 0
    assert {request.body["model"] for request in server.attempts} == {"o3"}
    (tmp_path / "fresh").mkdir()
    monkeypatch.chdir(tmp_path / "fresh")
    assert run(*flags) == 0
    assert files(tmp_path) == files(tmp_path / "fresh")


def test_a_wrong_key_is_named_and_not_told(
    server: LlmServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server.faults = itertools.repeat(f"401 Incorrect API key provided: {SECRET}")
    assert run(*GAME, "--policies", "gpt-4o", "random", "--num-games", "2") == 1
    assert "refuses the key (HTTP 401); set OPENAI_API_KEY to one that is valid" in capsys.readouterr().err
    server.faults = iter(())
    assert run(*GAME, "--policies", "gpt-4o", "random", "--num-games", "2") == 0
    told = capsys.readouterr().out.encode()
    contents = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(contents) > 4
    for content in (told, *contents):
        assert b"THE5ECRET" not in content


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_files(
    server: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.delay = 0.01
    seen = []
    for workers in ("1", "2"):
        (tmp_path / workers).mkdir()
        monkeypatch.chdir(tmp_path / workers)
        flags = ["--policies", "gpt-4o", "--baselines", "random", "fair_split", "--num-games", "6"]
        assert run(*GAME, *flags, "--workers", workers, "--concurrency", "4") == 0
        seen.append(Counter(map(str, server.seen)))
        server.seen.clear()
        assert 1 < server.most_at_once <= 4
        assert [path.name for path in Path("results").iterdir()] == ["llm_calls.sqlite"]
    assert seen[0] == seen[1]
    assert files(tmp_path / "1") == files(tmp_path / "2")
    assert lines(tmp_path / "1") == lines(tmp_path / "2")


def test_another_cross_play_uses_what_is_stored(server: LlmServer, tmp_path: Path) -> None:
    flags = [*GAME, "--policies", "gpt-4o", "--num-games", "3"]
    assert run(*flags) == 0
    calls = len(server.attempts)
    assert main(["crossplay", "--output", "other/n.json", *flags, "--baselines", "greedy", "--max-calls", "0"]) == 1
    assert len(server.attempts) == calls
    assert read_crossplay("other/n.json").table.count[0, 0] == 3
    with CallStore("results/llm_calls.sqlite") as store:
        assert store.spent(f"crossplay {tmp_path / 'm.json'}").calls == calls
        assert store.spent(f"crossplay {tmp_path / 'other/n.json'}").calls == 0


def test_a_cross_play_without_models_removes_what_was_said_in_an_earlier_one(tmp_path: Path) -> None:
    assert run(*GAME, "--policies", "gpt-4o", "--num-games", "2") == 0
    assert (tmp_path / "m.calls.jsonl").exists()
    assert run(*GAME, "--policies", "random", "--num-games", "2") == 0
    assert not (tmp_path / "m.calls.jsonl").exists()
    assert read_crossplay(tmp_path / "m.json").llm is None
    assert "llm" not in json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))


def test_moves_whose_answers_are_gone_count_as_missing(
    server: LlmServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*GAME, "--policies", "gpt-4o", "--baselines", "random", "--num-games", "6"]
    server.reply = lambda request: WALK
    assert run(*flags, "--max-calls", "6") == 1
    assert (read_crossplay(tmp_path / "m.json").table.count > 0).tolist() == [[True, True], [False, True]]
    assert run(*flags, "--calls", "other.sqlite") == 0
    llm = read_crossplay(tmp_path / "m.json").llm
    assert llm is not None
    how = llm["policies"]["gpt-4o"]["how"]
    assert 0 < how["missing"] < sum(how.values())
    assert f"The answers behind {how['missing']} of the moves are not in the file of calls." in capsys.readouterr().out

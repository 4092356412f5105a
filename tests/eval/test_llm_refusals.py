"""Language models in commands: what is refused, what needs a key, and what tells two cross-plays apart."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_eval.cli import main
from bargain_eval.crossplay import CallOptions, CrossplayFailed, crossplay
from bargain_eval.crossplay.entries import asks_language_model, fingerprint, policies_within
from bargain_eval.llm.prompt import prompt_file
from bargain_eval.llm.session import current_session
from llm_matches import (
    GAME,
    SPEC,
    files,
    forget,
    run,
    serving,
)
from llm_server import LlmServer


@pytest.fixture(scope="module")
def server() -> Iterator[LlmServer]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(server: LlmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(server)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--policies gpt-4o", "OPENAI_API_KEY is not set, which gpt-4o needs"),
        ("--policies openai:mine --max-cost 1", "mine has no price in "),
        ("--policies openai:mine?base_url=http://x:1/v1 --max-cost 1 --prices p.toml", "mine has no price in p.toml"),
        ("--policies openai:mine --prices nowhere.toml", "nowhere.toml cannot be read"),
        ("--policies gpt-4o --executor dask", "played on this machine only, not by dask"),
        ("--policies openai:m?base_url=http://me:hunter2@x/v1", "put no secret into it"),
        ("--policies openai:m?base_url=http://x/v1%3Fkey=hunter2", "put no secret into it"),
        ("--policies gpt-4o?prompt=mine.txt", "There is no prompt 'mine.txt'"),
        ("--policies gpt-4o --calls m.json", "cannot be used as a store of calls"),
        ("--policies gpt-4o --max-cost -1", "--max-cost"),
        ("--policies gpt-4o --concurrency 0", "--concurrency"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_played(
    flags: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    Path("m.json").write_text("{}", encoding="utf-8")
    Path("p.toml").write_text('[models."his"]\ninput = 1\noutput = 1\n', encoding="utf-8")
    assert main(["crossplay", *flags.split(), "--baselines", "random", "--output", "x.json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert "hunter2" not in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.json").exists()
    assert not (tmp_path / "x.cells").exists()


def test_without_a_key_what_is_stored_can_be_played(
    server: LlmServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The default host is in the requests, so its answers are put into the store under its name."""
    flags = [*GAME, "--policies", "gpt-4o?api=chat", "--num-games", "3"]
    assert run(*flags) == 0
    database = sqlite3.connect("results/llm_calls.sqlite")
    rows = database.execute("SELECT request, key, answer FROM calls").fetchall()
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    fields = [json.loads(request) | {"host": "api.openai.com/v1"} for request, _, _ in rows]
    canonical = [json.dumps(x, sort_keys=True, ensure_ascii=False, separators=(",", ":")) for x in fields]
    for text, (_, key, _) in zip(canonical, rows, strict=True):
        # the games that share a request are few enough to try all
        own = [hashlib.sha256(f"{text}\n0:{game}".encode()).hexdigest() for game in range(3)]
        theirs = json.dumps(json.loads(text) | {"host": server.url.removeprefix("http://")}, **DUMPED)
        game = [hashlib.sha256(f"{theirs}\n0:{game}".encode()).hexdigest() for game in range(3)].index(key)
        database.execute("UPDATE calls SET key = ?, request = ? WHERE key = ?", (own[game], text, key))
    database.commit()
    database.close()
    before = files(Path())["m.rows.npz"]
    Path("m.json").unlink()
    assert run(*flags) == 0
    assert files(Path())["m.rows.npz"] == before
    assert run(*flags[:-1], "4") == 1
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err


DUMPED: dict[str, Any] = {"sort_keys": True, "ensure_ascii": False, "separators": (",", ":")}


def test_the_fingerprint_follows_the_words_and_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_bytes(prompt_file("minimal").read_bytes())
    names = [
        "gpt-4o",
        "gpt-4o?prompt=compact",
        f"gpt-4o?prompt={mine}",
        "gpt-4o?api=responses",
        "gpt-4o?base_url=http://localhost:1/v1",
        "search:gpt-4o",
        f"search:openai:gpt-4o?prompt={mine}?num_simulations=3",
    ]
    before = [fingerprint(name, tmp_path) for name in names]
    assert len(set(before)) == len(names)
    mine.write_bytes(mine.read_bytes() + b" ")
    after = [fingerprint(name, tmp_path) for name in names]
    assert [first != second for first, second in zip(before, after, strict=True)] == [f"{mine}" in n for n in names]
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:2/v1")
    moved = [fingerprint(name, tmp_path) for name in names]
    assert [first != second for first, second in zip(after, moved, strict=True)] == ["base_url" not in n for n in names]


def test_policies_within_a_policy_are_found() -> None:
    pytest.importorskip("bargain_train", reason="search is known where bargain-train is")
    assert list(policies_within("gpt-4o?fallback=fair_split")) == ["gpt-4o?fallback=fair_split", "fair_split"]
    assert list(policies_within("search:search:o3")) == ["search:search:o3", "search:o3", "o3"]
    assert [asks_language_model(policy) for policy in ("search:o3", "openai:m", "search:pretrained?cap=3", "o33")] == [
        True,
        True,
        False,
        False,
    ]


def test_in_python_the_limits_are_options(server: LlmServer, tmp_path: Path) -> None:
    options = CallOptions(calls=tmp_path / "calls" / "c.sqlite", max_calls=5, concurrency=3)
    with pytest.raises(CrossplayFailed, match="limit of 5 calls"):
        crossplay(["gpt-4o"], 9, spec=SPEC, output=tmp_path / "x.json", calls=options)
    assert len(server.seen) == 5
    server.delay = 0.01
    unlimited = CallOptions(calls=tmp_path / "calls" / "c.sqlite", concurrency=3)
    matrix = crossplay(["gpt-4o"], 9, spec=SPEC, output=tmp_path / "x.json", calls=unlimited)
    assert np.isfinite(matrix.table.mean).all()
    assert not (tmp_path / "results").exists()
    with pytest.raises(ValueError, match="concurrency must be at least 1"):
        CallOptions(concurrency=0)


def test_commands_without_a_limit_refuse_models(server: LlmServer, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (
        "baselines --policies random gpt-4o",
        "best-response --policy o3",
        "best-response --policy random --policy-1 openai:mine",
        "best-response --policy random --responder-1 search:gpt-4o",
    ):
        assert main(flags.split()) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "is a language model, which would be asked here for very many moves without a limit" in err
        assert err.count("\n") == 1
    assert server.attempts == []


def test_an_outage_ends_a_game_at_the_terminal_in_a_sentence(
    server: LlmServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bargain_eval.llm.session._open", [])
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: name)
    monkeypatch.setattr("sys.stdin", io.StringIO("offer 1 0\n"))
    server.faults = itertools.repeat("401")
    assert main(["play", *GAME, "--against", "gpt-4o", "--games", "1", "--seed", "0"]) == 1
    assert capsys.readouterr().err.startswith("bargain-eval play: ")
    current_session().close()

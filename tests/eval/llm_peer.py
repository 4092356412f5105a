"""Games against a real server of language models, `transformers serve` with two tiny models: `nox -s llm_peer`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES
from bargain_eval.arena import play
from bargain_eval.game_rows import GameRows
from bargain_eval.llm.policy import OpenAIPolicy, decide
from bargain_eval.llm.session import Session, SessionOptions, session
from bargain_eval.llm.store import StoredCall
from bargain_eval.llm.view import PlayerView
from bargain_eval.registry import load_policy
from tiny_models import OFFER

SPEC = GAMES["mini-b"].with_observation("history")
GAMES_PLAYED = 4
SEED = 3
START_SECONDS = 120.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, str(Path(__file__).with_name("tiny_models.py")), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--device", "cpu"]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with log.open("w", encoding="utf-8") as file:
        address = ["--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen([*command, *address], stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8')[-3000:]}")


def model_policy(model: Path, server: str, options: str = "") -> OpenAIPolicy:
    policy = load_policy(f"openai:{model}?base_url={server}&temperature=1{options}", SPEC, seed=SEED)
    assert isinstance(policy, OpenAIPolicy)
    return policy


def records(
    opened: Session, policy: OpenAIPolicy, rows: GameRows, seat: int
) -> Iterator[tuple[int, str, list[StoredCall]]]:
    """Yields each decision of `policy` in `seat` from the stored calls alone: the move, how it came about, and they."""
    client = policy.client(opened)
    for row in rows.to_rows():
        game = ReferenceGame(
            SPEC, values=[row["values_0"], row["values_1"]], outside=[row["outside_0"], row["outside_1"]]
        )
        for move in row["actions"]:
            if game.mover == seat:
                view = PlayerView.from_observation(SPEC, game.observation())
                calls: list[StoredCall] = []
                while (decision := decide(view, [call.answer for call in calls])).how == "ask":
                    request = policy.request(client, view, [call.answer for call in calls])
                    call = opened.store.call(request.key(policy.sample(row["game"])))
                    assert call is not None
                    assert call.request == request.canonical()
                    calls.append(call)
                assert decision.action in (move, None)
                yield move, decision.how, calls
            game.play(move)
        assert game.finished


def check(call: StoredCall, model: Path, finish: str) -> None:
    answer = call.answer
    assert call.run == "peer"
    assert call.cost is None  # nobody has put a price on this model
    assert (answer.model, answer.finish, answer.retries) == (str(model), finish, 0)
    assert answer.input_tokens is not None
    assert answer.output_tokens is not None
    assert answer.input_tokens > answer.output_tokens > 0
    assert answer.latency > 0
    assert answer.created.startswith("20")


def test_a_model_that_always_offers_plays_and_is_at_a_loss_in_the_last_move(
    models: Path, server: str, tmp_path: Path
) -> None:
    with session(SessionOptions(str(tmp_path / "calls.sqlite"), "peer")) as opened:
        policy = model_policy(models / "offerer", server)
        rows = play((policy, policy), GAMES_PLAYED, SEED, spec=SPEC)
        keeps_a = [PlayerView(SPEC, seat, (1, 1), 1).offer_keeping((1, 0)) for seat in (0, 1)]
        for row in rows.to_rows():
            assert row["actions"] == [*keeps_a, keeps_a[0], SPEC.walk_action]
            assert row["illegal_0"] == row["illegal_1"] == 0
        assert policy.counts == {"schema": 3 * GAMES_PLAYED, "fallback": GAMES_PLAYED}
        assert opened.store.spent("peer") == (5 * GAMES_PLAYED, None)
        for seat in (0, 1):
            for move, how, calls in records(opened, policy, rows, seat):
                assert how == ("fallback" if move == SPEC.walk_action else "schema")
                assert len(calls) == (2 if how == "fallback" else 1)
                for call in calls:
                    check(call, models / "offerer", "stop")
                    assert call.answer.text == OFFER


def test_noise_is_answered_once_counted_and_never_played(models: Path, server: str, tmp_path: Path) -> None:
    options = SessionOptions(str(tmp_path / "calls.sqlite"), "peer")
    with session(options) as opened:
        policy = model_policy(models / "babbler", server, "&max_output_tokens=16&fallback=random&prompt=compact")
        rows = play((policy, load_policy("tough", SPEC)), GAMES_PLAYED, SEED, spec=SPEC)
        decisions = list(records(opened, policy, rows, 0))
        assert policy.counts == {"fallback": len(decisions)}
        assert opened.store.spent("peer") == (2 * len(decisions), None)
        for _, how, calls in decisions:
            assert how == "fallback"
            assert len(calls) == 2
            for call in calls:
                check(call, models / "babbler", "length")
    with session(options) as opened:
        again = model_policy(models / "babbler", server, "&max_output_tokens=16&fallback=random&prompt=compact")
        repeated = play((again, load_policy("tough", SPEC)), GAMES_PLAYED, SEED, spec=SPEC)
        assert repeated.to_rows() == rows.to_rows()
        assert opened.store.spent("peer") == (2 * len(decisions), None)

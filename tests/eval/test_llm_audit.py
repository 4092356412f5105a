"""The audit: which calls stand behind the moves of games that were played, and what they sum up to."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bargain_env.spec import GameSpec
from bargain_eval import OpenAIPolicy
from bargain_eval.arena import play
from bargain_eval.game_rows import GameRows
from bargain_eval.heuristics import ToughPolicy
from bargain_eval.llm.audit import AuditedMove, ModelSummary, audit_games
from bargain_eval.llm.session import Session, SessionOptions, session
from bargain_eval.llm.view import PlayerView
from llm_server import ACCEPT, WALK, LlmServer, Seen, hurry

SPEC = GameSpec(item_quantities=(1, 1), max_rounds=2, observation="history")
OFFER = '{"reasoning": "", "action": "offer", "keep": {"A": 1, "B": 1}}'


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture
def server() -> Iterator[LlmServer]:
    with LlmServer(lambda request: OFFER).running() as running:
        yield running


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Session]:
    with session(SessionOptions(str(tmp_path / "calls.sqlite"), "run", timeout=5.0)) as made:
        yield made


def played(server: LlmServer, games: int = 3, **options: Any) -> tuple[OpenAIPolicy, GameRows]:
    """Returns a model in seat 0 and its games against `tough`."""
    policy = OpenAIPolicy("gpt-4o", base_url=server.url, spec=SPEC, seed=5, **options)
    return policy, play((policy, ToughPolicy(SPEC)), games, 5, spec=SPEC)


def audited(policy: OpenAIPolicy, opened: Session, rows: GameRows, seat: int = 0) -> list[AuditedMove]:
    return list(audit_games(policy, opened, rows, seat))


def summed(policy: OpenAIPolicy, opened: Session, moves: list[AuditedMove]) -> dict[str, Any]:
    summary = ModelSummary(policy, opened)
    for move in moves:
        summary.add(move)
    return summary.to_dict()


def test_every_move_is_explained_by_the_call_that_was_made(server: LlmServer, opened: Session) -> None:
    policy, rows = played(server)
    moves = audited(policy, opened, rows)
    assert [(move.game, move.move, move.seat) for move in moves] == list(itertools.product(range(3), (1, 3), (0,)))
    for move in moves:
        assert move.action == rows.actions[move.game, move.move - 1]
        assert move.how == "schema"
        (call,) = move.calls
        view = PlayerView(
            SPEC,
            0,
            tuple(rows.values[move.game, 0].tolist()),
            int(rows.outside[move.game, 0]),
            tuple(rows.actions[move.game, : move.move - 1].tolist()),
        )
        assert call.asked == policy.prompt.state(view)
        assert call.stored.answer.text == OFFER
        assert json.loads(call.stored.request)["messages"] == [["user", call.asked]]
        assert call.problem == ""
    assert len({move.calls[0].stored.key for move in moves}) == len(server.seen) == 6


def test_a_second_reply_and_a_fallback_come_with_both_calls(server: LlmServer, opened: Session) -> None:
    def reply(request: Seen) -> str:
        if "could not be played" not in request.text:
            return ACCEPT if "No move has been made" in request.text else "Hm."
        return OFFER if "No move has been made" in request.messages[0][1] else "No."

    server.reply = reply
    policy, rows = played(server, 1, fallback="tough")
    first, second = audited(policy, opened, rows)
    assert (first.how, second.how) == ("retry", "fallback")
    assert [call.problem for call in first.calls] == ["There is no offer to accept yet.", ""]
    assert first.calls[1].asked == policy.prompt.retry("There is no offer to accept yet.")
    assert all("No move was found" in call.problem for call in second.calls)
    assert second.action == rows.actions[0, 2]
    told = second.to_dict()
    assert [call["text"] for call in told["calls"]] == ["Hm.", "No."]
    assert json.loads(json.dumps(told)) == told


def test_moves_without_their_answers_are_missing(server: LlmServer, opened: Session, tmp_path: Path) -> None:
    policy, rows = played(server)
    with closing(Session(SessionOptions(str(tmp_path / "other.sqlite"), timeout=5.0))) as other:
        moves = audited(policy, other, rows)
        assert [(move.how, move.calls) for move in moves] == [("missing", ())] * 6
        assert [move.action for move in moves] == rows.actions[:, [0, 2]].ravel().tolist()
        server.reply = lambda request: WALK
        again = OpenAIPolicy("gpt-4o", base_url=server.url, spec=SPEC, seed=5, session=other)
        play((again, ToughPolicy(SPEC)), 3, 5, spec=SPEC)
        assert [(move.how, move.calls) for move in audited(policy, other, rows)] == [("missing", ())] * 6
    told = summed(policy, opened, moves)
    assert (told["decisions"], told["calls"], told["how"]["missing"], told["cost"]) == (6, 0, 6, 0)


def test_both_seats_of_a_game_are_explained_from_their_own_side(server: LlmServer, opened: Session) -> None:
    policy = OpenAIPolicy("gpt-4o", base_url=server.url, spec=SPEC)
    rows = play((policy, policy), 2, 3, spec=SPEC)
    moves = [audited(policy, opened, rows, seat) for seat in range(2)]
    assert [{move.move for move in part} for part in moves] == [{1, 3}, {2, 4}]
    assert {move.how for part in moves for move in part} == {"schema", "fallback"}  # the last move can be no offer
    keys = {call.stored.key for part in moves for move in part for call in move.calls}
    assert len(keys) == len(server.seen)


def test_a_summary_counts_a_shared_call_once(server: LlmServer, opened: Session) -> None:
    policy, rows = played(server)
    moves = audited(policy, opened, rows)
    told = summed(policy, opened, moves + moves)
    assert (told["decisions"], told["calls"], told["input_tokens"]) == (12, 6, 600)
    assert (told["cached_tokens"], told["output_tokens"], told["reasoning_tokens"]) == (240, 120, 30)
    assert told["how"] == {"schema": 12, "text": 0, "retry": 0, "fallback": 0, "missing": 0}
    assert told["cost"] == pytest.approx(6 * (60 * 2.5 + 40 * 1.25 + 20 * 10) / 1e6)
    assert told["prompt"] == {"name": "baseline", "sha256": policy.prompt.sha256}
    assert (told["host"], told["api"], told["fallback"]) == (server.url.removeprefix("http://"), "chat", "always_walk")


def test_a_summary_knows_no_sum_with_an_unknown_part(server: LlmServer, opened: Session) -> None:
    policy, rows = played(server)
    moves = audited(policy, opened, rows)
    (call,) = moves[0].calls
    vague = call.stored._replace(cost=None, answer=dataclasses.replace(call.stored.answer, output_tokens=None))
    told = summed(policy, opened, [moves[0]._replace(calls=(call._replace(stored=vague),)), *moves[1:]])
    assert (told["cost"], told["output_tokens"], told["input_tokens"]) == (None, None, 600)


def test_a_price_that_is_learned_later_counts_for_what_was_paid_before(server: LlmServer, tmp_path: Path) -> None:
    store = str(tmp_path / "calls.sqlite")
    prices = {name: tmp_path / f"{name}.toml" for name in ("none", "known")}
    prices["none"].write_text("[models]", encoding="utf-8")
    prices["known"].write_text('[models."gpt-4o"]\ninput = 1\noutput = 2\n', encoding="utf-8")
    with session(SessionOptions(store, prices=str(prices["none"]), timeout=5.0)) as opened:
        policy, rows = played(server)
        assert summed(policy, opened, audited(policy, opened, rows))["cost"] is None
    with session(SessionOptions(store, prices=str(prices["known"]))) as opened:
        told = summed(policy, opened, audited(policy, opened, rows))
        assert told["cost"] == pytest.approx(6 * (100 + 20 * 2) / 1e6)


def test_a_summary_says_what_was_sent_and_what_was_left_out(server: LlmServer, opened: Session) -> None:
    server.faults = iter(["400 temperature"])
    policy, rows = played(server, 1, temperature=0.5)
    told = summed(policy, opened, audited(policy, opened, rows))
    (sent,) = told["sent"]
    assert (sent["model"], sent["calls"]) == ("gpt-4o-2026-01-01", 2)
    assert (sent["parameters"], sent["dropped"]) == ({"response_format": "move"}, ["temperature"])


def test_a_summary_says_how_replies_ended(server: LlmServer, opened: Session) -> None:
    server.faults = iter(["length", "refusal"])
    policy, rows = played(server)
    told = summed(policy, opened, audited(policy, opened, rows))
    assert told["finish"] == {"length": 1, "refusal": 1, "stop": told["calls"] - 2}
    assert told["invalid_first_replies"] == sum(told["how"][how] for how in ("retry", "fallback")) > 0

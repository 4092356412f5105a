"""`crossplay --dry-run`: what language models would be asked, and that nothing is asked or written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bargain_env.spec import GameSpec
from bargain_eval.cli import main
from bargain_eval.crossplay import CrossplayFailed, estimate_calls, make_plan, pieces
from bargain_eval.llm.prompt import load_prompt
from bargain_eval.llm.reply import reply_schema
from bargain_eval.llm.view import PlayerView
from llm_server import WALK, LlmServer, Seen, hurry

GAME = ("--quantities", "2", "1", "--rounds", "2")
SPEC = GameSpec(item_quantities=(2, 1), max_rounds=2, observation="history")


def tough_reply(request: Seen) -> str:
    """Plays the policy `tough`: gives one unit of the item that it values least, and walks on the last move."""
    move = re.search(r"Move (\d) of", request.text)
    values = re.search(r"(\d+) for each A and (\d+) for each B", request.text)
    assert move
    assert values
    if move[1] == str(SPEC.max_turns):
        return WALK
    worth = int(values[1]), int(values[2])
    # of equally good offers the one with the lower index: fewer units of A for seat 1
    gives_a = worth[0] < worth[1] or (worth[0] == worth[1] and "The other player moves first" in request.system)
    keep = {"A": 1, "B": 1} if gives_a else {"A": 2, "B": 0}
    return json.dumps({"reasoning": "", "action": "offer", "keep": keep})


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LlmServer]:
    with LlmServer(tough_reply).running() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        yield running


def dry_run(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["crossplay", *GAME, *flags, "--dry-run", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_it_counts_what_models_that_bargain_to_the_end_would_be_asked(
    server: LlmServer, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--policies", "gpt-4o", "o3", "--baselines", "random", "fair_split", "--num-games", "6"]
    told = dry_run(capsys, *flags)
    assert server.attempts == []
    assert main(["crossplay", *GAME, *flags, "--json"]) == 0
    llm = json.loads(capsys.readouterr().out)["llm"]["policies"]
    assert {row["model"]: (row["decisions"], row["calls"]) for row in told["models"]} == {
        name: (policy["decisions"], policy["calls"]) for name, policy in llm.items()
    }
    assert [row["games"] for row in told["models"]] == [7 * 6, 7 * 6]
    assert told["total"]["calls"] == len(server.seen) < sum(policy["decisions"] for policy in llm.values())
    again = dry_run(capsys, *flags)
    assert [(row["games"], row["calls"], row["cost"]) for row in again["models"]] == [(0, 0, 0.0)] * 2
    Path("results/crossplay_matrix.json").unlink()
    again = dry_run(capsys, *flags)
    assert [(row["games"], row["calls"], row["cost"]) for row in again["models"]] == [(42, 0, 0.0)] * 2
    more = dry_run(capsys, *flags[:-1], "7")
    assert 0 < more["total"]["calls"] < told["total"]["calls"] / 3


def test_tokens_and_dollars_are_those_of_the_texts_and_the_prices(capsys: pytest.CaptureFixture[str]) -> None:
    told = dry_run(capsys, "--policies", "gpt-4o?prompt=minimal", "--num-games", "1", "--rounds", "1")
    spec = GameSpec(item_quantities=(2, 1), max_rounds=1, observation="history")
    from bargain_env.reference import ReferenceGame

    game, prompt = ReferenceGame(spec, 0, 0), load_prompt("minimal")
    opening = PlayerView(spec, 0, tuple(game.values[0]), game.outside[0])
    gives_a = game.values[0][0] < game.values[0][1]
    offer = int(spec.encode_offer((1, 0) if gives_a else (0, 1)))
    answer = PlayerView(spec, 1, tuple(game.values[1]), game.outside[1], (offer,))
    expected = 0
    for view in (opening, answer):
        texts = prompt.system(spec, view.seat), prompt.state(view), str(reply_schema(spec))
        expected += round(sum(map(len, texts)) / 3.5)
    (row,) = told["models"]
    assert (row["calls"], row["input_tokens"], row["output_tokens"]) == (2, expected, 600)
    assert row["cost"] == pytest.approx((2.5 * expected + 10 * 600) / 1e6)
    assert told["total"]["cost"] == row["cost"]


def test_the_command_of_the_readme_needs_neither_key_nor_network_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    flags = ["--policies", "gpt-5.2-pro", "o3", "gpt-4o", "--baselines", "random", "greedy", "fair_split"]
    assert main(["crossplay", *flags, "--num-games", "5", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split() for line in out.splitlines()]
    calls = {row[0]: int(row[3].replace(",", "")) for row in rows if row and row[0] in flags and len(row) == 7}
    assert calls.keys() == {"gpt-5.2-pro", "o3", "gpt-4o"}
    total = next(row for row in rows if row[:1] == ["together"])
    assert int(total[1].replace(",", "")) == sum(calls.values())
    assert total[-1].startswith("$")
    for words in ("the policy tough moves", "else 300 tokens, or 3,000", "no model is asked again", "of 2026-"):
        assert words in " ".join(out.split())
    assert "Nothing was sent or written" in out
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_price_is_no_sum(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--policies", "openai:mine?base_url=http://localhost:1/v1", "gpt-4o", "--num-games", "1"]
    told = dry_run(capsys, *flags)
    assert [row["cost"] is None for row in told["models"]] == [True, False]
    assert told["total"]["cost"] is None
    Path("prices.toml").write_text("[models.mine]\ninput = 0\noutput = 0\n", encoding="utf-8")
    priced = dry_run(capsys, *flags[:2], *flags[3:], "--prices", "prices.toml")
    assert (priced["total"]["cost"], priced["prices"]["path"]) == (0.0, "prices.toml")
    assert main(["crossplay", *GAME, *flags, "--dry-run"]) == 0
    assert "unknown" in capsys.readouterr().out


def test_without_language_models_there_is_nothing_to_ask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert dry_run(capsys)["models"] == []
    assert main(["crossplay", "--dry-run"]) == 0
    assert "No language model takes part" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_stored_replies_say_how_long_the_others_will_be(server: LlmServer, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--policies", "gpt-4o", "--num-games"]
    assert main(["crossplay", *GAME, *flags, "3"]) == 0
    told = dry_run(capsys, *flags, "6")
    (row,) = told["models"]
    assert row["output_tokens"] == server.usage["output"] * row["calls"] > 0


def test_a_policy_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(["gpt-4o"], 2, baselines=["random"], output="m.json")
    monkeypatch.setattr(pieces, "load_policy", lambda *_: None)
    with pytest.raises(CrossplayFailed, match="gpt-4o against gpt-4o cannot be played: AttributeError"):
        estimate_calls(plan)

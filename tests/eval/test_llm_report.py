"""Language models in the report: the tables, and what they said in the games to read, harmless whatever it is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from bargain_eval.cli import main
from bargain_eval.crossplay import read_crossplay
from bargain_eval.report.content import Table
from bargain_eval.report.model_section import model_section
from bargain_eval.report.transcripts import sample_games
from llm_server import LlmServer, Seen, hurry

FAST = ("--solvers", "max_welfare")
HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1> <!-- ${1} \u2028 & "all"'
LONG = "word " * 2_000


def reply(request: Seen) -> str:
    """Offers with a hostile reason, then hesitates, then accepts in words."""
    if "could not be played" in request.text:
        return "I would rather not say."
    move = re.search(r"Move (\d+) of", request.text)
    assert move
    if move[1] == "1":
        return json.dumps({"reasoning": HOSTILE, "action": "offer", "keep": {"A": 1, "B": 0}})
    if move[1] == "2":
        return f"<b>Hm.</b> {LONG}"
    return "I take it.\nACCEPT"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """X.json of a cross-play of a language model with a policy that accepts no offer."""
    folder = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch, LlmServer(reply).running() as server:
        hurry(patch)
        patch.setenv("OPENAI_BASE_URL", server.url)
        patch.chdir(folder)
        flags = ["--quantities", "1", "1", "--rounds", "2", "--num-games", "4", "--output", "m.json"]
        assert main(["crossplay", "--policies", "o3?effort=low&api=responses", "--baselines", "tough", *flags]) == 0
    return folder / "m.json"


@pytest.fixture(scope="module")
def page(stored: Path) -> Path:
    out = stored.with_name("report.html")
    assert main(["report", str(out), str(stored), *FAST]) == 0
    return out


def column(table: Table, name: str) -> list[str]:
    return [row[table.headers.index(name)].text for row in table.rows]


def test_the_tables_say_how_replies_became_moves_and_what_the_calls_took(stored: Path) -> None:
    matrix = read_crossplay(stored)
    assert matrix.llm is not None
    (policy,) = matrix.llm["policies"].values()
    replies, calls = model_section("m", "Language models", matrix.llm).tables
    assert column(replies, "policy") == column(calls, "policy") == ["o3?effort=low&api=responses"]
    assert column(replies, "moves") == [str(policy["decisions"])]
    for name, how in (("JSON object", "schema"), ("text", "text"), ("fallback", "fallback")):
        assert policy["how"][how] > 0
        assert column(replies, name) == [f"{policy['how'][how] / policy['decisions']:.1%}"]
    assert column(replies, "prompt") == [f"baseline {policy['prompt']['sha256'][:8]}"]
    assert column(calls, "tokens in") == [f"{100 * policy['calls']:,}"]
    assert column(calls, "cost in $") == [f"{policy['cost']:.4f}"]
    assert column(calls, "parameters") == ['reasoning={"effort": "low"}, store=false, text=move']


def test_an_unknown_price_is_an_empty_cell(stored: Path) -> None:
    llm = json.loads(stored.read_text(encoding="utf-8"))["llm"]
    (policy,) = llm["policies"].values()
    policy |= {"cost": None, "cached_tokens": None, "finish": {"length": 2, "stop": 1}}
    _, calls = model_section("m", "Language models", llm).tables
    assert column(calls, "cost in $") == column(calls, "of these cached") == [""]
    assert column(calls, "ended otherwise") == ["length 2"]


def test_the_games_hold_the_replies_behind_each_move(stored: Path) -> None:
    lines = [json.loads(line) for line in (stored.with_name("m.calls.jsonl")).read_text(encoding="utf-8").splitlines()]
    sample = sample_games(read_crossplay(stored), 20)
    cells = ["o3?effort=low&api=responses_vs_o3?effort=low&api=responses", "o3?effort=low&api=responses_vs_tough"]
    cells.append("tough_vs_o3?effort=low&api=responses")
    texts = {tuple(text) for text in sample["replies"]}
    assert len(texts) <= len(sample["replies"]) < sum(len(line["calls"]) for line in lines)
    told = 0
    for cell, games in zip([*cells, None], sample["cells"], strict=True):
        for game, actions, *_, said in games:
            if cell is None:
                assert not isinstance(said, list)
                continue
            own = {line["move"]: line for line in lines if (line["cell"], line["game"]) == (cell, game)}
            for move in range(1, len(actions) + 1):
                if move not in own:
                    assert said[move - 1] is None
                    continue
                how, calls = said[move - 1]
                assert how == own[move]["how"]
                for (number, problem), call in zip(calls, own[move]["calls"], strict=True):
                    text, thoughts, finish = sample["replies"][number]
                    assert (problem, thoughts, finish) == (call["problem"], call["reasoning"], call["finish"])
                    assert text[:4000] == call["text"][:4000]
                    assert len(text) < 4100
                    told += 1
    assert told == sum(len(line["calls"]) for line in lines)


class Tags(HTMLParser):
    """The tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


def test_a_hostile_reply_stands_in_the_page_as_data(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "window.hacked" in text
    tags = Tags(text).found
    assert tags.count("script") == 2
    assert "img" not in tags
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert HOSTILE in json.loads(json.loads(data)["replies"][0][0])["reasoning"]


def test_without_the_file_of_calls_the_page_says_so(stored: Path, tmp_path: Path) -> None:
    for name in ("m.json", "m.rows.npz"):
        shutil.copy(stored.with_name(name), tmp_path)
    assert main(["report", str(tmp_path / "r.html"), str(tmp_path / "m.json"), *FAST]) == 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "The replies of language models are not shown: m.calls.jsonl is not beside the matrix." in text
    assert "How replies became moves" in text


@pytest.mark.parametrize("line", ["{", "[1]", '{"cell": "tough_vs_tough", "game": 0}'])
def test_a_damaged_file_of_calls_is_one_sentence(
    line: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("m.json", "m.rows.npz"):
        shutil.copy(stored.with_name(name), tmp_path)
    (tmp_path / "m.calls.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert main(["report", str(tmp_path / "r.html"), str(tmp_path / "m.json"), *FAST]) == 2
    err = capsys.readouterr().err
    assert "m.calls.jsonl is damaged" in err
    assert err.count("\n") == 1


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--headless", "--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def test_the_viewer_shows_what_a_model_said_and_runs_none_of_it(browser: Any, page: Path) -> None:
    opened = browser.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(page.as_uri())
    opened.get_by_label("Seat 1", exact=True).select_option(label="o3?effort=low&api=responses")
    stage = opened.locator(".stage")
    first, second = stage.locator(".said").all()
    assert first.locator("p").first.inner_text() == f"“{HOSTILE}”"
    assert first.locator("pre").first.is_hidden()
    first.locator("summary").click()
    assert first.locator("summary").inner_text() == "Reply, read as a JSON object: as it came"
    assert json.loads(first.locator("pre").first.inner_text())["reasoning"] == HOSTILE
    assert first.locator("pre").nth(1).inner_text() == "It is enough."
    assert "Reply 1: as it came" in second.inner_text()
    assert "No move: No move was found" in second.inner_text()
    assert second.locator("pre").last.is_visible()
    assert "I would rather not say." in second.inner_text()
    assert "The fallback moved." in second.inner_text()
    assert second.locator("b").count() == 0
    opened.get_by_label("Seat 0", exact=True).select_option(label="tough")
    assert stage.locator(".said").count() == 1
    assert stage.locator(".moves tbody tr").count() == 3
    assert opened.evaluate("window.hacked") is None
    assert complaints == []
    opened.set_viewport_size({"width": 360, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") == 360
    opened.close()

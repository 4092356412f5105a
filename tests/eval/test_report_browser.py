"""The report in a real browser: it loads, stays at home, sorts, turns its pages, and can be read in light and dark."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.cli import main
from report_inputs import SPECS, store_crossplay, store_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
FAST = ("--solvers", "max_welfare", "rrd", "cce")
HOSTILE = ("<script>window.hacked=1</script>", "<img src=x onerror=window.hacked=1>", "{{7*7}}")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stored")
    for lr in (0.001, 0.01):
        for seed in (1, 2):
            store_run(root, seed, lr, payoff=0.5 + lr + 0.01 * seed)
    members = [{"population_seat_0": {"a": 1.0}}, {"population_seat_0": {"a": 0.5, "b": 0.5}}]
    store_run(root, 3, spec=GAMES["mini-b"], lines=members)
    store_crossplay(root / "matrix.json")
    out = root / "report.html"
    assert main(["report", str(out), "--results-dir", str(root), *FAST]) == 0
    return out


class Watched:
    """An open page, and what it did that it should not."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(**({"viewport": {"width": 1300, "height": 900}} | options))
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(path.as_uri())


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    watched = Watched(browser, report)
    yield watched.page
    assert watched.requests == [report.as_uri()]
    assert watched.complaints == []
    watched.page.close()


def leaderboard(page: Any, index: int) -> Any:
    return page.locator("#leaderboard table").nth(index)


def column(table: Any, index: int) -> list[str]:
    found: list[str] = table.locator(f"tbody tr td:nth-child({index + 1})").all_inner_texts()
    return found


def test_it_loads_whole_and_asks_for_nothing_else(page: Any) -> None:
    assert page.title() == "Bargaining report"
    assert page.locator("figure svg").count() == 1 + 1 + 1 + 6
    assert page.locator("nav a").count() == page.locator("main > section").count()
    for link in page.locator("nav a").all():
        link.click()
    for details in page.locator("details summary").all():
        details.click()
    assert page.locator("figure table:visible").count() == page.locator("figure").count()


def test_a_click_on_a_heading_sorts_by_it_and_another_turns_it_round(page: Any) -> None:
    table = leaderboard(page, 1)
    heading = table.locator("th", has_text="payoff ± se")
    payoffs = [f"{payoff:.4f} ± 0.0020" for payoff in (0.53, 0.521, 0.52, 0.511)]
    for expected, direction in ((payoffs, "descending"), (payoffs[::-1], "ascending")):
        heading.locator("button").click()
        assert column(table, 3) == expected
        assert heading.get_attribute("aria-sort") == direction
    table.locator("th button", has_text="time").click()
    assert column(table, 1) == ["2", "2", "1", "1"]
    assert heading.get_attribute("aria-sort") is None
    table.locator("th button", has_text="run").click()
    names = column(table, 0)
    assert names == sorted(names)


def test_missing_values_stay_last_whichever_way_a_column_is_sorted(page: Any) -> None:
    page.evaluate("""() => {
        const body = document.querySelector("#leaderboard table").tBodies[0];
        body.rows[0].cells[2].removeAttribute("data-key");
        body.rows[0].cells[2].textContent = "";
    }""")
    for _ in range(2):
        leaderboard(page, 0).locator("th button", has_text="payoff").click()
        assert column(leaderboard(page, 0), 2)[-1] == ""
        assert column(leaderboard(page, 0), 2)[0] != ""


def test_headings_can_be_used_by_keyboard(page: Any) -> None:
    leaderboard(page, 1).locator("th button", has_text="seed").focus()
    page.keyboard.press("Enter")
    assert column(leaderboard(page, 1), 1) == ["2", "2", "1", "1"]


def games_of(page: Any, first: str, second: str) -> list[list[Any]]:
    data = json.loads(page.locator(".viewer script").inner_text())
    games: list[list[Any]] = data["cells"][SPECS.index(first) * len(SPECS) + SPECS.index(second)]
    return games


def choose(page: Any, first: str, second: str, outcome: str = "all") -> None:
    for label, option in (("Seat 0", first), ("Seat 1", second), ("Outcome", outcome)):
        page.get_by_label(label, exact=True).select_option(label=option)


def test_the_viewer_shows_hands_moves_and_payoffs(page: Any) -> None:
    choose(page, "random", "fair_split", "deals")
    game = next(game for game in games_of(page, "random", "fair_split") if game[2] == 1)
    index, actions, _, payoff0, payoff1, _ = game
    deal = json.loads(page.locator(".viewer script").inner_text())["deals"][str(index)]
    stage = page.locator(".stage")
    for seat, name in enumerate(("random", "fair_split")):
        hand = stage.locator(f".seat-{seat}")
        assert hand.locator("h4").inner_text() == f"Seat {seat}: {name}"
        assert [int(cell) for cell in hand.locator("tbody tr td:nth-child(3)").all_inner_texts()] == deal[seat]
        total = sum(q * v for q, v in zip(GameSpec().item_quantities, deal[seat], strict=True))
        assert f"Outside offer: {deal[2][seat]} of {total}" in hand.inner_text()
    assert stage.locator(".moves tbody tr").count() == len(actions)
    bundle = GameSpec().offers[actions[0]]
    keeps = [q - units for q, units in zip(GameSpec().item_quantities, bundle, strict=True)]
    first = stage.locator(".moves tbody tr").first.inner_text()
    assert f"offers {' / '.join(map(str, bundle))}, keeps {' / '.join(map(str, keeps))}" in first
    points = sum(units * value for units, value in zip(keeps, deal[0], strict=True))
    assert f"{' / '.join(map(str, keeps))}: {points} (" in first
    assert ("≥" if points >= deal[2][0] else "<") + " outside" in first
    assert stage.locator(".moves tbody tr").last.locator(".move").inner_text() == "accepts"
    assert f"Deal. Payoffs: seat 0 {payoff0:.4f}, seat 1 {payoff1:.4f}" in stage.inner_text()


def test_the_viewer_turns_by_button_and_by_key_within_its_bounds(page: Any) -> None:
    choose(page, "random", "random")
    back, onward = page.get_by_role("button", name="Previous"), page.get_by_role("button", name="Next")
    where = page.locator(".turn span")
    count = len(games_of(page, "random", "random"))
    assert where.inner_text() == f"1 of {count}: deal 0"
    assert back.is_disabled()
    before = page.locator(".stage").inner_text()
    onward.click()
    assert where.inner_text() == f"2 of {count}: deal 1"
    assert page.locator(".stage").inner_text() != before
    page.locator(".viewer").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator(".stage").inner_text() == before
    page.keyboard.press("ArrowLeft")
    assert where.inner_text() == f"1 of {count}: deal 0"
    for _ in range(count + 3):
        page.keyboard.press("ArrowRight")
    assert where.inner_text().startswith(f"{count} of {count}")
    assert onward.is_disabled()


def test_the_viewer_filters_by_outcome(page: Any) -> None:
    games = games_of(page, "random", "fair_split")
    for label, code, ending in (("deals", 1, "Deal."), ("walks", 2, "No deal")):
        choose(page, "random", "fair_split", label)
        number = sum(game[2] == code for game in games)
        assert 0 < number < len(games)
        for k in range(number):
            assert page.locator(".turn span").inner_text().startswith(f"{k + 1} of {number}")
            assert page.locator(".outcome").inner_text().startswith(ending)
            if k + 1 < number:
                page.get_by_role("button", name="Next").click()
    choose(page, "always_walk", "tioli", "deals")
    assert page.locator(".stage").inner_text() == "The sample of this pair has no such game."


def test_a_click_on_a_cell_opens_its_games(page: Any) -> None:
    page.locator('#crossplay-1-payoff-1 [data-cell="4,1"]').click()
    assert page.locator(".seat-0 h4").inner_text() == "Seat 0: tioli"
    assert page.locator(".seat-1 h4").inner_text() == "Seat 1: greedy"
    assert page.locator(".viewer").evaluate("box => box === document.activeElement")


def test_the_numbers_of_a_figure_can_be_saved(page: Any, tmp_path: Path) -> None:
    figure = page.locator("#crossplay-1-payoff-0")
    figure.locator("summary").click()
    with page.expect_download() as download:
        figure.get_by_role("button", name="Save as CSV").click()
    download.value.save_as(tmp_path / "payoff.csv")
    with (tmp_path / "payoff.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert download.value.suggested_filename == "crossplay-1-payoff-0.csv"
    assert [row[0] for row in rows[1:]] == list(SPECS)
    assert all(re.fullmatch(r"\d\.\d{4} ± \d\.\d{4}", cell) for row in rows[1:] for cell in row[1:])


CONTRAST = """() => {
    const rgb = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
    const light = (text) => {
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = rgb(text).map((c) => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paper = getComputedStyle(document.body).backgroundColor;
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const found = {};
    for (const name of ["body", "figcaption", "nav a", "svg text"]) {
        const style = getComputedStyle(document.querySelector(name));
        found[name] = ratio(light(name === "svg text" ? style.fill : style.color), light(paper));
    }
    const probe = document.body.appendChild(document.createElement("i"));
    for (let k = 0; k < 7; k++) {
        probe.style.color = `var(--series-${k})`;
        found[`series ${k}`] = ratio(light(getComputedStyle(probe).color), light(paper));
    }
    return [paper, found];
}"""


def test_light_and_dark_follow_the_system_and_the_button_and_can_be_read(browser: Any, report: Path) -> None:
    papers = {}
    for scheme in ("light", "dark"):
        watched = Watched(browser, report, color_scheme=scheme)
        paper, ratios = watched.page.evaluate(CONTRAST)
        assert all(ratio >= (3 if name.startswith("series") else 4.5) for name, ratio in ratios.items()), ratios
        papers[scheme] = paper
        watched.page.get_by_role("button", name="Light or dark").click()
        papers[f"not {scheme}"] = watched.page.evaluate(CONTRAST)[0]
        assert watched.complaints == []
        watched.page.close()
    assert papers["light"] == papers["not dark"] == "rgb(255, 255, 255)"
    assert papers["dark"] == papers["not light"] != papers["light"]


OVERLAPS = """() => [...document.querySelectorAll("figure svg")].flatMap((svg) => {
    const outer = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")]
        .filter((text) => text.textContent.trim() && !(text.getAttribute("transform") || "").includes("rotate"))
        .map((text) => [text.textContent, text.getBoundingClientRect()]);
    const cut = boxes.filter(([, box]) => box.left < outer.left - 1 || box.right > outer.right + 1);
    const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
    const pairs = boxes.flatMap(([words, a], k) => boxes.slice(k + 1)
        .filter(([, b]) => overlap(a, b)).map(([other]) => `${words} upon ${other}`));
    return [...cut.map(([words]) => `cut: ${words}`), ...pairs];
})"""


def test_no_words_in_a_figure_overlap_or_are_cut(page: Any) -> None:
    assert page.evaluate(OVERLAPS) == []


def test_a_narrow_screen_scrolls_within_figures_and_not_the_page(browser: Any, report: Path) -> None:
    watched = Watched(browser, report, viewport={"width": 360, "height": 700})
    assert watched.page.evaluate("document.documentElement.scrollWidth") == 360
    wide = watched.page.locator("#crossplay-1-payoff-0 .picture")
    assert wide.evaluate("box => box.scrollWidth > box.clientWidth")
    watched.page.close()


def test_hostile_names_are_shown_as_text(browser: Any, tmp_path: Path) -> None:
    store_crossplay(tmp_path / "hostile.json", SPECS[:3], HOSTILE, game="mini-a", num_games=30)
    out = tmp_path / "hostile.html"
    assert main(["report", str(out), str(tmp_path / "hostile.json"), *FAST]) == 0
    watched = Watched(browser, out)
    page = watched.page
    page.locator('[data-cell="0,1"]').first.click()
    assert page.locator(".seat-0 h4").inner_text() == f"Seat 0: {HOSTILE[0]}"
    assert page.locator(".seat-1 h4").inner_text() == f"Seat 1: {HOSTILE[1]}"
    page.locator("th button:visible", has_text="policy").first.click()
    for name in HOSTILE:
        assert page.get_by_text(name, exact=True).count() > 0
    assert page.evaluate("window.hacked") is None
    assert watched.complaints == []
    assert watched.requests == [out.as_uri()]
    page.close()


def test_two_matrices_have_two_viewers_of_their_own(browser: Any, tmp_path: Path) -> None:
    for name, game in (("a", "mini-a"), ("b", "mini-c")):
        store_crossplay(tmp_path / f"{name}.json", SPECS[:3], game=game, num_games=30)
    out = tmp_path / "two.html"
    assert main(["report", str(out), str(tmp_path), *FAST]) == 0
    watched = Watched(browser, out)
    watched.page.locator('#crossplay-2-payoff-0 [data-cell="1,2"]').click()
    assert watched.page.locator("#crossplay-2-games .seat-0 h4").inner_text() == "Seat 0: greedy"
    assert watched.page.locator("#crossplay-1-games .seat-0 h4").inner_text() == "Seat 0: random"
    assert watched.complaints == []
    watched.page.close()

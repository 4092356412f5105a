"""The report: what it reads, the numbers that it shows, and that the page is one safe, stable file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES
from bargain_eval.cli import main
from bargain_eval.crossplay import read_crossplay
from bargain_eval.crossplay.matrix import CELL_ARRAYS, DEAL_ARRAYS
from bargain_eval.metagame.payoffs import PayoffTable
from bargain_eval.metagame.solvers import SOLVERS
from bargain_eval.report import svg
from bargain_eval.report.content import Table
from bargain_eval.report.curves import FLOOR, GRID, learning_curves, population_timeline
from bargain_eval.report.data import find
from bargain_eval.report.metagame_section import metagame_section
from bargain_eval.report.run_sections import run_sections
from bargain_eval.report.runs import contests, leaderboards
from bargain_eval.report.transcripts import sample_games
from bargain_eval.results import ResultsManager
from report_inputs import SPECS, store_crossplay, store_run

FAST = ("--solvers", "max_welfare", "cce", "uniform")
HOSTILE = (
    "<script>window.hacked=1</script>",
    "</script><img src=x onerror=window.hacked=1>",
    '"><b onmouseover=alert(1)>$x^2$',
    "a\x00b\x1b\ud7ff &amp; {{ 7*7 }}",
    '#010203 id="tip-0" 漢字 ➜',
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of two seeds, a run against a fixed opponent, a run of another game, and a matrix."""
    root = tmp_path_factory.mktemp("stored") / "results"
    for lr in (0.001, 0.01):
        for seed in (1, 2):
            store_run(root, seed, lr, payoff=0.5 + lr + 0.01 * seed)
    store_run(root, 1, opponent="greedy")
    store_run(root, 1, spec=GAMES["mini-b"])
    store_crossplay(root / "matrix.json")
    return root


@pytest.fixture(scope="module")
def page(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", str(out), "--results-dir", str(root), *FAST]) == 0
    return out.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Collects the elements of a page, and the text that a reader sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes_in_another_process(page: str, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.html"
    command = [sys.executable, "-m", "bargain_eval.cli", "report", str(out), "--results-dir", str(root), *FAST]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": "123"})
    assert out.read_text(encoding="utf-8") == page


def test_the_page_refers_to_nothing_outside(page: str) -> None:
    for tag, attributes in Tags(page).tags:
        assert tag not in ("iframe", "object", "embed", "base", "form"), tag
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            reference = attributes.get(name)
            assert reference is None or reference.startswith("#") or reference == "data:,", (tag, reference)
    assert set(re.findall(r"https?://[^\s\"'<>)]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    assert "@import" not in page


def test_every_anchor_leads_somewhere_and_is_unique(page: str) -> None:
    tags = Tags(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {str(attributes["href"])[1:] for tag, attributes in tags if tag == "a"}
    assert targets <= set(ids)
    assert {"leaderboard", "learning-curves", "crossplay-1", "crossplay-1-metagame", "crossplay-1-games"} <= targets


def test_every_figure_has_words_a_caption_and_its_numbers(page: str) -> None:
    figures = re.findall(r"<figure id.*?</figure>", page, re.S)
    assert len(figures) == 3 + 1 + 6
    for figure in figures:
        assert re.search(r'<svg[^>]* role="img" aria-label="[^"]{30,}"', figure)
        assert re.search(r"<figcaption>.{20,}</figcaption>", figure)
        assert re.search(r"<summary>Numbers</summary>.*<tbody>\s*<tr>", figure, re.S)


def test_no_stand_in_colour_and_no_style_sheet_is_left_in_a_figure(page: str) -> None:
    for figure in re.findall(r"<svg.*?</svg>", page, re.S):
        assert "<style" not in figure
        assert "font-family" not in figure
        for colour in (svg.INK, svg.MUTED, svg.GRID, svg.PAPER, *svg.SERIES, "#000000"):
            assert colour not in figure
        assert "var(--ink)" in figure


def test_the_footer_names_versions_settings_and_command(page: str, root: Path) -> None:
    footer = page[page.index("<footer>") :]
    assert f"bargain-eval report OUT.html --results-dir {root} --solvers max_welfare cce uniform" in footer
    assert find([], root).config_hash in footer
    assert f"numpy {np.__version__}" in footer


def test_the_hash_names_the_settings(root: Path, tmp_path: Path) -> None:
    assert find([], root).config_hash == find([str(root)], tmp_path).config_hash
    assert find([], root).config_hash != find([str(root / "matrix.json")], root).config_hash


def cells(table: Table, *columns: str) -> list[tuple[str, ...]]:
    return [tuple(row[table.headers.index(column)].text for column in columns) for row in table.rows]


def test_the_leaderboard_puts_seeds_together_and_contests_apart(root: Path) -> None:
    names = [contest.name for contest in contests(find([], root).runs)]
    assert names == ["game default", "game default, against greedy, learner in seat 0", "game mini-b"]
    by_settings, by_run = leaderboards(contests(find([], root).runs)[0])
    error = 0.01 / np.sqrt(2) / np.sqrt(2)
    assert cells(by_settings, "settings", "seeds", "payoff ± se", "best seed") == [
        ("ppo lr=0.01", "2", f"0.5250 ± {error:.4f}", "0.5300"),
        ("ppo lr=0.001", "2", f"0.5160 ± {error:.4f}", "0.5210"),
    ]
    assert cells(by_settings, "steps", "time") == [("100,000", "18.8 s")] * 2
    assert cells(by_run, "seed", "payoff ± se") == [
        ("2", "0.5300 ± 0.0020"),
        ("2", "0.5210 ± 0.0020"),
        ("1", "0.5200 ± 0.0020"),
        ("1", "0.5110 ± 0.0020"),
    ]


def test_a_seed_counts_once_and_its_newest_finished_run_is_the_one(tmp_path: Path) -> None:
    flat = [{"total": 1.0}] * 2
    for seed, payoff in ((1, 0.3), (2, 0.6), (1, 0.5)):
        store_run(tmp_path, seed, payoff=payoff, lines=flat)
    settings = {"lr": 0.001, "opponent": None, "hidden_dims": [64, 64]}
    ResultsManager(tmp_path).create_run("ppo", 1, settings).fail("no luck")
    runs = find([], tmp_path).runs
    (contest,) = contests(runs)
    by_settings, by_run = leaderboards(contest)
    assert cells(by_settings, "seeds", "payoff ± se", "best seed") == [("2", "0.5500 ± 0.0500", "0.6000")]
    assert len(by_run.rows) == 4
    assert learning_curves(contest.groups[0])["total"].seeds.shape == (2, GRID)
    (section,) = [section for section in run_sections(runs) if section.name == "learning-curves"]
    assert "(2 seeds)" in section.figures[0].svg
    assert "of several runs of one seed the newest finished one counts" in section.figures[0].caption


def test_one_seed_shows_the_error_over_deals_and_no_empty_column(root: Path) -> None:
    by_settings, _ = leaderboards(contests(find([], root).runs)[1])
    assert cells(by_settings, "settings", "payoff ± se") == [("ppo", "0.5010 ± 0.0020")]
    assert "total" not in by_settings.headers


@pytest.mark.parametrize(
    ("finals", "group", "by_run"),
    [
        ([{"nash_conv": 0.03}, {"nash_conv": 0.05}], "0.0400 ± 0.0100", ["0.0300", "0.0500"]),
        (
            [{"nash_conv_lower": 0.02, "nash_conv_upper": 0.04}, {"nash_conv_lower": 0.04, "nash_conv_upper": 0.08}],
            "0.0300-0.0600",
            ["0.0200-0.0400", "0.0400-0.0800"],
        ),
        ([{"nash_conv_lower": 0.02, "nash_conv_upper": None}, {}], ">=0.0200", [">=0.0200", "-"]),
        ([{}, {}], "-", ["-", "-"]),
    ],
)
def test_nash_conv_stands_beside_the_payoffs(
    tmp_path: Path, finals: list[dict[str, Any]], group: str, by_run: list[str]
) -> None:
    for seed, final in enumerate(finals):
        run = ResultsManager(tmp_path).create_run("ppo", seed, {"seed": seed, "eval_nash_conv": "nash_conv" in final})
        run.set_final_metrics({"pool_payoff": 0.6 - 0.1 * seed} | final)
        run.complete()
    by_settings, runs = leaderboards(contests(find([], tmp_path).runs)[0])
    assert cells(by_settings, "seeds", "NashConv") == [("2", group)]
    assert cells(runs, "NashConv") == [(shown,) for shown in by_run]


def test_unfinished_runs_are_listed_and_not_ranked(tmp_path: Path) -> None:
    store_run(tmp_path, 1)
    ResultsManager(tmp_path).create_run("ppo", 9, {"lr": 0.001}).fail("no luck")
    (contest,) = contests(find([], tmp_path).runs)
    by_settings, by_run = leaderboards(contest)
    assert sum(int(row[1].text) for row in by_settings.rows) == 1
    assert [row[2].text for row in by_run.rows] == ["completed", "failed"]


def test_a_curve_is_the_mean_of_what_was_logged_in_each_part(root: Path) -> None:
    group = contests(find([], root).runs)[0].groups[0]
    curve = learning_curves(group)["total"]
    logs = [json.loads((Path(run["path"]) / "metrics.json").read_text(encoding="utf-8")) for run in group.runs]
    edges = curve.steps - curve.steps[0], curve.steps
    expected = np.array(
        [
            [
                np.mean([row["total"] for row in log if low < row["step"] <= high] or [np.nan])
                for low, high in zip(*edges, strict=True)
            ]
            for log in logs
        ]
    )
    known = np.isfinite(expected)
    assert curve.seeds.shape == (2, GRID)
    assert known.mean() > 0.9
    np.testing.assert_allclose(curve.seeds[known], expected[known])
    np.testing.assert_allclose(curve.mean(), curve.seeds.mean(axis=0))
    low, high = curve.band()
    np.testing.assert_array_equal(low, curve.seeds.min(axis=0))
    np.testing.assert_array_equal(high, curve.seeds.max(axis=0))


def test_a_shorter_run_ends_where_it_ended(tmp_path: Path) -> None:
    store_run(tmp_path, 1, lines=[{"total": 1.0}] * 10)
    store_run(tmp_path, 2, lines=[{"total": 2.0}, {"loss": 1.0}, {"total": None}, {"total": 2.0}, {"total": 2.0}])
    (group,) = contests(find([], tmp_path).runs)[0].groups
    curve = learning_curves(group)["total"]
    half = GRID // 2
    np.testing.assert_array_equal(np.isfinite(curve.seeds).sum(axis=0)[[half - 1, half, GRID - 1]], [2, 1, 1])
    np.testing.assert_allclose(curve.mean()[[half - 1, half]], [1.5, 1.0])


def test_nash_conv_of_evaluations_is_drawn_on_a_logarithmic_axis(tmp_path: Path) -> None:
    evaluated = [{"eval/nash_conv": value} for value in (0.1, 0.001, 0.0)]
    store_run(tmp_path, 1, lines=[{"total": 1.0}, evaluated[0], {"total": 1.0}, evaluated[1], evaluated[2]])
    store_run(tmp_path, 2, lines=[{"total": 1.0}, evaluated[0]])
    runs = find([], tmp_path).runs
    (group,) = contests(runs)[0].groups
    curve = learning_curves(group)["eval/nash_conv"]
    second, middle, fourth = (GRID * part // 10 - 1 for part in (4, 6, 8))
    np.testing.assert_allclose(curve.seeds[0, [second, middle, fourth, -1]], [0.1, 0.01, 0.001, FLOOR])
    (section,) = [section for section in run_sections(runs) if section.name == "learning-curves"]
    figure = section.figures[0]
    assert {">NashConv<", ">0.1<", ">0.01<", ">0.001<"} <= set(re.findall(">[^<>]+<", figure.svg))
    assert "NashConv: of the evaluated policies, on a logarithmic axis" in figure.caption
    assert cells(figure.table, "NashConv")[-1] == ("0.0000 (0.0000, 0.0000)",)


def test_a_flat_nash_conv_is_drawn(tmp_path: Path) -> None:
    store_run(tmp_path, 1, lines=[{"eval/nash_conv": 0.0}] * 9)
    (section,) = [section for section in run_sections(find([], tmp_path).runs) if section.name == "learning-curves"]
    assert ">0.00001<" in section.figures[0].svg


def test_one_evaluation_of_each_seed_is_no_curve(tmp_path: Path) -> None:
    for seed in (1, 2):
        store_run(tmp_path, seed, lines=[{"total": 1.0}, {"total": 1.0, "eval/nash_conv": 0.1}])
    (group,) = contests(find([], tmp_path).runs)[0].groups
    assert learning_curves(group).keys() == {"total"}


def test_populations_are_drawn_if_they_were_logged(tmp_path: Path, root: Path) -> None:
    first, second = {"population_seat_0": {"a": 1.0}}, {"population_seat_0": {"a": 0.25, "b": 0.75}}
    identifier = store_run(tmp_path, 1, lines=[first, {"loss": 0.0}, second])
    (run,) = find([identifier], tmp_path).runs
    timeline = population_timeline(run, "population_seat_0")
    assert timeline is not None
    steps, members, shares = timeline
    assert (steps, members, shares.tolist()) == ([1000, 3000], ["a", "b"], [[1.0, 0.25], [0.0, 0.75]])
    assert population_timeline(run, "population_seat_1") is None
    (section,) = [section for section in run_sections([run]) if section.name == "population"]
    assert cells(section.figures[0].table, "member", "entered at step", "last share") == [
        ("a", "1,000", "0.2500"),
        ("b", "3,000", "0.7500"),
    ]
    assert "b: entered at step 3,000, last share 0.7500" in section.figures[0].svg
    assert "population" not in [section.name for section in run_sections(find([], root).runs)]


def test_the_heatmaps_show_the_means_and_errors_of_the_file(page: str, root: Path) -> None:
    stored = json.loads((root / "matrix.json").read_text(encoding="utf-8"))
    for seat in range(2):
        figure = page[page.index(f'<figure id="crossplay-1-payoff-{seat}"') :]
        figure = figure[: figure.index("</figure>")]
        for i, j in np.ndindex(len(SPECS), len(SPECS)):
            mean, error = stored["payoff_matrix"][i][j][seat], stored["payoff_se"][i][j][seat]
            tip = f"{SPECS[i]} (seat 0) – {SPECS[j]} (seat 1): {mean:.4f} ± {error:.4f}"
            assert f'data-cell="{i},{j}"><title>{tip}</title>' in figure
            assert f">{mean:.3f}</text>" in figure
            assert f'<td data-key="{mean}">{mean:.4f} ± {error:.4f}</td>' in figure


def test_the_sampled_games_replay_to_their_stored_ends(root: Path) -> None:
    matrix = read_crossplay(root / "matrix.json")
    sample = sample_games(matrix, 20)
    assert len(sample["cells"]) == len(SPECS) ** 2
    for games in sample["cells"]:
        assert 20 <= len(games) <= 23
        for index, actions, outcome, *payoffs, illegal in games:
            *values, outside = sample["deals"][str(index)]
            game = ReferenceGame(matrix.spec, values=values, outside=outside)
            for action in actions:
                assert not game.play(action)
            assert (game.outcome, illegal) == (outcome, 0)
            assert payoffs == pytest.approx(game.rewards, abs=6e-5)


def test_a_sample_shows_both_outcomes_where_the_cell_has_both(root: Path) -> None:
    matrix = read_crossplay(root / "matrix.json")
    sample = sample_games(matrix, 2)["cells"]
    for k, games in enumerate(sample):
        rows = matrix.cell(k // len(SPECS), k % len(SPECS))
        assert {game[2] for game in games} == set(rows.outcome.tolist())
        assert [game[0] for game in games][:2] == [0, 1]
        assert len(games) <= 5


def test_an_incomplete_matrix_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    store_crossplay(tmp_path / "part.json", ("random", "tioli"), num_games=20, cells=2)
    out = tmp_path / "report.html"
    assert main(["report", str(out), str(tmp_path / "part.json")]) == 0
    page = out.read_text(encoding="utf-8")
    assert "This matrix is not complete" in page
    assert "There is no meta-game yet" in page
    figure = page[page.index('<figure id="crossplay-1-payoff-0"') :]
    count = read_crossplay(tmp_path / "part.json").table.count
    assert 0 < (count > 0).sum() < 4
    shown = re.findall(r'data-cell="(\d),(\d)"', figure[: figure.index("</figure>")])
    assert [(int(i), int(j)) for i, j in shown] == list(zip(*np.nonzero(count), strict=True))
    data = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', page)[0])
    assert [len(games) for games in data["cells"]] == count.ravel().tolist()


def test_a_matrix_that_has_only_begun_says_so(tmp_path: Path) -> None:
    path = tmp_path / "begun.json"
    store_crossplay(path, ("random",), num_games=20)
    begun = {"complete": False, "payoff_matrix": [[[None, None]]], "payoff_se": [[[None, None]]], "counts": [[0]]}
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | begun), encoding="utf-8")
    out = tmp_path / "report.html"
    assert main(["report", str(out), str(path)]) == 0
    page = out.read_text(encoding="utf-8")
    assert "This matrix is not complete" in page
    assert "<figure" not in page


def test_every_solver_is_shown_and_regrets_are_those_of_the_first(tmp_path: Path) -> None:
    payoffs = np.array([[[2.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 2.0]]])  # battle of the sexes
    table = PayoffTable.of_means(payoffs, ("opera", "football"), ("opera", "football"))
    section = metagame_section("m", "Meta-game", table)
    solutions, regrets = section.tables[0], section.more_tables[0]
    assert [row[0].text for row in solutions.rows] == list(SOLVERS)
    assert cells(solutions, "payoff of seat 0", "payoff of seat 1", "support, seat 0")[0] == ("0.6667", "0.6667", "2")
    assert cells(regrets, "policy", "mene share, seat 0", "mene share, seat 1") == [
        ("opera", "0.6667", "0.3333"),
        ("football", "0.3333", "0.6667"),
    ]
    assert {row[k].text for row in regrets.rows for k in (1, 2, 3)} == {"0.0000"}
    assert "mene: seat 0 plays opera with probability 0.6667" in section.figures[0].svg

    pure = metagame_section("m", "Meta-game", table, ["uniform"]).more_tables[0]
    assert cells(pure, "policy", "NE-regret, seat 0", "NE-regret, seat 1", "uniform score, both") == [
        ("opera", "-0.2500", "0.2500", "0.7500"),
        ("football", "0.2500", "-0.2500", "0.7500"),
    ]


def test_hostile_names_are_text(tmp_path: Path) -> None:
    store_crossplay(tmp_path / "hostile.json", SPECS, HOSTILE, game="mini-a", num_games=30)
    out = tmp_path / "report.html"
    assert main(["report", str(out), str(tmp_path / "hostile.json"), "--title", "<i>&", *FAST]) == 0
    parsed = Tags(out.read_text(encoding="utf-8"))
    assert [tag for tag, _ in parsed.tags].count("script") == 2
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"img", "i", "b"})
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    for name in HOSTILE:
        assert any(name == words for words in parsed.words), name
    assert "<i>&" in parsed.words


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{tmp}/a.html", "{tmp}/none.json"], "there is no file or folder"),
        (["{tmp}/a.html", "{tmp}/other.json"], "other.json"),
        (["{tmp}/a.html", "{tmp}/damaged.json"], "damaged.json is damaged"),
        (["{tmp}/a.html", "nobody"], "there is no run 'nobody'"),
        (["{tmp}/a.html"], "there is no file or folder"),
        (["{tmp}/a.html", "{tmp}/empty"], "there is nothing to report"),
        (["{tmp}/nowhere/a.html", "{tmp}/empty"], "name a file in an existing folder"),
        (["{tmp}/empty", "{tmp}/empty"], "name a file in an existing folder"),
        (["{tmp}/a.txt", "{tmp}/empty"], "must end in '.html'"),
        (["{tmp}/a.html", "--games", "1"], "--games"),
        (["{tmp}/a.html", "{tmp}/matrix.json", "--solvers", "magic"], "solver must be one of mene"),
        ([], "The HTML file to write"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    tmp_path: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    (tmp_path / "damaged.json").write_text("{", encoding="utf-8")
    store_crossplay(tmp_path / "matrix.json", SPECS[:2], game="mini-a", num_games=2)
    before = sorted(tmp_path.rglob("*"))
    told = [argument.format(tmp=tmp_path) for argument in arguments]
    assert main(["report", *told, "--results-dir", str(tmp_path / "missing")]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert complaint in output.err
    assert sorted(tmp_path.rglob("*")) == before


def test_inputs_are_files_folders_and_ids_and_each_counts_once(root: Path, tmp_path: Path) -> None:
    runs = find([], root).runs
    folder, identifier = runs[0]["path"], runs[1]["run_id"]
    source = find([str(root / "matrix.json"), folder, identifier, folder, str(root / "matrix.json")], root)
    assert [run["run_id"] for run in source.runs] == sorted([runs[0]["run_id"], identifier])
    assert [name for name, _ in source.crossplays] == ["matrix.json"]
    assert len(find([str(root), identifier], root).runs) == len(runs)


def test_the_command_says_what_it_wrote(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert main(["report", str(out), str(root / "matrix.json"), "--json", *FAST]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"path": str(out), "bytes": out.stat().st_size, "runs": 0, "crossplays": 1}
    assert main(["report", str(out), str(root / "matrix.json"), *FAST]) == 0
    assert capsys.readouterr().out.replace("\n", "").startswith(f"Wrote {out}")


def test_the_leaderboard_command_leads_to_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def leaderboard(*arguments: str) -> str:
        assert main(["results", "--leaderboard", "--results-dir", str(tmp_path), *arguments]) == 0
        return capsys.readouterr().out

    store_run(tmp_path, 1)
    out = tmp_path / "report.html"
    assert json.loads(leaderboard("--json"))["report"] is None
    (hint,) = re.findall(r"bargain-eval (report .*)\n", leaderboard())
    assert main(hint.split()) == 0
    assert f"Wrote {out}" in capsys.readouterr().out
    assert json.loads(leaderboard("--json"))["report"] == str(out)
    assert f"Report: {out}#leaderboard\n" in leaderboard()
    assert '<section id="leaderboard">' in out.read_text(encoding="utf-8")


def test_help_loads_no_plotting() -> None:
    code = "import sys; from bargain_eval.cli import main; main(['report', '--help']); print(*sys.modules, file={})"
    command = [sys.executable, "-c", code.format("sys.stderr")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cross-play" in done.stdout
    assert {"matplotlib", "jinja2", "scipy", "torch"}.isdisjoint(done.stderr.split())


@pytest.mark.slow
def test_a_page_of_twenty_policies_stays_below_two_megabytes(root: Path, tmp_path: Path) -> None:
    four_times = np.ix_(np.arange(20) % len(SPECS), np.arange(20) % len(SPECS))
    with np.load(root / "matrix.rows.npz") as small:
        deals: dict[str, Any] = {name: small[name] for name in DEAL_ARRAYS}
        games: dict[str, Any] = {name: small[name][four_times] for name in CELL_ARRAYS}
    np.savez(tmp_path / "big.rows.npz", **deals, **games)
    stored = json.loads((root / "matrix.json").read_text(encoding="utf-8"))
    for name in ("payoff_matrix", "payoff_se", "counts"):
        stored[name] = np.array(stored[name])[four_times].tolist()
    stored |= {"policy_names": [f"run:ppo_20260101_120000_seed{k}" for k in range(20)], "rows": "big.rows.npz"}
    (tmp_path / "big.json").write_text(json.dumps(stored), encoding="utf-8")
    out = tmp_path / "report.html"
    assert main(["report", str(out), str(tmp_path / "big.json"), *FAST]) == 0
    assert 800_000 < out.stat().st_size < 1_500_000

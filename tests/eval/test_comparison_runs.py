"""Stored runs compared: what counts, in tables, as JSON and on the page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env.spec import GAMES
from bargain_eval.cli import main
from bargain_eval.commands.common import PIPE_WIDTH
from bargain_eval.comparison.stored import Comparison, Contender, Question, compare_groups, evaluations
from bargain_eval.report.comparison_section import comparison_sections
from bargain_eval.report.comparison_tables import MOST_COMPARED, comparison_tables
from bargain_eval.report.content import Table
from bargain_eval.report.data import find_runs
from bargain_eval.report.runs import contests
from bargain_eval.results import ResultsManager
from report_inputs import store_run

FAST, SLOW = "ppo lr=0.01", "ppo lr=0.001"


def course(*values: float) -> list[dict[str, Any]]:
    """Metric lines of a run that takes 1000 steps in each, and 2 s."""
    return [{"eval/pool_payoff": value, "steps_per_second": 500.0} for value in values]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fast group of three seeds, a slow one of two, one that was killed, and a lone group of another game."""
    root = tmp_path_factory.mktemp("stored")
    for seed, shift in ((1, 0.0), (2, 0.01), (3, -0.02)):
        store_run(root, seed, 0.01, payoff=0.6 + shift, lines=course(0.4, 0.5 + shift, 0.6 + shift, 0.6 + shift))
    store_run(root, 1, 0.001, payoff=0.5, lines=course(0.3, 0.4, 0.45, 0.5))
    store_run(root, 2, 0.001, payoff=0.58, lines=course(0.3, 0.4, 0.45, 0.54))
    killed = {"lr": 0.1, "opponent": None, "hidden_dims": [64, 64]}
    ResultsManager(root).create_run("ppo", 1, killed).interrupt()
    store_run(root, 1, spec=GAMES["mini-b"], lines=course(0.1, 0.9))
    return root


def comparison(root: Path, **choices: Any) -> Comparison:
    found = compare_groups(contests(find_runs([], root))[0], Question(**choices))
    assert found is not None
    return found


def contender(found: Comparison, label: str) -> Contender:
    (one,) = [group for group in (*found.ranked, *found.unranked) if group.label == label]
    return one


def cells(table: Table, *columns: str) -> list[tuple[str, ...]]:
    return [tuple(row[table.headers.index(column)].text for column in columns) for row in table.rows]


def test_groups_are_ranked_and_unfinished_runs_are_left_out(root: Path) -> None:
    found = comparison(root)
    assert [group.label for group in found.ranked] == [FAST, SLOW]
    assert [(group.label, len(group.runs), len(group.left_out)) for group in found.unranked] == [("ppo lr=0.1", 0, 1)]
    assert contender(found, FAST).final.tolist() == [0.6, 0.61, 0.58]
    score = contender(found, FAST).score
    assert score is not None
    assert score.value == pytest.approx(np.mean([0.6, 0.61, 0.58]))
    assert [group.label for group in comparison(root, minimize=True).ranked] == [SLOW, FAST]


def test_an_improvement_turned_round_is_what_is_left(root: Path) -> None:
    found = comparison(root)
    slow, fast = contender(found, SLOW).place, contender(found, FAST).place
    value, interval = found.improvement[fast, slow]
    assert value == pytest.approx(5.5 / 6)  # 0.58 ties with 0.58
    assert interval is not None
    turned = found.improvement[slow, fast]
    assert turned.value == pytest.approx(0.5 / 6)
    assert turned.interval == pytest.approx((1 - interval[1], 1 - interval[0]))
    assert comparison(root, minimize=True).improvement[slow, fast].value == pytest.approx(5.5 / 6)


def test_the_default_threshold_is_where_the_middle_group_ends(tmp_path: Path, root: Path) -> None:
    assert comparison(root).threshold == pytest.approx(0.52)
    assert comparison(root, window=2).threshold == pytest.approx((0.475 + 0.495) / 2)
    assert comparison(root, minimize=True).threshold == pytest.approx(np.mean([0.6, 0.61, 0.58]))
    for lr, end in ((0.1, 0.2), (0.2, 0.7), (0.3, 0.5)):
        store_run(tmp_path, 1, lr, lines=course(0.1, end))
    assert comparison(tmp_path).threshold == pytest.approx(0.5)


def test_costs_are_steps_and_seconds_and_name_runs_that_never_got_there(root: Path) -> None:
    found = comparison(root)
    fast, slow = (found.costs_of(contender(found, label)) for label in (FAST, SLOW))
    assert fast == [(3000, 6.0), (3000, 6.0), (3000, 6.0)]
    assert slow == [None, (4000, 8.0)]
    table = comparison_tables(found)[2]
    assert cells(table, "settings", "seeds that reached it", "steps", "time") == [
        (FAST, "3 of 3", "3,000", "6.0 s"),
        (SLOW, "1 of 2", "not reached", "not reached"),
    ]
    assert [row[3].key for row in table.rows] == sorted(row[3].key or 0.0 for row in table.rows)
    given = comparison(root, threshold=0.4)
    assert "as given" in comparison_tables(given)[2].note
    assert [cost and cost.steps for cost in given.costs_of(contender(given, SLOW))] == [2000, 2000]


def test_seconds_follow_the_rate_and_where_there_is_none_the_clock(tmp_path: Path) -> None:
    lines = [
        {"step": 100, "timestamp": "2026-01-01T00:00:07.000+00:00", "steps_per_second": 20.0, "eval/total": 1.0},
        {"step": 200, "timestamp": "2026-01-01T00:00:10.500+00:00"},
        {"step": 200, "timestamp": "2026-01-01T00:00:12.000+00:00", "steps_per_second": 0.0, "eval/total": 2.0},
        {"step": 300, "timestamp": "2026-01-02T09:00:00.000+00:00", "steps_per_second": 50.0, "eval/total": True},
        {"step": 400, "timestamp": "2026-01-02T09:00:09.000+00:00", "steps_per_second": 25.0, "eval/total": 4.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    run = {"path": str(tmp_path), "timestamp": "2026-01-01T00:00:00.000000+00:00"}
    found = evaluations(run, "final_metrics.total")
    assert found.steps.tolist() == [100, 200, 400]
    assert found.values.tolist() == [1.0, 2.0, 4.0]
    assert found.seconds.tolist() == [5.0, 5.0 + 3.5 + 1.5, 10.0 + 2.0 + 4.0]
    assert not evaluations(run, "final_metrics.nash_conv").values.size
    assert not evaluations(run, "training_time_seconds").values.size


def test_a_seed_counts_once_with_its_newest_finished_run(tmp_path: Path) -> None:
    for payoff in (0.1, 0.3):
        store_run(tmp_path, 1, 0.01, payoff=payoff, lines=course(payoff))
    ResultsManager(tmp_path).create_run("ppo", 1, {"lr": 0.01, "opponent": None, "hidden_dims": [64, 64]}).fail("x")
    store_run(tmp_path, 1, 0.02, payoff=0.2, lines=course(0.2))
    found = comparison(tmp_path)
    best = contender(found, FAST)
    assert best.final.tolist() == [0.3]
    assert best.score == (0.3, None)
    assert [run["status"] for run in best.left_out] == ["failed"]


def test_the_tables_say_how_many_seeds_and_who_is_left_out(root: Path) -> None:
    final, improvement, _ = comparison_tables(comparison(root))
    assert cells(final, "rank", "settings", "seeds", "left out", "mean") == [
        ("1", FAST, "3", "0", "0.5967"),
        ("2", SLOW, "2", "0", "0.5400"),
        ("", "ppo lr=0.1", "0", "1", ""),
    ]
    assert cells(final, "IQM [95% interval]")[1:] == [("0.5400 [0.5000, 0.5800]",), ("",)]
    assert re.search(r"did not finish: ppo_\d+_\d+_seed1(_\d+)? \(interrupted\)", final.note)
    assert cells(improvement, "over 1", "over 2")[0][0] == cells(improvement, "over 1", "over 2")[1][1] == ""
    assert cells(improvement, "over 2")[0][0].startswith("0.92 [")


def test_without_evaluations_there_is_no_cost_and_it_says_so(tmp_path: Path) -> None:
    for lr in (0.01, 0.02):
        store_run(tmp_path, 1, lr, lines=[{"total": 1.0}])
    tables = comparison_tables(comparison(tmp_path, threshold=0.1))
    assert len(tables) == 2
    assert "No run evaluated it in training" in tables[0].note
    short = tmp_path / "short"
    for lr in (0.01, 0.02):
        store_run(short, 1, lr, lines=course(0.5))
    assert "evaluated it in training 2 times" in comparison_tables(comparison(short, window=2))[0].note
    assert "Blank are groups" not in comparison_tables(comparison(short))[2].note
    store_run(short, 1, 0.03, lines=[{"total": 1.0}])
    assert "Blank are groups" in comparison_tables(comparison(short))[2].note


def test_of_many_groups_the_best_are_compared_pair_by_pair(tmp_path: Path) -> None:
    for k in range(MOST_COMPARED + 2):
        store_run(tmp_path, 1, 0.01 * (k + 1), lines=course(0.1, 0.01 * k))
    final, improvement, cost = comparison_tables(comparison(tmp_path))
    assert (len(final.rows), len(improvement.rows), len(cost.rows)) == (14, 12, 14)
    assert "best 12 of 14 groups" in improvement.note
    (section,) = comparison_sections(find_runs([], tmp_path))
    assert len(section.figures[1].table.headers) == 1 + MOST_COMPARED


def test_the_page_compares_what_can_be_compared(root: Path) -> None:
    (section,) = comparison_sections(find_runs([], root))
    final, curves = section.figures
    assert (section.name, section.title) == ("comparison-1", "Comparison")
    assert "ppo lr=0.01, seed 3: 0.5800" in final.svg
    assert "ppo lr=0.001: IQM 0.5400 [0.5000, 0.5800]" in final.svg
    assert "ppo lr=0.01 (3 seeds)" in curves.svg
    assert "threshold 0.5200" in curves.svg
    assert curves.table.headers == ("steps", FAST, SLOW)
    assert [row[0].text for row in curves.table.rows][-1] == "4,000"
    assert curves.table.rows[-1][1].text.startswith("0.5967 [")
    assert curves.table.rows[-1][2].key == pytest.approx(0.52)
    (given,) = comparison_sections(find_runs([], root), threshold=0.58)
    assert "threshold 0.5800" in given.figures[1].svg


def test_groups_with_one_label_stay_apart(tmp_path: Path) -> None:
    """A setting that an older run lacks and one that is None are written alike."""
    for payoff, settings in ((0.7, {"lr": 0.1}), (0.3, {"lr": 0.1, "clip": None}), (0.5, {"lr": 0.1, "clip": 1})):
        run = ResultsManager(tmp_path).create_run("ppo", 1, settings)
        run.set_final_metrics({"pool_payoff": payoff})
        run.complete()
    improvement = comparison_tables(comparison(tmp_path))[1]
    assert cells(improvement, "settings", "over 1", "over 2", "over 3") == [
        ("ppo clip=None", "", "1.00", "1.00"),
        ("ppo clip=1", "0.00", "", "1.00"),
        ("ppo clip=None", "0.00", "0.00", ""),
    ]


def test_the_page_has_no_comparison_of_one_group(tmp_path: Path) -> None:
    store_run(tmp_path, 1, lines=course(0.5))
    store_run(tmp_path, 1, 0.02, spec=GAMES["mini-b"], lines=course(0.5))
    assert list(comparison_sections(find_runs([], tmp_path))) == []


def test_every_game_has_a_section_of_its_own(tmp_path: Path) -> None:
    for spec in (None, GAMES["mini-b"]):
        for lr in (0.01, 0.02):
            store_run(tmp_path, 1, lr, spec=spec, lines=course(0.4, 0.5))
    sections = list(comparison_sections(find_runs([], tmp_path)))
    assert [section.title for section in sections] == ["Comparison: game default", "Comparison: game mini-b"]
    names = [figure.name for section in sections for figure in section.figures]
    assert len(set(names)) == 4


def compare(root: Path, *flags: str) -> int:
    return main(["compare", "--results-dir", str(root), *flags])


def test_the_command_prints_what_the_functions_find(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(root) == 0
    out = capsys.readouterr().out
    for table in comparison_tables(comparison(root)):
        assert table.title in out
        for row in table.rows:
            assert all(cell.text in out for cell in row)
    assert "Not compared: game mini-b" in " ".join(out.split())


def test_a_table_that_is_too_wide_is_printed_in_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(9):
        for seed in (1, 2):
            store_run(tmp_path, seed, 0.01 * (k + 1), payoff=0.5 + 0.01 * (k % 4) - 0.015 * seed)
    assert compare(tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= PIPE_WIDTH
    (table,) = [found for found in comparison_tables(comparison(tmp_path)) if "improvement" in found.title]
    headings = [line for line in lines if " over " in line and "rank" in line]
    assert len(headings) > 1
    assert [name for line in headings for name in re.findall(r"over \d", line)] == list(table.headers[2:])
    last = [line for line in lines if line.startswith("│    1 │") and table.rows[0][1].text in line]
    assert [cell.text for cell in table.rows[0] if cell.text][-1] in last[len(headings)]


def test_the_command_as_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(root, "--json", "--seed", "5", "--level", "0.9", "--game", "default") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert (found["level"], found["seed"], found["skipped"]) == (0.9, 5, [])
    (contest,) = found["contests"]
    assert (contest["game"], contest["opponent"], contest["threshold"]) == ("default", None, pytest.approx(0.52))
    fast, slow, killed = contest["groups"]
    assert [run["final"] for run in fast["runs"]] == [0.6, 0.61, 0.58]
    assert [run["seconds_to_threshold"] for run in slow["runs"]] == [None, 8.0]
    assert (fast["reached"], fast["median_steps"], slow["median_steps"]) == (3, 3000, None)
    assert fast["curve"]["steps"] == [1000, 2000, 3000, 4000]
    assert fast["curve"]["iqm"][0] == pytest.approx(0.4)
    assert (killed["iqm"], killed["iqm_ci"], killed["curve"], list(killed["left_out"].values())) == (
        None, None, None, ["interrupted"],
    )  # fmt: skip
    assert contest["improvement"] == [[None, pytest.approx(5.5 / 6)], [pytest.approx(0.5 / 6), None]]
    assert contest["improvement_ci"][0][0] is None


def test_chosen_runs_and_another_metric(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [run["run_id"] for run in find_runs([], root) if run["seed"] == 1 and run["status"] == "completed"]
    assert compare(root, *names, "--metric", "final_metrics.total", "--minimize", "--json") == 0
    (contest,) = json.loads(capsys.readouterr().out)["contests"]
    assert [(group["label"], group["iqm_ci"]) for group in contest["groups"]] == [(SLOW, None), (FAST, None)]
    assert [group["iqm"] for group in contest["groups"]] == pytest.approx([1.1, 1.3])
    assert contest["threshold"] is None


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--game", "mini-b"], "nothing can be compared in"),
        (["--game", "mini-a"], "no run of game 'mini-a'"),
        (["--metric", "final_metrics.fame"], "has the metric final_metrics.fame; those there have final_metrics.agree"),
        (["--metric", "pool_payoff"], "has the metric pool_payoff; those there have final_metrics.agreement_rate"),
        (["nobody"], "there is no run 'nobody'"),
        (["--level", "1"], "--level"),
        (["--window", "0"], "--window"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    root: Path, flags: Sequence[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(root, *flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.count("\n") == 1


def test_an_empty_folder_has_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(tmp_path) == 2
    assert "there is no stored run in" in capsys.readouterr().err


def test_a_ranking_by_the_lower_bound_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lr in (0.01, 0.02):
        run = ResultsManager(tmp_path).create_run("ppo", 1, {"lr": lr})
        run.set_final_metrics({"nash_conv_lower": lr, "nash_conv_upper": 2 * lr})
        run.complete()
    for bound, warned in (("lower", True), ("upper", False)):
        assert compare(tmp_path, "--metric", f"final_metrics.nash_conv_{bound}", "--minimize") == 0
        assert ("does not make NashConv small" in capsys.readouterr().out) == warned

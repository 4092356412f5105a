import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env.spec import GAMES
from bargain_eval.baselines import FairSplitPolicy, GreedyPolicy, RandomPolicy
from bargain_eval.cli import main
from bargain_eval.exact import cfr, evaluate, load_profile, mmd, policy_profile, tabular_game, welfare_bounds, xfp


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(["exact", "--json", *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    (line,) = captured.out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_policy_in_both_seats(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "--policy", "random", "--game", "mini-b")
    assert found["game"] == GAMES["mini-b"].to_dict()
    assert found["policies"] == ["random", "random"]
    assert found["nash_conv"] == pytest.approx(0.4697337963, abs=5.1e-11)
    assert found["gains"] == pytest.approx([0.25920139, 0.21053241], abs=5.1e-9)
    assert found["payoffs"] == pytest.approx([0.60625, 0.60625], abs=1e-12)
    assert found["best_payoffs"] == pytest.approx(np.add(found["payoffs"], found["gains"]), abs=1e-12)
    assert found["welfare"] == pytest.approx(1.2125, abs=1e-12)
    assert found["agreement_rate"] == pytest.approx(0.4, abs=1e-12)
    assert (found["num_types"], found["num_information_sets"]) == (12, [204, 816])
    bounds = welfare_bounds(tabular_game(GAMES["mini-b"]))
    assert found["walk_welfare"] == pytest.approx(bounds.walk, abs=1e-12)
    assert found["first_best_welfare"] == bounds.first_best
    assert [len(row) for row in found["interim_regret_by_outside"]] == [10, 10]
    assert found["largest_interim_regret"] == pytest.approx([0.3375, 0.25], abs=1e-12)
    assert "curve" not in found


def test_a_policy_for_each_seat_on_a_game_of_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    game = ("--quantities", "2", "1", "--max-value", "2", "--rounds", "2", "--discount", ".9")
    found = answer(capsys, "--policy", "greedy", "--policy-1", "fair_split?accept_threshold=.5", *game)
    assert found["policies"] == ["greedy", "fair_split?accept_threshold=.5"]
    tables = tabular_game(type(GAMES["mini-a"]).from_dict(found["game"]))
    assert (tables.spec.item_quantities, tables.spec.discount) == ((2, 1), 0.9)
    policies = GreedyPolicy(tables.spec), FairSplitPolicy(tables.spec, accept_threshold=0.5)
    assert found["payoffs"] == evaluate(tables, policy_profile(tables, *policies)).payoffs.tolist()


@pytest.mark.parametrize("solver", ["cfr", "cfr+", "linear-cfr", "xfp", "mmd"])
def test_a_solver_reports_powers_of_ten(capsys: pytest.CaptureFixture[str], solver: str) -> None:
    found = answer(capsys, "--solve", solver, "--iterations", "230", "--game", "mini-a")
    game = tabular_game(GAMES["mini-a"])
    stops = (1, 10, 100, 230)
    solvers = {"xfp": xfp(game, stops), "mmd": mmd(game, stops)}
    run = solvers.get(solver) or cfr(game, stops, solver)  # type: ignore[arg-type]
    assert found["solver"] == solver
    assert [point["iterations"] for point in found["curve"]] == list(stops)
    for point, (_, profile) in zip(found["curve"], run, strict=True):
        expected = evaluate(game, profile)
        assert point["nash_conv"] == pytest.approx(expected.nash_conv, abs=1e-12)
        assert point["welfare"] == pytest.approx(expected.welfare, abs=1e-12)
        assert point["agreement_rate"] == pytest.approx(expected.agreement_rate, abs=1e-12)
    assert found["nash_conv"] == found["curve"][-1]["nash_conv"]


def test_a_solved_profile_is_a_policy_of_its_own_game(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "equilibrium.npz")
    solved = answer(capsys, "--solve", "cfr+", "--game", "mini-b", "--output", path)
    assert [point["iterations"] for point in solved["curve"]] == [1, 10, 100, 1000]
    again = answer(capsys, "--policy", f"tabular:{path}")
    assert again["game"] == solved["game"] == GAMES["mini-b"].to_dict()
    for name in ("payoffs", "gains", "nash_conv", "agreement_rate"):
        assert again[name] == pytest.approx(solved[name], abs=1e-12)
    stored = load_profile(path)
    assert evaluate(*stored).nash_conv == solved["nash_conv"]
    mixed = answer(capsys, "--policy", f"tabular:{path}", "--policy-1", "random")
    assert mixed["policies"] == [f"tabular:{path}", "random"]
    assert mixed["best_payoffs"][1] == pytest.approx(solved["best_payoffs"][1], abs=1e-12)


def test_the_tables_that_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exact", "--policy", "random", "--game", "mini-b"]) == 0
    out = capsys.readouterr().out
    game = tabular_game(GAMES["mini-b"])
    found = evaluate(game, policy_profile(game, RandomPolicy(game.spec)))
    for number in (*found.payoffs, *found.gains, *found.best_payoffs, found.nash_conv, found.welfare):
        assert f"{number:.6f}" in out
    assert "0.469734 (NashConv)" in out
    assert "agreement rate 0.400000; both walking earns 1.354167 in total" in out
    assert "1.425058" in out
    assert main(["exact", "--solve", "cfr", "--game", "mini-a", "--iterations", "10"]) == 0
    out = capsys.readouterr().out
    assert "iterations" in out
    assert "0.041371" in out
    assert "-0.000000" not in out


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        ((), "give either --policy or --solve."),
        (("--policy", "random", "--solve", "cfr"), "give either --policy or --solve."),
        (("--policy", "random", "--iterations", "3"), "--iterations needs --solve."),
        (("--solve", "cfr", "--policy-1", "random"), "--policy-1 needs --policy."),
        (("--solve", "cfr", "--iterations", "0"), "--iterations: Input should be greater than or equal to 1, got 0."),
        (("--policy", "random"), "bargain-eval best-response bounds the best responses of large games."),
        (("--solve", "mmd"), "bargain-eval best-response bounds the best responses of large games."),
        (("--policy", "nobody", "--game", "mini-a"), "unknown policy 'nobody'"),
        (("--policy", "tioli", "--game", "mini-a", "--output", "/no/x.npz"), "--output: there is no folder /no."),
        (("--policy", "tabular", "--game", "mini-a"), "a tabular policy needs a file"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], error: str
) -> None:
    assert main(["exact", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("bargain-eval exact: ")
    assert error in line

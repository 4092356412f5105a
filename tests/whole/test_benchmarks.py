"""Every benchmark still runs, and the peers written here play our game. Nothing is checked by time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bargain_env import GAMES as GAMES_BY_NAME
from bargain_env import GameSpec, make_engine
from bargain_env.reference import ReferenceGame
from bargain_eval.exact import evaluate, tabular_game, uniform_profile
from bargain_eval.exact.types import Types

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from c_games import PufferGame, ScalarGame, compile_library  # noqa: E402
from search_values import values_against_random  # noqa: E402

needs_compiler = pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
GAMES, STEPS = 7, 60


def run(script: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def table_rows(output: str) -> list[list[str]]:
    """Returns the cells of the table's rows, headings and rules left out."""
    lines = [line.strip("|").split("|") for line in output.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines if line[0].strip()]


def assert_table(result: subprocess.CompletedProcess[str], least_rows: int) -> None:
    assert result.returncode == 0, result.stderr
    rows = table_rows(result.stdout)
    assert len(rows) >= least_rows
    assert all(cell[0].isdigit() for row in rows for cell in row[1:2] if cell not in ("steps/s", "ms", "not installed"))


@needs_compiler
def test_the_benchmark_of_the_games_runs() -> None:
    assert_table(run("env.py", "--games", "8", "16", "--repetitions", "1", "--seconds", "0"), 21)


def test_the_benchmark_of_other_packages_runs() -> None:
    assert_table(run("peers.py", "--games", "8", "--repetitions", "1", "--seconds", "0"), 9)


@pytest.mark.parametrize(("flags", "rows"), [((), 5), (("--parts",), 10)])
def test_the_benchmark_of_ppo_runs(flags: tuple[str, ...], rows: int) -> None:
    sizes = ("--games", "16", "--steps", "4", "--minibatch", "32", "--repetitions", "1")
    assert_table(run("ppo.py", *sizes, *flags), rows)


def test_the_benchmark_of_learning_runs() -> None:
    flags = ("--seeds", "1", "--only", "greedy", "--timesteps", "20000", "--games", "100", "--threads", "1")
    result = run("learning.py", *flags)
    assert result.returncode == 1, result.stderr  # so little training misses the target
    assert table_rows(result.stdout)[-1][-1] == "NO"


def test_the_benchmark_of_learning_measures_nash_conv_and_compares_in_pairs() -> None:
    names = ("sampled-cfr-b-short", "sampled-cfr-b-short-window")
    flags = ("--seeds", "1", "2", "--only", *names, "--budget", "2", "--jobs", "2")
    result = run("learning.py", *flags)
    assert result.returncode in (0, 1), result.stderr
    rows = table_rows(result.stdout)
    runs = [row for row in rows if row[0].startswith("sampled-cfr-b-short") and row[1].isdigit()]
    assert [row[:2] for row in runs] == [[name, seed] for name in names for seed in "12"]
    means = [sum(float(row[2]) for row in pair) / 2 for pair in (runs[:2], runs[2:])]
    better, worse, seeds, measure, first, second, difference, as_expected = rows[-1]
    assert (better, worse, seeds, measure) == (*names, "2", "NashConv")
    assert float(first) == pytest.approx(means[0], abs=2e-4)
    assert float(second) == pytest.approx(means[1], abs=2e-4)
    assert float(difference.split()[0]) == pytest.approx(means[1] - means[0], abs=3e-4)
    assert result.returncode == int(as_expected == "NO")


def test_the_benchmark_of_learning_names_its_tasks() -> None:
    result = run("learning.py", "--only", "nothing")
    assert result.returncode == 2
    assert "no task begins with nothing" in result.stderr


def test_the_benchmark_of_sampled_cfr_runs() -> None:
    pytest.importorskip("pyspiel")
    result = run("sampled_cfr.py", "--deals", "4", "--offers", "2", "--repetitions", "1", "--seconds", "0")
    assert result.returncode == 0, result.stderr
    assert [row[0] for row in table_rows(result.stdout)][-2:] == ["ours", "OpenSpiel"]


def test_the_benchmark_of_exact_evaluation_runs() -> None:
    result = run("exact.py", "--repetitions", "1", "--iterations", "3", "--largest-values", "2", "3")
    assert result.returncode == 0, result.stderr
    assert len(table_rows(result.stdout)) >= 5


def test_the_benchmark_of_best_responses_runs() -> None:
    result = run("best_response.py", "--policy", "tioli", "--types", "32", "--own-types", "16", "--counters", "1")
    assert result.returncode == 0, result.stderr
    assert len(table_rows(result.stdout)) == 6


def test_the_benchmark_of_cross_play_runs() -> None:
    result = run("crossplay.py", "--num-games", "50", "--growth-games", "20", "--policies", "3", "--each", "1")
    assert result.returncode == 0, result.stderr
    assert len(table_rows(result.stdout)) >= 18


@needs_compiler
def test_the_puffer_style_game_is_ours(tmp_path: Path) -> None:
    game, engine = PufferGame(compile_library(tmp_path), GAMES), make_engine(num_envs=GAMES)
    references = _fresh(*game.deals())
    for step in range(STEPS):
        _assert_shown(references, game.observation, game.mask)
        actions = engine.random_actions()
        actions[:3] = (80, 5, -1 if step % 2 else 82)  # illegal at first, in the end, and always
        engine.step(actions)
        game.step(actions.astype(np.int32))
        _play(references, actions, game)
    game.close()


@needs_compiler
def test_the_scalar_game_is_ours_and_random(tmp_path: Path) -> None:
    game = ScalarGame(compile_library(tmp_path), GAMES)
    references = _fresh(*game.deals())
    drawn: list[set[int]] = [set(), set(), set()]  # at the first decision of a game, in between, at the last one
    for _ in range(STEPS * 20):
        _assert_shown(references, game.observation, game.mask)
        game.step()
        actions = game.state["action"]
        assert all(one.is_legal(int(action)) for one, action in zip(references, actions, strict=True))
        for one, action in zip(references, actions.tolist(), strict=True):
            drawn[0 if one.turn == 0 else 2 if one.turn == 5 else 1].add(action)
        _play(references, actions, game)
    assert drawn == [set(range(82)) - {80}, set(range(82)), {80, 81}]


def _fresh(values: np.ndarray, outside: np.ndarray) -> list[ReferenceGame]:
    deals = zip(values.tolist(), outside.tolist(), strict=True)
    return [ReferenceGame(GameSpec(), values=own, outside=other) for own, other in deals]


def _assert_shown(references: list[ReferenceGame], observation: np.ndarray, mask: np.ndarray) -> None:
    np.testing.assert_array_equal(observation, [one.observation() for one in references])
    np.testing.assert_array_equal(mask, [one.action_mask() for one in references])


def _play(references: list[ReferenceGame], actions: np.ndarray, game: PufferGame | ScalarGame) -> None:
    """Plays the actions and compares what they paid; those that ended go on with what `game` dealt anew."""
    values, outside = game.deals()
    for row, one in enumerate(references):
        one.play(int(actions[row]))
        np.testing.assert_array_equal(game.reward[row], one.rewards)
        assert game.terminated[row] == one.finished
        if one.finished:
            assert (values[row] >= 1).all()
            assert (values[row] <= 100).all()
            assert (outside[row] >= 1).all()
            assert (outside[row] <= values[row] @ [7, 4, 1]).all()
            references[row] = _fresh(values[row : row + 1], outside[row : row + 1])[0]


def test_the_benchmark_of_search_runs() -> None:
    pytest.importorskip("pyspiel")
    result = run("search.py", "--batch", "2", "--simulations", "4", "--repetitions", "1", "--seconds", "0")
    assert result.returncode == 0, result.stderr


def test_the_benchmark_of_root_values_runs() -> None:
    result = run("search_values.py", "--types", "4", "--hands", "32", "--settings", "num_simulations=4")
    assert result.returncode == 0, result.stderr
    assert len(table_rows(result.stdout)) == 3


def test_the_best_responses_to_uniform_play_that_root_values_are_held_against() -> None:
    spec = GAMES_BY_NAME["mini-b"]
    game = tabular_game(spec)
    types = Types(game.values, game.outside, game.chance)
    earned = values_against_random(spec, types) @ game.chance
    exact = evaluate(game, uniform_profile(game))
    assert earned == pytest.approx(exact.payoffs[0] + exact.gains[0])


def test_the_benchmark_of_gradient_variance_runs() -> None:
    sizes = ("--hidden", "8", "--actor-steps", "2000", "--rounds", "1", "--batches", "2", "--games", "4")
    result = run("gradient_variance.py", "--game", "mini-a", "--seeds", "1", *sizes)
    assert result.returncode == 0, result.stderr

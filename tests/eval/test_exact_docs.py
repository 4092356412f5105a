"""The numbers on the page about exact evaluation are those that the code computes, and its example runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bargain_env.spec import GAMES
from bargain_eval.baselines import AlwaysWalkPolicy, RandomPolicy
from bargain_eval.cli import main
from bargain_eval.equilibria import TioliPolicy
from bargain_eval.exact import (
    Profile,
    TabularGame,
    cfr,
    evaluate,
    mmd,
    nash_conv,
    policy_profile,
    tabular_game,
    welfare_bounds,
    xfp,
)
from bargain_eval.exact.mmd import inverse_root
from bargain_eval.policy import Policy

PAGE = (Path(__file__).parents[2] / "docs" / "exact.md").read_text(encoding="utf-8")
NAMES = ("mini-a", "mini-b", "mini-c")
STOPS = 10, 100, 1000
SOLVERS: dict[str, Callable[[TabularGame], Iterator[tuple[int, Profile]]]] = {
    "cfr, alternating": partial(cfr, checkpoints=STOPS),
    "cfr, simultaneous": partial(cfr, checkpoints=STOPS, alternating=False),
    "cfr+, alternating": partial(cfr, checkpoints=STOPS, variant="cfr+"),
    "cfr+, simultaneous": partial(cfr, checkpoints=STOPS, variant="cfr+", alternating=False),
    "linear-cfr, alternating": partial(cfr, checkpoints=STOPS, variant="linear-cfr"),
    "linear-cfr, simultaneous": partial(cfr, checkpoints=STOPS, variant="linear-cfr", alternating=False),
    "xfp": partial(xfp, checkpoints=STOPS),
    "mmd, alpha .05, eta .1": partial(mmd, checkpoints=STOPS, alpha=0.05, eta=0.1),
    "mmd, alpha .01, eta 1": partial(mmd, checkpoints=STOPS, alpha=0.01, eta=1.0),
    "mmd, alpha .1 / sqrt t, eta 5 / sqrt t": partial(
        mmd, checkpoints=STOPS, alpha=inverse_root(0.1), eta=inverse_root(5.0)
    ),
}


def rows(heading: str) -> list[list[str]]:
    """Returns the cells of the table with this first heading cell, without heading and rule."""
    block = PAGE.split(f"| {heading} |", 1)[1].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()[2:]]


def assert_printed(cell: str, numbers: list[float], slack: float = 0.0) -> None:
    """Checks each number against its print, to half of the last printed digit."""
    printed = cell.split()
    assert len(printed) == len(numbers)
    for text, number in zip(printed, numbers, strict=True):
        unit = 10.0 ** -len(text.partition(".")[2])
        assert float(text) == pytest.approx(number, abs=0.51 * unit + slack), cell


def test_the_sizes_and_bounds() -> None:
    table = rows("game | types")
    assert [row[0] for row in table] == list(NAMES)
    for row in table:
        game = tabular_game(GAMES[row[0]])
        bounds = welfare_bounds(game)
        assert row[1:3] == [str(game.num_types), " / ".join(str(game.num_information_sets(seat)) for seat in range(2))]
        for cell, number in zip(
            row[3:], (bounds.walk, bounds.first_best, bounds.rational, bounds.feasible), strict=True
        ):
            assert_printed(cell, [number])


def test_the_profiles() -> None:
    classes: dict[str, Callable[..., Policy]] = {
        "random": RandomPolicy,
        "always_walk": AlwaysWalkPolicy,
        "tioli": TioliPolicy,
    }
    table = rows("profile | number")
    assert {row[0] for row in table} == set(classes)
    for policy, number, *cells in table:
        for name, cell in zip(NAMES, cells, strict=True):
            game = tabular_game(GAMES[name])
            found = evaluate(game, policy_profile(game, classes[policy](game.spec)))
            numbers = {
                "NashConv": [found.nash_conv],
                "gains": found.gains.tolist(),
                "payoffs": found.payoffs.tolist(),
                "agreement rate": [found.agreement_rate],
            }
            assert_printed(cell, numbers[number])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_solvers(name: str) -> None:
    game = tabular_game(GAMES[name])
    table = rows("solver")
    assert [row[0] for row in table] == list(SOLVERS)
    for solver, *cells in table:
        numbers = [nash_conv(game, profile) for _, profile in SOLVERS[solver](game)]
        # Where ties decide, another processor may round them otherwise.
        assert_printed(cells[NAMES.index(name)], numbers, slack=5e-3 if solver == "xfp" else 5e-5)


def test_the_printed_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exact", "--policy", "random", "--game", "mini-b"]) == 0
    printed = re.sub(r"[^\w.:;,()\- ]", " ", capsys.readouterr().out)
    shown = PAGE.partition("The first one prints")[2].partition("A policy needs")[0]
    assert shown.split()
    assert [word for word in printed.split() if word.strip("-")] == shown.split()


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(example, {})
    first, *curve = capsys.readouterr().out.splitlines()
    assert len(re.findall(r"\d\.\d+", first)) >= 6
    assert [line.split()[0] for line in curve] == ["10", "100"]
    assert np.isfinite([float(line.split()[1]) for line in curve]).all()

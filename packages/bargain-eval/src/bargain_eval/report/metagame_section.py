"""The meta-game of a cross-play: what the solvers play, and what each policy would lose or gain.

Legend: `M` policies of seat 0 (rows), `N` policies of seat 1 (columns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bargain_eval.metagame.analysis import ne_regrets, uniform_scores
from bargain_eval.metagame.payoffs import PayoffTable
from bargain_eval.metagame.solution import Solution
from bargain_eval.metagame.solvers import SOLVERS, solve
from bargain_eval.report import drawings
from bargain_eval.report.content import Figure, Section, Table, count, filled, number, text

PLAYED = 5e-4
"""A policy of less probability counts as not played."""
SHOWN = 0.01
"""A policy that no solver gives this probability has no bars."""

Loop = Callable[[Iterable[str], str], Iterable[str]]


def metagame_section(
    name: str, title: str, table: PayoffTable, solvers: Sequence[str] = (), loop: Loop = lambda solvers, title: solvers
) -> Section:
    """Returns the section about the meta-game `table`; where pairs are missing it only says so.

    Args:
        name: Its anchor.
        title: Its heading.
        table: The payoffs.
        solvers: Names in `SOLVERS`, all of them if empty; regrets are taken at the solution of the first.
        loop: Shows progress: takes the names and a title, and hands the names on.

    Raises:
        ValueError: If there is no such solver.
    """
    if not table.is_complete:
        return Section(name, title, ("There is no meta-game yet: some pairs were never played.",))
    solutions = {solver: solve(table.mean, solver) for solver in loop(solvers or tuple(SOLVERS), "Solving")}
    words = (
        "Each seat chooses among the same policies. The solvers answer differently, and a conclusion that changes with "
        "the solver is a conclusion about the solver. mene is the Nash equilibrium of the largest entropy, max_welfare "
        "that of the largest total payoff.",
    )
    return Section(
        name,
        title,
        words,
        tables=(_solver_table(solutions),),
        figures=(_mixture_figure(f"{name}-mixtures", table, solutions),),
        more_tables=(_regret_table(table, solutions),),
    )


def _solver_table(solutions: dict[str, Solution]) -> Table:
    rows = [
        (
            text(solver),
            *(number(payoff) for payoff in solution.payoff),
            number(sum(solution.payoff)),
            *(number(regret, digits=6) for regret in solution.regret),
            *(count(int((mixture > PLAYED).sum())) for mixture in (solution.row, solution.column)),
            text("" if solution.converged else "not converged"),
        )
        for solver, solution in solutions.items()
    ]
    headers = (
        "solver", "payoff of seat 0", "payoff of seat 1", "welfare", "regret of seat 0", "regret of seat 1",
        "support, seat 0", "support, seat 1", "remark",
    )  # fmt: skip
    note = (
        "Regret: what a seat could still gain by the deviations that its kind of solution rules out: to one policy or, "
        "in a correlated equilibrium (ce), from what is recommended to it. Support: policies that are played."
    )
    return filled(Table(headers, rows, "Solutions", note))


def _mixture_figure(name: str, table: PayoffTable, solutions: dict[str, Solution]) -> Figure:
    answers = {solver: answer for solver, answer in solutions.items() if solver != "uniform"} or solutions
    bars = {solver: (answer.row, answer.column) for solver, answer in answers.items()}
    played = np.flatnonzero(np.max([np.maximum(*both) for both in bars.values()], axis=0) >= SHOWN)
    alt = f"Bars of the probability of each policy in each seat under {', '.join(bars)}."
    names = [table.rows[k] for k in played]
    shown = {solver: (row[played], column[played]) for solver, (row, column) in bars.items()}
    rows = [
        (text(policy), *(number(float(mixture[k])) for both in bars.values() for mixture in both))
        for k, policy in enumerate(table.rows)
    ]
    headers = ("policy", *(f"{solver}, seat {seat}" for solver in bars for seat in range(2)))
    caption = (
        "Probability of each policy in each seat; those that no solver gives 1 % are left out. For "
        "correlated solutions: the marginal distributions."
    )
    picture = drawings.mixtures(name, alt, names, shown)
    return Figure(name, "Equilibrium mixtures", caption, alt, picture, Table(headers, rows))


def _regret_table(table: PayoffTable, solutions: dict[str, Solution]) -> Table:
    name, solution = next(iter(solutions.items()))
    regrets, scores = ne_regrets(table.mean, solution), uniform_scores(table.mean)
    rows = [
        (
            text(policy),
            *(number(float(regret)) for regret in (regrets.row[k], regrets.column[k], regrets.average[k])),
            *(number(float(score)) for score in (scores.row[k], scores.column[k], scores.average[k])),
            *(number(float(mixture[k])) for mixture in (solution.row, solution.column)),
        )
        for k, policy in enumerate(table.rows)
    ]
    rows.sort(key=lambda row: round(row[3].key or 0.0, 6))  # of equals the first first, whatever the rounding
    headers = (
        "policy", "NE-regret, seat 0", "NE-regret, seat 1", "NE-regret, both", "uniform score, seat 0",
        "uniform score, seat 1", "uniform score, both", f"{name} share, seat 0", f"{name} share, seat 1",
    )  # fmt: skip
    note = (
        f"NE-regret: what a seat loses by always playing this policy while the other seat plays the solution {name}; "
        "low is good. Uniform score: the mean payoff against all policies equally."
    )
    return Table(headers, rows, "Regret and score of each policy", note)

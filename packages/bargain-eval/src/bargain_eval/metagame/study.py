"""The whole analysis of one meta-game, from the means and samples of its cells to one JSON-ready result.

Legend: `N` policies, the same in both seats; `A` algorithms (each one or several policies); `G` deals; `K` columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bargain_eval.metagame.analysis import (
    CellMeasure,
    Solver,
    best_response_graph,
    is_solved,
    leave_one_out,
    leave_one_out_regrets,
    ne_regrets,
    solution_values,
    solver_sensitivity,
    uniform_scores,
    welfare,
)
from bargain_eval.metagame.bootstrap import Bootstrap, bootstrap, pool_runs, symmetrise
from bargain_eval.metagame.coalitions import (
    EXACT_LIMIT,
    equilibrium_welfare,
    exact_values,
    sampled_values,
)
from bargain_eval.metagame.lift import EcosystemLift, ecosystem_lift, partner_lift, summarise_partner_lift
from bargain_eval.metagame.solution import Solution
from bargain_eval.metagame.solvers import solve, solve_symmetric

Loop = Callable[[Iterable[int], str], Iterable[int]]
"""Wraps a loop to show how far it is, under a title."""

CONTRIBUTIONS = ("utilitarian", "nash", "egalitarian", "nash_plus")
"""The measures whose Shapley and Banzhaf values are computed, where they are known."""

COUNTED = "_counted"
"""Suffix of the column that holds the denominator of a measure; a measure without one counts every game."""


@dataclasses.dataclass(frozen=True)
class MetaGame:
    """What was measured in each cell.

    Attributes:
        names: The `N` policies.
        columns: Names of the `K` columns: payoff_0, payoff_1, then measures, some with a `NAME_counted` column.
        means: `[N, N, K]`, row = seat 0.
        samples: `[G, N, N, J]`, the first `J <= K` columns deal by deal, the same deals in all cells; None if only the
            means are known.
        groups: The algorithm of each policy, by name; each policy by itself if empty.
    """

    names: tuple[str, ...]
    columns: tuple[str, ...]
    means: NDArray[np.float64]
    samples: NDArray[np.float64] | None = None
    groups: tuple[str, ...] = ()

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The `A` algorithms, in order of their first policy."""
        return tuple(dict.fromkeys(self.groups or self.names))

    @property
    def algorithm_of(self) -> NDArray[np.int64]:
        """`[N]`, the index of each policy's algorithm."""
        index = {name: k for k, name in enumerate(self.algorithms)}
        return np.array([index[name] for name in self.groups or self.names])

    def table(self, symmetric: bool) -> NDArray[np.float64]:
        """Returns `[A, A, K]`: the means of each pair of algorithms, with both seatings averaged if `symmetric`."""
        pooled = pool_runs(self.means, self.algorithm_of, np.ones(len(self.names)))
        return symmetrise(pooled) if symmetric else pooled


def cell_measures(table: NDArray[np.float64], columns: Sequence[str]) -> dict[str, CellMeasure]:
    """Returns the measures among the columns of `table [A, A, K]`, each with its denominator."""
    position = {name: k for k, name in enumerate(columns)}
    return {
        name: CellMeasure(
            table[:, :, k],
            table[:, :, position[name + COUNTED]] if name + COUNTED in position else np.ones(table.shape[:2]),
        )
        for name, k in position.items()
        if k >= 2 and not name.endswith(COUNTED)
    }


def bind_solver(solver: str, symmetric: bool) -> Solver:
    """Returns the named solver on payoffs `[A, A, 2]`; the symmetric one solves seat 0's table against its mirror."""
    if symmetric:
        return lambda payoffs: solve_symmetric(payoffs[:, :, 0], solver)
    return partial(solve, solver=solver)


def study(
    game: MetaGame,
    *,
    solver: str = "mene",
    symmetric: bool = False,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    exact_limit: int = EXACT_LIMIT,
    coalition_samples: int = 100,
    coalition_solver: str = "max_welfare",
    sensitivity: Sequence[str] = (),
    loop: Loop = lambda items, title: items,
) -> dict[str, Any]:
    """Returns the analysis as one JSON-ready dict; `docs/metagame.md` explains every entry.

    Args:
        game: The cells.
        solver: Name of the solver, see `solvers.SOLVERS`.
        symmetric: Average both seatings of each pair, so that one mixture serves both seats.
        num_resamples: Bootstrap resamples; 0 for none, and none without samples.
        level: Confidence level of the intervals.
        seed: Seed of the resamples and of sampled coalitions.
        exact_limit: Policies up to which Shapley and Banzhaf values are exact, at `2**A` solves.
        coalition_samples: Samples beyond that, at up to `2 A` solves each; 0 for no coalition values at all.
        coalition_solver: Name of the solver behind the worth of a coalition.
        sensitivity: Further solvers whose solutions are compared.
        loop: Shows progress.

    Raises:
        ValueError: If a solver does not converge on the table itself, or an argument is out of range.
    """
    table, names = game.table(symmetric), game.algorithms
    payoffs, measures = table[:, :, :2], cell_measures(table, game.columns)
    bound = bind_solver(solver, symmetric)
    solution = bound(payoffs)
    if not is_solved(payoffs, solution):
        raise ValueError(f"solver {solver} did not converge on the payoff table (regret {max(solution.regret):.2g}).")

    resampled = None
    if game.samples is not None and num_resamples:
        resampled = bootstrap(
            game.samples,
            bound,
            num_resamples,
            seed,
            groups=game.algorithm_of.tolist(),
            symmetric=symmetric,
            progress=lambda items: loop(items, "Resampling"),
        )
    others = leave_one_out(payoffs, bound) if len(names) > 1 else None
    result: dict[str, Any] = {
        "policies": list(names),
        "groups": {name: [p for p, g in zip(game.names, game.groups, strict=True) if g == name] for name in names}
        if game.groups
        else None,
        "solver": solver,
        "symmetric": symmetric,
        "payoff_matrix": payoffs,
        "measures": {name: _ratio(measure) for name, measure in measures.items()},
        "solution": _solution_entry(payoffs, solution, resampled, level),
        "welfare": _welfare_entry(measures, solution, resampled, game.columns, level),
        "leaderboard": _leaderboard(names, payoffs, solution, others, resampled, level),
        "best_responses": _best_responses(payoffs, resampled),
        "bootstrap": None
        if resampled is None
        else {"resamples": num_resamples, "failures": resampled.failures, "level": level, "seed": seed},
        "solvers": solver_sensitivity(
            payoffs, measures, {name: bind_solver(name, symmetric) for name in dict.fromkeys((solver, *sensitivity))}
        ),
        "partner_lift": None if others is None else _partner_lifts(names, payoffs, others),
        "ecosystem_lift": None
        if others is None
        else {
            name: _entry_of(ecosystem_lift(payoffs, measures, others[k], solution, k)) for k, name in enumerate(names)
        },
    }
    result["coalitions"] = None
    if coalition_samples:
        worth_by = bind_solver(coalition_solver, symmetric)
        result["coalitions"] = {"solver": coalition_solver} | _coalitions(
            payoffs, measures, worth_by, seed, exact_limit, coalition_samples, loop
        )
    return result


def _ratio(measure: CellMeasure) -> NDArray[np.float64]:
    nothing = np.full(measure.amount.shape, np.nan)
    ratio: NDArray[np.float64] = np.divide(measure.amount, measure.counted, out=nothing, where=measure.counted > 0)
    return ratio


def _entry_of(lift: EcosystemLift) -> dict[str, Any]:
    return {
        "welfare": lift.welfare,
        "entry_mass": lift.entry_mass,
        "shift": lift.shift,
        "incumbent_shift": np.stack(lift.incumbent_shift, axis=1),
    }


def _solution_entry(
    payoffs: NDArray[np.float64], solution: Solution, resampled: Bootstrap | None, level: float
) -> dict[str, Any]:
    return {
        "row": solution.row,
        "column": solution.column,
        "joint": solution.joint,
        "payoff": solution_values(payoffs, solution),
        "payoff_ci": None if resampled is None else resampled.interval("payoff", level).T,
        "regret": solution.regret,
        "converged": solution.converged,
        "iterations": solution.iterations,
    }


def _welfare_entry(
    measures: Mapping[str, CellMeasure],
    solution: Solution,
    resampled: Bootstrap | None,
    columns: Sequence[str],
    level: float,
) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {
        name: {"value": value, "ci": None} for name, value in welfare(measures, solution.joint).items()
    }
    if resampled is not None:
        draws = resampled.resamples.measure
        position = {name: k for k, name in enumerate(columns[: draws.shape[1]])}
        for name in result.keys() & position.keys():
            values = draws[:, position[name]]
            if name + COUNTED in position:
                counted = draws[:, position[name + COUNTED]]
                values = np.divide(values, counted, out=np.full(len(values), np.nan), where=counted > 0)
            if not np.isnan(values).any():
                result[name]["ci"] = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return result


def _leaderboard(
    names: Sequence[str],
    payoffs: NDArray[np.float64],
    solution: Solution,
    others: list[Solution] | None,
    resampled: Bootstrap | None,
    level: float,
) -> list[dict[str, Any]]:
    """Returns one entry per algorithm, best first: least NE-regret, then least leave-one-out regret."""
    regret, uniform = ne_regrets(payoffs, solution), uniform_scores(payoffs)
    left_out = None if others is None else leave_one_out_regrets(payoffs, others)
    intervals = None if resampled is None else {n: resampled.interval(n, level) for n in ("regret", "mass", "uniform")}
    mean_ci = None if resampled is None else _mean_regret_interval(resampled, level)
    entries = []
    for k, name in enumerate(names):
        entry: dict[str, Any] = {
            "policy": name,
            "ne_regret": float(regret.average[k]),
            "ne_regret_ci": None if mean_ci is None else mean_ci[:, k],
            "ne_regret_by_seat": [float(regret.row[k]), float(regret.column[k])],
            "leave_one_out_regret": None if left_out is None else float(left_out.average[k]),
            "leave_one_out_regret_by_seat": None
            if left_out is None
            else [float(left_out.row[k]), float(left_out.column[k])],
            "uniform_score": float(uniform.average[k]),
            "uniform_score_by_seat": [float(uniform.row[k]), float(uniform.column[k])],
            "mass": [float(solution.row[k]), float(solution.column[k])],
        }
        for statistic, key in (("regret", "ne_regret"), ("mass", "mass"), ("uniform", "uniform_score")):
            entry[f"{key}_by_seat_ci"] = None if intervals is None else intervals[statistic][:, k].T
        entry["support_frequency"] = None if resampled is None else resampled.support_frequency()[k]
        entries.append(entry)
    return sorted(entries, key=_rank_key)


def _rank_key(entry: Mapping[str, Any]) -> tuple[float, float]:
    return round(entry["ne_regret"], 9), entry["leave_one_out_regret"] or 0.0


def _mean_regret_interval(resampled: Bootstrap, level: float) -> NDArray[np.float64]:
    draws = resampled.resamples.regret.mean(axis=2)
    ends: NDArray[np.float64] = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return ends


def _best_responses(payoffs: NDArray[np.float64], resampled: Bootstrap | None) -> dict[str, Any]:
    graph = best_response_graph(payoffs)
    shares = (None, None) if resampled is None else resampled.resamples.best_response.mean(axis=0)
    return {"row": graph.row, "column": graph.column, "row_probability": shares[0], "column_probability": shares[1]}


def _partner_lifts(names: Sequence[str], payoffs: NDArray[np.float64], others: list[Solution]) -> dict[str, Any]:
    """Returns what each policy i gains from each partner j in place of the equilibrium of all but j."""
    lifts = [partner_lift(payoffs, base, partner) for partner, base in enumerate(others)]
    members = [np.delete(np.arange(len(names)), partner) for partner in range(len(names))]
    return {
        "row": np.stack([lift.row for lift in lifts], axis=1),
        "column": np.stack([lift.column for lift in lifts], axis=1),
        "summary": {name: summarise_partner_lift(lifts[k], others[k], members[k]) for k, name in enumerate(names)},
    }


def _coalitions(
    payoffs: NDArray[np.float64],
    measures: Mapping[str, CellMeasure],
    bound: Solver,
    seed: int,
    exact_limit: int,
    samples: int,
    loop: Loop,
) -> dict[str, Any]:
    chosen = {name: measures[name] for name in CONTRIBUTIONS if name in measures}
    worth, solved = equilibrium_welfare(payoffs, chosen, bound)
    show = partial(_titled, loop)
    if len(payoffs) <= exact_limit:
        values = exact_values(worth, len(payoffs), show)
    else:
        values = sampled_values(worth, len(payoffs), samples, seed, show)
    return {
        "measures": list(chosen),
        "exact": values.exact,
        "solved": values.solved,
        "failures": sum(not good for good in solved.values()),
        "samples": None if values.exact else samples,
        "total": values.total,
        "shapley": values.shapley,
        "shapley_se": None if values.exact else values.shapley_error,
        "banzhaf": values.banzhaf,
        "banzhaf_se": None if values.exact else values.banzhaf_error,
        "efficiency_gap": float(np.abs(values.shapley.sum(axis=0) - values.total).max()),
    }


def _titled(loop: Loop, items: range) -> Iterable[int]:
    return loop(items, "Solving coalitions")

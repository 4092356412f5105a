"""How sure the analysis is: a hierarchical bootstrap that solves the game again in every resample.

Legend: `N` policies, the same in both seats; `A` algorithms, each one or several policies (its training runs); `G`
deals, common to all cells; `K` columns of per-game measures, of which the first two are the payoffs of seat 0 and of
seat 1; `R` resamples.

The games of a cross-play are not independent: all cells play the same deals, and both payoffs of a game share one deal.
So a resample draws, with replacement, first the runs of each algorithm and then the deals, and takes the drawn deals in
every cell. Of n > 1 runs it draws n - 1, which makes the variance of their mean unbiased; that matters because n is
small. An algorithm's payoff against another is the mean over all pairs of their runs; against itself, over the pairs of
different runs, as two players who trained independently would meet (its self-play if it has one run). If all draws of
an algorithm are one run, that cell keeps the mean over all pairs of different runs.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993); Rao and Wu, "Resampling Inference with Complex
Survey Data" (1988), for the n - 1 draws; resampling training seeds before games as in Li and Wellman, "A Meta-Game
Evaluation Framework for Deep Multiagent Reinforcement Learning" (2024).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bargain_eval.metagame.analysis import (
    Solver,
    best_response_graph,
    is_solved,
    ne_regrets,
    solution_values,
    uniform_scores,
)

Method = Literal["percentile", "basic"]

SUPPORT = 1e-6
"""A policy is in the support from this probability on."""

_BLOCK = 250  # resamples whose tables are computed in one matrix product


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What is computed from one table, or from `R` resampled ones stacked along a first dimension.

    Attributes:
        mass: `[..., A, 2]`, the equilibrium's probability of each algorithm in seat 0 and in seat 1.
        regret: `[..., A, 2]`, NE-regret.
        uniform: `[..., A, 2]`, mean payoff against the uniform mixture.
        payoff: `[..., 2]`, what each seat earns in equilibrium.
        measure: `[..., K]`, each column under the equilibrium's joint distribution.
        best_response: `[..., 2, A, A]`, entry (seat, i, j): i is the best response of that seat to j.
    """

    mass: NDArray[np.float64]
    regret: NDArray[np.float64]
    uniform: NDArray[np.float64]
    payoff: NDArray[np.float64]
    measure: NDArray[np.float64]
    best_response: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """The statistics of the data and of the resamples whose game could be solved.

    Attributes:
        estimate: The statistics of the data themselves.
        resamples: The same, with first dimension `R - failures`.
        failures: Resamples left out because they were not solved (see `analysis.is_solved`); intervals with many are
            optimistic.
    """

    estimate: Statistics
    resamples: Statistics
    failures: int

    def interval(self, name: str, level: float = 0.95, method: Method = "percentile") -> NDArray[np.float64]:
        """Returns `[2, ...]`: the ends of the confidence interval of the statistic `name`.

        "percentile" is the quantiles of the resamples; "basic" reflects them at the estimate. Percentile intervals stay
        within the range of the statistic, which matters for masses and regrets near 0.

        Raises:
            ValueError: If `level` lies outside (0, 1), or every resample failed.
        """
        draws, estimate = getattr(self.resamples, name), getattr(self.estimate, name)
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level}.")
        if not len(draws):
            raise ValueError("no resample could be solved, so there are no confidence intervals.")
        ends: NDArray[np.float64] = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return ends if method == "percentile" else 2 * estimate - ends[::-1]

    def standard_error(self, name: str) -> NDArray[np.float64]:
        """Returns `[...]`: the standard deviation of the statistic over the resamples."""
        error: NDArray[np.float64] = np.std(getattr(self.resamples, name), axis=0, ddof=1)
        return error

    def support_frequency(self) -> NDArray[np.float64]:
        """Returns `[A, 2]`: the share of resamples whose equilibrium plays each algorithm in each seat."""
        share: NDArray[np.float64] = (self.resamples.mass >= SUPPORT).mean(axis=0)
        return share


def bootstrap(
    samples: NDArray[np.float64],
    solve: Solver,
    num_resamples: int,
    seed: int,
    *,
    groups: Sequence[int] | None = None,
    symmetric: bool = False,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Bootstrap:
    """Resamples runs and deals, and solves the game anew each time.

    Costs `R` solves, and a matrix product of `R * G * N * N * K` multiplications (2 seconds for 20 policies, 10,000
    deals, 6 columns and 1,000 resamples on one core).

    Args:
        samples: `[G, N, N, K]`, column 0 and 1 the payoffs of seat 0 and seat 1, row = seat 0; no NaN.
        solve: The solver.
        num_resamples: `R`, at least 2.
        seed: Seed of the generator; the same seed gives the same numbers.
        groups: The algorithm of each policy, 0 to `A` - 1; each policy by itself if None.
        symmetric: Average both seatings of each pair before solving.
        progress: Shows how far the loop over resamples is.

    Raises:
        ValueError: If a shape or number does not fit, or the game of the data themselves cannot be solved.
    """
    games, size, columns_size, num_columns = samples.shape
    algorithm = np.arange(size) if groups is None else np.asarray(groups)
    if size != columns_size or num_columns < 2 or games < 2:
        raise ValueError(f"samples must have shape [G >= 2, N, N, K >= 2], got {samples.shape}.")
    if num_resamples < 2:
        raise ValueError(f"num_resamples must be at least 2, got {num_resamples}.")
    if algorithm.shape != (size,) or set(algorithm.tolist()) != set(range(int(algorithm.max()) + 1)):
        raise ValueError(f"groups must give each of the {size} policies an algorithm 0, 1, ..., got {groups}.")

    def statistics(policies: NDArray[np.float64], runs: NDArray[np.float64]) -> Statistics | None:
        table = pool_runs(policies, algorithm, runs)
        return _statistics(symmetrise(table) if symmetric else table, solve)

    estimate = statistics(samples.mean(axis=0), np.ones(size))
    if estimate is None:
        raise ValueError("the solver did not converge on the payoff table itself; choose another one.")
    rng = np.random.default_rng(seed)
    flat = samples.reshape(games, -1)
    found: list[Statistics | None] = []
    tables = np.empty((0, *samples.shape[1:]))
    for resample in progress(range(num_resamples)):
        position = resample % _BLOCK
        if position == 0:
            draws = rng.integers(games, size=(min(_BLOCK, num_resamples - resample), games))
            weights = np.stack([np.bincount(draw, minlength=games) for draw in draws]) / games
            tables = (weights @ flat).reshape(-1, *samples.shape[1:])
        found.append(statistics(tables[position], _draw_runs(algorithm, rng)))
    solved = [each for each in found if each is not None]
    return Bootstrap(estimate, _stack(solved, estimate), len(found) - len(solved))


def pool_runs(
    table: NDArray[np.float64], algorithm: NDArray[np.int64], runs: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns `[A, A, K]`: the table `[N, N, K]` of policies averaged over the runs of each algorithm.

    Args:
        table: Means of each pair of policies.
        algorithm: `[N]`, the algorithm of each policy.
        runs: `[N]`, how often each policy was drawn; every algorithm has one drawn.
    """
    member = algorithm == np.arange(algorithm.max() + 1)[:, None]  # [A, N]
    if len(member) == len(algorithm):
        order = np.argmax(member, axis=1)
        alone: NDArray[np.float64] = table[np.ix_(order, order)]
        return alone
    share = member * runs / (member @ runs)[:, None]
    pooled: NDArray[np.float64] = np.einsum("an,nmk,bm->abk", share, table, share, optimize=True)
    for index, weights in enumerate(share):
        pairs = _different_runs(weights)
        pairs = pairs if pairs.any() else _different_runs(member[index].astype(np.float64))
        if pairs.any():
            pooled[index, index] = np.einsum("nm,nmk->k", pairs / pairs.sum(), table)
    return pooled


def _different_runs(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0.0)
    return pairs


def symmetrise(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns `[N, N, K]` with both seatings of each pair averaged; columns 0 and 1 change sides with the policies."""
    swapped = table.transpose(1, 0, 2).copy()
    swapped[:, :, [0, 1]] = swapped[:, :, [1, 0]]
    return (table + swapped) / 2


def _statistics(table: NDArray[np.float64], solve: Solver) -> Statistics | None:
    payoffs = table[:, :, :2]
    solution = solve(payoffs)
    if not is_solved(payoffs, solution):
        return None
    regret, uniform, answers = ne_regrets(payoffs, solution), uniform_scores(payoffs), best_response_graph(payoffs)
    return Statistics(
        mass=np.stack([solution.row, solution.column], axis=1),
        regret=np.stack(regret, axis=1),
        uniform=np.stack(uniform, axis=1),
        payoff=solution_values(payoffs, solution),
        measure=np.einsum("ij,ijk->k", solution.joint, table),
        best_response=np.stack(answers),
    )


def _draw_runs(algorithm: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns `[N]`: how often each policy is drawn when each algorithm draws one run fewer than it has, at least 1."""
    drawn = np.zeros(len(algorithm))
    for index in range(algorithm.max() + 1):
        runs = np.flatnonzero(algorithm == index)
        drawn[runs] = np.bincount(rng.integers(len(runs), size=max(len(runs) - 1, 1)), minlength=len(runs))
    return drawn


def _stack(parts: list[Statistics], like: Statistics) -> Statistics:
    names = [field.name for field in dataclasses.fields(Statistics)]
    empty = {name: np.empty((0, *getattr(like, name).shape)) for name in names}
    return Statistics(**{name: np.stack([getattr(p, name) for p in parts]) if parts else empty[name] for name in names})

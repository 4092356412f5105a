"""How much each policy contributes to the welfare of the whole: Shapley and Banzhaf values over sets of policies.

Legend: `N` policies, `K` measures, `P` samples. A coalition is a set of policies written as an integer, whose bit k is
set if policy k belongs to it. Its worth `v(S)` is the welfare at the equilibrium of the game among S alone, and
`v(empty) = 0`. A worth depends on the set only, so it is computed once per set, whatever the order in which policies
join.

Sources: Shapley, "A value for n-person games" (1953); Banzhaf (1965), as the mean marginal contribution over all sets;
permutation sampling is Castro, Gomez and Tejada, "Polynomial calculation of the Shapley value based on sampling"
(2009).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bargain_eval.metagame.analysis import CellMeasure, Solver, is_solved, solve_among, welfare

Worth = Callable[[int], NDArray[np.float64]]
"""The worth `[K]` of a coalition, given as a bitmask."""

Progress = Callable[[range], Iterable[int]]
"""Wraps a loop to show how far it is."""

EXACT_LIMIT = 12
"""Policies up to which all 2**N coalitions are solved unless told otherwise (4,096)."""


class CoalitionValues(NamedTuple):
    """The contribution of each policy to each measure.

    Attributes:
        shapley: `[N, K]`; sums over the policies to `total`.
        banzhaf: `[N, K]`, the mean over all sets of the others of what the policy adds; sums to nothing in particular.
        shapley_error: `[N, K]`, standard error of sampling; zeros if exact.
        banzhaf_error: `[N, K]`, likewise.
        total: `[K]`, the worth of all policies together.
        exact: True if every coalition was solved.
        solved: Number of coalitions solved.
    """

    shapley: NDArray[np.float64]
    banzhaf: NDArray[np.float64]
    shapley_error: NDArray[np.float64]
    banzhaf_error: NDArray[np.float64]
    total: NDArray[np.float64]
    exact: bool
    solved: int


def equilibrium_welfare(
    payoffs: NDArray[np.float64], measures: Mapping[str, CellMeasure], solve: Solver
) -> tuple[Worth, dict[int, bool]]:
    """Returns the worth of coalitions of the square game `payoffs [N, N, 2]`, and a record of the solves.

    The record maps each coalition asked for so far to whether it was solved (see `analysis.is_solved`). Measures that
    nothing counts (a share of deals where nobody deals) are worth 0.
    """
    cache: dict[int, NDArray[np.float64]] = {0: np.zeros(len(measures))}
    solved: dict[int, bool] = {}

    def worth(coalition: int) -> NDArray[np.float64]:
        if coalition not in cache:
            members = np.flatnonzero([coalition >> k & 1 for k in range(len(payoffs))])
            solution = solve_among(payoffs, members, solve)
            cache[coalition] = np.nan_to_num(list(welfare(measures, solution.joint).values()))
            solved[coalition] = is_solved(payoffs[np.ix_(members, members)], solution)
        return cache[coalition]

    return worth, solved


def exact_values(worth: Worth, num_policies: int, progress: Progress = iter) -> CoalitionValues:
    """Returns Shapley and Banzhaf values from all `2**N` coalitions, each of whose worths is asked once.

    `shapley_i = sum over S without i of |S|! (N - |S| - 1)! / N! * (v(S + i) - v(S))`.

    Raises:
        ValueError: If there are no policies, or more than 20.
    """
    if not 1 <= num_policies <= 20:
        raise ValueError(f"exact coalition values need 1 to 20 policies, got {num_policies}.")
    values = np.array([worth(coalition) for coalition in progress(range(2**num_policies))])
    sets = np.arange(2**num_policies)
    sizes = (sets[:, None] >> np.arange(num_policies) & 1).sum(axis=1)
    orders = math.factorial(num_policies)
    weights = np.array(
        [math.factorial(size) * math.factorial(num_policies - size - 1) / orders for size in range(num_policies)]
    )
    shapley, banzhaf = np.empty((2, num_policies, values.shape[1]))
    for policy in range(num_policies):
        without = sets[(sets >> policy & 1) == 0]
        added = values[without | 1 << policy] - values[without]
        shapley[policy] = weights[sizes[without]] @ added
        banzhaf[policy] = added.mean(axis=0)
    none = np.zeros_like(shapley)
    return CoalitionValues(shapley, banzhaf, none, none, values[-1] - values[0], True, len(sets) - 1)


def sampled_values(
    worth: Worth, num_policies: int, num_samples: int, seed: int, progress: Progress = iter
) -> CoalitionValues:
    """Returns Shapley and Banzhaf values estimated from random orders and random sets, with standard errors.

    Sample p draws a uniform order of the policies, whose marginal contributions are one draw of all Shapley values and
    sum to `total` exactly, and a uniform set, whose neighbours give one draw of all Banzhaf values. Asks at most
    `2 N P` worths.

    Args:
        worth: Worth of a coalition; should remember what it was asked (see `equilibrium_welfare`).
        num_policies: `N`.
        num_samples: `P`, at least 2.
        seed: Seed of the generator; the same seed gives the same numbers.
        progress: Shows how far the loop over samples is.

    Raises:
        ValueError: If there are fewer than 2 samples.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2, got {num_samples}.")
    rng = np.random.default_rng(seed)
    everybody, asked = 2**num_policies - 1, set[int]()

    def ask(coalition: int) -> NDArray[np.float64]:
        asked.add(coalition)
        return worth(coalition)

    total = ask(everybody) - ask(0)
    shapley, banzhaf = np.empty((2, num_samples, num_policies, len(total)))
    for sample in progress(range(num_samples)):
        coalition, before = 0, ask(0)
        for policy in rng.permutation(num_policies).tolist():
            coalition |= 1 << policy
            after = ask(coalition)
            shapley[sample, policy], before = after - before, after
        bits = rng.integers(2, size=num_policies).tolist()
        coalition = sum(bit << policy for policy, bit in enumerate(bits))
        for policy in range(num_policies):
            banzhaf[sample, policy] = ask(coalition | 1 << policy) - ask(coalition & ~(1 << policy))
    errors = [draws.std(axis=0, ddof=1) / math.sqrt(num_samples) for draws in (shapley, banzhaf)]
    solved = len(asked - {0})
    return CoalitionValues(shapley.mean(axis=0), banzhaf.mean(axis=0), errors[0], errors[1], total, False, solved)

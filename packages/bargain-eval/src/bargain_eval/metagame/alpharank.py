"""Alpha-rank: how often populations that imitate what does better play each pair (Omidshafiei et al. 2019).

Legend: `M` rows, `N` columns; payoffs are `[M, N, 2]`; `P` = M * N pairs.
"""

from __future__ import annotations

import numpy as np

from bargain_eval.metagame.solution import Floats, Solution, check_payoffs, correlated

_TINY = -1e300  # stands for the logarithm of 0, so that sums of logarithms stay finite


def alpha_rank(payoffs: Floats, *, alpha: float = 100.0, population: int = 50, noise: float = 0.01) -> Solution:
    """Returns the stationary distribution over pairs of policies; its marginals rank them.

    One population plays each seat. Now and then one member tries another policy, and takes its population over with the
    probability of a Moran process. A description of an evolutionary process, which was designed for competitive games:
    it is no equilibrium. Computed in logarithms throughout, so any `alpha` will do. Costs `P**3 / 3` additions of
    logarithms (a quarter of a second for 20 x 20).

    Args:
        payoffs: `[M, N, 2]`; scaled by the largest range of a seat, so that `alpha` means the same everywhere.
        alpha: Strength of selection; `math.inf` gives the limit, in which a change for the worse has weight `noise`.
        population: Members of each population, at least 2.
        noise: Weight of a change for the worse in the limit.

    Raises:
        ValueError: If a payoff is missing or a number out of range.
    """
    table = check_payoffs(payoffs)
    if not alpha > 0 or population < 2 or not 0 < noise < 1:
        raise ValueError(
            f"alpha must be above 0, population at least 2 and noise in (0, 1), got {alpha}, {population} and {noise}."
        )
    rows, columns = table.shape[:2]
    spread = float(np.ptp(table, axis=(0, 1)).max()) or 1.0
    pairs = np.arange(rows * columns).reshape(rows, columns)
    moves = np.full((rows * columns, rows * columns), _TINY)
    choices = max(1, rows - 1 + columns - 1)
    for seat, own in enumerate((table[:, :, 0], table[:, :, 1].T)):
        index = pairs if seat == 0 else pairs.T
        gain = (own[None, :, :] - own[:, None, :]) / spread  # [from, to, other seat's policy]
        rate = _log_fixation(gain, alpha, population, noise) - np.log(choices)
        for other in range(own.shape[1]):
            block = np.ix_(index[:, other], index[:, other])
            moves[block] = np.where(np.eye(len(own), dtype=bool), _TINY, rate[:, :, other])
    joint = np.exp(_log_stationary(moves)).reshape(rows, columns)
    return correlated("alpharank", table, joint, converged=True, iterations=1)


def _log_fixation(gain: Floats, alpha: float, population: int, noise: float) -> Floats:
    """Returns the logarithm of the probability that one mutant with this gain takes its population over."""
    if np.isinf(alpha):
        neutral = np.full_like(gain, -np.log(population))
        limit: Floats = np.where(gain > 0, np.log1p(-noise), np.where(gain < 0, np.log(noise), neutral))
        return limit
    size = np.abs(alpha * gain)
    safe = np.maximum(size, 1e-12)
    up = np.log(-np.expm1(-safe)) - np.log(-np.expm1(-population * safe))
    fixation: Floats = np.where(gain > 0, up, up - (population - 1) * safe)
    return np.asarray(np.where(size < 1e-12, -np.log(population), fixation))


def _log_stationary(moves: Floats) -> Floats:
    """Returns the logarithm of the stationary distribution of a chain, by state reduction (Grassmann et al. 1985).

    No subtraction occurs, so nothing is lost however small the probabilities are. The diagonal is not read.
    """
    rates, size = moves.copy(), len(moves)
    for state in range(size - 1, 0, -1):
        out = np.logaddexp.reduce(rates[state, :state])
        rates[:state, state] -= out
        through = rates[:state, state, None] + rates[state, :state]
        rates[:state, :state] = np.logaddexp(rates[:state, :state], np.maximum(through, _TINY))
    weight = np.full(size, _TINY)
    weight[0] = 0.0
    for state in range(1, size):
        weight[state] = np.logaddexp.reduce(weight[:state] + rates[:state, state])
    return np.asarray(weight - np.logaddexp.reduce(weight))

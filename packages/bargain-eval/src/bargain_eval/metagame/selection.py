"""Which of all Nash equilibria of a small game: the most mixed, or the one of largest welfare.

Copies of a policy are one policy here: `copies` says how many it stands for, and an even split among `k` copies raises
the entropy by log k.

Legend: `M` rows, `N` columns, `E` and `F` vertices of a component, `K` policies of one seat. Payoffs are of range
0 .. 1.
"""

from __future__ import annotations

import math

import numpy as np

from bargain_eval.metagame.solution import Floats
from bargain_eval.metagame.supports import isolated_equilibria, isolated_symmetric_equilibria
from bargain_eval.metagame.vertices import equilibrium_components, symmetric_components

Component = tuple[Floats, Floats]
"""Vertices `[E, M]` and `[F, N]`: every average of the first is an equilibrium with every average of the second."""

_MOST_PAIRS = 200_000  # 10 x 10 policies have 184,755 pairs of supports
_EQUAL = 1e-9  # welfare or entropy closer than this is equal, and then the first equilibrium counts


def equilibria(payoffs: Floats, symmetric: bool = False) -> list[Component] | None:
    """Returns all equilibria of `payoffs [M, N, 2]`, or all symmetric ones; None if there are too many to try.

    Args:
        payoffs: Payoffs; those of seat 1 are the transpose of seat 0's if `symmetric`.
        symmetric: Whether both seats play the same mixture; then the two parts of a component are the same.
    """
    pairs = math.comb(sum(payoffs.shape[:2]), len(payoffs)) - 1
    if pairs > _MOST_PAIRS:
        return None
    if symmetric:
        isolated = isolated_symmetric_equilibria(payoffs[:, :, 0])
        if isolated is not None:
            return [(x[None], x[None]) for x in isolated]
        sets = symmetric_components(payoffs[:, :, 0])
        return None if sets is None else [(x, x) for x in sets]
    pure = isolated_equilibria(payoffs)
    if pure is not None:
        return [(x[None], y[None]) for x, y in pure]
    return equilibrium_components(payoffs)


def of_most_entropy(components: list[Component], payoffs: Floats, copies: tuple[Floats, Floats]) -> Component:
    """Returns the mixtures `[M]` and `[N]` whose entropies have the largest sum.

    All pure equilibria have the same entropy, so ties are common. They go to the largest sum of payoffs, which does not
    depend on the order of the policies, and then to the first.

    Args:
        components: All equilibria.
        payoffs: `[M, N, 2]`, in units that may be added.
        copies: `[M]` and `[N]`.
    """
    mixtures = [(most_mixed(x, copies[0]), most_mixed(y, copies[1])) for x, y in components]
    entropies = np.array([entropy(x, copies[0]) + entropy(y, copies[1]) for x, y in mixtures])
    tied = [mixtures[k] for k in np.flatnonzero(entropies >= entropies.max() - _EQUAL)]
    total = payoffs.sum(axis=2)
    return tied[_first_best([float(x @ total @ y) for x, y in tied], float(np.ptp(total)))]


def of_most_welfare(components: list[Component], payoffs: Floats, symmetric: bool = False) -> Component:
    """Returns the vertices `[M]` and `[N]` with the largest sum of payoffs, which are `payoffs [M, N, 2]`."""
    total = payoffs.sum(axis=2)
    pairs: list[Component] = []
    for x, y in components:
        worth = x @ total @ y.T
        best = np.argmax(np.diagonal(worth)) if symmetric else np.argmax(worth)
        first, second = (best, best) if symmetric else np.unravel_index(best, worth.shape)
        pairs.append((x[first], y[second]))
    worths = [float(x @ total @ y) for x, y in pairs]
    return pairs[_first_best(worths, float(np.ptp(total)))]


def _first_best(values: list[float], scale: float) -> int:
    return next(k for k, value in enumerate(values) if value >= max(values) - _EQUAL * scale)


def entropy(mixture: Floats, copies: Floats) -> float:
    """Returns the entropy in nats of `mixture [K]`, each policy's share split evenly among its `copies [K]`."""
    played = mixture > 0
    return float(-(mixture[played] * np.log(mixture[played] / copies[played])).sum())


def most_mixed(vertices: Floats, copies: Floats) -> Floats:
    """Returns the average of `vertices [E, K]` that has the largest entropy, to about 1e-10, by Newton's method.

    The weights of the average are kept positive by a logarithmic barrier, which is let go in steps.
    """
    played = vertices.any(axis=0)
    used, split = vertices[:, played], copies[played]
    weights = np.full(len(used), 1.0 / len(used))
    barrier = 0.1 if len(used) > 1 else 0.0
    while barrier > 1e-12:
        weights = _centre(used, split, weights, barrier)
        barrier /= 10
    average: Floats = weights @ vertices
    return average


def _centre(vertices: Floats, copies: Floats, weights: Floats, barrier: float) -> Floats:
    """Returns the weights `[E]`, summing to 1, that maximise the entropy plus `barrier` times their logarithms."""
    for _ in range(50):
        average = weights @ vertices
        slope = vertices @ (1 + np.log(average / copies)) - barrier / weights
        curve = (vertices / average) @ vertices.T + np.diag(barrier / weights**2)
        # scaled by the weights, so that the equations stay well-conditioned at the boundary
        scaled = weights[:, None] * curve * weights
        system = np.block([[scaled, weights[:, None]], [weights[None], np.zeros((1, 1))]])
        step = weights * np.linalg.solve(system, np.append(-weights * slope, 0.0))[:-1]
        fall = -float(slope @ step)
        if fall <= 1e-14:
            break
        longest = 0.99 / max(float((-step / weights).max()), 0.99)
        aim = _barrier(vertices, copies, weights, barrier)
        while _barrier(vertices, copies, weights + longest * step, barrier) > aim - 0.1 * longest * fall:
            longest /= 2
            if longest <= 1e-12:
                return weights
        weights = weights + longest * step
        weights = weights / weights.sum()
    return weights


def _barrier(vertices: Floats, copies: Floats, weights: Floats, barrier: float) -> float:
    average = weights @ vertices
    return float(average @ np.log(average / copies) - barrier * np.log(weights).sum())

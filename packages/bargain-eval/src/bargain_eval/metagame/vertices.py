"""All Nash equilibria of a small game with ties, as sets of vertices of the best-response polytopes.

A vertex is a mixture, some of whose policies are played, against which some answers are best, such that no other
mixture has both. An equilibrium is an average of vertices of seat 0 and one of seat 1 that all go together: what each
plays is a best answer to each of the other seat's (Avis, Rosenberg, Savani and von Stengel 2010).

Legend: `M` rows, `N` columns, `E` vertices of one seat and `F` of the other, `K` policies of one seat and `L` of the
other, `P` pairs of supports. Payoffs are of range 0 .. 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bargain_eval.metagame.solution import Floats
from bargain_eval.metagame.supports import TIE, dominated, indifferent, supports

_MOST_COMPONENTS = 500


def equilibrium_components(payoffs: Floats) -> list[tuple[Floats, Floats]] | None:
    """Returns all equilibria of `payoffs [M, N, 2]`, or None if they form too many components.

    Each component has vertices `[E, M]` and `[F, N]`: every average of the first is an equilibrium with every average
    of the second.
    """
    own, other = payoffs[:, :, 0], payoffs[:, :, 1].T
    x, y = _vertices(other), _vertices(own)
    stable = _inside(x > TIE, _best(own, y)) & _inside(y > TIE, _best(other, x)).T  # [E, F]
    partners = _closed({frozenset(np.flatnonzero(row).tolist()) for row in stable})
    if not partners:
        return None
    together = [sorted(each) for each in partners]
    return [(x[stable[:, each].all(axis=1)], y[each]) for each in together]


def symmetric_components(payoff: Floats) -> list[Floats] | None:
    """Returns all symmetric equilibria of `payoff [K, K]`, as sets of vertices whose averages are equilibria.

    None if there are too many sets.
    """
    x = _vertices(payoff)
    played, best = x > TIE, _best(payoff, x)
    alone = (best | ~played).all(axis=1)
    x, played, best = x[alone], played[alone], best[alone]
    answers = _closed({frozenset(np.flatnonzero(row).tolist()) for row in best})
    if not answers:
        return None
    allowed = np.array([[policy in each for policy in range(len(payoff))] for each in answers])
    members = _inside(played, allowed) & _inside(allowed, best).T  # [E, sets of answers]
    return [x[column] for column in np.unique(members.T, axis=0) if column.any()]


def _vertices(earned: Floats) -> Floats:
    """Returns the vertices `[E, K]` of the mixtures that a seat earning `earned [L, K]` answers."""
    found = [np.zeros((0, earned.shape[1]))]
    for size in range(1, min(earned.shape) + 1):
        answers, played = supports(len(earned), size), supports(earned.shape[1], size)
        useless = dominated(earned, played)[answers].any(axis=1)  # [pairs of answers and played]
        answer_index, played_index = np.nonzero(~useless)
        answer, play = answers[answer_index], played[played_index]
        weights, regular = indifferent(earned, answer, play)
        fits = np.flatnonzero(regular & (weights.min(axis=1) >= -TIE))
        mixtures = np.zeros((len(fits), earned.shape[1]))
        np.put_along_axis(mixtures, play[fits], np.maximum(weights[fits], 0.0), axis=1)
        mixtures /= mixtures.sum(axis=1, keepdims=True)
        worth = mixtures @ earned.T
        best = worth.max(axis=1) - np.take_along_axis(worth, answer[fits], axis=1).min(axis=1) <= TIE
        found.append(mixtures[best])
    every = np.concatenate(found)
    return every[np.sort(np.unique(np.round(every, 8), axis=0, return_index=True)[1])]


def _best(earned: Floats, mixtures: Floats) -> NDArray[np.bool_]:
    """Returns `[E, L]`: True if the policy is a best answer to the mixture `[E, K]`."""
    worth = mixtures @ earned.T
    best: NDArray[np.bool_] = worth >= worth.max(axis=1, keepdims=True) - TIE
    return best


def _inside(inner: NDArray[np.bool_], outer: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns `[E, F]`: True if the set `inner [E, K]` is part of the set `outer [F, K]`."""
    missing = inner.astype(np.float64) @ (~outer).T.astype(np.float64)
    return np.asarray(missing == 0)


def _closed(sets: set[frozenset[int]]) -> list[frozenset[int]] | None:
    """Returns all nonempty intersections of the sets, in the order of their members; None if there are too many."""
    known = {each for each in sets if each}
    waiting, base = list(known), list(known)
    while waiting:
        each = waiting.pop()
        new = {each & other for other in base} - known - {frozenset()}
        known |= new
        waiting.extend(new)
        if len(known) > _MOST_COMPONENTS:
            return None
    return sorted(known, key=sorted)

"""Expected payoffs and best responses by recursion over the reference rules: slow, and free of every table."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from bargain_env.reference import DEAL, ReferenceGame, outside_bounds, own_total
from bargain_env.spec import GameSpec, ObservationKind
from bargain_eval.policy import NumpyPolicy
from numpy.typing import NDArray

Type = tuple[tuple[int, ...], int]


class NoisyPolicy(NumpyPolicy):
    """Plays some legal actions with probabilities that depend on every feature of what it sees, and others never."""

    def __init__(self, spec: GameSpec, seed: int, observation: ObservationKind) -> None:
        super().__init__(spec.with_observation(observation), seed)
        self.observation = observation
        self._weights = np.random.default_rng(seed).normal(size=(self.spec.observation_dim, spec.num_actions))

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        shown = obs[:, : len(self._weights)].astype(np.float64)
        scores = np.where(action_mask, 3 * np.sin(shown @ self._weights), -np.inf)
        scores[scores < scores.max(axis=1, keepdims=True) - 4] = -np.inf
        weights = np.exp(scores)
        probs: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        return probs


def types_of(spec: GameSpec) -> dict[Type, float]:
    """Returns the types of a seat with their probabilities."""
    vectors = list(itertools.product(range(spec.min_value, spec.max_value + 1), repeat=spec.num_items))
    chance = {}
    for values in vectors:
        low, high = outside_bounds(spec, own_total(spec, values))
        for outside in range(low, high + 1):
            chance[values, outside] = 1 / len(vectors) / (high - low + 1)
    return chance


class BruteForce:
    """One match of two policies; every number is a sum over deals and moves."""

    def __init__(self, spec: GameSpec, policies: tuple[NumpyPolicy, NumpyPolicy]) -> None:
        self.spec = spec.with_observation("history")
        self.policies = policies
        self.chance = types_of(spec)
        self._asked: dict[tuple[int, Type, tuple[int, ...]], dict[int, float]] = {}

    def game(self, types: tuple[Type, Type], moves: tuple[int, ...]) -> ReferenceGame:
        game = ReferenceGame(self.spec, values=[t[0] for t in types], outside=[t[1] for t in types])
        for move in moves:
            assert not game.play(move)
        return game

    def probs(self, game: ReferenceGame, seat: int, own: Type) -> dict[int, float]:
        key = seat, own, tuple(game.moves)
        if key not in self._asked:
            obs = game.observation()
            width = self.policies[seat].spec.observation_dim
            told = self.policies[seat].action_probs(obs[:width], game.action_mask())
            self._asked[key] = {action: float(p) for action, p in enumerate(told) if p > 0}
        return self._asked[key]

    def payoff(self, game: ReferenceGame, seat: int) -> float:
        points = game.bundle_value(seat, game.offer) if game.outcome == DEAL else game.outside[seat]
        return points / game.totals[seat] * self.spec.discount**game.round

    def play(self, types: tuple[Type, Type], moves: tuple[int, ...] = ()) -> NDArray[np.float64]:
        """Returns the expected payoffs of a deal and the probability of agreement, `[3]`."""
        game = self.game(types, moves)
        if game.finished:
            return np.array([self.payoff(game, 0), self.payoff(game, 1), float(game.outcome == DEAL)])
        told = self.probs(game, game.mover, types[game.mover])
        total: NDArray[np.float64] = sum(
            (p * self.play(types, (*moves, action)) for action, p in told.items()), np.zeros(3)
        )
        return total

    def expected(self) -> NDArray[np.float64]:
        """Returns both payoffs and the agreement rate, `[3]`."""
        pairs = itertools.product(self.chance.items(), repeat=2)
        total: NDArray[np.float64] = sum((p * q * self.play((a, b)) for (a, p), (b, q) in pairs), np.zeros(3))
        return total

    def best(self, seat: int, own: Type, moves: tuple[int, ...], beliefs: dict[Type, float]) -> float:
        """Returns the most that a type can still earn, where the opponent's types have the weights `beliefs`."""
        games = {other: self.game((own, other) if seat == 0 else (other, own), moves) for other in beliefs}
        game = next(iter(games.values()))
        if game.finished:
            return sum(weight * self.payoff(games[other], seat) for other, weight in beliefs.items())
        if game.mover == seat:
            return max(self.best(seat, own, (*moves, a), beliefs) for a in np.flatnonzero(game.action_mask()).tolist())
        told = {other: self.probs(games[other], 1 - seat, other) for other in beliefs}
        total = 0.0
        for action in sorted({action for probs in told.values() for action in probs}):
            reached = {other: w * told[other].get(action, 0.0) for other, w in beliefs.items() if action in told[other]}
            total += self.best(seat, own, (*moves, action), reached)
        return total

    def best_values(self, seat: int) -> dict[Type, float]:
        """Returns the best response's expected payoff of each own type."""
        return {own: self.best(seat, own, (), self.chance) for own in self.chance}

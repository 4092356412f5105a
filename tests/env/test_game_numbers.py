"""The game's exact reference numbers, measured on the engine alone.

Each game is counted once whatever its length: stopping at the first games to finish would favour short ones.
"""

from __future__ import annotations

import numpy as np
from bargain_env import make_engine
from numpy.typing import NDArray

GAMES_PLAYED, BATCH = 200_000, 20_000
ALWAYS_WALK = 0.50104068  # E[outside / own total], by enumeration
RANDOM_PAYOFF = 0.500527  # random against random, each seat
RANDOM_AGREEMENT = 40 / 81


def _play(walk: bool, seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Returns rewards `[games, 2]` and whether each game ended in a deal."""
    engine = make_engine(num_envs=BATCH, seed=seed, autoreset=False)
    rewards, deals = [], []
    for _ in range(GAMES_PLAYED // BATCH):
        engine.reset()
        total = np.zeros((BATCH, 2))
        for step in range(engine.spec.max_turns):
            engine.step(np.full(BATCH, engine.spec.walk_action) if walk else engine.random_actions(step))
            total += engine.reward
        assert engine.terminated.all()
        assert np.all((total > 0) & (total <= 1) | (engine.outcome == 1)[:, None])
        rewards.append(total)
        deals.append(engine.outcome == 1)
    return np.concatenate(rewards), np.concatenate(deals)


def _assert_mean(sample: NDArray[np.float64], expected: float) -> None:
    error = sample.std() / np.sqrt(len(sample))
    assert abs(sample.mean() - expected) < 4 * error, f"{sample.mean():.6f} +- {error:.6f}, expected {expected}"


def test_random_against_random() -> None:
    rewards, deals = _play(walk=False, seed=2024)
    for seat in range(2):
        _assert_mean(rewards[:, seat], RANDOM_PAYOFF)
    _assert_mean(deals.astype(float), RANDOM_AGREEMENT)
    again, _ = _play(walk=False, seed=2024)
    assert np.array_equal(again, rewards)


def test_always_walk() -> None:
    rewards, deals = _play(walk=True, seed=2025)
    assert not deals.any()
    for seat in range(2):
        _assert_mean(rewards[:, seat], ALWAYS_WALK)

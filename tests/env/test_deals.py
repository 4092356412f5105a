"""The law of the deals, and that a deal is a pure function of (seed, game, episode).

A chi-square statistic with k degrees of freedom is compared through its mean k and variance 2k; with 4.5 standard
deviations and fixed seeds a false alarm is out of the question, and a modulo bias of one part in a thousand is seen.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.reference import _Draws, deal, outside_bounds, philox4x32
from numpy.typing import NDArray

DEALS = 100_000


def _assert_uniform(counts: NDArray[np.int64]) -> None:
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - freedom) < 4.5 * np.sqrt(2 * freedom), f"chi-square {chi_square:.0f} for {freedom}"


def _dealt(spec: GameSpec, seed: int = 11) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    state = make_engine(spec, DEALS, seed=seed).get_state()
    return state["values"].astype(np.int64), state["outside"].astype(np.int64)


def _fraction(rng: np.random.Generator, offset: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.float64]:
    """The randomised probability transform of a uniform integer in 0 .. width - 1: uniform on [0, 1) exactly."""
    return (offset + rng.random(offset.shape)) / width


def test_values_are_uniform_for_each_seat_and_type() -> None:
    values, _ = _dealt(GameSpec())
    assert (values.min(), values.max()) == (1, 100)
    for seat, item in itertools.product(range(2), range(3)):
        _assert_uniform(np.bincount(values[:, seat, item] - 1, minlength=100))


@pytest.mark.parametrize("outside_range", [(0.0, 1.0), (0.1, 0.5), (0.25, 0.25)])
def test_outside_offers_are_uniform_integers_of_their_interval(outside_range: tuple[float, float]) -> None:
    spec = GameSpec(outside_range=outside_range)
    values, outside = _dealt(spec)
    totals = values @ np.array(spec.item_quantities)
    low_units, high_units = spec.outside_units
    low = np.maximum(1, -(-low_units * totals // 10_000))
    high = np.maximum(low, high_units * totals // 10_000)
    assert np.all((low <= outside) & (outside <= high))
    uniform = _fraction(np.random.default_rng(0), outside - low, high - low + 1)
    for seat in range(2):
        _assert_uniform(np.bincount((uniform[:, seat] * 100).astype(int), minlength=100))
        small = totals[:, seat] < 400
        _assert_uniform(np.bincount((uniform[small, seat] * 20).astype(int), minlength=20))


def test_all_parts_of_a_deal_are_independent() -> None:
    spec = GameSpec()
    values, outside = _dealt(spec)
    totals = values @ np.array(spec.item_quantities)
    uniform = _fraction(np.random.default_rng(1), outside - 1, totals)
    parts = [(values[:, seat, item] - 1) // 10 for seat in range(2) for item in range(3)]
    parts += [(uniform[:, seat] * 10).astype(int) for seat in range(2)]
    for first, second in itertools.combinations(parts, 2):
        _assert_uniform(np.bincount(first * 10 + second, minlength=100))
    for part in parts:
        _assert_uniform(np.bincount(part[:-1] * 10 + part[1:], minlength=100))  # neighbouring games


def test_an_interval_emptied_by_rounding_deals_its_lower_end() -> None:
    spec = GameSpec(item_quantities=(1, 1), max_value=2, outside_range=(0.3, 0.4))
    assert [outside_bounds(spec, total) for total in (2, 3, 4)] == [(1, 1), (1, 1), (2, 2)]
    values, outside = _dealt(spec)
    assert np.array_equal(outside, np.where(values.sum(axis=2) == 4, 2, 1))
    assert outside_bounds(GameSpec(outside_range=(0.0, 0.0)), 1200) == (1, 1)


def test_different_seeds_deal_disjoint_games() -> None:
    def deals(seed: int) -> set[bytes]:
        engine, seen = make_engine(num_envs=200, seed=seed), set()
        for _ in range(50):
            engine.reset()
            state = engine.get_state()
            rows = np.concatenate([state["values"].reshape(200, -1), state["outside"]], axis=1)
            seen |= {row.tobytes() for row in rows}
        return seen

    first, second, far = deals(42), deals(43), deals(2**63)
    assert len(first) == len(second) == len(far) == 10_000
    assert first.isdisjoint(second)
    assert first.isdisjoint(far)


@pytest.mark.parametrize(
    ("seed", "game", "episode"),
    [(0, 0, 0), (2**64 - 1, 2**32 + 5, 2**32 + 7), (2**32, 2**62, 2**55 + 3), (1, 2**32, 2**32 - 1)],
)
def test_high_words_of_seed_game_and_episode_count(seed: int, game: int, episode: int) -> None:
    engine = make_engine(num_envs=3, seed=seed, first_game=game)
    engine.set_state(engine.get_state() | {"episode": np.full(3, episode)})
    engine.reset()
    state = engine.get_state()
    dealt = [deal(GameSpec(), seed, game + row, episode + 1) for row in range(3)]
    assert state["values"].tolist() == [values for values, _ in dealt]
    assert state["outside"].tolist() == [outside for _, outside in dealt]
    neighbours = [deal(GameSpec(), *key) for key in ((seed ^ 2**32, game, 0), (seed, game ^ 2**32, 0))]
    assert all(neighbour != deal(GameSpec(), seed, game, 0) for neighbour in neighbours)


@pytest.mark.parametrize("spec", [GameSpec(), GAMES["mini-a"]], ids=["default", "mini-a"])
def test_a_deal_depends_on_nothing_but_its_key(spec: GameSpec) -> None:
    expected = [deal(spec, 9, game, 2) for game in range(20)]
    for num_envs, first_game, threads in ((1, 3, 1), (5, 0, 2), (20, 0, 1), (17, 3, 3)):
        engine = make_engine(spec, num_envs, seed=9, first_game=first_game, threads=threads)
        for _ in range(3):
            engine.reset()
        state = engine.get_state()
        rows = expected[first_game : first_game + num_envs]
        assert state["values"].tolist() == [values for values, _ in rows]
        assert state["outside"].tolist() == [outside for _, outside in rows]


def test_integers_below_a_bound_are_unbiased() -> None:
    # Without rejection the multiples of 3 below 3 * 2**30 come up twice as often as the other numbers.
    draws = _Draws(5, 0, 0, 0, 10_000)
    drawn = np.array([draws.below(3 * 2**30) for _ in range(20_000)])
    _assert_uniform(np.bincount(drawn % 3, minlength=3))
    _assert_uniform(np.bincount(drawn >> 25, minlength=96))


def test_cpp_rejects_the_same_words() -> None:
    width = 2**24 - 65_000  # 1 word in 258 is rejected
    spec = GameSpec(item_quantities=(1,), max_value=width)
    state = make_engine(spec, 20_000, seed=3).get_state()
    dealt = [deal(spec, 3, game, 0) for game in range(20_000)]
    assert state["values"][:, :, 0].tolist() == [[row[0] for row in values] for values, _ in dealt]
    assert state["outside"].tolist() == [outside for _, outside in dealt]
    first_words = np.array([philox4x32((game, 0, 0, 0), (3, 0))[0] for game in range(20_000)])
    unrejected = 1 + (first_words * width >> 32)
    assert 40 < np.sum(unrejected != state["values"][:, 0, 0]) < 130

"""What the engine promises beyond parity: state, resets, finished rows, records and its answers to bad arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bargain_env import GameSpec, make_engine
from bargain_env.engine import STATE_KEYS
from bargain_env.testing import check_freshness, snapshot

SPEC = GameSpec()
ACCEPT, WALK = SPEC.accept_action, SPEC.walk_action

NewEngine = Callable[..., Any]


@pytest.fixture(params=["C++", "CUDA"])
def new_engine(request: pytest.FixtureRequest) -> NewEngine:
    """Returns the maker of an engine over numpy arrays: the C++ one, and the CUDA kernels compiled for the host."""
    make: Callable[..., Any] = make_engine
    if request.param == "CUDA":
        pytest.importorskip("torch")
        pytest.importorskip("cuda.core")
        from host_launcher import numpy_engine

        make = numpy_engine
    return lambda num_envs=50, **arguments: make(arguments.pop("spec", SPEC), num_envs, **arguments)


def _play(engine: Any, *actions: int) -> None:
    for action in actions:
        engine.step(np.full(engine.num_envs, action))


# State --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 9])
def test_state_round_trip_is_neutral_in_mid_game(new_engine: NewEngine, steps: int) -> None:
    engine, other = new_engine(seed=4), new_engine(seed=4, threads=2)
    for step in range(steps):
        engine.step(engine.random_actions(step))
    state, drawn = engine.get_state(), engine.random_actions(77)
    assert tuple(state) == STATE_KEYS
    engine.step(drawn)
    after = snapshot(engine)
    for target in (engine, other):
        target.set_state(state)
        assert all(np.array_equal(target.get_state()[name], state[name]) for name in STATE_KEYS)
        assert np.array_equal(target.random_actions(77), drawn)
        target.step(drawn)
        assert all(np.array_equal(shown, after[name]) for name, shown in snapshot(target).items())


def test_state_is_a_copy(new_engine: NewEngine) -> None:
    engine = new_engine()
    engine.get_state()["values"][:] = 1
    state = engine.get_state()
    assert state["values"].max() > 1
    engine.set_state(state)
    state["offer"][:] = 5
    assert np.all(engine.get_state()["offer"] == -1)


@pytest.mark.parametrize(
    ("turn", "offer", "finished", "actions"),
    [
        (1, 3, False, [4]),  # the offer on the table is not the last one made
        (0, 3, False, []),  # an offer before any decision
        (1, -1, False, [3]),
        (2, 3, False, [3, 81]),  # a walk in a game that goes on
        (2, 3, True, [3, 3]),  # a finished game whose last decision is an offer
        (1, -1, True, [80]),  # an acceptance of nothing
        (1, -1, True, [82]),
        (0, -1, True, []),
        (6, 3, False, [3] * 6),  # seat 1 cannot offer in the last round
        (7, 3, True, [3] * 6),
        (127, 3, False, [3] * 6),
        (-1, -1, False, []),
        (1, 3, False, [3, 3]),  # decisions after the turn
        (1, -2, False, [-2]),
    ],
)
def test_impossible_states_are_refused(
    new_engine: NewEngine, turn: int, offer: int, finished: bool, actions: list[int]
) -> None:
    engine = new_engine(3)
    state = engine.get_state()
    state["turn"][1], state["offer"][1], state["finished"][1] = turn, offer, finished
    state["actions"][1, : len(actions)] = actions
    with pytest.raises(ValueError, match=r"^the state of row 1 cannot occur in this game\.$"):
        engine.set_state(state)


# Resets -------------------------------------------------------------------------------------------


def test_explicit_deals(new_engine: NewEngine) -> None:
    engine = new_engine(2)
    values = np.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]])
    outside = np.array([[5, 6], [0, 126]])
    engine.reset(options={"values": values, "outside": outside})
    assert np.array_equal(engine.get_state()["values"], values)
    assert engine.observation[1, :4] == pytest.approx([0.07, 0.08, 0.09, 0.0])
    _play(engine, WALK)
    assert engine.reward[1].tolist() == [0.0, 1.0]
    assert np.array_equal(engine.values, values)
    assert np.array_equal(engine.outside, outside)
    assert not np.array_equal(engine.get_state()["values"], values)


def test_reset_mask_leaves_the_other_rows_alone(new_engine: NewEngine) -> None:
    engine = new_engine(6)
    _play(engine, 3)
    before = snapshot(engine)
    selected = np.array([True, False, True, False, False, True])
    engine.reset(options={"reset_mask": selected})
    after = snapshot(engine)
    for name, array in before.items():
        assert np.array_equal(after[name][~selected], array[~selected]), name
    assert after["state episode"].tolist() == [1, 0, 1, 0, 0, 1]
    assert np.all(after["state turn"][selected] == 0)
    engine.reset(options={"reset_mask": np.zeros(6, bool)})
    assert all(np.array_equal(array, after[name]) for name, array in snapshot(engine).items())


def test_first_reset_deals_episode_zero_and_later_ones_the_next(new_engine: NewEngine) -> None:
    engine = new_engine(3)
    episodes = []
    for seed in (None, None, None, 5, None):
        engine.reset(seed)
        episodes.append(engine.get_state()["episode"].tolist())
    assert episodes == [[0] * 3, [1] * 3, [2] * 3, [0] * 3, [1] * 3]
    fresh = new_engine(3, seed=5)
    fresh.reset()
    fresh.reset()
    assert np.array_equal(fresh.observation, engine.observation)


def test_automatic_resets_show_fresh_games(new_engine: NewEngine) -> None:
    check_freshness(new_engine(60), num_steps=100)
    engine = new_engine(60)
    for step in range(200):
        engine.step(engine.random_actions(step))
        assert not engine.illegal.any()
        opened = engine.observation[engine.terminated]
        assert np.all(opened[:, SPEC.slices["state"]] == 0)


def test_finished_rows_rest_until_told(new_engine: NewEngine) -> None:
    engine = new_engine(8, autoreset=False)
    _play(engine, 3)
    engine.step(np.array([ACCEPT, WALK, 500] + [4] * 5))
    finished = np.arange(8) < 3
    assert np.array_equal(engine.terminated, finished)
    assert engine.illegal.tolist() == [False, False, True] + [False] * 5
    paid = engine.reward[finished].copy()
    assert np.all(paid > 0)
    for action in (0, ACCEPT, WALK, 500, -1):
        engine.step(np.where(finished, action, 4))
        if engine.terminated.all():
            break
        assert np.all(engine.observation[finished] == 0)
        shown = snapshot(engine)
        assert np.all(shown["seat observation"][finished] == 0)
        assert [axis.tolist() for axis in shown["seat action_mask"][finished].nonzero()[1:]] == [
            [0, 1] * 3,
            [SPEC.noop_action, WALK] * 3,
        ]
        assert not engine.action_mask[finished].any()
        assert np.all(engine.mover[finished] == 1)
        assert np.all(engine.reward[finished] == 0)
        assert not engine.illegal[finished].any()
        assert engine.decisions[finished].tolist() == [2, 2, 2]
        assert np.all(engine.random_actions()[finished] == WALK)
    engine.reset(options={"reset_mask": finished})
    assert np.all(engine.observation[finished, SPEC.slices["mask"].start] == 1)
    assert not engine.terminated[finished].any()


# Records and random play --------------------------------------------------------------------------


def test_records_of_known_games(new_engine: NewEngine) -> None:
    engine = new_engine(4)
    dealt = engine.get_state()
    _play(engine, 13)
    engine.step(np.array([ACCEPT, WALK, 99, 20]))
    assert engine.terminated.tolist() == [True, True, True, False]
    assert engine.outcome[:3].tolist() == [1, 2, 2]
    assert engine.offer[:3].tolist() == [13, -1, -1]
    assert engine.decisions[:3].tolist() == [2, 2, 2]
    assert engine.actions[:3].tolist() == [[13, last, -1, -1, -1, -1] for last in (ACCEPT, WALK, WALK)]
    assert engine.game[:3].tolist() == [0, 1, 2]
    assert engine.episode[:3].tolist() == [0, 0, 0]
    assert np.array_equal(engine.values[:3], dealt["values"][:3])
    bundle, totals = SPEC.decode_offer(13), dealt["values"][0] @ np.array(SPEC.item_quantities)
    worth = np.array([dealt["values"][0, 0] @ (SPEC.item_quantities - bundle), dealt["values"][0, 1] @ bundle])
    assert np.array_equal(engine.reward[0], worth.astype(np.float32) / totals.astype(np.float32))
    walked = dealt["outside"][1].astype(np.float32) / (dealt["values"][1] @ [7, 4, 1]).astype(np.float32)
    assert np.array_equal(engine.reward[1], walked)


def test_discount_counts_completed_rounds(new_engine: NewEngine) -> None:
    spec = GameSpec(discount=0.5)
    engine = new_engine(4, spec=spec, autoreset=False)
    plain = new_engine(4, autoreset=False)
    _play(engine, 3, 3, 3, WALK)
    _play(plain, WALK)
    assert np.array_equal(engine.reward, plain.reward * np.float32(0.5))


@pytest.mark.parametrize(("turn", "legal"), [(0, 81), (1, 82), (5, 2)])
def test_random_actions_are_uniform_over_the_legal_ones(new_engine: NewEngine, turn: int, legal: int) -> None:
    engine = new_engine(41_000, seed=turn)
    _play(engine, *[7] * turn)
    drawn = engine.random_actions(3)
    assert engine.action_mask[np.arange(len(drawn)), drawn].all()
    counts = np.bincount(drawn, minlength=82)[engine.action_mask[0]]
    assert len(counts) == legal
    expected = len(drawn) / legal
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_square - (legal - 1)) < 4.5 * np.sqrt(2 * (legal - 1))
    assert np.mean(drawn == engine.random_actions(4)) < 0.55


def test_random_actions_fill_a_given_array(new_engine: NewEngine) -> None:
    engine = new_engine(5)
    out = np.zeros(5, np.int64)
    assert engine.random_actions(2, out=out) is out
    assert np.array_equal(out, engine.random_actions(2))


def test_step_takes_32_and_64_bits_and_strided_arrays(new_engine: NewEngine) -> None:
    engines = [new_engine(8) for _ in range(3)]
    actions = np.array([3, 80, 81, -1, 2**31 - 1, -(2**31), 0, 79])
    engines[0].step(actions)
    engines[1].step(actions.astype(np.int32))
    engines[2].step(np.repeat(actions, 2)[::2])
    for engine in engines[1:]:
        assert all(np.array_equal(array, snapshot(engines[0])[name]) for name, array in snapshot(engine).items())


def test_views_are_read_only() -> None:
    engine = make_engine()
    with pytest.raises(ValueError, match="read-only"):
        engine.observation[:] = 0

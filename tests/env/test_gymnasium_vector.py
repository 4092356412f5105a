"""The vector view: whole games against the reference rules, Gymnasium's own conventions, and exact numbers."""

from __future__ import annotations

import copy
import functools
import pickle
from collections import defaultdict
from typing import Any

import gymnasium
import numpy as np
import pytest
from bargain_env import GAMES, BargainGymEnv, BargainVectorEnv, GameSpec
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium_games import SPECS, Played, Record, Step, decline, odd_policy, over, play_vector, reference_game
from numpy.typing import NDArray

SPEC = GameSpec()
ACCEPT, WALK = SPEC.accept_action, SPEC.walk_action
MODES = list(AutoresetMode)
SEATS: list[Any] = [0, 1, "alternate"]
SIZE = 11


def _games(env: BargainVectorEnv, steps: int, seed: int | None = None) -> dict[tuple[int, int], Played]:
    """Returns the games that ended, by row and episode."""
    episodes, running = [0] * env.num_envs, defaultdict(list)
    played, was_over = {}, np.zeros(env.num_envs, bool)
    for observation, actions, (_, rewards, terminated, truncated, infos) in play_vector(env, steps, seed):
        assert not truncated.any()
        ends = infos.get("final_info", infos)
        for row in np.flatnonzero(~was_over):
            step = Step(observation[row].tobytes(), int(actions[row]), float(rewards[row]), bool(terminated[row]))
            running[row].append(step)
        for row in np.flatnonzero(terminated):
            assert all(ends[f"_{name}"][row] for name in Record._fields)
            record = Record(*(ends[name][row].item() for name in Record._fields))
            played[int(row), episodes[row]] = running.pop(row), record
            episodes[row] += 1
        was_over = terminated if env.autoreset_mode is AutoresetMode.NEXT_STEP else np.zeros(env.num_envs, bool)
    return played


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seat", SEATS)
@pytest.mark.parametrize("random_opponent", [True, False])
def test_every_mode_plays_the_games_of_the_reference(name: str, seat: Any, random_opponent: bool) -> None:
    spec = SPECS[name]
    opponent = None if random_opponent else odd_policy(spec)
    found = {}
    for mode in MODES:
        env = BargainVectorEnv(
            spec, SIZE, seat=seat, opponent=opponent, seed=8, autoreset_mode=mode, first_game=3, threads=2
        )
        found[mode] = _games(env, 40)
        for (row, episode), game in found[mode].items():
            sits = (3 + row + episode) % 2 if seat == "alternate" else seat
            expected = reference_game(spec, 8, 3 + row, episode, sits, random_opponent)
            if not any(expected[0][0].observation[:16]):
                expected[0][0] = expected[0][0]._replace(action=game[0][0].action)  # whatever was played, it walked
            assert game == expected
    games = [set(one) for one in found.values()]
    assert min(map(len, games)) > 2 * SIZE
    assert len(set.intersection(*games)) > SIZE
    assert (
        _games(BargainVectorEnv(spec, SIZE, seat=seat, opponent=opponent, first_game=3), 40, seed=8) == found[MODES[1]]
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seat", SEATS)
@pytest.mark.parametrize("flat", [True, False])
def test_equals_gymnasiums_vectorisation_of_the_single_view(mode: AutoresetMode, seat: Any, flat: bool) -> None:
    """Observations, rewards, flags and every info, `final_obs` and (without its mask) `final_info` included."""
    same: dict[str, Any] = {"seat": seat, "opponent": odd_policy(SPEC), "seed": 5, "flat": flat}
    env = BargainVectorEnv(num_envs=SIZE, autoreset_mode=mode, **same)
    rows = [functools.partial(BargainGymEnv, first_game=row, **same) for row in range(SIZE)]
    theirs = SyncVectorEnv(rows, autoreset_mode=mode)
    assert env.observation_space == theirs.observation_space
    assert env.action_space == theirs.action_space
    assert env.metadata["autoreset_mode"] is env.autoreset_mode is mode
    assert data_equivalence(env.reset(), theirs.reset())
    rng = np.random.default_rng(1)
    for _ in range(40):
        legal = env.action_masks()
        assert np.array_equal(legal, theirs.call("action_masks"))
        actions = np.array([rng.choice(np.flatnonzero(row)) for row in legal])
        actions[rng.random(SIZE) < 0.05] = 99
        got, expected = list(env.step(actions)), list(theirs.step(actions))
        expected[1] = expected[1].astype(np.float32)
        final = expected[4].get("final_info", {})
        for name in ("action_mask", "_action_mask"):  # which would say each time that only walk is legal
            final.pop(name, None)
        assert data_equivalence(got, expected)
        assert env.observation_space.contains(got[0])
        if mode is AutoresetMode.DISABLED and got[2].any():
            again: dict[str, Any] = {"reset_mask": got[2]}
            assert data_equivalence(env.reset(options=again)[0], theirs.reset(options=dict(again))[0])


ALWAYS_WALK, RANDOM = 0.50104068, 0.500527
GREEDY = {0: 0.7505, 1: 0.6546}  # against random, by enumeration, in seat 0 and 1


def _accept(observation: Any, action_mask: Any) -> NDArray[np.int64]:
    return np.full(len(observation), GAMES["mini-c"].accept_action)


def _greedy(observation: Any, action_mask: Any) -> NDArray[np.int64]:
    """Seat 0 offers nothing; seat 1 accepts what is worth its outside offer, else walks."""
    seen = SPEC.read_observation(observation)
    accept = (seen.values * seen.offer).sum(axis=1) >= seen.outside
    return np.where(seen.seat == 0, 0, np.where(accept, ACCEPT, WALK))


def _mean_of_one_game_each(policy: Any, seed: int, opponent: Any = None, **options: Any) -> tuple[float, float]:
    """Returns the learner's mean payoff and its standard error over one whole game of every row."""
    env = BargainVectorEnv(num_envs=60_000, opponent=opponent, seed=seed, **options)
    observation, infos = env.reset()
    earned, going = np.zeros(env.num_envs), np.ones(env.num_envs, bool)
    while going.any():
        actions = policy(observation, infos["action_mask"]) if policy else env.engine.random_actions(stream=1)
        observation, rewards, terminated, _, infos = env.step(actions)
        earned[going] += rewards[going]
        going &= ~terminated
    return float(earned.mean()), float(earned.std() / np.sqrt(env.num_envs))


@pytest.mark.parametrize(
    ("policy", "opponent", "seat", "expected"),
    [
        (decline, None, 0, ALWAYS_WALK),
        (decline, None, 1, ALWAYS_WALK),
        (decline, _greedy, "alternate", ALWAYS_WALK),
        (None, None, 0, RANDOM),
        (None, None, 1, RANDOM),
        (_greedy, None, 0, GREEDY[0]),
        (_greedy, None, 1, GREEDY[1]),
        (_greedy, None, "alternate", (GREEDY[0] + GREEDY[1]) / 2),
        (None, _greedy, 0, 0.4509),
        (None, _greedy, 1, 0.2505),
        (_greedy, decline, 1, ALWAYS_WALK),
    ],
)
def test_reference_numbers(policy: Any, opponent: Any, seat: Any, expected: float) -> None:
    mean, error = _mean_of_one_game_each(policy, 31, opponent, seat=seat)
    assert abs(mean - expected) < 4 * error + 5e-5, f"{mean:.5f} +- {error:.5f}"


@pytest.mark.parametrize("mode", MODES)
def test_a_game_that_ends_before_the_learner_moves_is_one_step(mode: AutoresetMode) -> None:
    env = BargainVectorEnv(num_envs=6, seat=1, opponent=decline, seed=2, autoreset_mode=mode)
    observation, infos = env.reset()
    for action in (WALK, 5, ACCEPT, -7):
        assert np.array_equal(observation, np.tile(over(SPEC), (6, 1)))
        assert np.array_equal(infos["action_mask"], observation[:, SPEC.slices["mask"]])
        outside = (env.engine.outside / (env.engine.values @ np.array(SPEC.item_quantities)))[:, 1]
        observation, rewards, terminated, _, infos = env.step(np.full(6, action))
        ends = infos.get("final_info", infos)
        assert terminated.all()
        assert rewards == pytest.approx(outside)
        assert ends["decisions"].tolist() == [1] * 6
        assert not ends["illegal"].any()
        if mode is AutoresetMode.NEXT_STEP:
            observation, rewards, terminated, _, infos = env.step(np.full(6, WALK))
            assert not terminated.any()
            assert not rewards.any()
        elif mode is AutoresetMode.DISABLED:
            observation, infos = env.reset(options={"reset_mask": terminated})


@pytest.mark.parametrize("mode", MODES)
def test_infos_say_who_made_an_illegal_move(mode: AutoresetMode) -> None:
    def wild(observation: Any, action_mask: Any) -> NDArray[np.int64]:
        return np.full(len(observation), 200)

    for seat in (0, 1):
        env = BargainVectorEnv(num_envs=4, seat=seat, opponent=wild, autoreset_mode=mode, seed=1)
        env.reset()
        infos = env.step(np.array([3, 3, 99, 3]))[4]
        ends = infos.get("final_info", infos)
        mine = [False, False, seat == 0, False]
        assert ends["illegal"].tolist() == mine
        assert ends["opponent_illegal"].tolist() == [not one for one in mine]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_any_integer_dtype_plays(dtype: type) -> None:
    wild = [
        3,
        79,
        ACCEPT,
        WALK,
        82,
        127,
        np.iinfo(dtype).max,
        np.iinfo(dtype).min or 100,
        256 + 3,
        2**32 + 3,
        2**63 + 3,
    ]
    actions: Any = np.array([action for action in wild if action <= np.iinfo(dtype).max], dtype)
    env = BargainVectorEnv(num_envs=len(actions), seed=1)
    env.reset()
    ended = ~np.isin(actions, [3, 79])
    env.opponent = lambda observation, _: np.full(len(observation), 4, dtype)
    _, _, terminated, _, infos = env.step(actions)
    assert np.array_equal(terminated, ended)
    assert np.array_equal(infos["final_info"]["illegal"], ended & (actions != WALK))
    assert not infos["final_info"]["opponent_illegal"].any()


@pytest.mark.parametrize("seat", [0, 1])
def test_copies_unless_told_otherwise(seat: Any) -> None:
    copying, sharing = (BargainVectorEnv(num_envs=SIZE, seat=seat, seed=4, copy=copy) for copy in (True, False))
    kept = list(play_vector(copying, 20))
    then = [copy.deepcopy(step) for step in play_vector(copying, 20, seed=4)]
    assert data_equivalence(kept, then)
    for (_, *shared), (_, *copied) in zip(play_vector(sharing, 20), then, strict=True):
        assert data_equivalence(shared, copied)
    sharing.reset(seed=4)
    for _, actions, copied in then:
        own = sharing.step(actions)
        assert data_equivalence(own, copied)
        for array in (own[0], own[4]["action_mask"]):  # the caller may write into them
            array[...] = 1
    assert np.shares_memory(sharing.reset(seed=4)[0], sharing.reset()[0])
    assert not np.shares_memory(copying.reset(seed=4)[0], copying.reset()[0])


@pytest.mark.parametrize("mode", MODES)
def test_what_is_handed_out_may_be_written_into(mode: AutoresetMode) -> None:
    first, second = (BargainVectorEnv(num_envs=SIZE, seat="alternate", seed=4, autoreset_mode=mode) for _ in range(2))
    results = zip(play_vector(first, 20), play_vector(second, 20), strict=True)
    for (_, actions, result), (_, same_actions, same) in results:
        assert data_equivalence((actions, result[1:]), (same_actions, same[1:]))
        infos = result[4]
        arrays = [result[1], result[3], *infos.values(), *infos.get("final_info", {}).values()]
        if mode is not AutoresetMode.DISABLED:  # where the terminations are the mask of the next reset
            arrays.append(result[2])
        for array in arrays:
            if isinstance(array, np.ndarray):
                array[...] = 1


def test_reset_takes_deals_and_a_mask() -> None:
    values, outside = np.array([[10, 20, 30], [40, 50, 60]]), np.array([7, 8])
    deals = {"values": np.stack([values] * 4), "outside": np.stack([outside] * 4)}
    env = BargainVectorEnv(num_envs=4, seat="alternate", seed=3)
    first, infos = env.reset(options=deals)
    assert infos["seat"].tolist() == [0, 1, 0, 1]
    assert first[0, :4] == pytest.approx([0.1, 0.2, 0.3, 7 / 180])
    assert first[1, :4] == pytest.approx([0.4, 0.5, 0.6, 8 / 540])
    rows = np.array([True, True, False, False])
    again, infos = env.reset(options={"reset_mask": rows})
    assert infos["seat"].tolist() == [1, 0, 0, 1]
    assert np.array_equal(again[~rows], first[~rows])
    assert (again[rows] != first[rows]).any(axis=1).all()
    _, infos = env.reset(seed=3)
    assert infos["seat"].tolist() == [0, 1, 0, 1]
    first = env.reset(seed=3)
    assert data_equivalence(first, env.reset(seed=3, options={"values": None, "outside": None, "reset_mask": None}))
    fresh = BargainVectorEnv(num_envs=4, seat="alternate", seed=3)
    assert data_equivalence(first, fresh.reset(options={"reset_mask": None}))


def test_copies_are_built_anew_from_the_arguments() -> None:
    options: dict[str, Any] = {"seat": "alternate", "opponent": _accept, "seed": 4, "flat": False, "copy": False}
    first = BargainVectorEnv(GAMES["mini-c"], 5, autoreset_mode="NextStep", threads=2, first_game=2, **options)
    first.reset()
    first.step(np.zeros(5, int))
    for second in (pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
        assert second.spec_of_game == GAMES["mini-c"]
        assert (second.autoreset_mode, _threads(second)) == (AutoresetMode.NEXT_STEP, 2)
        assert second.opponent is _accept
        assert data_equivalence(second.reset(), first.reset(seed=4))
        assert np.shares_memory(second.reset()[0]["observation"], second.reset()[0]["observation"])


def test_threads_reach_the_engine() -> None:
    assert _threads(BargainVectorEnv(num_envs=8, threads=2)) == 2


def _threads(env: BargainVectorEnv) -> int:
    engine: Any = env.engine
    return int(engine.threads)


def test_a_reset_forgets_what_was_not_shown_yet() -> None:
    """An opening that ended a game pays nothing once that game has been dealt anew."""
    env = BargainVectorEnv(num_envs=3, seat=1, opponent=lambda observation, _: np.full(len(observation), 200), seed=2)
    env.reset()
    env.opponent = lambda observation, _: np.zeros(len(observation), int)
    env.reset()
    _, rewards, terminated, _, infos = env.step(np.array([5, 5, WALK]))
    assert terminated.tolist() == [False, False, True]
    assert not rewards[:2].any()
    assert rewards[2] < 1
    assert not infos["final_info"]["opponent_illegal"].any()


def test_seeds() -> None:
    def first(**options: Any) -> Any:
        seed = options.pop("reset", None)
        return BargainVectorEnv(num_envs=5, **options).reset(seed=seed)[0]

    assert np.array_equal(first(seed=1), first(seed=2, reset=1))
    assert not np.array_equal(first(seed=1), first(seed=2))
    assert not np.array_equal(first(), first())
    assert np.array_equal(first(seed=1)[2:], BargainVectorEnv(num_envs=3, seed=1, first_game=2).reset()[0])


def test_the_mask_stands_in_three_places() -> None:
    env = BargainVectorEnv(num_envs=SIZE, seat=1, seed=1, flat=False)
    observation, infos = env.reset()
    for _ in range(10):
        legal = env.action_masks()
        assert legal.dtype == bool
        assert np.array_equal(legal, observation["action_mask"])
        assert np.array_equal(legal, infos["action_mask"])
        assert np.array_equal(legal, observation["observation"][:, SPEC.slices["mask"]])
        assert observation["action_mask"].dtype == np.int8
        actions = np.array([env.single_action_space.sample(row.astype(np.int8)) for row in legal])
        observation, *_, infos = env.step(actions)


def test_gymnasiums_vector_wrappers() -> None:
    vector = gymnasium.wrappers.vector
    stats = vector.RecordEpisodeStatistics(BargainVectorEnv(num_envs=50, seed=1, autoreset_mode="NextStep"))
    env = vector.DictInfoToList(vector.NormalizeReward(vector.NormalizeObservation(stats)))
    env.reset()
    for _ in range(30):
        *_, infos = env.step(np.full(50, WALK))
        assert len(infos) == 50
    assert stats.episode_count == 750
    assert set(stats.length_queue) == {1}
    assert 0 < np.mean(stats.return_queue) < 1


def test_torchrl_wraps_it() -> None:
    torch = pytest.importorskip("torch")
    torchrl_envs = pytest.importorskip("torchrl.envs")
    for mode, flat in (
        (AutoresetMode.DISABLED, True),
        (AutoresetMode.DISABLED, False),
        (AutoresetMode.SAME_STEP, True),
    ):
        env = torchrl_envs.GymWrapper(
            BargainVectorEnv(num_envs=8, seat=1, seed=1, flat=flat, autoreset_mode=mode),
            categorical_action_encoding=True,
        )
        torch.manual_seed(0)
        steps = env.rollout(40, break_when_any_done=False)
        reward, done = steps["next", "reward"], steps["next", "done"]
        assert tuple(steps["observation"].shape) == (8, 40, SPEC.observation_dim)
        assert ("action_mask" in steps) is not (mode is AutoresetMode.DISABLED and flat)
        assert done.sum() > 50
        assert not reward[~done].any()
        assert reward[done].mean() > 0.3
        after = steps["observation"][:, 1:][done[:, :-1, 0]]
        assert torch.equal(after[:, SPEC.slices["state"]][:, 1], torch.zeros(len(after)))


def test_bad_calls_are_one_sentence() -> None:
    env = BargainVectorEnv(num_envs=3, autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(RuntimeError, match=r"^call reset before step\.$"):
        env.step(np.zeros(3, int))
    with pytest.raises(RuntimeError, match=r"^the first reset deals all games; it takes no reset_mask\.$"):
        env.reset(options={"reset_mask": np.ones(3, bool)})
    env.reset()
    for wrong in (np.zeros(3), np.zeros((3, 1), int), 5, None):
        with pytest.raises(ValueError, match=r"^actions must be integers of shape \(3,\), got .*\.$"):
            env.step(wrong)
    env.step(np.array([WALK, 0, 0]))
    with pytest.raises(RuntimeError, match=r"^a game has ended; reset it before the next step\.$"):
        env.step(np.zeros(3, int))
    with pytest.raises(ValueError, match=r"^reset_mask must have shape \(3,\) and dtype bool, got .*\.$"):
        env.reset(options={"reset_mask": np.ones(3, int)})
    with pytest.raises(ValueError, match="unknown reset options: mask"):
        env.reset(options={"mask": np.ones(3, bool)})
    with pytest.raises(ValueError, match=r'^seat must be 0, 1 or "alternate", got 2\.$'):
        BargainVectorEnv(seat=2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^opponent must be a function of .*, got 'greedy'\.$"):
        BargainVectorEnv(opponent="greedy")  # type: ignore[arg-type]
    for wrong_seat in (True, False, 1.0, np.bool_(True), None, "0"):
        with pytest.raises(ValueError, match=r'^seat must be 0, 1 or "alternate", got '):
            BargainVectorEnv(seat=wrong_seat)  # type: ignore[arg-type]
    assert BargainVectorEnv(seat=np.int64(1)).reset()[1]["seat"].tolist() == [1]  # type: ignore[arg-type]
    wanted = r"^autoreset_mode must be an AutoresetMode or one of NextStep, SameStep, Disabled, got 'DISABLED'\.$"
    with pytest.raises(ValueError, match=wanted):
        BargainVectorEnv(autoreset_mode="DISABLED")
    with pytest.raises(ValueError, match=r"^spec must be a GameSpec"):
        BargainVectorEnv("mini-a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^num_envs must lie between 1 and"):
        BargainVectorEnv(num_envs=0)
    env.reset()
    env.close()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        env.reset()
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
            env.step(np.zeros(3, int))

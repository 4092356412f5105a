import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GameSpec
from bargain_eval.baselines import AlwaysWalkPolicy, FairSplitPolicy, GreedyPolicy, RandomPolicy
from bargain_eval.equilibria import TioliPolicy
from bargain_eval.mixture import Mixture
from bargain_eval.policy import (
    HasMemory,
    HasProbabilities,
    NumpyPolicy,
    Policy,
    PolicyRequest,
    read_bool,
    sample_actions,
)
from numpy.typing import NDArray

SPEC = GameSpec()
POLICIES: list[type[NumpyPolicy]] = [RandomPolicy, GreedyPolicy, AlwaysWalkPolicy, FairSplitPolicy, TioliPolicy]
Rows = tuple[NDArray[np.float32], NDArray[np.bool_]]


def rows(count: int, turn: int, spec: GameSpec = SPEC, seed: int = 0) -> Rows:
    """Observations and masks of `count` games after `turn` random offers."""
    rng = np.random.default_rng(seed)
    games = [ReferenceGame(spec, seed, game) for game in range(count)]
    for game in games:
        for _ in range(turn):
            game.play(int(rng.integers(spec.num_offers)))
    return np.stack([game.observation() for game in games]), np.stack([game.action_mask() for game in games])


def pinned(values: list[list[int]], outside: list[int], moves: list[int], spec: GameSpec = SPEC) -> Rows:
    game = ReferenceGame(spec, values=values, outside=outside)
    for move in moves:
        assert not game.play(move)
    return game.observation(), game.action_mask()


@pytest.mark.parametrize("make", POLICIES)
@pytest.mark.parametrize("turn", range(6))
def test_every_action_is_legal_and_has_its_stated_probability(make: type[NumpyPolicy], turn: int) -> None:
    obs, mask = rows(40, turn)
    policy = make()
    actions, probs = policy.get_action(obs, mask), policy.action_probs(obs, mask)
    assert actions.shape == (40,)
    assert actions.dtype == np.int64
    assert mask[np.arange(40), actions].all()
    assert probs.shape == mask.shape
    assert not probs[~mask].any()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)
    assert (probs[np.arange(40), actions] > 0).all()
    if make is not RandomPolicy:
        assert (probs.max(axis=1) == 1).all()


@pytest.mark.parametrize("make", POLICIES)
def test_one_row_a_batch_and_a_tensor_are_answered_alike(make: type[NumpyPolicy]) -> None:
    torch = pytest.importorskip("torch")
    obs, mask = rows(8, 2)
    batch = make(seed=5).get_action(obs, mask)
    policy = make(seed=5)
    singles = [policy.get_action(obs[n], mask[n]) for n in range(8)]
    assert all(np.ndim(action) == 0 and isinstance(action, np.int64) for action in singles)
    assert singles == batch.tolist()
    tensor = make(seed=5).get_action(torch.from_numpy(obs), torch.from_numpy(mask))
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.int64
    assert tensor.tolist() == batch.tolist()
    one = make(seed=5).get_action(torch.from_numpy(obs[0]), torch.from_numpy(mask[0]))
    assert one.shape == ()
    probs = make().action_probs(torch.from_numpy(obs[0]), torch.from_numpy(mask[0]))
    assert probs.shape == (82,)


def test_numpy_policies_leave_torch_alone() -> None:
    code = (
        "import sys, numpy as np\n"
        "from bargain_eval import RandomPolicy, FairSplitPolicy, TioliPolicy, load_policy, play, evaluate_policy\n"
        "RandomPolicy().get_action(np.zeros(92, np.float32), np.ones(82, bool))\n"
        "evaluate_policy(TioliPolicy(), num_games=10)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("make", POLICIES)
def test_the_history_observation_is_read_as_its_prefix(make: type[NumpyPolicy]) -> None:
    history = SPEC.with_observation("history")
    obs, mask = rows(10, 3, history)
    assert obs.shape == (10, 107)
    assert make(seed=1).get_action(obs, mask).tolist() == make(seed=1).get_action(obs[:, :92], mask).tolist()


@pytest.mark.parametrize(
    ("obs_shape", "mask_shape", "message"),
    [
        ((4, 91), (4, 82), "O = 92 or 107, got shape \\(4, 91\\)"),
        ((4, 92), (4, 81), "action_mask must have shape \\(4, 82\\), got \\(4, 81\\)"),
        ((4, 92), (3, 82), "action_mask must have shape"),
        ((4, 92), (82,), "action_mask must have shape"),
        ((1, 4, 92), (1, 4, 82), "obs must be"),
    ],
)
def test_wrong_shapes_are_refused(obs_shape: tuple[int, ...], mask_shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomPolicy().get_action(np.zeros(obs_shape, np.float32), np.ones(mask_shape, bool))


def test_a_finished_game_is_refused_and_a_forced_walk_is_played() -> None:
    obs, mask = np.zeros((2, 92), np.float32), np.zeros((2, 82), bool)
    for make in POLICIES:
        with pytest.raises(ValueError, match="needs a legal action"):
            make().get_action(obs, mask)
    mask[:, SPEC.walk_action] = True
    for make in POLICIES:
        assert make().get_action(obs, mask).tolist() == [81, 81]


def test_int8_masks_are_masks() -> None:
    obs, mask = rows(5, 1)
    assert (
        GreedyPolicy().get_action(obs, mask.astype(np.int8)).tolist() == GreedyPolicy().get_action(obs, mask).tolist()
    )


def test_randomness_comes_from_the_given_generator_else_from_the_seed() -> None:
    obs, mask = rows(50, 0)
    policy = RandomPolicy(seed=3)
    first, second = policy.get_action(obs, mask), policy.get_action(obs, mask)
    assert first.tolist() != second.tolist()
    assert RandomPolicy(seed=3).get_action(obs, mask).tolist() == first.tolist()
    given = [policy.get_action(obs, mask, np.random.default_rng(9)).tolist() for _ in range(2)]
    assert given[0] == given[1] != first.tolist()


def test_random_is_uniform_over_the_legal_actions() -> None:
    obs, mask = rows(1, 0)
    count = 81_000
    actions = RandomPolicy(seed=0).get_action(np.repeat(obs, count, 0), np.repeat(mask, count, 0))
    counts = np.bincount(actions, minlength=82)
    assert counts[SPEC.accept_action] == 0
    legal = np.delete(counts, SPEC.accept_action)
    chi2 = ((legal - 1000) ** 2 / 1000).sum()
    assert 80 - 4 * np.sqrt(160) < chi2 < 80 + 4 * np.sqrt(160)


class _Fixed(np.random.Generator):
    """A generator whose every draw is one number."""

    def __init__(self, draw: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._draw = draw

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return np.full(size, self._draw)


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2.0**-53])
def test_sampling_never_draws_probability_zero(draw: float) -> None:
    rng = np.random.default_rng(0)
    weights = rng.random((2000, 9)) * (rng.random((2000, 9)) < 0.4)
    weights[:, 4] += 2.0 ** rng.integers(-60, 3, 2000)
    weights[:, [0, 8]] = 0
    actions = sample_actions(weights, _Fixed(draw))
    assert (weights[np.arange(2000), actions] > 0).all()


def test_sampling_follows_the_weights() -> None:
    actions = sample_actions(np.tile([1.0, 0.0, 3.0], (40_000, 1)), np.random.default_rng(1))
    assert abs((actions == 2).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 40_000)


@pytest.mark.parametrize("row", [[0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_sampling_refuses_what_is_no_distribution(row: list[float]) -> None:
    with pytest.raises(ValueError, match="finite and nonnegative"):
        sample_actions(np.array([[0.5, 0.5], row]), np.random.default_rng(0))


@pytest.mark.parametrize(("outside", "action"), [(139, 80), (140, 80), (141, 81)])
def test_greedy_accepts_from_equality_on(outside: int, action: int) -> None:
    offer = int(SPEC.encode_offer([2, 0, 1]))
    obs, mask = pinned([[50, 50, 50], [20, 7, 100]], [1, outside], [offer])
    assert GreedyPolicy().get_action(obs, mask) == action


def test_greedy_and_fair_split_never_accept_as_seat_0() -> None:
    obs, mask = rows(30, 4)
    for policy in (GreedyPolicy(), FairSplitPolicy()):
        assert (policy.get_action(obs, mask) < 80).all()
    assert (GreedyPolicy().get_action(obs, mask) == 0).all()


def test_fair_split_offers_the_lowest_of_the_exactly_closest_halves() -> None:
    obs, mask = rows(300, 2)
    actions = FairSplitPolicy().get_action(obs, mask)
    ties = 0
    for row, action in zip(obs, actions, strict=True):
        values = [round(float(value) * 100) for value in row[:3]]
        total = sum(q * v for q, v in zip((7, 4, 1), values, strict=True))
        distance = [abs(2 * sum(int(c) * v for c, v in zip(x, values, strict=True)) - total) for x in SPEC.offers]
        assert action == distance.index(min(distance))
        ties += distance.count(min(distance)) > 1
    assert ties == 300  # a bundle and its complement always tie


def test_fair_split_compares_its_threshold_exactly() -> None:
    # One unit of item 2 is worth `share` of a total of 100 * k: value/total == threshold holds in integers only.
    spec = GameSpec(item_quantities=(1, 1), max_value=1000)
    offer = int(spec.encode_offer([1, 0]))
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.6, 0.7):
        policy = FairSplitPolicy(spec, accept_threshold=threshold)
        for scale in range(1, 100):
            value, rest = round(threshold * 10) * scale, round((1 - threshold) * 10) * scale
            obs, mask = pinned([[1, 1], [value, rest]], [1, 1], [offer], spec)
            assert policy.get_action(obs, mask) == spec.accept_action
            obs, mask = pinned([[1, 1], [value, rest + 1]], [1, 1], [offer], spec)
            assert policy.get_action(obs, mask) == spec.walk_action
    with pytest.raises(ValueError, match="accept_threshold"):
        FairSplitPolicy(accept_threshold=1.5)


def test_the_optional_abilities_are_told_apart() -> None:
    mixture = Mixture([RandomPolicy()], [1.0])
    assert isinstance(RandomPolicy(), HasProbabilities)
    assert not isinstance(RandomPolicy(), HasMemory)
    assert isinstance(mixture, HasMemory)
    assert not isinstance(mixture, HasProbabilities)


def test_a_mixture_keeps_one_member_per_game_and_seat() -> None:
    members: list[Policy] = [AlwaysWalkPolicy(), GreedyPolicy(), FairSplitPolicy()]
    mixture = Mixture(members, [0.25, 0.0, 0.75])
    games = np.arange(100, 4100)
    rng = np.random.default_rng(0)
    mixture.begin(games, 0, rng)
    mixture.begin(games, 1, rng)
    obs, mask = rows(1, 0)
    opening = np.repeat(obs, 4000, 0), np.repeat(mask, 4000, 0)
    first = mixture.get_action(*opening, rng, games)
    assert set(np.unique(first)) == {81, int(FairSplitPolicy().get_action(obs, mask)[0])}
    assert abs((first == 81).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    again = mixture.get_action(opening[0][::-1], opening[1][::-1], rng, games[::-1])
    assert (again[::-1] == first).all()
    # At the last move of seat 1 after a generous offer, fair_split accepts: its draw is not that of seat 0.
    obs, mask = pinned([[50] * 3, [50] * 3], [1, 1], [79])
    answer = mixture.get_action(np.repeat(obs[None], 4000, 0), np.repeat(mask[None], 4000, 0), rng, games)
    both_walk = ((answer == 81) & (first == 81)).mean()
    assert abs(both_walk - 1 / 16) < 4 * np.sqrt(1 / 16 * 15 / 16 / 4000)
    assert mixture.get_action(obs, mask, rng, 100) == answer[0]


def test_a_mixture_remembers_nothing_of_other_threads_and_unbegun_games() -> None:
    mixture = Mixture([RandomPolicy()], [1.0])
    mixture.begin(np.array([1, 2]), 0)
    obs, mask = rows(1, 0)
    with pytest.raises(ValueError, match="game 3 has not begun"):
        mixture.get_action(obs, mask, game_ids=np.array([3]))
    with pytest.raises(ValueError, match="needs game_ids"):
        mixture.get_action(obs, mask)
    errors: list[ValueError] = []

    def elsewhere() -> None:
        try:
            mixture.get_action(obs, mask, game_ids=np.array([1]))
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert 0 <= mixture.get_action(obs, mask, game_ids=np.array([1]))[0] < 82


class _Spy(RandomPolicy):
    observation = "history"

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[int] = []
        self.asked: list[tuple[tuple[int, ...], list[int]]] = []

    def begin(self, game_ids: Any, seat: int, rng: Any = None) -> None:
        self.begun += game_ids.tolist()

    def get_action(self, obs: Any, action_mask: Any, rng: Any = None, game_ids: Any = None) -> Any:
        self.asked.append((obs.shape, game_ids.tolist()))
        return super().get_action(obs, action_mask, rng)


def test_a_mixture_gives_each_member_its_own_games_and_observation() -> None:
    spy = _Spy()
    mixture = Mixture([spy, AlwaysWalkPolicy()], [0.5, 0.5], seed=2)
    assert mixture.observation == "history"
    games = np.arange(20)
    mixture.begin(games, 0)
    obs, mask = rows(20, 0, SPEC.with_observation("history"))
    actions = mixture.get_action(obs, mask, game_ids=games)
    assert 0 < len(spy.begun) < 20
    assert spy.asked == [((len(spy.begun), 107), spy.begun)]
    others = np.setdiff1d(games, spy.begun)
    assert (actions[others] == 81).all()


def test_a_mixture_answers_tensors() -> None:
    torch = pytest.importorskip("torch")
    mixture = Mixture([AlwaysWalkPolicy(), GreedyPolicy()], [0.5, 0.5])
    mixture.begin(torch.arange(6), 0)
    obs, mask = rows(6, 0)
    actions = mixture.get_action(torch.from_numpy(obs), torch.from_numpy(mask), game_ids=torch.arange(6))
    assert isinstance(actions, torch.Tensor)
    assert set(actions.tolist()) <= {0, 81}


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]])
def test_a_mixture_needs_a_distribution(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="mixture"):
        Mixture([RandomPolicy(), GreedyPolicy()], weights)


def test_requests_read_their_options() -> None:
    request = PolicyRequest("search", options={"depth": "3", "wide": "true"})
    assert request.read_options(depth=int, wide=read_bool, unused=str) == {"depth": 3, "wide": True}
    with pytest.raises(ValueError, match="'search' has no option 'wide'; its options are depth"):
        request.read_options(depth=int)
    with pytest.raises(ValueError, match="depth=3 of policy 'search' cannot be read"):
        request.read_options(depth=read_bool, wide=read_bool)
    assert not read_bool("OFF")

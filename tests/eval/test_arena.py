import json
import math
from typing import Any

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame, deal
from bargain_env.spec import GAMES, GameSpec
from bargain_eval import arena
from bargain_eval.arena import play, play_paired
from bargain_eval.baselines import AlwaysWalkPolicy, FairSplitPolicy, GreedyPolicy, RandomPolicy
from bargain_eval.equilibria import TioliPolicy
from bargain_eval.evaluate import FINAL_EVAL_SEED, POOL, VALIDATION_SEED, evaluate_policy
from bargain_eval.game_rows import GameRows, standard_error
from bargain_eval.measures import study_deals
from bargain_eval.mixture import Mixture
from numpy.typing import NDArray

FIELDS = GameRows.__dataclass_fields__


def assert_equal(first: GameRows, second: GameRows) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


class Scripted:
    """Plays one action whatever it sees, and keeps what it was shown."""

    def __init__(self, action: int, observation: Any = "standing") -> None:
        self.observation = observation
        self.device = "cpu"
        self.action = action
        self.widths: set[int] = set()
        self.games: list[NDArray[np.int64]] = []

    def get_action(self, obs: Any, action_mask: Any, rng: Any = None, game_ids: Any = None) -> Any:
        self.widths.add(obs.shape[1])
        self.games.append(game_ids)
        return np.full(len(obs), self.action)


@pytest.mark.parametrize("seed", [5, VALIDATION_SEED, FINAL_EVAL_SEED])
def test_exactly_the_assigned_deals_are_played(seed: int) -> None:
    rows = play((RandomPolicy(), FairSplitPolicy()), 60, seed, first_game=37, block_size=16)
    assert rows.game.tolist() == list(range(37, 97))
    for n, game in enumerate(rows.game):
        values, outside = deal(GameSpec(), seed, int(game), 0)
        assert rows.values[n].tolist() == values
        assert rows.outside[n].tolist() == outside
    assert set(rows.outcome.tolist()) <= {1, 2}


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_rows_are_the_reference_games(discount: float) -> None:
    spec = GameSpec(item_quantities=(2, 1), max_rounds=2, discount=discount)
    rows = play((RandomPolicy(spec), RandomPolicy(spec)), 200, 3, spec=spec)
    assert set(rows.decisions.tolist()) == {1, 2, 3, 4}
    for n in range(200):
        game = ReferenceGame(spec, 3, n)
        if rows.outcome[n] == 1:
            game.offer = int(rows.offer[n])
            worth = [game.bundle_value(seat, game.offer) for seat in range(2)]
        else:
            worth = game.outside
            assert rows.offer[n] == -1
        factor = discount ** ((int(rows.decisions[n]) - 1) // 2)
        assert rows.total[n].tolist() == game.totals
        assert rows.points[n].tolist() == [points * factor for points in worth]
        assert rows.payoff[n].tolist() == [points * factor / t for points, t in zip(worth, game.totals, strict=True)]


def test_payoffs_are_the_rewards_of_the_reference() -> None:
    spec = GameSpec(max_rounds=2, discount=0.75)
    policies = TioliLike(spec), GreedyPolicy(spec)
    rows = play(policies, 100, 0, spec=spec)
    for n in range(100):
        game = ReferenceGame(spec, 0, n)
        while not game.finished:
            game.play(int(policies[game.mover].get_action(game.observation(), game.action_mask())))
        assert rows.decisions[n] == game.turn
        np.testing.assert_allclose(rows.payoff[n], game.rewards, rtol=3e-7)


class TioliLike(GreedyPolicy):
    """Offers seat 1 nothing first and half of the first item next."""

    def _decide(self, obs: Any, action_mask: Any) -> Any:
        return np.where(self.spec.read_observation(obs).round == 0, 30, 40)


def test_neither_threads_nor_splitting_changes_the_result() -> None:
    policies = RandomPolicy(), Mixture([RandomPolicy(), FairSplitPolicy()], [0.5, 0.5])
    whole = play(policies, 1000, 1, block_size=128)
    assert_equal(whole, play(policies, 1000, 1, block_size=128, threads=3))
    parts = [
        play(policies, 384, 1, block_size=128),
        play(policies, 616, 1, block_size=128, first_game=384, threads=2),
    ]
    assert_equal(whole, GameRows.concatenate(parts))
    assert not np.array_equal(whole.outcome, play(policies, 1000, 2, block_size=128).outcome)


def test_without_randomness_the_block_size_does_not_matter() -> None:
    policies = FairSplitPolicy(), GreedyPolicy()
    assert_equal(play(policies, 500, 1), play(policies, 500, 1, block_size=7, threads=2))


def test_the_seats_draw_from_different_generators() -> None:
    draws: list[list[float]] = []

    class Recorder(RandomPolicy):
        def begin(self, game_ids: Any, seat: int, rng: np.random.Generator) -> None:
            draws.append([seat, float(rng.random())])

    play((Recorder(), Recorder()), 20, 0, block_size=10)
    assert [seat for seat, _ in draws] == [0, 1, 0, 1]
    assert len({draw for _, draw in draws}) == 4


def test_long_games_are_as_likely_as_the_rules_make_them() -> None:
    # P(a random game lasts 6 decisions) is known from the rules; stopping at the first to finish would lower it.
    rows = play((RandomPolicy(), RandomPolicy()), 40_000, 0)
    expected = 80 / 81 * (80 / 82) ** 4
    assert abs((rows.decisions == 6).mean() - expected) < 4 * math.sqrt(expected * (1 - expected) / 40_000)


def test_illegal_actions_are_walks_and_are_counted() -> None:
    accept = GameSpec().accept_action
    rows = play((Scripted(accept), AlwaysWalkPolicy()), 50, 0)
    assert rows.illegal.tolist() == [[1, 0]] * 50
    assert (rows.outcome == 2).all()
    assert rows.summary()["illegal_rate"] == 1.0
    rows = play((Scripted(5), Scripted(999)), 50, 0)
    assert rows.illegal.tolist() == [[0, 1]] * 50
    assert rows.summary()["illegal_rate"] == 0.5


def test_each_policy_sees_its_own_observation() -> None:
    standing, history = Scripted(3), Scripted(4, "history")
    play((standing, history), 9, 0, first_game=4, spec=GameSpec(observation="history"))
    assert standing.widths == {92}
    assert history.widths == {107}
    assert standing.games[0].tolist() == list(range(4, 13))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_games": 0}, "num_games must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"first_game": -1}, "first_game must be at least 0"),
        ({"spec": GAMES["mini-a"]}, "seat 0 was made for another game"),
        ({"deals": (np.ones((3, 2, 3)), np.ones((3, 2)))}, "values of the deals need shape \\(5, 2, 3\\)"),
        ({"deals": (np.ones((5, 2, 3)), np.ones(5))}, "outside of the deals need shape \\(5, 2\\)"),
        ({"policies": (GreedyPolicy(),)}, "needs two policies, got 1"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"policies": (GreedyPolicy(), GreedyPolicy()), "num_games": 5, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        play(**arguments)


@pytest.mark.parametrize("answer", [(0, 1), np.zeros((5, 1), int), np.zeros(5), np.zeros(4, int), 0])
def test_a_policy_that_answers_anything_but_one_integer_per_game_is_named(answer: Any) -> None:
    policy = Scripted(0)
    policy.get_action = lambda *_, **__: answer  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"Scripted returned .* for 5 games"):
        play((policy, GreedyPolicy()), 5, 0)


def test_the_summary_is_exact_and_json_ready() -> None:
    rows = play((RandomPolicy(), FairSplitPolicy()), 997, 0)
    summary = json.loads(json.dumps(rows.summary(), allow_nan=False))
    assert summary["agreement_rate"] + summary["walk_rate"] == 1
    assert summary["agreement_rate"] == (rows.outcome == 1).sum() / 997
    assert summary["payoff_0"] + summary["payoff_1"] == pytest.approx(summary["total"])
    assert summary["payoff_1_se"] == pytest.approx(rows.payoff[:, 1].std(ddof=1) / math.sqrt(997))
    first_walks = ((rows.outcome == 2) & (rows.decisions == 1)).mean()
    assert 0 < summary["first_move_walk_rate"] == first_walks < summary["walk_rate"]
    assert summary["points_0"] == rows.points[:, 0].mean()
    assert play((RandomPolicy(), RandomPolicy()), 1, 0).summary()["payoff_0_se"] is None


def test_rows_are_json_ready() -> None:
    rows = play((RandomPolicy(), FairSplitPolicy()), 30, 0)
    table = json.loads(json.dumps(rows.to_rows(), allow_nan=False))
    assert {row["outcome"] for row in table} == {"deal", "walk"}
    for n, row in enumerate(table):
        assert row["game"] == n
        assert row["values_1"] == rows.values[n, 1].tolist()
        assert (row["outcome"] == "walk") == (row["offer"] is None)
        assert row["payoff_0"] == row["points_0"] / row["total_0"]
        assert 1 <= row["rounds"] <= 3


def test_explicit_deals_are_played() -> None:
    values = np.array([[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]])
    outside = np.array([[1, 2], [3, 4]])
    rows = play((AlwaysWalkPolicy(), AlwaysWalkPolicy()), 2, 0, deals=(values, outside), block_size=1)
    assert rows.values.tolist() == values.tolist()
    assert rows.points.tolist() == outside.tolist()


def test_paired_matches_share_their_deals_and_cluster_by_deal() -> None:
    pair = play_paired(FairSplitPolicy(), GreedyPolicy(), 400, 0)
    np.testing.assert_array_equal(pair.a_first.values, pair.b_first.values)
    summary = pair.summary()
    payoff = (pair.a_first.payoff[:, 0] + pair.b_first.payoff[:, 1]) / 2
    assert summary["payoff_a"] == payoff.mean()
    assert summary["payoff_a_se"] == standard_error(payoff)
    itself = play_paired(FairSplitPolicy(), FairSplitPolicy(), 400, 0, threads=2, block_size=100).summary()
    assert itself["difference"] == 0
    assert itself["payoff_a"] == itself["payoff_b"]


@pytest.mark.parametrize("spec", [GameSpec(), GAMES["mini-a"], GameSpec((2, 1), max_rounds=2, discount=0.9)])
def test_a_total_above_first_best_is_a_broken_measurement(spec: GameSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    policies = FairSplitPolicy(spec), FairSplitPolicy(spec)
    rows = play(policies, 300, 0, spec=spec)
    first_best = study_deals(rows.values, rows.outside, spec).first_best
    honest, surplus = arena.game_points, 0.0

    def generous(*arguments: Any) -> Any:
        points, total = honest(*arguments)
        points = points.astype(np.float64)
        points[7, 0] = (first_best[7] + surplus - points[7, 1] / total[7, 1]) * total[7, 0]
        return points, total

    monkeypatch.setattr(arena, "game_points", generous)
    assert play(policies, 300, 0, spec=spec).payoff[7].sum() == pytest.approx(first_best[7])
    surplus = 1e-6
    with pytest.raises(RuntimeError, match=r"broken measurement: the total of 1 of 300 games .* in game 7\."):
        play(policies, 300, 0, spec=spec)


def test_the_evaluation_averages_the_pool_over_both_seats() -> None:
    result = json.loads(json.dumps(evaluate_policy("fair_split", num_games=300), allow_nan=False))
    assert result["seed"] == 2**63 + 1
    assert list(result["opponents"]) == list(POOL)
    cells = [result["opponents"][name][f"seat_{seat}"] for name in POOL for seat in (0, 1)]
    assert result["pool_payoff"] == pytest.approx(np.mean([cell["payoff"] for cell in cells]))
    rows = play((FairSplitPolicy(), GreedyPolicy()), 300, FINAL_EVAL_SEED)
    assert result["opponents"]["greedy"]["seat_0"]["payoff"] == rows.payoff[:, 0].mean()
    assert result["opponents"]["greedy"]["seat_0"]["opponent_payoff"] == rows.payoff[:, 1].mean()
    assert result["self_play"] == play((FairSplitPolicy(),) * 2, 300, FINAL_EVAL_SEED).summary()
    assert 0 < result["pool_payoff_se"] < max(cell["payoff_se"] for cell in cells)
    assert GameSpec.from_dict(result["game"]) == GameSpec()


def test_the_evaluation_of_one_seat_and_of_games_without_tioli() -> None:
    one = evaluate_policy(GreedyPolicy(), num_games=50, seats=(1,), opponents=("random",))
    assert list(one["opponents"]["random"]) == ["seat_1"]
    assert one["self_play"] is None
    assert one["pool_payoff"] == pytest.approx(one["opponents"]["random"]["seat_1"]["payoff"])
    spec = GameSpec(discount=0.9)
    result = evaluate_policy(RandomPolicy(spec), num_games=50)
    assert list(result["opponents"]) == ["random", "greedy", "fair_split"]
    assert "discount" in result["left_out"]["tioli"]
    with pytest.raises(ValueError, match="none of the opponents tioli exists"):
        evaluate_policy("random", num_games=5, spec=spec, opponents=("tioli",))
    with pytest.raises(ValueError, match="seats must be"):
        evaluate_policy("random", num_games=5, seats=(0, 2))
    with pytest.raises(ValueError, match="unknown policy"):
        evaluate_policy("random", num_games=5, opponents=("nobody",))


def test_a_mixture_can_play_itself() -> None:
    mixture = Mixture([TioliPolicy(), AlwaysWalkPolicy()], [0.5, 0.5])
    rows = play((mixture, mixture), 4000, 0, block_size=1000, threads=2)
    lengths = [(rows.decisions == k).mean() for k in (1, 2, 6)]
    for length, expected in zip(lengths, (1 / 2, 1 / 4, 1 / 4), strict=True):
        assert abs(length - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000)
    assert sum(lengths) == 1

"""Which games are imitated, against brute force; what was seen in them; and that imitation imitates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_env.engine import make_engine
from bargain_eval.arena import play
from bargain_eval.baselines import FairSplitPolicy, GreedyPolicy, RandomPolicy
from bargain_eval.game_rows import GameRows
from bargain_eval.measures import study_deals
from bargain_eval.policy import NumpyPolicy
from bargain_train.exploration import (
    LEVELS,
    WELFARES,
    Decisions,
    best_welfare,
    decisions,
    efficiency,
    select,
    strata,
)
from bargain_train.imitation import clone
from bargain_train.networks import Network, build_network
from numpy.typing import NDArray

SPECS = {
    "mini-b": GAMES["mini-b"],
    "mini-c": GAMES["mini-c"].with_observation("history"),
    "discounted": GameSpec(item_quantities=(2, 1), max_rounds=2, max_value=9, discount=0.7),
    "default": GameSpec(observation="history"),
}
each_game = pytest.mark.parametrize("name", SPECS)
each_welfare = pytest.mark.parametrize("welfare", WELFARES)
BY_HAND: dict[str, Any] = {"utilitarian": lambda a, b: a + b, "nash": lambda a, b: (a * b) ** 0.5, "egalitarian": min}


class _Lively(NumpyPolicy):
    """Plays at random, offers together `offers` times as often as accept or walk: games end in all ways."""

    def __init__(self, spec: GameSpec, offers: float = 2.0) -> None:
        super().__init__(spec, 0)
        self.offers = offers

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        spec = self.spec
        weights = np.where(np.arange(spec.num_actions) < spec.num_offers, self.offers / spec.num_offers, 1)
        probs: NDArray[np.float64] = np.where(action_mask, weights, 0.0)
        return probs / probs.sum(axis=1, keepdims=True)


def _games(spec: GameSpec, num_games: int = 60, cells: int = 3) -> list[GameRows]:
    """Cells of different play, all on the same deals."""
    policies = [_Lively(spec, 3.0**k) for k in range(cells)]
    return [play((policy, policies[-1 - k]), num_games, 7, spec=spec) for k, policy in enumerate(policies)]


def _best_by_hand(spec: GameSpec, values: Any, outside: Any, welfare: str) -> float:
    total = [sum(v * q for v, q in zip(hand, spec.item_quantities, strict=True)) for hand in values]
    measure = BY_HAND[welfare]
    best = measure(outside[0] / total[0], outside[1] / total[1])
    for bundle in spec.offers.tolist():
        rest = [q - b for q, b in zip(spec.item_quantities, bundle, strict=True)]
        first, second = (
            sum(v * b for v, b in zip(hand, own, strict=True)) for hand, own in zip(values, (rest, bundle), strict=True)
        )
        best = max(best, measure(first / total[0], second / total[1]))
    return float(best)


@each_welfare
@each_game
def test_the_best_of_a_deal_is_that_of_every_split_and_of_walking(name: str, welfare: str) -> None:
    rows = _games(SPECS[name])[0]
    best = best_welfare(SPECS[name], rows.values, rows.outside, WELFARES[welfare])
    deals = zip(rows.values.tolist(), rows.outside.tolist(), strict=True)
    by_hand = [_best_by_hand(SPECS[name], *deal, welfare) for deal in deals]
    assert best == pytest.approx(by_hand, rel=1e-12)
    if welfare == "utilitarian":
        assert (best == study_deals(rows.values, rows.outside, SPECS[name]).first_best).all()


def test_many_deals_are_compared_in_blocks_and_none_in_none() -> None:
    spec = GAMES["mini-b"]
    rows = play((RandomPolicy(spec), RandomPolicy(spec)), 3, 0, spec=spec)
    many = np.tile(rows.values, (100_001, 1, 1)), np.tile(rows.outside, (100_001, 1))
    best = best_welfare(spec, *many, WELFARES["nash"])
    assert best.shape == (300_003,)
    assert (best.reshape(-1, 3) == best[:3]).all()
    assert best_welfare(spec, rows.values[:0], rows.outside[:0], WELFARES["nash"]).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_welfare
@each_game
def test_efficiency_is_the_share_of_the_best(name: str, welfare: str, dtype: type) -> None:
    spec, cells = SPECS[name], _games(SPECS[name])
    values, outside = cells[0].values, cells[0].outside
    payoff: NDArray[Any] = np.stack([rows.payoff for rows in cells]).astype(dtype)
    efficient = efficiency(spec, values, outside, payoff, WELFARES[welfare])
    assert efficient.shape == payoff.shape[:2]
    for c, rows in enumerate(cells):
        for n in range(0, len(rows), 5):
            best = _best_by_hand(spec, values[n].tolist(), outside[n].tolist(), welfare)
            assert efficient[c, n] == pytest.approx(BY_HAND[welfare](*rows.payoff[n].tolist()) / best, rel=1e-5)
    assert 0 <= efficient.min() < 0.9
    assert efficient.max() <= 1


@each_welfare
@each_game
def test_efficiency_is_exactly_1_for_the_best_of_a_deal_and_below_for_the_others(name: str, welfare: str) -> None:
    """Every split of every deal, and the walk, one a cell, as the payoffs are recorded."""
    spec, rows = SPECS[name], _games(SPECS[name], cells=1)[0]
    quantities, total = np.asarray(spec.item_quantities), rows.total
    splits = [
        np.stack([rows.values[:, 0] @ (quantities - bundle), rows.values[:, 1] @ bundle], axis=1)
        for bundle in spec.offers
    ]
    payoff: NDArray[np.float32] = (np.stack([*splits, rows.outside]) / total).astype(np.float32)
    efficient = efficiency(spec, rows.values, rows.outside, payoff, WELFARES[welfare])
    assert (efficient.max(axis=0) == 1).all()
    worth = WELFARES[welfare](payoff[..., 0], payoff[..., 1])
    assert ((efficient == 1) == (worth == worth.max(axis=0))).all()


@each_welfare
def test_a_discount_counts_as_lost(welfare: str) -> None:
    spec = SPECS["discounted"]
    rows = _games(spec, cells=1)[0]
    payoff = np.stack([rows.outside / rows.total * spec.discount**k for k in range(2)])
    early, late = efficiency(spec, rows.values, rows.outside, payoff, WELFARES[welfare])
    assert late == pytest.approx(early * spec.discount)
    assert (early == 1).any()


@each_welfare
@each_game
def test_efficiency_does_not_change_if_the_seats_swap_hands(name: str, welfare: str) -> None:
    spec, cells = SPECS[name], _games(SPECS[name])
    payoff = np.stack([rows.payoff for rows in cells])
    values, outside = cells[0].values, cells[0].outside
    given = efficiency(spec, values, outside, payoff, WELFARES[welfare])
    swapped = efficiency(spec, values[:, ::-1], outside[:, ::-1], payoff[..., ::-1], WELFARES[welfare])
    assert (given == swapped).all()


def test_lucky_hands_are_not_preferred_to_good_play() -> None:
    """Two deals: hands that fit together, with the middle item in the wrong ones, and alike hands, split anyhow."""
    spec = GameSpec(item_quantities=(1, 1, 1))
    values = np.array([[[100, 60, 1], [1, 30, 100]], [[50, 50, 50], [50, 50, 50]]])
    outside = np.array([[1, 1], [1, 1]])
    payoff = np.array([[[100 / 161, 130 / 131], [50 / 150, 100 / 150]]])
    welfare = WELFARES["utilitarian"](payoff[..., 0], payoff[..., 1])
    efficient = efficiency(spec, values, outside, payoff, WELFARES["utilitarian"])
    assert welfare[0, 0] > welfare[0, 1]
    assert efficient[0, 0] < efficient[0, 1] == 1
    alike = np.zeros(2, dtype=np.int64)
    assert select(welfare, efficient, alike, count=1, top_k=1).game.tolist() == [1]
    assert select(welfare, welfare, alike, count=1, top_k=1).game.tolist() == [0]


def test_strata_are_levels_of_both_outside_offers_with_as_many_deals_each() -> None:
    spec = SPECS["default"]
    rows = play((GreedyPolicy(spec), GreedyPolicy(spec)), 3000, 1, spec=spec)
    first, second = np.divmod(strata(spec, rows.values, rows.outside), LEVELS)
    for seat, level in enumerate((first, second)):
        share = rows.outside[:, seat] / rows.total[:, seat]
        assert np.bincount(level).tolist() == pytest.approx([1000] * LEVELS, abs=2)
        assert all(share[level == k].max() <= share[level == k + 1].min() for k in range(LEVELS - 1))
    joint = np.bincount(first * LEVELS + second)
    assert np.abs(joint - 3000 / 9).max() < 4 * (3000 / 9 * 8 / 9) ** 0.5


def _select_by_hand(
    welfare: NDArray[np.float64], score: NDArray[np.float64], stratum: NDArray[np.int64], count: int, top_k: int
) -> list[tuple[int, int]]:
    """Round after round, the best that is left of each stratum; a round that cannot be finished takes the best."""
    cells = sorted(range(len(welfare)), key=lambda c: (-welfare[c].mean(), c))[:top_k]
    left = sorted((-score[c, n], c, n) for c in cells for n in range(welfare.shape[1]))
    taken: list[tuple[int, int]] = []
    while left and len(taken) < count:
        firsts = [next((row for row in left if stratum[row[2]] == s), None) for s in sorted(set(stratum))]
        round_ = sorted(row for row in firsts if row is not None)
        left = [row for row in left if row not in round_]
        taken += [(c, n) for _, c, n in round_]
    return taken[:count]


@pytest.mark.parametrize("top_k", [1, 3, 9])
@pytest.mark.parametrize("count", [1, 5, 20, 37, 1000])
def test_the_selection_is_that_of_a_loop_over_strata(count: int, top_k: int) -> None:
    rng = np.random.default_rng(count)
    score = rng.integers(0, 6, (5, 20)) / 5  # many ties
    welfare, stratum = rng.random((5, 20)), rng.integers(0, 4, 20)
    found = select(welfare, score, stratum, count=count, top_k=top_k)
    pairs = list(zip(found.cell.tolist(), found.game.tolist(), strict=True))
    assert pairs == _select_by_hand(welfare, score, stratum, count, top_k)


def test_cells_below_the_best_have_no_weight_at_all() -> None:
    """Although everything in them is as good as can be; of equals the first cell takes part."""
    welfare = np.array([[0.1, 0.1], [1.0, 0.5], [0.75, 0.75], [0.2, 0.2], [0.25, 1.25]])
    score = np.array([[1.0, 1.0], [0.1, 0.2], [0.3, 0.4], [1.0, 1.0], [1.0, 1.0]])
    found = select(welfare, score, [0, 1], count=100, top_k=2)
    weight = np.zeros((5, 2))
    weight[found.cell, found.game] = found.weight
    assert (weight[[0, 3, 4]] == 0).all()
    assert (weight[[1, 2]] > 0).all()
    assert weight.sum() == pytest.approx(1)


def test_strata_have_equal_shares_however_bad_they_are_and_leave_what_they_lack() -> None:
    score = np.repeat([0.9, 0.5, 0.1], 100)[None] + np.linspace(0, 0.01, 300)
    stratum = np.repeat([0, 1, 2], 100)
    taken = stratum[select(score, score, stratum, count=30, top_k=1).game]
    assert np.bincount(taken).tolist() == [10, 10, 10]
    few = np.repeat([0, 1, 2], [200, 96, 4])
    assert np.bincount(few[select(score, score, few, count=30, top_k=1).game]).tolist() == [13, 13, 4]


def test_types_with_high_outside_offers_are_imitated_as_much_as_others() -> None:
    spec = SPECS["default"]
    cells = _games(spec, 900)
    values, outside = cells[0].values, cells[0].outside
    payoff, groups = np.stack([rows.payoff for rows in cells]), strata(spec, values, outside)
    efficient = efficiency(spec, values, outside, payoff, WELFARES["egalitarian"])
    welfare = WELFARES["egalitarian"](payoff[..., 0], payoff[..., 1])
    found = select(welfare, efficient, groups, count=180, top_k=2)
    assert np.bincount(groups[found.game], minlength=9).tolist() == [20] * 9
    unlike = select(welfare, efficient, np.zeros_like(groups), count=180, top_k=2)
    assert np.ptp(np.bincount(groups[unlike.game], minlength=9)) > 10


def test_weights_are_a_softmax_of_efficiency_or_equal() -> None:
    score = np.array([[0.2, 0.9, 0.4, 0.0]])
    for temperature in (1.0, 0.25):
        found = select(score, score, [0] * 4, count=3, top_k=1, temperature=temperature)
        expected = np.exp(np.array([0.9, 0.4, 0.2]) / temperature)
        assert found.game.tolist() == [1, 2, 0]
        assert found.weight == pytest.approx(expected / expected.sum())
    found = select(score, score, [0] * 4, count=3, top_k=1, temperature=1e-4)
    assert found.weight == pytest.approx([1, 0, 0])
    assert select(score, score, [0] * 4, count=3, top_k=1, weighted=False).weight.tolist() == [1 / 3] * 3


@pytest.mark.parametrize("change", [{"count": 0}, {"top_k": 0}, {"temperature": 0.0}, {"temperature": float("nan")}])
def test_a_selection_of_nothing_is_refused(change: dict[str, Any]) -> None:
    options: dict[str, Any] = {"count": 1, "top_k": 1} | change
    with pytest.raises(ValueError, match="must be positive"):
        select(np.ones((1, 2)), np.ones((1, 2)), [0, 0], **options)


class _Spy(_Lively):
    """Remembers, of each game, what it was shown and what it did."""

    def __init__(self, spec: GameSpec) -> None:
        super().__init__(spec)
        self.observation = spec.observation
        self.seen: list[tuple[int, NDArray[Any], NDArray[Any], int]] = []

    def get_action(self, obs: Any, action_mask: Any, rng: Any = None, game_ids: Any = None) -> Any:
        actions = super().get_action(obs, action_mask, rng, game_ids)
        self.seen += list(zip(game_ids.tolist(), obs.copy(), action_mask.copy(), actions.tolist(), strict=True))
        return actions


@each_game
def test_rebuilt_decisions_are_what_each_seat_was_shown_and_did(name: str) -> None:
    spec = SPECS[name]
    spies = _Spy(spec), _Spy(spec)
    rows = play(spies, 200, 3, spec=spec)
    assert {1, 2, spec.max_turns} <= set(rows.decisions.tolist())
    for seat, spy in enumerate(spies):
        found = decisions(spec, rows.values, rows.outside, rows.actions, seat)
        assert found.observation.shape == (len(spy.seen), spec.observation_dim)
        games, shown, masks, actions = zip(*spy.seen, strict=True)
        assert found.trajectory.tolist() == list(games)
        assert torch.equal(found.observation, torch.from_numpy(np.stack(shown)))
        assert torch.equal(found.mask, torch.from_numpy(np.stack(masks)))
        assert found.action.tolist() == list(actions)


def test_decisions_of_chosen_trajectories_are_those_of_their_games() -> None:
    spec = SPECS["mini-c"]
    rows = _games(spec, cells=1)[0]
    chosen = np.array([11, 3, 3, 40])
    found = decisions(spec, rows.values[chosen], rows.outside[chosen], rows.actions[chosen], 0)
    everything = decisions(spec, rows.values, rows.outside, rows.actions, 0)
    for number, game in enumerate(chosen.tolist()):
        mine, its = found.trajectory == number, everything.trajectory == game
        assert torch.equal(found.observation[mine], everything.observation[its])
        assert torch.equal(found.action[mine], everything.action[its])


def test_a_seat_that_never_moved_has_no_decisions() -> None:
    spec = SPECS["mini-b"]
    rows = _games(spec, cells=1)[0]
    walks = np.full_like(rows.actions, -1)
    walks[:, 0] = spec.walk_action
    found = decisions(spec, rows.values, rows.outside, walks, 1)
    assert found.observation.shape == (0, spec.observation_dim)
    assert len(decisions(spec, rows.values, rows.outside, walks, 0).action) == len(rows)


def test_moves_that_no_game_has_are_refused() -> None:
    spec = SPECS["mini-b"]
    deal = [[[1, 2], [2, 1]]], [[1, 1]]
    with pytest.raises(ValueError, match="illegal in these deals, at turn 0"):
        decisions(spec, *deal, [[spec.accept_action, -1, -1, -1]], 0)
    for moves in ([0, -1, -1, -1], [0, spec.accept_action, 1, -1]):
        with pytest.raises(ValueError, match="before the game does, or go on after it"):
            decisions(spec, *deal, [moves], 0)


def _network(seed: int = 0, hidden: int = 64, spec: GameSpec = SPECS["mini-b"]) -> Network:
    torch.manual_seed(seed)
    return build_network({"network": "mlp", "hidden_dims": [hidden]}, spec)


def _clone(network: Network, rows: Decisions, weight: torch.Tensor | None = None, **options: Any) -> dict[str, float]:
    settings: dict[str, Any] = {"epochs": 5, "batch_size": 256, "lr": 1e-3} | options
    weight = torch.ones(len(rows.action)) if weight is None else weight
    generator = torch.Generator().manual_seed(0)
    return clone(network, rows.observation, rows.mask, rows.action, weight, generator=generator, **settings)


def _played_by(policies: tuple[NumpyPolicy, NumpyPolicy], seat: int, num_games: int = 2000) -> Decisions:
    spec = policies[0].spec
    rows = play(policies, num_games, 5, spec=spec)
    return decisions(spec, rows.values, rows.outside, rows.actions, seat)


@pytest.mark.parametrize(("kind", "game", "seat"), [(GreedyPolicy, "mini-b", 1), (FairSplitPolicy, "mini-c", 0)])
def test_a_rule_that_is_cloned_is_played(kind: type[NumpyPolicy], game: str, seat: int) -> None:
    """Against random play, and in games that were not imitated."""
    spec = SPECS[game]
    rule, random = kind(spec), RandomPolicy(spec)
    rows = _played_by((rule, random) if seat == 0 else (random, rule), seat)
    assert len(rows.action.unique()) > 1
    network = _network(spec=spec)
    metrics = _clone(network, rows, epochs=30, lr=1e-2)
    assert metrics["last_accuracy"] > 0.99
    assert metrics["last_loss"] < 0.05 < metrics["first_loss"]
    assert metrics["first_accuracy"] < metrics["last_accuracy"]

    engine = make_engine(spec, 3000, seed=11)
    if seat == 1:
        engine.step(engine.random_actions())
    mine = engine.mover == seat
    shown, mask = engine.observation[mine], engine.action_mask[mine]
    logits = network(torch.from_numpy(shown))[0].detach().masked_fill(~torch.from_numpy(mask), -torch.inf)
    assert (logits.argmax(-1).numpy() == rule.get_action(shown, mask)).mean() > 0.99


def _loss_by_hand(network: Network, rows: Decisions, weight: torch.Tensor) -> torch.Tensor:
    logits = network(rows.observation)[0].masked_fill(~rows.mask, -1e9)
    return torch.nn.functional.cross_entropy(logits, rows.action, reduction="none") @ weight / weight.sum()


def test_one_step_is_that_of_adam_on_the_weighted_cross_entropy() -> None:
    rows = _played_by((RandomPolicy(SPECS["mini-b"]), RandomPolicy(SPECS["mini-b"])), 1, 50)
    weight = torch.rand(len(rows.action), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    network, twin = _network(), _network()
    metrics = _clone(network, rows, weight, epochs=1, batch_size=10_000, lr=1e-2)
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-2)
    loss = _loss_by_hand(twin, rows, weight.float())
    right = twin(rows.observation)[0].masked_fill(~rows.mask, -1e9).argmax(-1) == rows.action
    loss.backward()
    optimizer.step()
    assert metrics["first_loss"] == metrics["last_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert metrics["first_accuracy"] == pytest.approx(float(weight @ right.double() / weight.sum()), rel=1e-5)
    for got, wanted in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got, wanted)


def test_weights_decide_what_is_learned_their_scale_and_values_do_not() -> None:
    """Of two opposite rules in equal numbers, the network learns the one with the weight."""
    rows = _played_by((RandomPolicy(SPECS["mini-b"]), GreedyPolicy(SPECS["mini-b"])), 1, 500)
    accept, walk = SPECS["mini-b"].accept_action, SPECS["mini-b"].walk_action
    opposite = torch.where(rows.action == accept, walk, accept)
    both = Decisions(*(torch.cat([column, column]) for column in rows))._replace(
        action=torch.cat([rows.action, opposite])
    )
    count = len(rows.action)
    weight = torch.cat([torch.full((count,), 9.0), torch.ones(count)])
    network, twin = _network(), _network()
    values = network.values(rows.observation).detach()
    head = network.value_head
    assert isinstance(head, torch.nn.Linear)
    before = head.weight.detach().clone()
    metrics = _clone(network, both, weight, epochs=60, lr=1e-2)
    assert metrics == _clone(twin, both, weight * 1024, epochs=60, lr=1e-2)
    assert metrics["last_accuracy"] == pytest.approx(0.9, abs=0.01)
    logits = network(rows.observation)[0].detach().masked_fill(~rows.mask, -torch.inf)
    assert (logits.argmax(-1) == rows.action).float().mean() > 0.99
    assert torch.equal(head.weight, before)
    assert not torch.equal(network.values(rows.observation), values)  # the trunk moved


def test_cloning_is_repeatable_and_has_something_to_clone() -> None:
    rows = _played_by((RandomPolicy(SPECS["mini-b"]), GreedyPolicy(SPECS["mini-b"])), 1, 200)
    assert _clone(_network(), rows, batch_size=16) == _clone(_network(), rows, batch_size=16)
    assert _clone(_network(), rows, batch_size=16) != _clone(_network(), rows, batch_size=40)
    with pytest.raises(ValueError, match="no decision to imitate"):
        _clone(_network(), Decisions(*(column[:0] for column in rows)))
    with pytest.raises(FloatingPointError, match="--imitation-lr"):
        _clone(_network(), rows, lr=1e30)

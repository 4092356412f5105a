import itertools

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec, ObservationKind
from bargain_eval.exact import tabular_game, welfare_bounds
from bargain_eval.exact.game import profile_bytes
from bargain_eval.exact.profile import history_offers
from bargain_eval.exact.views import decision_views
from brute_force import types_of

SPECS = {
    **{name: GAMES[name] for name in ("mini-a", "mini-b", "mini-c")},
    "one item": GameSpec(item_quantities=(3,), max_rounds=2, min_value=2, max_value=4, discount=0.9),
    "three items": GameSpec(item_quantities=(1, 2, 1), max_rounds=1, max_value=2),
    "narrow": GameSpec(item_quantities=(2, 1), max_rounds=1, max_value=3, outside_range=(0.3, 0.65)),
    "empty interval": GameSpec(item_quantities=(1, 1), max_rounds=1, max_value=3, outside_range=(0.45, 0.5)),
    "three rounds": GameSpec(item_quantities=(1,), max_rounds=3, max_value=2, discount=0.7),
}
each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@each_spec
def test_the_types_are_those_of_the_reference_with_their_probabilities(spec: GameSpec) -> None:
    game = tabular_game(spec)
    expected = types_of(spec)
    found = {(tuple(v), o): p for v, o, p in zip(game.values.tolist(), game.outside.tolist(), game.chance, strict=True)}
    assert list(found) == list(expected)  # sorted alike
    assert found == pytest.approx(expected, rel=1e-15)
    assert game.chance.sum() == pytest.approx(1, abs=1e-14)
    starts = [game.values[first].tolist() for first in game.first_type]
    assert starts == [list(v) for v, _ in itertools.groupby(tuple(row) for row in game.values.tolist())]


@each_spec
def test_payoffs_are_exact_shares_of_the_own_total(spec: GameSpec) -> None:
    game = tabular_game(spec)
    rng = np.random.default_rng(0)
    for kind in rng.integers(game.num_types, size=20):
        values, outside = game.values[kind].tolist(), int(game.outside[kind])
        reference = ReferenceGame(spec, values=[values, values], outside=[outside, outside])
        assert game.total[kind] == reference.totals[0]
        assert game.walk[kind] == outside / reference.totals[0]
        for seat, offer in itertools.product(range(2), range(spec.num_offers)):
            assert game.shares[seat, offer, kind] == reference.bundle_value(seat, offer) / reference.totals[seat]
    assert [game.discount(d) for d in range(spec.max_turns)] == [
        spec.discount ** (d // 2) for d in range(spec.max_turns)
    ]


# Computed by another implementation; mini-a and mini-b were confirmed with OpenSpiel.
@pytest.mark.parametrize(
    ("name", "sizes", "bounds"),
    [
        ("mini-a", (12, 12, 48), (1.354167, 1.425058, 1.423322, 0.326389)),
        ("mini-b", (12, 204, 816), (1.354167, 1.425058, 1.423322, 0.326389)),
        ("mini-c", (54, 1998, 11988), (1.185758, 1.340312, 1.325411, 0.421513)),
    ],
)
def test_the_size_table(name: str, sizes: tuple[int, ...], bounds: tuple[float, ...]) -> None:
    game = tabular_game(GAMES[name])
    assert (game.num_types, game.num_information_sets(0), game.num_information_sets(1)) == sizes
    found = welfare_bounds(game)
    assert (found.walk, found.first_best, found.rational, found.feasible) == pytest.approx(bounds, abs=5.1e-7)


@each_spec
def test_the_welfare_bounds_are_sums_over_all_pairs_of_types(spec: GameSpec) -> None:
    chance = types_of(spec)
    expected = np.zeros(4)
    for (first, p), (second, q) in itertools.product(chance.items(), repeat=2):
        game = ReferenceGame(spec, values=[first[0], second[0]], outside=[first[1], second[1]])
        walk = sum(game.outside[seat] / game.totals[seat] for seat in range(2))
        splits = [[game.bundle_value(seat, offer) for seat in range(2)] for offer in range(spec.num_offers)]
        totals = [split[0] / game.totals[0] + split[1] / game.totals[1] for split in splits]
        both = [t for t, split in zip(totals, splits, strict=True) if all(np.array(split) >= game.outside)]
        expected += p * q * np.array([walk, max(walk, *totals), max(both, default=walk), float(bool(both))])
    found = welfare_bounds(tabular_game(spec))
    assert (found.walk, found.first_best, found.rational, found.feasible) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("observation", ["standing", "history"])
@each_spec
def test_every_view_is_the_references_bit_for_bit(spec: GameSpec, observation: ObservationKind) -> None:
    spec = spec.with_observation(observation)
    game = tabular_game(spec)
    rng = np.random.default_rng(1)
    for decision in range(spec.max_turns):
        histories = history_offers(spec.num_offers, decision)
        assert len(histories) == game.num_histories(decision)
        history, kind = rng.integers(len(histories), size=60), rng.integers(game.num_types, size=60)
        obs, mask = decision_views(spec, game.values[kind], game.outside[kind], decision, histories[history])
        assert obs.dtype == np.float32
        for row in range(60):
            values, outside = game.values[kind[row]].tolist(), int(game.outside[kind[row]])
            other = game.values[0].tolist(), int(game.outside[0])
            deal = [(values, outside), other] if decision % 2 == 0 else [other, (values, outside)]
            reference = ReferenceGame(spec, values=[deal[0][0], deal[1][0]], outside=[deal[0][1], deal[1][1]])
            for offer in histories[history[row]].tolist():
                reference.play(offer)
            np.testing.assert_array_equal(obs[row].view(np.int32), reference.observation().view(np.int32))
            np.testing.assert_array_equal(mask[row], reference.action_mask())
            np.testing.assert_array_equal(np.flatnonzero(reference.action_mask()), game.actions(decision))


def test_a_view_needs_the_offers_that_it_shows() -> None:
    spec = GAMES["mini-b"].with_observation("history")
    one = np.ones((1, 2), dtype=np.int64)
    with pytest.raises(ValueError, match="decision 2 shows 2 offers, got 1"):
        decision_views(spec, one, one[:, 0], 2, np.zeros((1, 1), dtype=np.int64))


@pytest.mark.parametrize(
    ("spec", "sizes"),
    [
        (GameSpec(), r"some 6\.0e8 types a seat and 3\.2e9 public histories make a profile of 4\.8e19 bytes"),
        (GameSpec(max_rounds=63), r"7\.6e237 public histories"),
        (GameSpec(item_quantities=(7, 4, 1), max_value=3, max_rounds=2), r"some 648 types"),
        (GameSpec(item_quantities=(4095,) * 1, max_value=4096, max_rounds=1), r"types a seat"),
    ],
)
def test_too_large_a_game_is_refused_with_its_size(spec: GameSpec, sizes: str) -> None:
    with pytest.raises(ValueError, match=sizes) as caught:
        tabular_game(spec)
    assert "bargain-eval best-response" in str(caught.value)


def test_the_limit_is_the_size_of_a_profile() -> None:
    spec = GAMES["mini-c"]
    game = tabular_game(spec)
    size = sum(8 * int(np.prod(game.shape(decision))) for decision in range(spec.max_turns))
    assert profile_bytes(spec, game.num_types) == size
    tabular_game(spec, max_bytes=size)
    with pytest.raises(ValueError, match="too large"):
        tabular_game(spec, max_bytes=size - 1)

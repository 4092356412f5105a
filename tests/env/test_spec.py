"""The sizes, the offer codec and the named slices that every other module takes from `GameSpec`."""

from __future__ import annotations

import dataclasses
import json
import pickle
from typing import Any

import numpy as np
import pytest
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.reference import ReferenceGame

DEFAULT = GameSpec()
EIGHT_TYPES = GameSpec(item_quantities=(1,) * 8)


def test_default_sizes() -> None:
    assert (DEFAULT.num_offers, DEFAULT.num_actions, DEFAULT.max_turns) == (80, 82, 6)
    assert (DEFAULT.accept_action, DEFAULT.walk_action, DEFAULT.noop_action) == (80, 81, 82)
    assert DEFAULT.observation_dim == DEFAULT.standing_dim == 92
    history = DEFAULT.with_observation("history")
    assert (history.observation_dim, history.standing_dim) == (107, 92)
    assert DEFAULT.max_total == 1200


def test_slices_of_the_default_game() -> None:
    assert DEFAULT.slices == {
        "values": slice(0, 3),
        "outside": slice(3, 4),
        "offer": slice(4, 7),
        "state": slice(7, 10),
        "mask": slice(10, 92),
        "history": slice(92, 92),
    }
    assert DEFAULT.with_observation("history").slices["history"] == slice(92, 107)


@pytest.mark.parametrize("spec", [*GAMES.values(), EIGHT_TYPES], ids=[*GAMES, "eight types"])
def test_slices_cover_the_observation_in_order(spec: GameSpec) -> None:
    history = spec.with_observation("history")
    starts = [part.start for part in history.slices.values()]
    stops = [part.stop for part in history.slices.values()]
    assert starts == [0, *stops[:-1]]
    assert stops[-1] == history.observation_dim == len(ReferenceGame(history).observation())


def test_offer_index_is_row_major_with_the_last_item_fastest() -> None:
    for index, (a, b, c) in ((0, (0, 0, 0)), (1, (0, 0, 1)), (2, (0, 1, 0)), (10, (1, 0, 0)), (79, (7, 4, 1))):
        assert a * 10 + b * 2 + c == index
        assert DEFAULT.encode_offer((a, b, c)) == index
        assert DEFAULT.decode_offer(index).tolist() == [a, b, c]


@pytest.mark.parametrize("spec", [*GAMES.values(), EIGHT_TYPES], ids=[*GAMES, "eight types"])
def test_offer_codec_is_a_bijection(spec: GameSpec) -> None:
    indices = np.arange(spec.num_offers)
    bundles = spec.decode_offer(indices)
    assert len({tuple(bundle) for bundle in bundles.tolist()}) == spec.num_offers
    assert np.array_equal(spec.encode_offer(bundles), indices)
    complement = spec.encode_offer(np.array(spec.item_quantities) - bundles)
    assert np.array_equal(complement, spec.num_offers - 1 - indices)


@pytest.mark.parametrize("bundle", [(8, 0, 0), (0, -1, 0), (0, 0), 3])
def test_encode_refuses_impossible_bundles(bundle: Any) -> None:
    with pytest.raises(ValueError, match=r"^a bundle .*\.$"):
        DEFAULT.encode_offer(bundle)


@pytest.mark.parametrize("index", [-1, 80])
def test_decode_refuses_what_is_no_offer(index: int) -> None:
    with pytest.raises(ValueError, match=r"^an offer index lies between 0 and 79, got -?[0-9]+\.$"):
        DEFAULT.decode_offer(index)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"item_quantities": ()}, "item_quantities needs 1 to 8 item types, got 0."),
        ({"item_quantities": (1,) * 9}, "item_quantities needs 1 to 8 item types, got 9."),
        ({"item_quantities": (7, 0)}, "item_quantities must all be at least 1, got (7, 0)."),
        ({"item_quantities": 7}, "item_quantities must be a sequence, got 7."),
        ({"item_quantities": (7.5,)}, "item_quantities must hold integers, got 7.5."),
        ({"item_quantities": (True,)}, "item_quantities must hold integers, got True."),
        ({"item_quantities": (31,) * 3}, "(31, 31, 31) make 32770 actions; the limit is 32767."),
        ({"max_rounds": 0}, "max_rounds must lie between 1 and 63, got 0."),
        ({"max_rounds": 64}, "max_rounds must lie between 1 and 63, got 64."),
        ({"max_rounds": "3"}, "max_rounds must hold integers, got '3'."),
        ({"min_value": 0}, "values need 1 <= min_value <= max_value, got 0 and 100."),
        ({"min_value": 101}, "values need 1 <= min_value <= max_value, got 101 and 100."),
        ({"max_value": 2**24}, "the largest possible total is 201326592 points; the limit is 16777216."),
        ({"discount": 0.0}, "discount must lie in (0, 1], got 0.0."),
        ({"discount": 1.5}, "discount must lie in (0, 1], got 1.5."),
        ({"discount": float("nan")}, "discount must lie in (0, 1], got nan."),
        ({"discount": "x"}, "discount must hold numbers, got 'x'."),
        ({"outside_range": (0.5, 0.1)}, "outside_range must satisfy 0 <= low <= high <= 1, got (0.5, 0.1)."),
        ({"outside_range": (0.0, 1.1)}, "outside_range must satisfy 0 <= low <= high <= 1, got (0.0, 1.1)."),
        ({"outside_range": (0.5,)}, "outside_range needs two fractions (low, high), got (0.5,)."),
        ({"outside_range": None}, "outside_range must be a sequence, got None."),
        ({"observation": "full"}, 'observation must be "standing" or "history", got \'full\'.'),
    ],
)
def test_each_bad_field_is_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        GameSpec(**fields)
    assert str(error.value) == sentence


def test_fields_are_normalised() -> None:
    spec = GameSpec(item_quantities=np.array([2, 1]), discount=np.float32(0.5), outside_range=[0.1, 0.30004])  # type: ignore[arg-type]
    assert spec == GameSpec(item_quantities=(2, 1), discount=0.5, outside_range=(0.1, 0.3))
    assert hash(spec) == hash(GameSpec(item_quantities=(2, 1), discount=0.5, outside_range=(0.1, 0.3)))
    assert spec.outside_units == (1000, 3000)


def test_dict_round_trip_through_json() -> None:
    spec = GameSpec((2, 1), 5, 2, 9, 0.98, (0.1, 0.5), "history")
    assert GameSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert GameSpec.from_dict({}) == DEFAULT
    with pytest.raises(ValueError, match=r"^unknown GameSpec fields: rounds, values\.$"):
        GameSpec.from_dict({"values": 3, "rounds": 3})


def test_a_spec_is_frozen_and_pickles() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT.max_rounds = 4  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        DEFAULT.offers[0] = 1
    assert pickle.loads(pickle.dumps(DEFAULT)) == DEFAULT


def test_same_game_ignores_only_the_observation() -> None:
    assert DEFAULT.same_game(DEFAULT.with_observation("history"))
    assert not DEFAULT.same_game(dataclasses.replace(DEFAULT, discount=0.99))


LARGE = GameSpec(item_quantities=(1, 2), min_value=5_500_000, max_value=5_592_405)


@pytest.mark.parametrize("spec", [DEFAULT, GAMES["mini-a"], LARGE, EIGHT_TYPES.with_observation("history")])
def test_read_observation_returns_the_integers_behind_it(spec: GameSpec) -> None:
    engine = make_engine(spec, 512)
    views, rows = np.empty((2, 512, spec.observation_dim), np.float32), np.arange(512)
    masks = np.empty((2, 512, spec.num_actions + 1), np.int8)
    for step in range(8):
        state = engine.get_state()
        engine.seat_views(views, masks)
        first, second = np.zeros(512, int), np.ones(512, int)
        for seat, view in ((engine.mover, engine.observation), (first, views[0]), (second, views[1])):
            read = spec.read_observation(view)
            offers = np.where(state["offer"] < 0, 0, state["offer"])
            to_seat_1 = spec.decode_offer(offers)
            mine = np.where(seat[:, None] == 1, to_seat_1, np.array(spec.item_quantities) - to_seat_1)
            assert np.array_equal(read.values, state["values"][rows, seat])
            assert np.array_equal(read.outside, state["outside"][rows, seat])
            assert np.array_equal(read.total, state["values"][rows, seat] @ np.array(spec.item_quantities))
            assert np.array_equal(read.has_offer, state["offer"] >= 0)
            assert np.array_equal(read.offer, np.where(read.has_offer[:, None], mine, 0))
            assert np.array_equal(read.round, state["turn"] // 2)
            assert np.array_equal(read.seat, seat)
        engine.step(engine.random_actions(step))


def test_read_observation_of_a_zero_row_and_of_a_wrong_width() -> None:
    assert DEFAULT.read_observation(np.zeros(92)).total == 0
    with pytest.raises(ValueError, match=r"^observation has 10 features; this game's has 92\.$"):
        DEFAULT.read_observation(np.zeros(10))


@pytest.mark.parametrize("bad", [(1.7, 0, 0), None, "abc"])
def test_offers_are_integers(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^a bundle must hold integers, got"):
        DEFAULT.encode_offer(bad)
    with pytest.raises(ValueError, match=r"^an offer index must hold integers, got"):
        DEFAULT.decode_offer(bad)
    with pytest.raises(ValueError, match=r"^observation has 0 features; this game's has 92\.$"):
        DEFAULT.read_observation(5.0)

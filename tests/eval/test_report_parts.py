"""Parts of the report on their own: the points of games, cells and embedded data."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.report.content import Section, Table, filled, number, seconds, short, text
from bargain_eval.report.game_points import game_points
from bargain_eval.report.page import render_page


def test_the_frontier_is_the_upper_hull_of_everything_that_is_possible() -> None:
    spec = GAMES["mini-c"]
    deals = [ReferenceGame(spec, 3, game) for game in range(3)]
    values, outside = np.array([deal.values for deal in deals]), np.array([deal.outside for deal in deals])
    points = game_points(values, outside, spec)
    quantities = np.array(spec.item_quantities)
    outcomes = []
    for deal in deals:
        splits = [
            (
                np.dot(deal.values[0], quantities - bundle) / deal.totals[0],
                np.dot(deal.values[1], bundle) / deal.totals[1],
            )
            for bundle in spec.offers
        ]
        pairs = [*splits, (deal.outside[0] / deal.totals[0], deal.outside[1] / deal.totals[1])]
        outcomes.append(np.array([(sum(pair), min(pair)) for pair in pairs]))
    everything = (outcomes[0][:, None, None] + outcomes[1][None, :, None] + outcomes[2][None, None, :]).reshape(
        -1, 2
    ) / 3
    for weight in np.linspace(0.01, 0.99, 33):
        direction = np.array([1 - weight, weight])
        assert (points.frontier @ direction).max() <= (everything @ direction).max() + 1e-12
    for corner in points.frontier:
        assert np.abs(everything - corner).sum(axis=1).min() < 1e-12
        assert not ((everything > corner + 1e-12).all(axis=1)).any()
    assert points.first_best[0] == pytest.approx(everything[:, 0].max())
    assert points.frontier[-1, 1] == pytest.approx(everything[:, 1].max())
    assert points.walk[0] == pytest.approx(np.mean([outcome[-1, 0] for outcome in outcomes]))
    assert (np.diff(points.frontier[:, 0]) <= 1e-12).all()
    assert (np.diff(points.frontier[:, 1]) >= -1e-12).all()


def test_the_benchmarks_of_the_standard_game_are_the_known_ones() -> None:
    deals = [ReferenceGame(GameSpec(), 11, game) for game in range(3000)]
    points = game_points(np.array([d.values for d in deals]), np.array([d.outside for d in deals]), GameSpec())
    assert points.first_best[0] == pytest.approx(1.3501, abs=0.015)
    assert points.nash_bargaining[0] == pytest.approx(1.3042, abs=0.02)
    assert points.walk == pytest.approx((1.00208, 0.3346), abs=0.02)
    assert points.frontier[-1, 1] == pytest.approx(0.6213, abs=0.015)


def test_cells_and_names_are_written_plainly() -> None:
    assert number(0.63, 0.0012) == ("0.6300 ± 0.0012", 0.63)
    assert number(-1e-9).text == "0.0000"
    assert number(None).text == number(float("nan")).text == ""
    assert [seconds(value).text for value in (2.04, 125.0, 7260.0)] == ["2.0 s", "2 min 05 s", "2 h 01 min"]
    assert short("a" * 20 + "b" * 20, 11) == "aaaaa…bbbbb"
    table = Table(("x", "y"), [(text("1"), text(None)), (text("2"), text(""))])
    assert filled(table).headers == ("x",)


def test_an_embedded_text_cannot_end_its_element() -> None:
    names = ["</script><script>alert(1)</script>", "<!--", "]]>", "\u2028"]
    games: dict[str, Any] = {"names": names}
    page = render_page([Section("a", "A", games=games)], title="t", command="c", config_hash="h")
    (embedded,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert json.loads(embedded) == games
    assert "<" not in embedded

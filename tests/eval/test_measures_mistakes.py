"""Mistakes against a replay of each game in plain Python, and against games whose mistakes are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GameSpec
from bargain_eval.arena import play
from bargain_eval.baselines import AlwaysWalkPolicy, FairSplitPolicy, GreedyPolicy, RandomPolicy
from bargain_eval.equilibria import TioliPolicy
from bargain_eval.game_rows import GameRows
from bargain_eval.mistakes import count_mistakes
from bargain_eval.policy import Policy

SPEC = GameSpec()
NAMES = (
    "m1_below_own_offer",
    "m1_below_standing_offer",
    "m2_offer_below_outside",
    "m3_all_or_nothing",
    "m4_accept_below_outside",
    "m5_walk_from_better",
)


def replay(rows: GameRows, n: int, spec: GameSpec) -> dict[str, list[list[int]]]:
    """The mistakes and chances `[name][seat] = [made, chances]` of one game, move by move."""
    game = ReferenceGame(spec, values=rows.values[n].tolist(), outside=rows.outside[n].tolist())
    counts = {name: [[0, 0], [0, 0]] for name in NAMES}
    own_last: list[int | None] = [None, None]

    def note(name: str, seat: int, made: bool) -> None:
        counts[name][seat][0] += made
        counts[name][seat][1] += 1

    for action in rows.actions[n, : rows.decisions[n]].tolist():
        seat, standing = game.mover, game.offer
        outside = game.outside[seat]
        on_table = game.bundle_value(seat, standing) if standing >= 0 else None
        if action < spec.num_offers:
            worth = game.bundle_value(seat, action)
            before = own_last[seat]
            if before is not None:
                note("m1_below_own_offer", seat, worth < before)
            if on_table is not None:
                note("m1_below_standing_offer", seat, worth < on_table)
            note("m2_offer_below_outside", seat, worth < outside)
            received = sum(game.bundle(seat, action))
            note("m3_all_or_nothing", seat, received in (0, sum(spec.item_quantities)))
            own_last[seat] = worth
        elif action == spec.accept_action:
            assert on_table is not None
            note("m4_accept_below_outside", seat, on_table < outside)
        elif on_table is not None:
            note("m5_walk_from_better", seat, on_table > outside)
        game.play(action)
    return counts


@pytest.mark.parametrize(
    ("spec", "first", "second"),
    [
        (SPEC, RandomPolicy(SPEC, 1), RandomPolicy(SPEC, 2)),
        (SPEC, FairSplitPolicy(), RandomPolicy(SPEC, 3)),
        (GameSpec(item_quantities=(1, 2), max_rounds=5, max_value=3, discount=0.9), None, None),
    ],
)
def test_the_counts_equal_a_replay_of_every_game(spec: GameSpec, first: Policy | None, second: Policy | None) -> None:
    rows = play((first or RandomPolicy(spec, 4), second or RandomPolicy(spec, 5)), 300, seed=1, spec=spec)
    counts = count_mistakes(rows, spec)
    assert tuple(counts) == NAMES
    for n in range(len(rows)):
        for name, wanted in replay(rows, n, spec).items():
            got = [[int(counts[name].made[n, seat]), int(counts[name].chances[n, seat])] for seat in range(2)]
            assert got == wanted, (n, name)
    assert all(count.made.sum() > 0 for count in counts.values())


def test_the_rates_of_tioli() -> None:
    counts = count_mistakes(play((TioliPolicy(), TioliPolicy()), 2000, seed=2), SPEC)
    for name in ("m2_offer_below_outside", "m4_accept_below_outside", "m5_walk_from_better"):
        assert counts[name].rates()[1] == 0
    # Seat 1 always asks for everything; seat 0 stalls with it twice, then makes one real offer.
    assert counts["m3_all_or_nothing"].rates()[1] == 1
    assert 2 / 3 <= counts["m3_all_or_nothing"].rates()[0] < 0.75
    assert counts["m1_below_own_offer"].rates()[1] == 0
    assert 0.4 < counts["m1_below_own_offer"].rates()[0] <= 0.5


def test_a_seat_without_a_chance_has_no_rate() -> None:
    rates = count_mistakes(play((AlwaysWalkPolicy(), RandomPolicy()), 10, seed=3), SPEC)["m3_all_or_nothing"].rates()
    assert math.isnan(rates[0])
    assert math.isnan(rates[1])


def test_nobody_who_compares_with_the_outside_offer_makes_its_mistakes() -> None:
    rows = play((RandomPolicy(), GreedyPolicy()), 5000, seed=4)
    counts = count_mistakes(rows, SPEC)
    assert counts["m4_accept_below_outside"].rates()[1] == 0
    assert counts["m5_walk_from_better"].rates()[1] == 0
    assert counts["m4_accept_below_outside"].chances[:, 1].sum() > 1000
    # Random accepts and walks at random: both mistakes are common, which the same game shows for the other seat.
    assert 0.3 < counts["m2_offer_below_outside"].rates()[0] < 0.7


def test_mistakes_never_outnumber_the_chances() -> None:
    for count in count_mistakes(play((RandomPolicy(), RandomPolicy()), 2000, seed=5), SPEC).values():
        assert np.all(count.made <= count.chances)
        assert np.all(count.made >= 0)

"""Populations: who is in them, what is known of their game, and the mixtures that it is solved by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bargain_env import GAMES
from bargain_eval.metagame.solution import independent
from bargain_eval.metagame.solvers import solve
from bargain_train.networks import build_network
from bargain_train.oracle import Profile
from bargain_train.oracle_run import read_state, write_state
from bargain_train.population import DUST, Cell, Member, Populations, expected


def cell(first: float, second: float, error: float = 0.0) -> Cell:
    return Cell((first, second), (error, 2 * error), agreement_rate=first / 10, games=7)


def known(*numbers: tuple[int, int]) -> dict[tuple[int, int], Cell]:
    return {(a, b): cell(a + 0.5, b + 0.25, 0.1) for a, b in numbers}


def solved(populations: Populations, row: list[float], column: list[float]) -> Populations:
    table = populations.table().mean
    return populations.solved(independent("hand", table, np.array(row), np.array(column), converged=True, iterations=1))


@pytest.fixture
def two() -> Populations:
    """Two members each, which entered as 0 and 3, and as 0 and 4."""
    start = Populations(((Member(0, "a"),), (Member(0, "x"),)))
    grown = start.grown(("b", "y"), 3)
    members = (grown.members[0], (grown.members[1][0], Member(4, "y")))
    return Populations(members).with_cells(known((0, 0), (0, 4), (3, 0), (3, 4)))


def test_growing_adds_a_member_to_each_seat_and_unknown_pairs() -> None:
    start = Populations(((Member(0, "a"),), (Member(0, "x"),)))
    assert [(a.network, b.network) for a, b in start.missing()] == [("a", "x")]
    grown = start.with_cells(known((0, 0))).grown(("b", "y"), 1)
    assert grown.members == ((Member(0, "a"), Member(1, "b")), (Member(0, "x"), Member(1, "y")))
    assert [(a.number, b.number) for a, b in grown.missing()] == [(0, 1), (1, 0), (1, 1)]
    assert [len(weights) for weights in grown.weights] == [0, 0]
    assert len(start.members[0]) == 1


def test_the_table_holds_payoffs_errors_and_counts_by_name(two: Populations) -> None:
    table = two.table()
    assert table.rows == ("start", "3")
    assert table.columns == ("start", "4")
    np.testing.assert_array_equal(table.mean[:, :, 0], [[0.5, 0.5], [3.5, 3.5]])
    np.testing.assert_array_equal(table.mean[:, :, 1], [[0.25, 4.25], [0.25, 4.25]])
    np.testing.assert_array_equal(table.standard_error[:, :, 1], np.full((2, 2), 0.2))
    np.testing.assert_array_equal(table.count, np.full((2, 2), 7))
    unknown = two.grown(("c", "z"), 5).table()
    assert np.isnan(unknown.mean[2]).all()
    assert np.isnan(unknown.mean[:, 2]).all()
    assert (unknown.count[2] == 0).all()
    with pytest.raises(ValueError, match="never played"):
        unknown.complete()


@pytest.mark.parametrize(("seat", "number", "left"), [(0, 0, {(3, 0), (3, 4)}), (1, 4, {(0, 0), (3, 0)})])
def test_a_member_leaves_with_its_cells(two: Populations, seat: int, number: int, left: set[tuple[int, int]]) -> None:
    rest = solved(two, [0.5, 0.5], [0.5, 0.5]).without(seat, number)
    assert set(rest.cells) == left
    assert [len(members) for members in rest.members] == ([1, 2] if seat == 0 else [2, 1])
    assert number not in [member.number for member in rest.members[seat]]
    assert rest.members[1 - seat] == two.members[1 - seat]
    assert not rest.missing()
    assert len(rest.weights[0]) == 0


def test_shares_name_everybody_and_the_lightest_is_the_oldest_of_those(two: Populations) -> None:
    populations = solved(two, [0.25, 0.75], [0.5, 0.5])
    assert populations.shares(0) == {"start": 0.25, "3": 0.75}
    assert populations.shares(1) == {"start": 0.5, "4": 0.5}
    assert populations.lightest(0) == Member(0, "a")
    assert populations.lightest(1) == Member(0, "x")
    assert solved(two, [0.75, 0.25], [0.5, 0.5]).lightest(0) == Member(3, "b")


def test_dust_is_left_out_of_mixtures_and_the_rest_sums_to_one(two: Populations) -> None:
    dusty = solved(two, [DUST / 2, 1 - DUST / 2], [DUST * 1.01, 1 - DUST * 1.01])
    first, second = dusty.mixtures()
    assert first == [(Member(3, "b"), 1.0)]
    assert [member.number for member, _ in second] == [0, 4]
    assert sum(weight for _, weight in second) == pytest.approx(1.0, abs=1e-15)
    assert sum(dusty.shares(0).values()) == pytest.approx(1.0, abs=1e-15)  # in the log nobody is left out


def test_a_thousand_members_of_the_same_weight_are_no_dust() -> None:
    members = tuple(Member(number, number) for number in range(2000))
    populations = Populations((members, members), {}, (np.full(2000, 1 / 2000), np.full(2000, 1 / 2000)))
    assert len(populations.mixtures()[0]) == 2000


def test_expected_payoffs_of_mixtures_are_sums_over_cells(two: Populations) -> None:
    mixtures = solved(two, [0.25, 0.75], [0.4, 0.6]).mixtures()
    mean, error = expected(two, mixtures)
    assert mean.tolist() == pytest.approx([0.5 + 0.75 * 3, 0.25 + 0.6 * 4, (0.5 + 0.75 * 3) / 10])
    squares = sum((p * q) ** 2 for p in (0.25, 0.75) for q in (0.4, 0.6))
    assert error.tolist() == pytest.approx([0.1 * squares**0.5, 0.2 * squares**0.5])


def test_a_solution_brings_its_weights_and_regret(two: Populations) -> None:
    populations = two.solved(solve(two.table().complete(), solver="max_welfare"))
    assert populations.shares(0) == {"start": 0.0, "3": 1.0}  # a dominant member of each seat
    assert populations.shares(1) == {"start": 0.0, "4": 1.0}
    assert populations.regret == (0.0, 0.0)
    uniform = two.solved(solve(two.table().complete(), solver="uniform"))
    assert uniform.regret == pytest.approx((1.5, 2.0))


@pytest.mark.parametrize("judged", [True, False])
def test_what_is_stored_reads_back(judged: bool) -> None:
    spec = GAMES["mini-b"].with_observation("history")
    networks = [build_network({"network": "mlp", "hidden_dims": [4]}, spec) for _ in range(4)]
    start = Populations(((Member(0, networks[0]),), (Member(0, networks[1]),)))
    grown = start.grown(networks[2:], 1).with_cells(known((0, 0), (0, 1), (1, 0), (1, 1)))
    plays = {"payoff": torch.rand(7, 2), "actions": torch.ones(7, 4, dtype=torch.int16)}
    grown = solved(grown.with_cells({(1, 1): cell(1, 2)._replace(plays=plays)}), [0.25, 0.75], [0.0, 1.0])
    best = Profile(grown.mixtures(), 0.125, 1.25) if judged else None

    populations, found = read_state(write_state(grown, best), spec, "cpu")
    assert [[member.number for member in members] for members in populations.members] == [[0, 1], [0, 1]]
    for members, same in zip(populations.members, grown.members, strict=True):
        for member, original in zip(members, same, strict=True):
            assert member.network is not original.network
            for parameter, value in zip(member.network.parameters(), original.network.parameters(), strict=True):
                assert torch.equal(parameter, value)
                assert not parameter.requires_grad
    assert {pair: one._replace(plays=None) for pair, one in populations.cells.items()} == {
        pair: one._replace(plays=None) for pair, one in grown.cells.items()
    }
    stored = populations.cells[1, 1].plays
    assert stored is not None
    assert torch.equal(stored["payoff"], plays["payoff"])
    assert [weights.tolist() for weights in populations.weights] == [[0.25, 0.75], [0.0, 1.0]]
    assert populations.regret == grown.regret
    if not judged:
        assert found is None
        return
    assert found is not None
    assert (found.gap, found.total) == (0.125, 1.25)
    assert [[(member.number, weight) for member, weight in seat] for seat in found.mixtures] == [
        [(0, 0.25), (1, 0.75)],
        [(1, 1.0)],
    ]
    assert found.mixtures[0][1][0].network is populations.members[0][1].network  # not built twice

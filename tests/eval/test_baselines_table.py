import pytest
from bargain_eval.arena import play
from bargain_eval.baselines import AlwaysWalkPolicy, FairSplitPolicy, GreedyPolicy, RandomPolicy

POLICIES = {
    "random": RandomPolicy(),
    "greedy": GreedyPolicy(),
    "always_walk": AlwaysWalkPolicy(),
    "fair_split": FairSplitPolicy(),
}
WALK = (0.50104068, 0.50104068, 0.0)

# GAME.md, "Reference numbers": payoff of seat 0, payoff of seat 1, agreement rate.
TABLE = {
    ("random", "random"): (0.500527, 0.500527, 40 / 81),
    ("random", "greedy"): (0.4509, 0.6546, 0.4938),
    ("random", "always_walk"): WALK,
    ("random", "fair_split"): (0.4229, 0.5967, 0.6268),
    ("greedy", "random"): (0.7505, 0.2505, 0.5),
    ("greedy", "greedy"): WALK,
    ("greedy", "always_walk"): WALK,
    ("greedy", "fair_split"): WALK,
    ("always_walk", "random"): WALK,
    ("always_walk", "greedy"): WALK,
    ("always_walk", "always_walk"): WALK,
    ("always_walk", "fair_split"): WALK,
    ("fair_split", "random"): (0.5003, 0.4913, 0.5),
    ("fair_split", "greedy"): (0.5009, 0.6293, 0.4816),
    ("fair_split", "always_walk"): WALK,
    ("fair_split", "fair_split"): (0.5012, 0.5391, 0.7327),
}


@pytest.mark.parametrize("pair", TABLE)
def test_cell(pair: tuple[str, str]) -> None:
    rows = play((POLICIES[pair[0]], POLICIES[pair[1]]), 100_000, 2024)
    summary = rows.summary()
    for name, expected in zip(("payoff_0", "payoff_1", "agreement_rate"), TABLE[pair], strict=True):
        value, error = summary[name], summary[f"{name}_se"]
        assert value is not None
        assert error is not None
        assert abs(value - expected) <= 4 * error, name  # an agreement rate of 0 has no error: it holds exactly
    assert summary["illegal_rate"] == 0
    if TABLE[pair] == WALK and pair[0] != "random":
        assert (rows.payoff == rows.outside / rows.total).all()
        assert (rows.decisions == (1 if pair[0] == "always_walk" else 2)).all()
    assert summary["points_0"] == pytest.approx(303.5, abs=2.5) or TABLE[pair] != WALK


def test_every_cell_is_tested() -> None:
    assert set(TABLE) == {(first, second) for first in POLICIES for second in POLICIES}

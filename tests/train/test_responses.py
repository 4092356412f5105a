"""Trainings that are jobs: responses that reach their exact value, pure functions of their task; and snapshots."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from bargain_env import GAMES
from bargain_train.algorithms.fcp import FCPConfig
from bargain_train.exact_oracle import ExactOracle
from bargain_train.jobs import Result
from bargain_train.networks import Network, build_network
from bargain_train.policies import read_network, stored_network
from bargain_train.responses import (
    CURVE,
    ResponseTask,
    SelfPlayTask,
    Stored,
    TogetherTask,
    learner_metrics,
    train_pair,
    train_response,
    train_together,
)

SPEC = GAMES["mini-b"].with_observation("history")
MLP = {"network": "mlp", "hidden_dims": [16]}
OPTIONS = FCPConfig(lr=3e-3, entropy_coef=0.3, entropy_coef_final=5e-4, minibatch_size=512)
UNIFORM_VALUE, GAIN = 0.60625, (0.25920139, 0.21053241)
"""What each seat earns if both play uniformly, and what a best response adds to it."""
WALK_VALUE = 0.6770833333


def constant(**bias: float) -> Network:
    """A network that plays alike everywhere: uniformly, but for what is added to the logit of an action."""
    network = build_network(MLP, SPEC)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        if bias:
            assert isinstance(network.policy_head.bias, torch.Tensor)
            network.policy_head.bias[SPEC.walk_action] = bias["walk"]
    return network


def some_network(seed: int) -> Stored:
    torch.manual_seed(seed)
    return stored_network(build_network(MLP, SPEC))


def task_of(*opponents: tuple[Stored, float], **changes: Any) -> ResponseTask:
    fields: dict[str, Any] = {
        "spec": SPEC,
        "network": MLP,
        "options": OPTIONS,
        "steps": 1024,
        "num_envs": 16,
        "rollout_steps": 8,
        "seed": 3,
        "seat": 0,
        "opponents": opponents or [(some_network(1), 0.25), (some_network(2), 0.75)],
    }
    return ResponseTask(**fields | changes)


def worth(result: Result, opponent: Network, seat: int) -> float:
    """The exact payoff of what was trained."""
    network = read_network(result["network"], SPEC)
    oracle = ExactOracle(SPEC)
    return oracle.payoffs(*((network, opponent) if seat == 0 else (opponent, network)))[seat]


@pytest.mark.slow
@pytest.mark.parametrize("seat", [0, 1])
def test_the_response_to_uniform_play_reaches_its_exact_value(seat: int) -> None:
    uniform = constant()
    task = task_of(
        (stored_network(uniform), 1.0),
        network={"network": "mlp", "hidden_dims": [32]},
        steps=100_000,
        num_envs=128,
        rollout_steps=16,
        seat=seat,
    )
    best = UNIFORM_VALUE + GAIN[seat]
    assert 0.98 * best <= worth(train_response(task), uniform, seat) <= best + 1e-6


@pytest.mark.parametrize("seat", [0, 1])
def test_against_one_who_always_walks_nothing_can_be_gained(seat: int) -> None:
    """In seat 1 the learner never moves, so there is nothing to learn from either."""
    walker = constant(walk=200.0)
    result = train_response(task_of((stored_network(walker), 1.0), seat=seat))
    assert worth(result, walker, seat) == pytest.approx(WALK_VALUE, abs=1e-9)
    assert result["steps"] == 1024
    assert ("loss" in result["metrics"]) == (seat == 0)


@pytest.mark.parametrize("seat", [0, 1])
def test_a_response_is_a_function_of_its_task_alone_and_does_not_change_it(seat: int) -> None:
    task = task_of(seat=seat, start=some_network(4))
    before = copy.deepcopy(task)
    first = train_response(task)
    torch.manual_seed(99)
    second = train_response(task)
    assert first["metrics"] == second["metrics"]
    assert_same_network(first["network"], second["network"])
    assert task.start is not None
    assert before.start is not None
    assert_same_network(task.start, before.start)
    for (stored, _), (same, _) in zip(task.opponents, before.opponents, strict=True):
        assert_same_network(stored, same)
    assert not torch.equal(weight_of(first["network"]), weight_of(task.start))


def weight_of(stored: Stored) -> torch.Tensor:
    weight: torch.Tensor = stored["policy_state_dict"]["policy_head.weight"]
    return weight


def assert_same_network(first: Stored, second: Stored) -> None:
    assert first["config"] == second["config"]
    for name, tensor in first["policy_state_dict"].items():
        assert torch.equal(tensor, second["policy_state_dict"][name]), name


@pytest.mark.parametrize("change", [{"seed": 4}, {"seat": 1}, {"steps": 2048}, {"start": some_network(9)}])
def test_another_task_trains_another_network(change: dict[str, Any]) -> None:
    first, second = train_response(task_of()), train_response(task_of(**change))
    assert not torch.equal(weight_of(first["network"]), weight_of(second["network"]))


def test_weights_of_opponents_count_up_to_a_factor() -> None:
    opponents = some_network(1), some_network(2)
    half, quarter = (
        train_response(task_of((opponents[0], weight), (opponents[1], 3 * weight), (some_network(5), 0.0)))
        for weight in (0.25, 1.0)
    )
    assert_same_network(half["network"], quarter["network"])


def test_a_small_budget_is_many_updates() -> None:
    task = task_of(steps=100_000, num_envs=4096, rollout_steps=16)
    assert task.games == 125
    assert task_of(steps=100, num_envs=4096).games == 16
    assert task_of(steps=10**9, num_envs=4096).games == 4096


@pytest.mark.parametrize(("steps", "updates"), [(1, 1), (128, 1), (1025, 9), (128 * 39, 39), (128 * 50, 50)])
def test_the_curve_is_thinned_evenly_and_ends_with_the_last_update(steps: int, updates: int) -> None:
    result = train_response(task_of(steps=steps))
    curve = [line["updates"] for line in result["curve"]]
    assert result["steps"] == result["curve"][-1]["step"] == 128 * updates
    assert curve[-1] == updates
    assert len(curve) <= CURVE
    gaps = {after - before for before, after in itertools.pairwise(curve)}
    assert len(gaps) <= 1
    assert curve[0] <= max(gaps, default=1)  # it begins at the beginning
    assert [line["step"] for line in result["curve"]] == [128 * update for update in curve]


def test_metrics_are_means_over_the_last_tenth_of_the_updates() -> None:
    few, many = train_response(task_of(steps=128 * 9)), train_response(task_of(steps=128 * 20))
    assert few["metrics"]["loss"] == few["curve"][-1]["loss"]
    last = [line["entropy"] for line in many["curve"][-2:]]
    assert many["metrics"]["entropy"] == pytest.approx(sum(last) / 2)


def test_metrics_are_told_from_the_learners_view() -> None:
    metrics = {"payoff_0": 0.5, "payoff_1": 0.75, "total": 1.25, "games": 9.0, "loss": 1.0, "step": 3.0, "updates": 1}
    assert learner_metrics(0, metrics) == {"payoff": 0.5, "loss": 1.0}
    assert learner_metrics(1, metrics) == {"payoff": 0.75, "loss": 1.0}
    assert learner_metrics(1, {"games": 0.0, "loss": 1.0}) == {"loss": 1.0}  # no game ended


def test_both_responses_trained_together_without_meeting_are_those_trained_alone() -> None:
    tasks = task_of(seat=0), task_of(seat=1, seed=8)
    together = train_together(TogetherTask(tasks, 0.0))
    for seat, task in enumerate(tasks):
        alone = train_response(task)
        assert together[str(seat)]["metrics"] == alone["metrics"]
        assert_same_network(together[str(seat)]["network"], alone["network"])


def test_responses_that_meet_each_other_answer_each_other() -> None:
    """Each depends on the other's seed then, which alone it does not."""
    first, second, other = task_of(seat=0), task_of(seat=1, seed=8), task_of(seat=1, seed=9)
    met = train_together(TogetherTask((first, second), 0.5))
    again = train_together(TogetherTask((first, second), 0.5))
    another = train_together(TogetherTask((first, other), 0.5))
    assert_same_network(met["0"]["network"], again["0"]["network"])
    assert not torch.equal(weight_of(met["0"]["network"]), weight_of(another["0"]["network"]))


def pair_task(interval: int, steps: int = 1024) -> SelfPlayTask:
    return SelfPlayTask(
        spec=SPEC,
        network=MLP,
        options=OPTIONS,
        steps=steps,
        num_envs=16,
        rollout_steps=8,
        seed=3,
        snapshot_interval=interval,
    )


@pytest.mark.parametrize("interval", [1, 100, 128, 129, 200, 300, 340])
def test_snapshots_are_taken_where_the_interval_is_crossed(interval: int) -> None:
    result = train_pair(pair_task(interval))
    curve = result["curve"]  # eight updates of 128 steps
    assert [line["step"] for line in curve] == [128 * update for update in range(1, 9)]
    crossed = [line for line in curve if line["step"] // interval > (line["step"] - 128) // interval]
    taken = crossed if crossed[-1] is curve[-1] else [*crossed, curve[-1]]
    early, middle, final = result["snapshots"]
    assert early["step"] == taken[0]["step"]
    assert final["step"] == result["steps"] == 1024
    half = (taken[0]["total"] + taken[-1]["total"]) / 2
    nearest = min(taken[1:-1], key=lambda line: abs(line["total"] - half))
    assert middle["step"] == nearest["step"]
    assert early["step"] < middle["step"] < final["step"]
    for snapshot in (early, middle, final):
        line = curve[snapshot["step"] // 128 - 1]
        assert snapshot["payoffs"] == [line["payoff_0"], line["payoff_1"]]
    weights = [weight_of(snapshot["network"]) for snapshot in (early, middle, final)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


@pytest.mark.parametrize("interval", [700, 2000])
def test_a_pair_needs_three_snapshots(interval: int) -> None:
    with pytest.raises(ValueError, match=f"--snapshot-interval {interval} takes . of 3 snapshots"):
        train_pair(pair_task(interval))


def test_a_snapshot_is_the_network_as_it_was() -> None:
    """A shorter training with the same schedule would be the same until then."""
    options = FCPConfig(lr=3e-3, lr_final=1.0, entropy_coef=0.1, entropy_coef_final=0.1)
    long, short = (
        train_pair(SelfPlayTask(**vars(pair_task(128, steps)) | {"options": options})) for steps in (1024, 384)
    )
    assert_same_network(long["snapshots"][0]["network"], short["snapshots"][0]["network"])
    assert long["snapshots"][0]["payoffs"] == short["snapshots"][0]["payoffs"]

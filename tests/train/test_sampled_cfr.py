"""Sampled CFR learns, resumes bit for bit, and every setting of it matters."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from bargain_env import GAMES
from bargain_eval.by_seat import BySeat, policy_of_seat
from bargain_eval.checkpoint import read_checkpoint
from bargain_eval.exact import evaluate, policy_profile, tabular_game
from bargain_eval.mixture import weighted_members
from bargain_eval.policy import HasValues
from bargain_eval.registry import load_policy
from bargain_train.algorithms import ALGORITHMS
from bargain_train.algorithms.sampled_cfr import SampledCFRConfig
from bargain_train.buffers import Memory
from bargain_train.cli import main
from bargain_train.config import RegretOptions
from bargain_train.regret import RegretLearner, advantage_loss, foretold, strategy_loss
from bargain_train.run import Run
from tensordict import TensorDict

from tests.train import settings
from tests.train.conftest import Train, Trained

SPEC = GAMES["mini-b"].with_observation("history")


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "sampled-cfr")


BASE: dict[str, Any] = {
    "game": "mini-b",
    "hidden_dims": (8,),
    "num_envs": 16,
    "iterations": 3,
    "eval_games": 1,
    "threads": 1,
    "advantage_train_steps": 4,
    "advantage_batch_size": 16,
}
NETWORK = {"readout": "network", "strategy_train_steps": 4}
NEGATIVE = {"lr": 0.03, "advantage_train_steps": 60}  # so that somewhere no advantage is positive
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = settings.CHANGES | {
    "observation": ({}, {"observation": "standing"}),
    "iterations": ({}, {"iterations": 4}),
    "lr": ({}, {"lr": 1e-2}),
    "max_grad_norm": ({}, {"max_grad_norm": 1e-6}),
    "advantage_memory_size": ({}, {"advantage_memory_size": 30}),
    "advantage_batch_size": ({}, {"advantage_batch_size": 8}),
    "advantage_train_steps": ({}, {"advantage_train_steps": 5}),
    "memory": ({"advantage_memory_size": 30}, {"memory": "window"}),
    "reinitialise": ({}, {"reinitialise": False}),
    "fallback": (NEGATIVE, {"fallback": "uniform"}),
    "readout": ({}, NETWORK),
    "stored_networks": ({}, {"stored_networks": 2}),
    "strategy_memory_size": (NETWORK, {"strategy_memory_size": 30}),
    "strategy_batch_size": (NETWORK, {"strategy_batch_size": 8}),
    "strategy_train_steps": (NETWORK, {"strategy_train_steps": 5}),
    "sampled_offers": ({}, {"sampled_offers": 2}),
}


def _learned(train: Train, changes: dict[str, Any]) -> Trained:
    return settings.learned(train, BASE | changes)


def test_the_table_of_changes_names_every_setting() -> None:
    assert CHANGES.keys() | settings.NOT_ABOUT_LEARNING == {
        field.name for field in dataclasses.fields(SampledCFRConfig)
    }
    assert not CHANGES.keys() & settings.NOT_ABOUT_LEARNING


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_what_is_learned(train: Train, name: str) -> None:
    base, change = CHANGES[name]
    before, after = _learned(train, base).weights, _learned(train, base | change).weights
    assert settings.differ(before, after)


@pytest.mark.parametrize("change", [{"eval_interval": 1}, {"checkpoint_interval": 1}, {"log_interval": 3}])
@pytest.mark.parametrize("base", [{}, NETWORK])
def test_looking_does_not_change_what_is_learned(train: Train, base: dict[str, Any], change: dict[str, Any]) -> None:
    _learned(train, base).assert_same_weights(_learned(train, base | change))


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--readout", "network", "--strategy-train-steps", "4"),
        ("--no-reinitialise", "--advantage-memory-size", "100"),
        ("--observation", "standing", "--memory", "window", "--advantage-memory-size", "100"),
        ("--eval-interval", "2", "--checkpoint-interval", "3"),
        ("--stored-networks", "2"),
    ],
)
def test_a_stopped_run_resumes_to_the_same_weights_and_metrics(
    train: Train, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    whole = train("--iterations", "6", *flags)
    advance = Run.advance

    def stop_halfway(run: Run, steps: int) -> None:
        advance(run, steps)
        if run.updates == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stop_halfway)
        half = train("--iterations", "6", *flags)
    assert half.code == 130
    assert half.metadata["status"] == "interrupted"
    assert main(["sampled-cfr", "--resume", half.run_id]) == 0
    assert half.metadata["status"] == "completed"
    assert half.metrics == whole.metrics
    assert half.metadata["final_metrics"] == whole.metadata["final_metrics"]
    half.assert_same_weights(whole)


def test_a_run_stores_what_it_promises(train: Train) -> None:
    run = train("--iterations", "5", "--eval-interval", "2")
    assert run.code == 0
    assert run.metadata["algorithm"] == "sampled_cfr"
    assert [path.name for path in (train.root / "checkpoints").iterdir()] == ["sampled_cfr"]
    assert run.metadata["num_updates"] == 5
    lines = run.metrics
    assert [line["updates"] for line in lines] == [1, 2, 3, 4, 5]
    nodes = 32 * (1 + 4 + 4 + 16) + 32 * (1 + 1 + 4 + 4)  # of both seats' traversals: K, k a decision, four offers
    assert [line["step"] for line in lines] == [nodes * number for number in range(1, 6)]
    assert {"adv_loss_0", "adv_loss_1", "payoff_0", "payoff_1", "adv_memory_size_0"} <= lines[0].keys()
    assert {"adv_r2_0", "positive_regret_1", "fallback_1"} <= lines[1].keys()
    assert ["eval/nash_conv" in line for line in lines] == [False, True, False, True, False]
    assert run.metadata["final_metrics"]["nash_conv"] >= 0
    checkpoint = read_checkpoint(run.folder / "policy.pt")
    assert [[weight for _, weight in seat] for seat in checkpoint["seats"]] == [[2.0, 3.0, 4.0, 5.0, 6.0]] * 2
    policy = load_policy(f"run:{run.run_id}", SPEC, results_dir="results")
    assert isinstance(policy, BySeat)
    game = tabular_game(SPEC)
    exact = evaluate(game, policy_profile(game, policy)).nash_conv
    assert exact == pytest.approx(run.metadata["final_metrics"]["nash_conv"], abs=1e-6)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 20])
def test_networks_that_are_not_kept_give_their_weight_to_the_next(train: Train, most: int) -> None:
    run = train("--iterations", "9", "--stored-networks", str(most), "--advantage-train-steps", "1")
    every = train("--iterations", "9", "--advantage-train-steps", "1")
    stored, whole = (read_checkpoint(each.folder / "policy.pt") for each in (run, every))
    for seat in range(2):
        kept, all_of_them = stored["seats"][seat], whole["seats"][seat]
        assert len(kept) <= most
        assert sum(weight for _, weight in kept) == sum(weight for _, weight in all_of_them) == sum(range(2, 11))
        last, expected = stored["networks"][kept[-1][0]], whole["networks"][all_of_them[-1][0]]
        assert torch.equal(
            last["policy_state_dict"]["policy_head.bias"], expected["policy_state_dict"]["policy_head.bias"]
        )
    if most >= 9:
        assert [weight for _, weight in stored["seats"][0]] == [float(number) for number in range(2, 11)]


def test_both_seats_networks_learn(train: Train) -> None:
    run = train("--readout", "network", "--strategy-train-steps", "4", "--iterations", "3")
    checkpoint = read_checkpoint(run.folder / "policy.pt")
    (first,), (second,) = checkpoint["seats"]
    weights = [checkpoint["networks"][index]["policy_state_dict"]["policy_head.weight"] for index, _ in (first, second)]
    assert not torch.equal(*weights)
    policy = load_policy(f"run:{run.run_id}", SPEC, results_dir="results")
    for strategy in policy_profile(tabular_game(SPEC), policy):
        for table in strategy:
            assert abs(table - 1 / table.shape[-1]).max() > 1e-4


def test_a_memory_counts_rows_and_rows_weigh_their_iteration() -> None:
    options = RegretOptions(advantage_memory_size=100, advantage_train_steps=1)
    learner = RegretLearner(0, options, {"network": "mlp", "hidden_dims": [4]}, SPEC, seed=0)
    for iteration in (1, 2, 3):
        count = 30
        rows = {
            "observation": torch.zeros(count, SPEC.observation_dim - SPEC.num_actions),
            "action": torch.zeros(count, 6, dtype=torch.int16),
            "advantage": torch.zeros(count, 6),
            "importance": torch.ones(count, 6),
            "weight": torch.full((count,), 0.5),
        }
        learner.keep_advantages(TensorDict(rows, count), iteration)
    assert learner.improve(3)["adv_memory_size"] == 90
    weights = learner.state_dict()["advantages"]["rows"]["weight"]
    assert weights.sort().values.tolist() == [0.5] * 30 + [1.0] * 30 + [1.5] * 30


def test_a_regression_finds_the_weighted_mean_of_the_sampled_advantages_of_each_action() -> None:
    options = RegretOptions(advantage_train_steps=600, advantage_batch_size=64, lr=1e-2)
    learner = RegretLearner(0, options, {"network": "mlp", "hidden_dims": [16]}, SPEC, seed=0)
    observation = torch.zeros(2, SPEC.observation_dim - SPEC.num_actions)
    walk, accept = SPEC.walk_action, SPEC.accept_action
    rows = {
        "observation": observation,
        "action": torch.tensor([[0, accept, walk], [1, accept, walk]], dtype=torch.int16),
        "advantage": torch.tensor([[0.3, 9.0, -0.1], [0.2, 9.0, 0.5]]),
        "importance": torch.tensor([[1.0, 0.0, 1.0], [2.0, 0.0, 1.0]]),
        "weight": torch.tensor([3.0, 1.0]),
    }
    learner.keep_advantages(TensorDict(rows, 2), 1)
    learner.improve(1)
    full = torch.zeros(1, SPEC.observation_dim)
    full[:, SPEC.slices["mask"]] = 1.0
    full[:, SPEC.slices["mask"].start + accept] = 0.0
    advantages = learner.networks[-1](full)[0][0]
    assert advantages[0].item() == pytest.approx(0.3, abs=0.02)
    assert advantages[1].item() == pytest.approx(0.2, abs=0.02)
    assert advantages[walk].item() == pytest.approx((3 * -0.1 + 0.5) / 4, abs=0.02)
    assert advantages[accept].item() != pytest.approx(9.0, abs=1.0)


def test_what_a_network_foretells_is_judged() -> None:
    learner = RegretLearner(0, RegretOptions(), {"network": "mlp", "hidden_dims": [4]}, SPEC, seed=0)
    ((network, _),) = learner.average()
    head = network.policy_head
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[SPEC.walk_action] = 0.5
    observation = torch.zeros(2, SPEC.observation_dim - SPEC.num_actions)
    rows = {
        "observation": observation,
        "action": torch.full((2, 1), SPEC.walk_action, dtype=torch.int16),
        "advantage": torch.tensor([[1.0], [0.0]]),
        "importance": torch.ones(2, 1),
        "weight": torch.tensor([1.0, 2.0]),
    }
    found = foretold(network, TensorDict(rows, 2), SPEC)
    assert found == pytest.approx({"adv_r2": 1 - (0.25 + 2 * 0.25) / 1.0, "positive_regret": 0.5, "fallback": 0.0})
    with torch.no_grad():
        head.bias.fill_(-0.25)
    found = foretold(network, TensorDict(rows, 2), SPEC)
    assert found["positive_regret"] == 0.0
    assert found["fallback"] == 1.0


def test_the_losses_count_legal_and_sampled_actions_alone() -> None:
    learner = RegretLearner(0, RegretOptions(), {"network": "mlp", "hidden_dims": [4]}, SPEC, seed=0)
    ((network, _),) = learner.average()
    observation, mask = torch.zeros(1, SPEC.observation_dim), torch.zeros(1, SPEC.num_actions, dtype=torch.bool)
    mask[0, [0, SPEC.walk_action]] = True
    logits = network(observation)[0][0]
    probs = torch.zeros(1, SPEC.num_actions)
    probs[0, 0] = 1.0
    expected = -torch.log_softmax(logits[[0, SPEC.walk_action]], 0)[0]
    assert strategy_loss(network, observation, mask, TensorDict({"probs": probs}, 1)).item() == pytest.approx(
        expected.item(), abs=1e-6
    )
    rows = TensorDict(
        {
            "action": torch.tensor([[0, SPEC.walk_action]], dtype=torch.int16),
            "advantage": torch.tensor([[1.0, 5.0]]),
            "importance": torch.tensor([[2.0, 0.0]]),
        },
        1,
    )
    assert advantage_loss(network, observation, mask, rows).item() == pytest.approx(2 * (logits[0].item() - 1) ** 2)


def test_where_the_other_seat_never_goes_nothing_is_learned_and_nothing_breaks() -> None:
    options = RegretOptions(advantage_train_steps=3)
    learner = RegretLearner(0, options, {"network": "mlp", "hidden_dims": [4]}, SPEC, seed=0)
    rows = {
        "observation": torch.zeros(8, SPEC.observation_dim - SPEC.num_actions),
        "action": torch.zeros(8, 6, dtype=torch.int16),
        "advantage": torch.ones(8, 6),
        "importance": torch.ones(8, 6),
        "weight": torch.zeros(8),
    }
    learner.keep_advantages(TensorDict(rows, 8), 1)
    assert learner.improve(1)["adv_loss"] == 0.0


def test_strategy_options_need_the_strategy_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sampled-cfr", "--strategy-train-steps", "5"]) == 2
    assert "--strategy-train-steps needs --readout network" in capsys.readouterr().err
    assert main(["sampled-cfr", "--stored-networks", "5", "--readout", "network"]) == 2
    assert "--stored-networks needs --readout sd-cfr" in capsys.readouterr().err
    assert main(["sampled-cfr", "--sampled-offers", "1"]) == 2


def test_a_network_that_cannot_be_built_is_no_run(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sampled-cfr", "--network", "transformer", "--d-model", "10", "--nhead", "4"]) == 2
    assert "--d-model must be a multiple of --nhead" in capsys.readouterr().err
    assert not list(train.root.glob("results/sampled_cfr/run_*"))


def test_a_memory_is_bounded(train: Train) -> None:
    run = train("--advantage-memory-size", "50", "--checkpoint-interval", "1")
    learners = read_checkpoint(run.folder / "checkpoints" / "latest.pt")["resume"]["learners"]
    for learner in learners:
        assert learner["advantages"]["seen"] > 50
        assert len(learner["advantages"]["rows"]["weight"]) == 50
    memory = Memory(50, torch.Generator(), reservoir=True)
    memory.load_state_dict(learners[0]["advantages"])
    assert len(memory) == 50


@pytest.mark.slow
@pytest.mark.parametrize(("game", "limit"), [("mini-a", 0.03), ("mini-b", 0.06)])
def test_play_comes_close_to_an_equilibrium(train: Train, game: Any, limit: float) -> None:
    config = SampledCFRConfig(game=game, hidden_dims=(64, 64), iterations=6, advantage_train_steps=150, threads=1)
    with Run("sampled-cfr", config, console=False) as run:
        policy = ALGORITHMS["sampled-cfr"].train(config, run)
    exact = tabular_game(GAMES[game])
    found = evaluate(exact, policy_profile(exact, policy))
    assert found.nash_conv <= limit
    assert found.agreement_rate > 0.02


@pytest.mark.parametrize("readout", ["sd-cfr", "network"])
def test_the_policy_tells_no_values_that_nobody_trained(train: Train, readout: str) -> None:
    policy = load_policy(f"run:{train('--readout', readout).run_id}", GAMES["mini-b"])
    seats = [policy_of_seat(policy, seat) for seat in range(2)]
    assert not any(isinstance(member, HasValues) for seat in seats for member, _ in weighted_members(seat))

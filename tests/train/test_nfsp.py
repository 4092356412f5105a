"""Whole NFSP runs: what they store, how often they learn, that they resume bit for bit, and how they fail."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from bargain_env import GAMES
from bargain_eval import load_policy
from bargain_eval.arena import play
from bargain_eval.checkpoint import read_checkpoint
from bargain_eval.policy import HasProbabilities, HasValues
from bargain_train.algorithms.nfsp import NFSPConfig
from bargain_train.cli import main
from bargain_train.q_updates import FictitiousLearner
from bargain_train.run import Run
from bargain_train.seeds import derive_seed

from tests.train.conftest import Train, Trained

SMALL = ("--br-batch-size", "16", "--avg-batch-size", "16", "--br-train-freq", "32", "--avg-train-freq", "32")
BY_SEAT = ("br_loss", "avg_loss", "q_played", "q_best", "replay", "reservoir", "response_gain")
METRICS = {
    *("payoff_0", "payoff_1", "total", "agreement_rate", "first_move_walk_rate", "mean_decisions", "games"),
    *(f"{name}_{seat}" for name in BY_SEAT for seat in range(2)),
    *("epsilon", "eta", "step", "updates"),
}


@pytest.fixture
def nfsp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "nfsp")


def _latest(run: Trained) -> dict[str, Any]:
    return dict(read_checkpoint(run.folder / "checkpoints" / "latest.pt"))


def test_a_run_logs_its_metrics_and_stores_the_average_networks(nfsp: Train) -> None:
    run = nfsp(*SMALL, "--seed", "7", "--eta", "0.4")
    assert run.code == 0
    assert run.metadata["status"] == "completed"
    assert run.metadata["algorithm"] == "nfsp"
    assert [line["step"] for line in run.metrics] == [256, 512, 768, 1024]
    for line in run.metrics:
        assert set(line) == METRICS
    last = run.metrics[-1]
    assert last["replay_0"] + last["replay_1"] == 1024 - 2 * 32
    assert 0.2 * last["replay_0"] < last["reservoir_0"] < 0.6 * last["replay_0"]
    stored = _latest(run)
    averages = [learner["average"] for learner in stored["resume"]["learners"]]
    for network, average in zip(read_checkpoint(run.folder / "policy.pt")["networks"], averages, strict=True):
        assert network["config"]["observation"] == "history"
        assert all(torch.equal(network["policy_state_dict"][name], average[name]) for name in average)
    names = f"run:{run.run_id}", str(run.folder / "policy.pt"), f"run:{run.run_id}?checkpoint=latest"
    random = load_policy("random", GAMES["mini-b"])
    played = [play((load_policy(name), random), 50, 1, spec=GAMES["mini-b"]).payoff for name in names]
    assert load_policy(names[0]).observation == "history"
    assert (played[1] == played[0]).all()
    assert (played[2] == played[0]).all()


def test_evaluations_measure_the_average_policy(nfsp: Train) -> None:
    run = nfsp(*SMALL, "--eval-interval", "512")
    evaluated = [line for line in run.metrics if "eval/nash_conv" in line]
    assert [line["step"] for line in evaluated] == [512, 1024]
    assert evaluated[-1]["eval/nash_conv"] == pytest.approx(run.metadata["final_metrics"]["nash_conv"], abs=1e-6)
    assert 0 < evaluated[-1]["eval/nash_conv"] < 0.8


def test_both_seats_four_networks_learn(nfsp: Train) -> None:
    run = nfsp(*SMALL, "--seed", "7")
    config = NFSPConfig(game="mini-b", hidden_dims=(16,))
    torch.manual_seed(derive_seed(7, "networks"))
    for seat, stored in enumerate(_latest(run)["resume"]["learners"]):
        fresh = FictitiousLearner(seat, config, config.network_config(), config.spec(), seed=7)
        for kind in ("response", "average"):
            before = getattr(fresh, kind).state_dict()
            changed = {name for name in before if not torch.equal(before[name], stored[kind][name])}
            heads = {name for name in before if name.startswith("value_head")}
            assert changed == set(before) - (heads if kind == "average" else set()), (seat, kind)


@pytest.mark.parametrize("games", [8, 32, 128])
def test_gradient_steps_keep_their_proportion_whatever_the_number_of_games(nfsp: Train, games: int) -> None:
    freq = ("--br-train-freq", "48", "--avg-train-freq", "96", "--br-batch-size", "8", "--avg-batch-size", "8")
    run = nfsp(*freq, "--num-envs", str(games), "--total-timesteps", "2048", "--eta", "0.9")
    for learner in _latest(run)["resume"]["learners"]:
        steps = {name: learner[name]["state"][0]["step"].item() for name in ("response_optimizer", "average_optimizer")}
        assert steps["response_optimizer"] == learner["steps"] == 2048 // 48
        assert steps["average_optimizer"] == 2048 // 96


def test_the_defaults_learn_often_enough() -> None:
    config = NFSPConfig()
    assert config.br_train_freq <= 256
    assert config.avg_train_freq <= 256
    assert config.total_timesteps // config.br_train_freq // config.br_target_update_freq > 10
    assert config.observation == "history"
    assert config.total_timesteps == 5_000_000
    assert config.eta == 0.1


def test_epsilon_falls_linearly_to_its_end_at_the_configured_step(nfsp: Train) -> None:
    config = NFSPConfig(epsilon_start=0.3, epsilon_end=0.1, epsilon_decay_steps=1000)
    assert [config.epsilon(step) for step in (0, 500, 1000, 10**9)] == pytest.approx([0.3, 0.2, 0.1, 0.1])
    assert NFSPConfig().epsilon(0) == 0.06
    assert NFSPConfig().epsilon(1_999_999) > NFSPConfig().epsilon(2_000_000) == pytest.approx(0.001)
    assert NFSPConfig(total_timesteps=1).epsilon(1) == pytest.approx(0.001)
    run = nfsp(*SMALL, "--epsilon-start", "0.5", "--epsilon-end", "0.0", "--epsilon-decay-steps", "512")
    assert [line["epsilon"] for line in run.metrics] == pytest.approx([0.5, 0.25, 0.0, 0.0])


VARIANTS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "full memories": ("--br-buffer-size", "100", "--avg-buffer-size", "50"),
    "window": ("--avg-memory", "window", "--avg-buffer-size", "50", "--observation", "standing"),
    "transformer": ("--network", "transformer", "--d-model", "8", "--nhead", "2", "--num-layers", "1"),
    "evaluations": ("--eval-interval", "300", "--checkpoint-interval", "300", "--log-interval", "3"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_stopped_run_resumes_to_the_same_weights_metrics_and_memories(
    nfsp: Train, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    flags = (*SMALL, "--br-target-update-freq", "5", "--eta", "0.4", *VARIANTS[name])
    whole = nfsp(*flags)
    advance = Run.advance

    def stop_halfway(run: Run, steps: int) -> None:
        advance(run, steps)
        if run.step == 512:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stop_halfway)
        half = nfsp(*flags)
    assert half.code == 130
    assert half.metadata["actual_timesteps"] == 512
    assert main(["nfsp", "--resume", half.run_id]) == 0
    assert half.metadata["status"] == "completed"
    assert half.metrics == whole.metrics
    assert half.metadata["final_metrics"] == whole.metadata["final_metrics"]
    half.assert_same_weights(whole)
    first, second = _latest(half)["resume"], _latest(whole)["resume"]
    for part in ("learners", "rollouts"):
        _assert_same(first[part], second[part], part)


def _assert_same(first: Any, second: Any, where: str) -> None:
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            _assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, (one, other) in enumerate(zip(first, second, strict=True)):
            _assert_same(one, other, f"{where}.{number}")
    else:
        assert first == second, where


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--eta", "0"), "--eta"),
        (("--eta", "1"), "--eta"),
        (("--epsilon-start", "1.5"), "--epsilon-start"),
        (("--br-buffer-size", "0"), "--br-buffer-size"),
        (("--avg-train-freq", "0"), "--avg-train-freq"),
        (("--rollout-steps", "1"), "--rollout-steps"),
        (("--avg-memory", "sliding"), "--avg-memory"),
        (("--lr", "0.1"), "--lr"),
        (("--d-model", "9", "--network", "transformer"), "--d-model"),
    ],
)
def test_bad_values_are_answered_by_one_sentence(
    nfsp: Train, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], named: str
) -> None:
    try:
        code = main(["nfsp", *nfsp.flags, *flags])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert named in capsys.readouterr().err
    assert not list(nfsp.root.glob("results/*/run_*"))


def test_a_loss_that_is_not_finite_fails_the_run(nfsp: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = nfsp(*SMALL, "--br-lr", "1e38")
    assert run.code == 1
    assert run.metadata["status"] == "failed"
    assert "try a smaller --br-lr." in capsys.readouterr().err


@pytest.mark.gpu
def test_nfsp_trains_and_resumes_on_a_gpu(nfsp: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = Run.advance

    def stop_halfway(run: Run, steps: int) -> None:
        advance(run, steps)
        run.stopped = run.stopped or run.step == 512

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stop_halfway)
        half = nfsp(*SMALL, "--device", "cuda", "--br-buffer-size", "100", "--avg-buffer-size", "50")
    assert half.metadata["device"] == "cuda:0"
    assert half.metadata["actual_timesteps"] == 512
    assert main(["nfsp", "--resume", half.run_id]) == 0
    assert [line["step"] for line in half.metrics] == [256, 512, 768, 1024]
    assert 0 < half.metadata["final_metrics"]["pool_payoff"] < 1


def test_the_average_policy_tells_no_values_that_nobody_trained(nfsp: Train) -> None:
    policy = load_policy(f"run:{nfsp().run_id}", GAMES["mini-b"])
    assert isinstance(policy, HasProbabilities)
    assert not isinstance(policy, HasValues)

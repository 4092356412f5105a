"""Whole PPO runs: what they store, which names load it, and how they fail."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bargain_env import GAMES
from bargain_eval import ResultsManager, load_policy
from bargain_eval.arena import play
from bargain_eval.checkpoint import read_checkpoint
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.cli import main

if TYPE_CHECKING:
    from tests.train.conftest import Train, Trained

LEARNING_METRICS = {
    *("payoff_0", "payoff_1", "total", "agreement_rate", "first_move_walk_rate", "mean_decisions", "games"),
    *("lr", "entropy_coef", "loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction"),
    *("grad_norm", "first_ratio_error", "explained_variance", "step", "updates"),
}

EVALUATED = {
    f"eval/{name}"
    for name in ("pool_payoff", "payoff_0", "payoff_1", "total", "agreement_rate", "nash_conv", "gain_0", "gain_1")
}


def test_a_run_stores_everything_it_promises(train: Train, tmp_path: Path) -> None:
    run = train("--seed", "7", "--eval-interval", "512", "--checkpoint-interval", "512")
    assert run.code == 0
    files = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*") if path.is_file()}
    expected = {"metadata.json", "config.json", "metrics.jsonl", "metrics.json", "final_eval.json", "policy.pt"}
    steps = {f"checkpoints/{name}.pt" for name in ("step_512", "step_1024", "best", "latest")}
    assert files - {"run.lock"} == expected | steps

    metadata = run.metadata
    assert metadata["status"] == "completed"
    assert metadata["algorithm"] == "ppo"
    assert metadata["seed"] == 7
    assert metadata["device"] == "cpu"
    assert metadata["tags"] == ["ppo", "bargain"]
    assert metadata["total_timesteps"] == metadata["actual_timesteps"] == 1024
    assert metadata["num_updates"] == 4
    assert metadata["training_time_seconds"] > 0
    assert metadata["env_config"] == GAMES["mini-b"].to_dict()
    evaluation = json.loads((run.folder / "final_eval.json").read_text())
    assert metadata["final_metrics"]["pool_payoff"] == evaluation["pool_payoff"]
    assert metadata["final_metrics"]["total"] == evaluation["self_play"]["total"]
    assert metadata["final_metrics"]["agreement_rate"] == evaluation["self_play"]["agreement_rate"]
    assert set(evaluation["nash_conv"]) == {"nash_conv", "gain_0", "gain_1"}
    assert evaluation["nash_conv"].items() <= metadata["final_metrics"].items()
    assert metadata["final_metrics"]["seat"] is None
    assert evaluation["seed"] == 2**63 + 1
    assert evaluation["num_games"] == 20

    config = json.loads((run.folder / "config.json").read_text())
    assert PPOConfig.from_dict(config).to_dict() == config == metadata["hyperparameters"]
    assert config["hidden_dims"] == [16]
    assert [line["step"] for line in run.metrics] == [256, 512, 768, 1024]
    for line in run.metrics:
        names = ("pool_payoff", "payoff_0", "payoff_1", "total", "agreement_rate", "nash_conv", "gain_0", "gain_1")
        evaluated = {f"eval/{name}" for name in names}
        assert set(line) == LEARNING_METRICS | (evaluated if line["step"] % 512 == 0 else set())
        assert abs(line["first_ratio_error"]) < 1e-5
    assert run.metrics == [
        {key: value for key, value in line.items() if key not in ("timestamp", "steps_per_second")}
        for line in json.loads((run.folder / "metrics.json").read_text())
    ]
    assert ResultsManager("results").get_run(run.run_id)["path"] == str(run.folder.resolve())
    assert tmp_path in run.folder.parents


def test_best_and_latest_are_mirrored(train: Train, tmp_path: Path) -> None:
    default = train("--eval-interval", "256", "--lr", "0.01")
    chosen = train("--eval-interval", "256", "--lr", "0.01", "--checkpoint-dir", "elsewhere/deep")
    for run, mirror in ((default, "checkpoints/ppo"), (chosen, "elsewhere/deep")):
        for name in ("best", "latest"):
            stored = (run.folder / "checkpoints" / f"{name}.pt").read_bytes()
            assert (tmp_path / mirror / f"{name}.pt").read_bytes() == stored
        evaluations = {line["step"]: line["eval/pool_payoff"] for line in run.metrics}
        best = run.metadata["best_metrics"]
        assert best["pool_payoff"] == max(evaluations.values()) == evaluations[best["step"]]
        assert read_checkpoint(tmp_path / mirror / "best.pt")["step"] == best["step"]
        assert read_checkpoint(tmp_path / mirror / "latest.pt")["step"] == 1024


@pytest.mark.parametrize(
    ("budget", "checkpoint", "evaluation", "log"),
    [(1300, 300, 10**6, 1), (1300, 700, 10**6, 4), (1300, 1, 10**6, 3), (1, 10**6, 10**6, 1), (1792, 513, 600, 5)],
)
def test_intervals_of_odd_sizes_are_kept(train: Train, budget: int, checkpoint: int, evaluation: int, log: int) -> None:
    intervals = ("--checkpoint-interval", str(checkpoint), "--eval-interval", str(evaluation))
    run = train("--total-timesteps", str(budget), *intervals, "--log-interval", str(log))
    updates = -(-budget // 256)
    steps = [256 * update for update in range(1, updates + 1)]
    assert run.metadata["actual_timesteps"] == steps[-1]
    evaluated = [step for step in steps if step // evaluation > (step - 256) // evaluation]
    assert [line["step"] for line in run.metrics if "eval/pool_payoff" in line] == evaluated
    logged = sorted({step for step in steps if (step // 256) % log == 0} | set(evaluated))
    assert [line["step"] for line in run.metrics] == logged
    best = [line["eval/pool_payoff"] for line in run.metrics if "eval/pool_payoff" in line]
    improved = {step for i, step in enumerate(evaluated) if best[i] > max(best[:i], default=-1)}
    crossed = {step for step in steps if step // checkpoint > (step - 256) // checkpoint}
    expected = sorted(crossed | improved | {steps[-1]})[-5:]
    stored = sorted(int(path.stem[5:]) for path in (run.folder / "checkpoints").glob("step_*.pt"))
    assert stored == expected


@pytest.mark.parametrize("flags", [(), ("--no-share",), ("--network", "transformer", "--d-model", "8", "--nhead", "2")])
@pytest.mark.parametrize("observation", ["standing", "history"])
def test_the_stored_policy_loads_by_every_name_and_plays(
    train: Train, flags: tuple[str, ...], observation: str
) -> None:
    run = train("--total-timesteps", "256", "--observation", observation, *flags)
    path = run.folder / "policy.pt"
    names = f"run:{run.run_id}", f"checkpoint:{path}", str(path), f"run:{run.run_id}?checkpoint=latest"
    played = [
        play((load_policy(name), load_policy("random", GAMES["mini-b"])), 50, 1, spec=GAMES["mini-b"]).payoff
        for name in names
    ]
    assert load_policy(names[0]).observation == observation
    for payoff in played[1:]:
        assert (payoff == played[0]).all()
    assert "resume" not in read_checkpoint(path)


class _Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_file_is_refused_by_every_loader(
    train: Train, tmp_path: Path, archive: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, evil = tmp_path / "executed", tmp_path / "evil.pt"
    if archive:
        torch.save({"format": "bargain-checkpoint", "policy_state_dict": _Evil(trace)}, evil)
    else:
        evil.write_bytes(pickle.dumps(_Evil(trace)))
    run = train("--total-timesteps", "256")
    for stored in (run.folder / "policy.pt", run.folder / "checkpoints" / "latest.pt"):
        stored.unlink()
        stored.write_bytes(evil.read_bytes())
    for name in (str(evil), f"checkpoint:{evil}", f"run:{run.run_id}", f"run:{run.run_id}?checkpoint=latest"):
        with pytest.raises(ValueError, match="refused"):
            load_policy(name)
        capsys.readouterr()
        assert main(["ppo", *train.flags, "--opponent", name, "--results-dir", "results"]) == 2
        assert "refused" in capsys.readouterr().err
    _set_status(run, "interrupted")
    assert main(["ppo", "--resume", run.run_id]) == 2
    assert "refused" in capsys.readouterr().err
    with pytest.raises(ValueError, match="refused"):
        ResultsManager("results").load_policy(run.run_id)
    assert not trace.exists()


def _set_status(run: Trained, status: str) -> None:
    (run.folder / "metadata.json").write_text(json.dumps(run.metadata | {"status": status}))


def test_a_crash_is_recorded_and_raised(train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def crash(*_: Any) -> None:
        raise ZeroDivisionError("no update today")

    monkeypatch.setattr("bargain_train.learner.ppo_update", crash)
    with pytest.raises(ZeroDivisionError):
        train()
    (folder,) = tmp_path.glob("results/ppo/run_*")
    metadata = train.open(folder).metadata
    assert metadata["status"] == "failed"
    assert metadata["error_message"] == "ZeroDivisionError: no update today"


def test_a_value_error_inside_the_training_is_no_bad_setting(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def crash(*_: Any) -> None:
        raise ValueError("shapes differ")

    monkeypatch.setattr("bargain_train.learner.ppo_update", crash)
    with pytest.raises(RuntimeError, match="failed: shapes differ"):
        train()
    (folder,) = tmp_path.glob("results/ppo/run_*")
    assert train.open(folder).metadata["status"] == "failed"


def test_a_diverging_run_ends_with_one_sentence(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("--lr", "1e30", "--max-grad-norm", "1e30")
    assert run.code == 1
    assert run.metadata["status"] == "failed"
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("bargain-train ppo: ")
    assert last.endswith(" not finite; try a smaller --lr.")


def test_a_few_games_and_the_shortest_rollout_train(train: Train) -> None:
    run = train("--num-envs", "1", "--rollout-steps", "2", "--total-timesteps", "40", "--opponent", "greedy")
    assert run.code == 0
    assert run.metadata["num_updates"] == 20
    assert run.metadata["final_metrics"]["seat"] == 0


def test_one_evaluation_game_is_enough(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--eval-games", "1", "--total-timesteps", "256").code == 0
    assert "Self-play" in capsys.readouterr().out


def test_a_best_response_is_measured_against_its_opponent(train: Train) -> None:
    run = train("--opponent", "greedy", "--seat", "1", "--eval-interval", "512")
    evaluation = json.loads((run.folder / "final_eval.json").read_text())
    assert list(evaluation["opponents"]) == ["greedy"]
    assert evaluation["seats"] == [1]
    assert evaluation["self_play"] is None
    assert run.metadata["final_metrics"]["seat"] == 1
    assert "eval/total" not in run.metrics[-1]


def test_an_opponent_that_reads_history_meets_a_learner_that_does_not(train: Train) -> None:
    teacher = train("--total-timesteps", "256", "--observation", "history")
    run = train("--total-timesteps", "512", "--opponent", f"run:{teacher.run_id}")
    assert run.code == 0
    assert load_policy(f"run:{run.run_id}").observation == "standing"

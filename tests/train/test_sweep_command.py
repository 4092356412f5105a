"""`bargain-train sweep`: trials are stored runs, and what is interrupted goes on where it was."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml
from bargain_eval import ResultsManager, load_policy, play
from bargain_eval.cli_tools import read_options
from bargain_eval.evaluate import POOL, VALIDATION_SEED, evaluate_policy
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.cli import main
from bargain_train.nash_conv import measure_nash_conv
from bargain_train.run import Run
from bargain_train.sweep import command
from bargain_train.sweep.objectives import check_objective, score
from bargain_train.sweep.options import ObjectiveName, PrunerName, SweepOptions
from bargain_train.sweep.plan import make_plan
from bargain_train.sweep.training import config_to_resume

from tests.train.conftest import TINY

PPO = [*TINY["ppo"], "--no-eval-nash-conv", "--ppo-epochs", "1"]
FOLDER = Path("sweep_results/ppo_random")

Sweep = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Runs a sweep of PPO with tiny settings and returns its exit code and its trials."""
    monkeypatch.chdir(tmp_path)

    def run(*flags: str, settings: tuple[str, ...] = ()) -> tuple[int, list[dict[str, Any]]]:
        code = main(["sweep", "--algorithm", "ppo", "--pruner", "none", *flags, "--", *PPO, *settings])
        return code, json.loads((FOLDER / "trials.json").read_text())

    return run


def _stored(run_id: str) -> dict[str, Any]:
    return ResultsManager("results").get_run(run_id)


def _payoff(run_id: str) -> float:
    evaluation = evaluate_policy(f"run:{run_id}", num_games=20, seed=VALIDATION_SEED)
    return float(evaluation["pool_payoff"])


def test_trials_are_stored_runs_and_the_best_is_a_config_file(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--algorithm", "ppo", "--num-trials", "3", "--dry-run", "--", *PPO]) == 0
    assert list(Path().iterdir()) == []
    planned = [shlex.split(line)[2:] for line in capsys.readouterr().out.splitlines()]
    assert len(planned) == 3
    code, rows = sweep("--num-trials", "3")
    assert code == 0
    assert [row["trial"] for row in rows] == [0, 1, 2]
    for row, words in zip(rows, planned, strict=True):
        (run_id,) = row["runs"].values()
        stored = _stored(run_id)
        assert stored["status"] == "completed"
        assert stored["hyperparameters"].items() >= row["values"].items()
        assert read_options(PPOConfig, words, "x").to_dict() == stored["hyperparameters"]
        assert row["objective"] == pytest.approx(_payoff(run_id))
    assert not Path("checkpoints").exists()

    best = max(rows, key=lambda row: float(row["objective"]))
    settings = yaml.safe_load((FOLDER / "best.yaml").read_text())
    assert settings.items() >= best["values"].items()
    output = capsys.readouterr().out
    assert f"bargain-train ppo --config {FOLDER / 'best.yaml'}" in output
    assert f"The best is run {best['runs']['42']}." in output
    assert main(["ppo", "--config", str(FOLDER / "best.yaml"), "--total-timesteps", "256"]) == 0
    repeated = ResultsManager("results").list_runs()[0]["hyperparameters"]
    assert repeated == _stored(best["runs"]["42"])["hyperparameters"] | {"total_timesteps": 256}

    (FOLDER / "trials.json").unlink()
    (FOLDER / "best.yaml").unlink()
    assert sweep("--num-trials", "3")[1] == rows
    assert yaml.safe_load((FOLDER / "best.yaml").read_text()) == settings
    assert [row["state"] for row in sweep("--num-trials", "4")[1]] == ["complete"] * 4
    assert len(ResultsManager("results").list_runs()) == 5


KILL = """
import os, signal, sys
from bargain_train.cli import main
from bargain_train.run import Run
save, runs = Run.save, set()
def save_and_die(run, *arguments, **more):
    save(run, *arguments, **more)
    runs.add(run.record.run_id)
    if len(runs) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
Run.save = save_and_die
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_after_three_of_five_trials_the_rerun_does_two(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--algorithm", "ppo", "--pruner", "none", "--num-trials", "5"]
    words = ["sweep", *flags, "--", *PPO, "--checkpoint-interval", "256"]
    killed = subprocess.run([sys.executable, "-c", KILL, *words], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    before = json.loads((FOLDER / "trials.json").read_text())
    assert [row["state"] for row in before] == ["complete"] * 3
    capsys.readouterr()
    code, rows = sweep("--num-trials", "5", settings=("--checkpoint-interval", "256"))
    assert code == 0
    assert "3 of 5 trials are done" in capsys.readouterr().out
    assert rows[:3] == before
    assert [row["state"] for row in rows] == ["complete"] * 5
    assert all(row["objective"] is not None for row in rows)
    runs = ResultsManager("results").list_runs()
    assert {run["run_id"] for run in runs} == {run_id for row in rows for run_id in row["runs"].values()}
    assert {run["status"] for run in runs} == {"completed"}
    metrics = Path(_stored(rows[3]["runs"]["42"])["path"]) / "metrics.json"
    assert [line["step"] for line in json.loads(metrics.read_text())] == [256, 512, 768, 1024]


def test_ctrl_c_leaves_a_trial_that_the_same_command_ends(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    advance = Run.advance

    def stop_halfway(run: Run, steps: int) -> None:
        advance(run, steps)
        if run.step == 512 and len(ResultsManager("results").list_runs()) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stop_halfway)
        code, rows = sweep("--num-trials", "3")
    assert code == 130
    assert "The same command goes on with trial 1" in capsys.readouterr().out
    assert [row["state"] for row in rows] == ["complete", "running"]
    assert _stored(rows[1]["runs"]["42"])["status"] == "interrupted"
    code, again = sweep("--num-trials", "3")
    assert code == 0
    assert again[1]["runs"] == rows[1]["runs"]
    assert again[1]["values"] == rows[1]["values"]
    assert [row["state"] for row in again] == ["complete"] * 3
    assert len(ResultsManager("results").list_runs()) == 3


def test_what_may_be_pruned_is_evaluated_at_least_four_times() -> None:
    def interval(*flags: str, pruner: PrunerName = "median", values: dict[str, Any] | None = None) -> Any:
        plan = make_plan(SweepOptions(algorithm="ppo", pruner=pruner, settings=flags))
        return plan.config(values or {}, seed=1).to_dict()["eval_interval"]

    assert interval() == PPOConfig.eval_interval == PPOConfig.total_timesteps // 4
    assert interval("--total-timesteps", "1000") == 250
    assert interval("--total-timesteps", "1000", "--eval-interval", "100") == 100
    assert interval("--total-timesteps", "1000", pruner="none") == PPOConfig.eval_interval
    assert interval(values={"total_timesteps": 2000}) == 500


class _PruneLater(optuna.pruners.BasePruner):
    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number > 0 and trial.last_step == 2


def test_a_pruned_trial_is_a_run_that_was_interrupted(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "make_pruner", lambda name: _PruneLater())
    code, rows = sweep("--num-trials", "2", "--pruner", "median")
    assert code == 0
    assert [row["state"] for row in rows] == ["complete", "pruned"]
    pruned = _stored(rows[1]["runs"]["42"])
    assert (pruned["status"], pruned["actual_timesteps"]) == ("interrupted", 512)
    logged = json.loads((Path(pruned["path"]) / "metrics.json").read_text())
    assert rows[1]["objective"] == logged[-1]["eval/pool_payoff"]
    assert "Pruned trials: 1; their runs are stored as interrupted." in capsys.readouterr().out
    assert main(["ppo", "--resume", pruned["run_id"]]) == 0


def test_with_seeds_a_trial_trains_with_each_and_counts_the_mean(sweep: Sweep) -> None:
    code, (row,) = sweep("--num-trials", "1", "--seeds", "3", "4", "--objective", "payoff")
    assert code == 0
    assert list(row["runs"]) == ["3", "4"]
    assert [_stored(run_id)["seed"] for run_id in row["runs"].values()] == [3, 4]
    assert row["objective"] == pytest.approx(np.mean([_payoff(run_id) for run_id in row["runs"].values()]))


def test_a_trial_whose_settings_do_not_fit_fails_alone(
    sweep: Sweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text("magnet_interval: {values: [null, 5]}\nlr: {value: 0.01}\n")
    flags = ("--method", "grid", "--space", "space.yaml", "--study", "ppo_random")
    assert main(["sweep", "--algorithm", "ppo", *flags, "--dry-run"]) == 1
    assert "# is refused: --magnet-interval" in capsys.readouterr().out
    code, rows = sweep(*flags)
    assert code == 1
    assert sorted(row["state"] for row in rows) == ["complete", "failed"]
    (failed,) = (row for row in rows if row["state"] == "failed")
    assert failed["error"].startswith("--magnet-interval says when the magnet is copied")
    assert failed["runs"] == {}


def test_a_trial_that_diverges_fails_and_the_next_begins(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Run.log

    def diverge(run: Run, *arguments: Any, **more: Any) -> None:
        log(run, *arguments, **more)
        if len(ResultsManager("results").list_runs()) == 1:
            raise FloatingPointError("the loss is not finite")

    monkeypatch.setattr(Run, "log", diverge)
    code, rows = sweep("--num-trials", "2")
    assert code == 1
    assert [row["state"] for row in rows] == ["failed", "complete"]
    assert rows[0]["error"] == "FloatingPointError: the loss is not finite."
    assert _stored(rows[0]["runs"]["42"])["status"] == "failed"


def test_another_search_needs_another_name(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    sweep("--num-trials", "1")
    words = ["sweep", "--algorithm", "ppo", "--pruner", "none", "--num-trials", "2"]
    assert main([*words, "--seed", "7", "--", *PPO]) == 2
    assert "was begun with other seed, seeds; give this one a name of its own" in capsys.readouterr().err
    assert main([*words, "--", *PPO, "--device", "cpu", "--log-interval", "2"]) == 0


def test_a_run_without_a_checkpoint_is_closed_and_begun_anew(tmp_path: Path) -> None:
    config = PPOConfig(results_dir=str(tmp_path), game="mini-b")
    manager = ResultsManager(tmp_path)
    record = manager.create_run("ppo", config.seed, config.to_dict())
    record.interrupt()
    assert config_to_resume(config, manager.get_run(record.run_id)) == config
    stored = manager.get_run(record.run_id)
    assert stored["status"] == "failed"
    assert "begins it anew" in stored["error_message"]


def test_objectives_are_of_the_final_policy_on_the_validation_deals(sweep: Sweep) -> None:
    _, (row,) = sweep("--num-trials", "1")
    run_id = row["runs"]["42"]
    config = PPOConfig.from_dict(_stored(run_id)["hyperparameters"])
    policy, found = load_policy(f"run:{run_id}"), dict[ObjectiveName, float]()
    for objective in ("payoff", "welfare", "total", "nash-conv"):
        found[objective] = score(objective, run_id, config, device="cpu", threads=1)
    others = [load_policy(name, config.spec()) for name in POOL]
    pairs = [pair for other in others for pair in ((policy, other), (other, policy))]
    totals = [play(pair, 20, VALIDATION_SEED, spec=config.spec()).payoff.sum(axis=1).mean() for pair in pairs]
    assert found["payoff"] == pytest.approx(row["objective"])
    assert found["welfare"] == pytest.approx(np.mean(totals))
    own = play((policy, policy), 20, VALIDATION_SEED, spec=config.spec())
    assert found["total"] == pytest.approx(own.payoff.sum(axis=1).mean())
    assert found["nash-conv"] == measure_nash_conv(policy, config.spec(), VALIDATION_SEED)["nash_conv"]


def test_an_objective_that_no_run_could_have_is_refused() -> None:
    with pytest.raises(ValueError, match="--observation history have on small games alone"):
        check_objective("nash-conv", PPOConfig(observation="history"))
    check_objective("nash-conv", PPOConfig(observation="history", game="mini-b"))
    check_objective("nash-conv", PPOConfig())
    with pytest.raises(ValueError, match="is of two seats that learn"):
        check_objective("total", PPOConfig(opponent="greedy"))
    check_objective("welfare", PPOConfig(opponent="greedy"))


REFUSED = {
    "nothing": ([], "either --algorithm"),
    "both": (["--algorithm", "ppo", "--compare-algorithms"], "either --algorithm"),
    "unknown": (["--algorithm", "pppo"], "there is no algorithm 'pppo'"),
    "method": (["--algorithm", "ppo", "--method", "guess"], "--method"),
    "trials": (["--algorithm", "ppo", "--num-trials", "0"], "--num-trials"),
    "algorithms": (["--algorithm", "ppo", "--algorithms", "ppo"], "--algorithms"),
    "seeds": (["--algorithm", "ppo", "--seeds", "1", "1"], "--seeds must differ"),
    "study": (["--algorithm", "ppo", "--study", "../x"], "--study is a folder's name"),
    "compared": (["--compare-algorithms", "--method", "bayes"], "--method has no effect"),
    "word": (["--algorithm", "ppo", "--", "game"], "after -- come settings"),
    "setting": (["--algorithm", "ppo", "--", "--colour", "1"], "--colour"),
    "value": (["--algorithm", "ppo", "--", "--lr", "0"], "--lr"),
    "seed": (["--algorithm", "ppo", "--", "--seed", "1"], "give --seed or --seeds before the --"),
    "results": (["--algorithm", "ppo", "--", "--results-dir=x"], "give --results-dir before the --"),
    "resume": (["--algorithm", "ppo", "--", "--resume", "x"], "the same sweep again"),
    "none has it": (["--compare-algorithms", "--algorithms", "ppo", "nfsp", "--", "--iterations", "3"], "--iterations"),
    "all fixed": (["--algorithm", "ppo", "--space", "space.yaml", "--", "--lr", "1e-3"], "nothing is left to search"),
    "space": (["--algorithm", "ppo", "--space", "none.yaml"], "cannot be read"),
    "config": (["--algorithm", "ppo", "--", "--config", "none.json"], "none.json cannot be read"),
    "objective": (["--algorithm", "nfsp", "--objective", "nash-conv"], "--objective nash-conv needs an upper bound"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_sweep_is_one_sentence_and_starts_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("lr: {values: [1.0e-3]}")
    arguments, expected = REFUSED[name]
    assert main(["sweep", *arguments]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert expected in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_a_study_may_have_a_number_for_a_name() -> None:
    assert SweepOptions(algorithm="ppo", study="2026-11").study == "2026-11"


def test_settings_may_come_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweep.yaml").write_text("algorithm: ppo\nnum_trials: 2\n")
    (tmp_path / "fixed.json").write_text('{"lr": 0.01, "share": false}')
    assert main(["sweep", "--config", "sweep.yaml", "--dry-run", "--", "--config=fixed.json", "--share"]) == 0
    for line in capsys.readouterr().out.splitlines():
        words = shlex.split(line)
        assert words[:5] == ["bargain-train", "ppo", "--lr=0.01", "--share=False", "--share"]
        assert sum(word.startswith("--share") for word in words) == 2


def test_help_loads_neither_torch_nor_optuna() -> None:
    code = (
        "import sys; from bargain_train.cli import main; main(['sweep', '--help']); "
        "sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)

"""PSRO: the golden numbers of exact responses, cells that are what they say, resumption to the bit, and its policy."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env import GAMES
from bargain_eval import load_policy
from bargain_eval.arena import play
from bargain_eval.checkpoint import read_checkpoint
from bargain_train import population_jobs, responses
from bargain_train.algorithms.psro import PSROConfig
from bargain_train.cli import main
from bargain_train.exact_oracle import ExactOracle
from bargain_train.jobs import Jobs
from bargain_train.oracle_run import make_solve, read_state
from bargain_train.policies import NetworkPolicy
from bargain_train.population import Populations

from tests.train.conftest import Train, Trained

EXACT = ["--oracle", "exact", "--nash-solver", "max_welfare", "--eval-games", "20", "--threads", "1"]
UNIFORM = {"mini-a": 0.3850694444, "mini-b": 0.4697337963, "mini-c": 0.4928708895}
"""NashConv of uniform play, where the populations start."""
WALK = {"mini-a": 1.3541666667, "mini-b": 1.3541666667, "mini-c": 1.1857583774}
"""The total of walking at once, the equilibrium between the first responses."""


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "psro")


@pytest.fixture
def train_exactly(train: Train) -> Train:
    train.flags = EXACT
    return train


def populations_of(run: Trained) -> Populations:
    checkpoint = read_checkpoint(run.folder / "checkpoints" / "latest.pt")
    game = run.metadata["hyperparameters"]["game"]
    return read_state(checkpoint["resume"]["oracle"], GAMES[game].with_observation("history"), "cpu")[0]


def final(run: Trained) -> dict[str, Any]:
    metrics: dict[str, Any] = run.metadata["final_metrics"]
    return metrics


@pytest.mark.parametrize("game", ["mini-a", "mini-b"])
def test_exact_responses_reach_an_equilibrium_in_two_iterations(train_exactly: Train, game: str) -> None:
    run = train_exactly("--game", game, "--psro-iterations", "3")
    assert [line["gap"] for line in run.metrics] == pytest.approx([UNIFORM[game], 0.0355902778, 0.0], abs=1e-9)
    assert [line["total"] for line in run.metrics] == pytest.approx([WALK[game], 1.3997034144, 1.3997034144], abs=1e-9)
    assert [line["agreement_rate"] for line in run.metrics] == pytest.approx([0, 0.114583, 0.114583], abs=1e-6)
    assert [line["br_gain_0"] for line in run.metrics[1:]] == pytest.approx([0.0355902778, 0.0], abs=1e-9)
    assert final(run)["nash_conv"] == pytest.approx(0.0, abs=1e-6)


def test_nash_conv_rises_again_and_the_best_solution_is_stored(train_exactly: Train) -> None:
    best = train_exactly("--game", "mini-c", "--psro-iterations", "3")
    last = train_exactly("--game", "mini-c", "--psro-iterations", "4", "--keep", "last")
    gaps = [line["gap"] for line in last.metrics]
    assert gaps == pytest.approx([UNIFORM["mini-c"], 0.0815991, 0.0000705467, 0.1147224], abs=1e-7)
    assert [line["total"] for line in last.metrics[:2]] == pytest.approx([WALK["mini-c"], 1.2815294], abs=1e-7)
    assert final(best)["nash_conv"] == pytest.approx(gaps[2], abs=1e-6)
    last = train_exactly("--game", "mini-c", "--psro-iterations", "3", "--keep", "last")
    assert final(last)["nash_conv"] == pytest.approx(gaps[3], abs=1e-6)


def test_the_first_gains_are_those_on_uniform_play(train_exactly: Train) -> None:
    (line,) = train_exactly("--game", "mini-c", "--psro-iterations", "1").metrics
    assert (line["br_gain_0"], line["br_gain_1"]) == pytest.approx((0.27441368, 0.21845721), abs=1e-8)


@pytest.mark.parametrize("solver", ["replicator", "fictitious_play", "mene", "rrd", "nbs", "uniform"])
def test_every_solver_comes_nearer_to_an_equilibrium(train_exactly: Train, solver: str) -> None:
    run = train_exactly("--game", "mini-a", "--nash-solver", solver, "--psro-iterations", "8")
    assert final(run)["nash_conv"] <= 0.1 < UNIFORM["mini-a"] / 3


def test_a_run_stores_what_it_promises(train: Train) -> None:
    run = train("--eval-interval", "2", "--checkpoint-interval", "2")
    assert run.code == 0
    assert run.metadata["status"] == "completed"
    assert run.metadata["num_updates"] == len(run.metrics) == 3
    assert run.metadata["total_timesteps"] is None
    assert [line["step"] for line in run.metrics][-1] == run.metadata["actual_timesteps"]
    assert not (run.folder / "jobs").exists()
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} == {
        *(f"step_{step}.pt" for step in (0, run.metrics[1]["step"], run.metrics[2]["step"])),
        *("latest.pt", "best.pt"),
    }
    assert "resume" not in read_checkpoint(run.folder / "policy.pt")
    for number, line in enumerate(run.metrics, 1):
        assert line["updates"] == number
        for seat in range(2):
            shares = line[f"population_seat_{seat}"]
            assert list(shares) == ["start", *map(str, range(1, number + 1))]
            assert sum(shares.values()) == pytest.approx(1.0, abs=1e-9)
            assert line[f"population_size_{seat}"] == number + 1
            assert line[f"support_{seat}"] == sum(share > 0.01 for share in shares.values())
            assert line[f"br_gain_se_{seat}"] > 0
            assert {f"br_{name}_{seat}" for name in ("gain", "payoff", "entropy", "lr", "approx_kl")} <= line.keys()
        assert line["total"] == pytest.approx(line["payoff_0"] + line["payoff_1"])
        assert 0 <= line["agreement_rate"] <= 1
        assert line["meta_regret"] >= 0
        assert line["gap"] >= max(0, line["br_gain_0"]) + max(0, line["br_gain_1"]) - 1e-12
        assert ("eval/nash_conv" in line) == (number == 2)


def test_steps_are_those_of_both_responses_and_all_new_cells(train: Train) -> None:
    run = train()
    responses = 2 * 512
    longest, shortest = 4 * 100, 100  # a hundred games of a cell, of at most four decisions
    before = 0
    for number, line in enumerate(run.metrics, 1):
        cells = 2 * number + 1 + (number == 1)
        assert responses + shortest * cells <= line["step"] - before <= responses + longest * cells
        before = line["step"]


@pytest.mark.slow
def test_every_cell_is_an_estimate_of_what_its_members_earn(train: Train) -> None:
    run = train("--num-eval-games", "1000", "--br-training-steps", "4096", "--seed", "7")
    populations = populations_of(run)
    spec = GAMES["mini-b"].with_observation("history")
    exact = ExactOracle(spec)
    assert len(populations.cells) == 16
    assert all(cell.games == 1000 for cell in populations.cells.values())
    table = populations.table()
    means = []
    for i, first in enumerate(populations.members[0]):
        for j, second in enumerate(populations.members[1]):
            policies = [NetworkPolicy((member.network, member.network)) for member in (first, second)]
            payoff = play(policies, 50_000, 2**40 + 16 * i + j, spec=spec, threads=1).payoff
            error = np.hypot(table.standard_error[i, j], payoff.std(axis=0) / 50_000**0.5)
            assert (np.abs(table.mean[i, j] - payoff.mean(axis=0)) <= 4 * error).all(), (i, j)
            truth = np.array(exact.payoffs(first.network, second.network))
            assert (np.abs(table.mean[i, j] - truth) <= 4 * table.standard_error[i, j]).all(), (i, j)
            means.append(truth)
    assert np.ptp(means) > 0.1  # the members differ, or all of this says little


def test_at_the_most_policies_one_leaves_for_each_that_enters(train: Train) -> None:
    run = train("--max-policies", "2", "--psro-iterations", "4")
    for number, line in enumerate(run.metrics, 1):
        for seat in range(2):
            names = list(line[f"population_seat_{seat}"])
            assert len(names) == 2
            assert names[-1] == str(number)
    assert len(populations_of(run).cells) == 4


class Interruption(Exception):
    """What a job is made to raise."""


def interrupt_at(patch: pytest.MonkeyPatch, count: int) -> None:
    """Lets the `count`-th response fail."""
    original, begun = responses.train_response, []

    def train_response(task: Any) -> Any:
        begun.append(task.seed)
        if len(begun) == count:
            raise Interruption
        return original(task)

    patch.setattr(population_jobs, "train_response", train_response)


@pytest.mark.parametrize("count", [1, 4, 5])
@pytest.mark.parametrize("flags", [(), ("--checkpoint-interval", "2", "--max-policies", "2", "--no-warm-start")])
def test_an_interrupted_run_goes_on_to_the_bit_from_its_finished_jobs(
    train: Train, monkeypatch: pytest.MonkeyPatch, count: int, flags: tuple[str, ...]
) -> None:
    whole = train(*flags)
    with monkeypatch.context() as patch:
        interrupt_at(patch, count)
        with pytest.raises(Interruption):
            train(*flags)
    (folder,) = set(train.root.glob("results/*/run_*")) - {whole.folder}
    run = train.open(folder)
    assert run.metadata["status"] == "failed"
    finished = stored_jobs(folder)
    assert ("0001-response-0" in finished) == (count == 4 and "--checkpoint-interval" in flags)
    with monkeypatch.context() as patch:
        done = watch_jobs(patch)
        assert main(["psro", "--resume", run.run_id]) == 0
    assert done
    assert not done & finished
    assert_same(run, whole)


def stored_jobs(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "jobs").glob("*.pt")}


def watch_jobs(patch: pytest.MonkeyPatch) -> set[str]:
    """Returns the names of the jobs that will be done from now on, as they are finished."""
    store, done = Jobs._store, set[str]()

    def watched(self: Jobs, name: str, stored: bytes) -> None:
        done.add(name)
        store(self, name, stored)

    patch.setattr(Jobs, "_store", watched)
    return done


def assert_same(run: Trained, whole: Trained) -> None:
    assert run.metadata["status"] == "completed"
    assert run.metrics == whole.metrics
    run.assert_same_weights(whole)
    first, second = (read_checkpoint(one.folder / "policy.pt") for one in (run, whole))
    assert first["seats"] == second["seats"]
    assert run.metadata["final_metrics"] == whole.metadata["final_metrics"]
    assert run.metadata["best_metrics"] == whole.metadata["best_metrics"]
    assert not (run.folder / "jobs").exists()
    for one, other in zip(populations_of(run).cells.items(), populations_of(whole).cells.items(), strict=True):
        assert one == other


@pytest.mark.parametrize("number", [3, 8])
def test_a_stopped_run_stores_the_job_under_way_and_resumes(
    train: Train, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = train()
    store, done = Jobs._store, []

    def stop(self: Jobs, name: str, stored: bytes) -> None:
        store(self, name, stored)
        done.append(name)
        if len(done) == number:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "_store", stop)
        run = train()
    assert run.code == 130
    assert run.metadata["status"] == "interrupted"
    assert len(done) == number
    assert set(done) >= stored_jobs(run.folder) >= {done[-1]}
    assert main(["psro", "--resume", run.run_id]) == 0
    assert_same(run, whole)


@pytest.mark.slow
def test_a_killed_run_of_two_workers_resumes_to_the_bits_of_a_run_of_one(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train()
    flags = [*train.flags, "--workers", "2", "--threads", "2"]
    command = [sys.executable, "-m", "bargain_train.cli", "psro", *flags, "--results-dir", "killed"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    folder = wait_for_jobs(Path("killed"), "0002-response-*.pt", 1)
    process.kill()
    process.wait()
    finished = stored_jobs(folder)
    run = train.open(folder)
    with monkeypatch.context() as patch:
        done = watch_jobs(patch)
        assert main(["psro", "--resume", run.run_id, "--results-dir", "killed"]) == 0
    assert done
    assert not done & finished
    assert_same(run, whole)


def wait_for_jobs(root: Path, pattern: str, count: int) -> Path:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = list(root.glob(f"*/run_*/jobs/{pattern}"))
        if len(found) >= count:
            return found[0].parents[1]
        time.sleep(0.005)
    raise TimeoutError("the run finished no jobs")


@pytest.mark.parametrize("observation", ["standing", "history"])
def test_the_stored_mixtures_load_by_every_name_and_play(train: Train, observation: str) -> None:
    flags = ("--nash-solver", "uniform", "--keep", "last", "--observation", observation)
    run = train("--psro-iterations", "2", *flags)
    stored = read_checkpoint(run.folder / "policy.pt")
    assert len(stored["networks"]) == 6
    assert [[weight for _, weight in seat] for seat in stored["seats"]] == [[pytest.approx(1 / 3)] * 3] * 2
    names = f"run:{run.run_id}", f"checkpoint:{run.folder / 'policy.pt'}", f"run:{run.run_id}?checkpoint=latest"
    spec = GAMES["mini-b"]
    played = [play((load_policy(name), load_policy("random", spec)), 200, 1, spec=spec).payoff for name in names]
    for payoff in played[1:]:
        assert (payoff == played[0]).all()
    assert load_policy(names[0]).observation == observation


@pytest.mark.parametrize("network", [("--network", "transformer", "--d-model", "8", "--nhead", "2"), ()])
def test_both_networks_train(train: Train, network: tuple[str, ...]) -> None:
    run = train("--psro-iterations", "2", *network)
    assert run.code == 0
    assert all(np.isfinite(line["br_loss_0"]) for line in run.metrics)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--max-policies", "1"), "--max-policies"),
        (("--nash-solver", "linear_program"), "--nash-solver"),
        (("--num-eval-games", "1"), "--num-eval-games"),
        (("--workers", "0"), "--workers"),
        (("--br-rollout-steps", "1"), "--br-rollout-steps"),
        (("--executor", "moon"), "--executor"),
        (("--hidden-dims", "0"), "--hidden-dims"),
        (("--game", "mini-a", "--oracle", "exact", "--lr", "0.1"), "--lr has no effect with --oracle exact"),
        (("--game", "mini-a", "--oracle", "exact", "--workers", "2"), "--workers has no effect with --oracle exact"),
        (
            ("--game", "mini-a", "--oracle", "exact", "--num-eval-games", "2000"),
            "--num-eval-games has no effect with --oracle exact",
        ),
        (
            ("--game", "mini-a", "--oracle", "exact", "--observation", "standing"),
            "--oracle exact computes responses that remember every offer",
        ),
        (("--oracle", "exact"), "--oracle exact needs a small game"),
        (("--resume", "psro_20260101_120000_seed42"), "psro_20260101_120000_seed42"),
    ],
)
def test_a_bad_setting_is_one_sentence_and_no_run(
    train: Train, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["psro", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(train.root.glob("results/*/run_*"))


def test_the_bargaining_solution_disagrees_by_walking_at_once() -> None:
    config = PSROConfig(game="mini-a", oracle="exact", nash_solver="nbs", num_eval_games=100_000)
    worth = 0.6770833  # of walking, to each seat
    payoffs = np.array([[[worth + 0.1, worth + 0.1], [worth - 0.1, worth + 0.4]]])
    shares = [[pytest.approx(11 / 12, abs=0.01), pytest.approx(1 / 12, abs=0.01)]]
    assert make_solve(config)(payoffs).joint.tolist() == shares  # maximises (.1 - .2 x) (.1 + .3 x)


def test_the_stored_config_reads_back(train: Train) -> None:
    run = train("--psro-iterations", "1")
    assert main(["psro", "--config", str(run.folder / "config.json"), "--psro-iterations", "2"]) == 0
    newest = max(train.root.glob("results/*/run_*"), key=lambda path: path.stat().st_mtime)
    assert json.loads((newest / "metadata.json").read_text(encoding="utf-8"))["num_updates"] == 2

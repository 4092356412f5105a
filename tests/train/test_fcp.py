"""Fictitious co-play: who the partners are, how often each is met, both budgets, and what a killed run keeps."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from bargain_env import GAMES
from bargain_eval import load_policy
from bargain_eval.arena import play
from bargain_eval.checkpoint import read_checkpoint
from bargain_train import co_play
from bargain_train.algorithms.fcp import FCPConfig
from bargain_train.cli import main
from bargain_train.co_play import CoPlay, Partner, partner_weights
from bargain_train.evaluation import Evaluator
from bargain_train.jobs import Job, Jobs, Result
from bargain_train.run import Run

from tests.train.conftest import Train, Trained

UPDATE = 128
"""Steps of an update of the tiny run: 16 games, 8 decisions."""


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "fcp")


@pytest.fixture
def config(tmp_path: Path) -> FCPConfig:
    return FCPConfig(
        game="mini-b",
        hidden_dims=(8,),
        num_envs=32,
        rollout_steps=8,
        total_timesteps=4096,
        population_size=2,
        snapshot_interval=300,
        threads=1,
        results_dir=str(tmp_path / "results"),
    )


@pytest.fixture
def run(config: FCPConfig) -> Iterator[Run]:
    with Run("fcp", config, console=False) as run:
        run.start()
        yield run


def weights(partner: Partner) -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = partner.network["policy_state_dict"]
    return stored


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_partners_are_three_snapshots_of_every_pair_which_stay_as_they_are(config: FCPConfig, run: Run) -> None:
    with Jobs(run) as jobs:
        stages = CoPlay(config, run, jobs)
        partners = stages.partners()
        assert partners is not None
        assert [(one.pair, one.skill) for one in partners] == [
            (pair, skill) for pair in range(2) for skill in ("early", "middle", "final")
        ]
        for index, one in enumerate(partners):
            assert not any(same(weights(one), weights(other)) for other in partners[:index])
        before = copy.deepcopy(partners)
        assert stages.responses(partners) is not None
    for one, as_it_was in zip(partners, before, strict=True):
        assert same(weights(one), weights(as_it_was))


class Recorder:
    """Takes jobs and does none."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def each(self, jobs: Mapping[str, Job]) -> Iterator[tuple[str, Result]]:
        self.jobs |= jobs
        return iter(())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ([1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3])),
        ({"prioritized": True}, ([5 / 12, 4 / 12, 3 / 12], [3 / 12, 4 / 12, 5 / 12])),
        ({"prioritized": True, "uniform_prob": 0.0}, ([1 / 2, 1 / 3, 1 / 6], [1 / 6, 1 / 3, 1 / 2])),
    ],
)
def test_partners_are_met_by_what_they_earn_in_the_seat_they_play(
    config: FCPConfig, run: Run, changes: dict[str, Any], expected: tuple[list[float], list[float]]
) -> None:
    payoffs = ((0.1, 0.9), (0.2, 0.5), (0.3, 0.4))
    partners = [Partner(0, "final", {"number": index}, pair) for index, pair in enumerate(payoffs)]
    recorder = Recorder()
    settings = FCPConfig.from_dict(config.to_dict() | changes)
    assert isinstance(settings, FCPConfig)
    assert CoPlay(settings, run, recorder).responses(partners) is None  # type: ignore[arg-type]
    for seat in range(2):
        task = recorder.jobs[f"response-{seat}"].task
        assert task.seat == seat
        assert [stored["number"] for stored, _ in task.opponents] == [0, 1, 2]
        assert [weight for _, weight in task.opponents] == pytest.approx(expected[seat])


def test_weights_of_partners_mix_uniform_draws_with_ranks() -> None:
    assert partner_weights([0.5, -1.0, 7.0], 0.0).tolist() == pytest.approx([2 / 6, 1 / 6, 3 / 6])
    assert partner_weights([0.5, -1.0, 7.0], 1.0).tolist() == pytest.approx([1 / 3] * 3)
    assert partner_weights([0.5, -1.0, 7.0], 0.25).tolist() == pytest.approx(
        [0.25 / 3 + 0.75 * rank / 6 for rank in (2, 1, 3)]
    )
    assert partner_weights([3.0], 0.5).tolist() == [1.0]
    assert sum(partner_weights([0.1] * 30, 0.5)) == pytest.approx(1.0)


@pytest.mark.parametrize("population", [2, 3])
def test_each_stage_is_half_of_the_budget(config: FCPConfig, run: Run, population: int) -> None:
    settings = FCPConfig.from_dict(config.to_dict() | {"population_size": population, "total_timesteps": 6000})
    assert isinstance(settings, FCPConfig)
    recorder = Recorder()
    stages = CoPlay(settings, run, recorder)  # type: ignore[arg-type]
    assert stages.partners() is None
    stages.responses([Partner(0, "final", {}, (0.0, 0.0))])
    pairs = [recorder.jobs[f"pair-{pair}"].task.steps for pair in range(population)]
    responses = [recorder.jobs[f"response-{seat}"].task.steps for seat in range(2)]
    assert len(recorder.jobs) == population + 2
    assert 0 <= 3000 - sum(pairs) < population
    assert sum(responses) == 3000
    assert len({job.task.seed for job in recorder.jobs.values()}) == len(recorder.jobs)  # no two on the same deals


def test_a_run_logs_every_training_and_spends_its_budget(train: Train) -> None:
    run = train("--total-timesteps", "5000")
    assert run.code == 0
    steps = [line["step"] for line in run.metrics]
    assert steps == sorted(steps)
    pair, response = 1250, 1250
    ends = [-(-size // UPDATE) * UPDATE for size in (pair, pair, response, response)]
    assert run.metadata["actual_timesteps"] == steps[-1] == sum(ends)
    assert run.metadata["num_updates"] == sum(ends) // UPDATE
    first = [line for line in run.metrics if "pair" in line]
    assert [line["pair"] for line in first] == [0] * (ends[0] // UPDATE) + [1] * (ends[1] // UPDATE)
    assert first[-1]["step"] == ends[0] + ends[1]
    for seat in range(2):
        lines = [line for line in run.metrics if f"br_loss_{seat}" in line]
        assert len(lines) == ends[2 + seat] // UPDATE
        assert all(0 <= line[f"br_payoff_{seat}"] <= 1 for line in lines)
        assert not any("pair" in line for line in lines)
    assert "eval/nash_conv" in run.metrics[-1]


def test_a_run_stores_a_response_for_each_seat_that_plays(train: Train) -> None:
    run = train()
    assert run.metadata["status"] == "completed"
    assert not (run.folder / "jobs").exists()
    stored = read_checkpoint(run.folder / "policy.pt")
    assert len(stored["networks"]) == 2
    assert stored["seats"] == [[(0, 1.0)], [(1, 1.0)]]
    assert "resume" not in stored
    names = [f"run:{run.run_id}", f"run:{run.run_id}?checkpoint=best", f"checkpoint:{run.folder / 'policy.pt'}"]
    spec = GAMES["mini-b"]
    played = [play((load_policy(name), load_policy("random", spec)), 100, 1, spec=spec).payoff for name in names]
    for payoff in played[1:]:
        assert (payoff == played[0]).all()
    best = run.metadata["best_metrics"]
    assert best["step"] == run.metadata["actual_timesteps"]
    assert (train.root / "checkpoints/fcp/best.pt").is_file()


class Interruption(Exception):
    """What a job is made to raise."""


@pytest.mark.parametrize(
    ("function", "count", "finished"),
    [
        ("train_pair", 2, {"pair-0"}),
        ("train_response", 1, {"pair-0", "pair-1"}),
        ("train_response", 2, {"pair-0", "pair-1", "response-0"}),
    ],
)
def test_a_run_goes_on_to_the_bit_from_its_finished_jobs(
    train: Train, monkeypatch: pytest.MonkeyPatch, function: str, count: int, finished: set[str]
) -> None:
    whole = train()
    original, begun = getattr(co_play, function), []

    def fail(task: Any) -> Any:
        begun.append(task.seed)
        if len(begun) == count:
            raise Interruption
        return original(task)

    with monkeypatch.context() as patch:
        patch.setattr(co_play, function, fail)
        with pytest.raises(Interruption):
            train()
    (folder,) = set(train.root.glob("results/*/run_*")) - {whole.folder}
    run = train.open(folder)
    assert stored_jobs(run) == finished
    assert resume(monkeypatch, run) == {"pair-0", "pair-1", "response-0", "response-1"} - finished
    assert_same(run, whole)


def stored_jobs(run: Trained) -> set[str]:
    return {path.stem for path in (run.folder / "jobs").glob("*.pt")}


def resume(monkeypatch: pytest.MonkeyPatch, run: Trained) -> set[str]:
    """Resumes a run and returns the names of the jobs that were done."""
    store, done = Jobs._store, set[str]()

    def watched(self: Jobs, name: str, stored: bytes) -> None:
        done.add(name)
        store(self, name, stored)

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "_store", watched)
        assert main(["fcp", "--resume", run.run_id]) == 0
    return done


def assert_same(run: Trained, whole: Trained) -> None:
    run.assert_same_weights(whole)
    assert run.metrics == whole.metrics
    for name in ("status", "actual_timesteps", "num_updates", "final_metrics", "best_metrics"):
        assert run.metadata[name] == whole.metadata[name], name
    assert not (run.folder / "jobs").exists()


@pytest.mark.parametrize("evaluation", [1, 2])
def test_a_run_that_is_stopped_while_it_evaluates_loses_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch, evaluation: int
) -> None:
    whole = train()
    call, calls = Evaluator.__call__, []

    def interrupted(self: Evaluator, *arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == evaluation:
            os.kill(os.getpid(), signal.SIGINT)
            if evaluation == 2:
                os.kill(os.getpid(), signal.SIGINT)  # at once
        return call(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__call__", interrupted)
        run = train()
    assert run.code == 130
    assert run.metadata["status"] == "interrupted"
    assert resume(monkeypatch, run) == set()
    assert_same(run, whole)


@pytest.mark.slow
def test_two_workers_learn_what_one_does(train: Train) -> None:
    one, two = train(), train("--workers", "2", "--threads", "2")
    two.assert_same_weights(one)
    assert two.metadata["final_metrics"] == one.metadata["final_metrics"]
    assert two.metadata["actual_timesteps"] == one.metadata["actual_timesteps"]
    assert len(two.metrics) == len(one.metrics)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--total-timesteps", "4096", "--population-size", "4"), "each pair trains for 512 steps, too few for three"),
        (("--snapshot-interval", "1000"), "too few for three snapshots"),
        (("--uniform-prob", "0.5"), "--uniform-prob"),
        (("--prioritized", "--uniform-prob", "1"), "--uniform-prob"),
        (("--population-size", "0"), "--population-size"),
        (("--workers", "0"), "--workers"),
        (("--hidden-dims", "0"), "--hidden-dims"),
        (("--resume", "fcp_20260101_120000_seed42"), ""),
    ],
)
def test_a_bad_setting_is_one_sentence_and_no_run(
    train: Train, flags: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = () if "--resume" in flags else train.flags
    assert main(["fcp", *given, *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not list(train.root.glob("results/*/run_*"))


def test_the_least_budget_takes_three_snapshots(train: Train) -> None:
    """Three updates of a pair, and an interval of a third of its steps, are just enough."""
    run = train("--total-timesteps", "1536", "--snapshot-interval", "128")
    assert run.code == 0

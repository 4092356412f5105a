"""Ex2PSRO: PSRO when it does not explore, what its exploration is made of, and that every setting matters."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from bargain_eval.checkpoint import read_checkpoint
from bargain_train.algorithms import ALGORITHMS
from bargain_train.algorithms.ex2psro import Ex2PSROConfig
from bargain_train.config import ExplorationOptions
from bargain_train.jobs import Jobs

from tests.train import settings
from tests.train.conftest import Train, Trained

BASE: dict[str, Any] = {
    "game": "mini-b",
    "hidden_dims": (8,),
    "num_envs": 16,
    "br_rollout_steps": 8,
    "br_training_steps": 512,
    "minibatch_size": 64,
    "lr": 1e-2,
    "num_eval_games": 100,
    "psro_iterations": 3,
    "keep": "last",
    "eval_interval": 3,
    "eval_games": 20,
    "imitation_data_size": 60,
    "imitation_batch_size": 32,
    "imitation_lr": 1e-2,
    "threads": 1,
}


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "ex2psro")


FREE = {name: value for name, value in BASE.items() if not name.startswith("imitation")} | {"kl_coef": 0.0}


def learned(train: Train, **changes: Any) -> Trained:
    return settings.learned(train, BASE | changes)


def test_without_kl_it_is_psro_bit_for_bit(train: Train, tmp_path: Path) -> None:
    solver = {"nash_solver": "replicator"}
    free = settings.learned(train, FREE | solver)
    psro = settings.learned(Train(tmp_path, "psro"), {k: v for k, v in FREE.items() if k != "kl_coef"} | solver)
    free.assert_same_weights(psro)
    shared = psro.metrics[-1].keys()
    assert [{name: line[name] for name in shared if name in line} for line in free.metrics] == psro.metrics


def test_the_default_solver_prefers_welfare_and_that_of_psro_does_not() -> None:
    assert Ex2PSROConfig().nash_solver == "max_welfare"
    assert ALGORITHMS["psro"].config().nash_solver == "replicator"  # type: ignore[attr-defined]


@pytest.mark.parametrize("network", [{}, settings.TRANSFORMER])
def test_the_first_and_the_last_response_are_free_and_those_between_are_guided(
    train: Train, network: dict[str, Any]
) -> None:
    run = learned(train, **network)
    guided = [{"br_kl_guide_0", "br_kl_guide_1", "imitated_efficiency"} & line.keys() for line in run.metrics]
    assert [len(names) for names in guided] == [0, 3, 0]
    second = run.metrics[1]
    assert second["br_kl_guide_0"] >= 0
    assert second["efficiency"] < second["imitated_efficiency"] <= 1


def test_annealing_ends_where_it_is_told_to(train: Train) -> None:
    run = learned(train, psro_iterations=5, kl_anneal_iterations=2, eval_interval=5)
    assert ["br_kl_guide_0" in line for line in run.metrics] == [False, True, False, False, False]


def test_a_coefficient_adapts_within_a_response_and_starts_anew_in_the_next(train: Train) -> None:
    longer = {"br_training_steps": 2048, "psro_iterations": 4, "eval_interval": 4}
    run = learned(train, **longer, use_adaptive_kl=True, kl_target=1e-6, kl_horizon=1)
    adapted = [line["br_kl_coef_0"] for line in run.metrics if "br_kl_coef_0" in line]
    assert len(adapted) == 2
    assert all(coef > 0.05 for coef in adapted)
    assert adapted[1] < 2 * adapted[0]
    fixed = learned(train, **longer)
    assert {line["br_kl_coef_0"] for line in fixed.metrics if "br_kl_coef_0" in line} == {0.05}


def test_a_pulled_response_ends_closer_to_its_guide(train: Train) -> None:
    run = {coef: learned(train, br_training_steps=4096, psro_iterations=3, kl_coef=coef) for coef in (1e-3, 10.0)}
    assert run[10.0].metrics[1]["br_kl_guide_0"] < run[1e-3].metrics[1]["br_kl_guide_0"] / 2


def test_exploration_policies_do_not_enter_the_populations(train: Train) -> None:
    run = learned(train)
    state = read_checkpoint(run.folder / "checkpoints" / "latest.pt")["resume"]["oracle"]
    assert [[member["number"] for member in members] for members in state["members"]] == [[0, 1, 2, 3]] * 2
    assert run.metrics[-1]["population_size_0"] == 4


def test_welfare_is_of_each_game(train: Train) -> None:
    names = ("utilitarian", "nash", "egalitarian")
    runs = {name: settings.learned(train, FREE | {"welfare_fn": name}) for name in names}
    lines = {name: run.metrics[-1] for name, run in runs.items()}
    assert lines["utilitarian"]["welfare"] == pytest.approx(lines["utilitarian"]["total"], abs=1e-6)
    smaller = min(lines["egalitarian"]["payoff_0"], lines["egalitarian"]["payoff_1"])
    assert lines["egalitarian"]["welfare"] < smaller - 0.01  # E[min] is below min E
    assert lines["egalitarian"]["welfare"] < lines["nash"]["welfare"] < lines["utilitarian"]["welfare"] / 2


def test_a_run_goes_on_bit_for_bit_from_its_finished_jobs(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learned(train)
    each, done = Jobs.each, []

    def interrupted(self: Jobs, jobs: Any) -> Any:
        for name, result in each(self, jobs):
            done.append(name)
            if name == "0003-response-0":
                raise KeyboardInterrupt
            yield name, result

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "each", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learned(train)
    (folder,) = set(train.root.glob("results/*/run_*")) - {whole.folder}
    assert json.loads((folder / "metadata.json").read_text())["status"] == "interrupted"
    resumed = settings.learned(train, BASE | {"resume": f"ex2psro_{folder.name.removeprefix('run_')}"})
    assert resumed.folder == folder
    resumed.assert_same_weights(whole)
    assert resumed.metrics == whole.metrics
    assert not (folder / "jobs").exists()


LATER = {"psro_iterations": 4, "eval_interval": 4}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "welfare_fn": ({}, {"welfare_fn": "egalitarian"}),
    "exploration_top_k": ({}, {"exploration_top_k": 1}),
    "exploration_temperature": ({}, {"exploration_temperature": 0.01}),
    "use_welfare_weighted_sampling": ({}, {"use_welfare_weighted_sampling": False}),
    "kl_coef": ({}, {"kl_coef": 1.0}),
    "use_adaptive_kl": ({}, {"use_adaptive_kl": True}),
    "kl_target": ({"use_adaptive_kl": True, "kl_target": 0.001}, {"kl_target": 100.0}),
    "kl_horizon": ({"use_adaptive_kl": True, "br_training_steps": 2048, "kl_target": 0.3}, {"kl_horizon": 1}),
    "kl_anneal_iterations": (LATER, {"kl_anneal_iterations": 2}),
    "imitation_epochs": ({}, {"imitation_epochs": 1}),
    "imitation_lr": ({}, {"imitation_lr": 1e-3}),
    "imitation_batch_size": ({}, {"imitation_batch_size": 8}),
    "imitation_data_size": ({}, {"imitation_data_size": 20}),
}


def test_every_setting_of_the_exploration_is_tested() -> None:
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(ExplorationOptions)}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_of_the_exploration_changes_what_is_learned(train: Train, name: str) -> None:
    before, change = CHANGES[name]
    first, second = (settings.learned_weights(train, BASE | before | more) for more in ({}, change))
    assert settings.differ(first, second)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"kl_coef": 0.0, "imitation_epochs": 3}, "--imitation-epochs needs a --kl-coef above 0."),
        ({"kl_target": 0.5}, "--kl-target needs --use-adaptive-kl."),
        (
            {"use_welfare_weighted_sampling": False, "exploration_temperature": 2.0},
            "--exploration-temperature needs --use-welfare-weighted-sampling.",
        ),
    ],
)
def test_settings_without_effect_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ex2PSROConfig(**flags)

"""Every setting of PSRO that should change what is learned does, and no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from bargain_eval.checkpoint import read_checkpoint
from bargain_train.algorithms.psro import PSROConfig

from tests.train import settings
from tests.train.conftest import Train, Trained


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "psro")


BASE: dict[str, Any] = {
    "game": "mini-b",
    "hidden_dims": (8,),
    "num_envs": 16,
    "br_rollout_steps": 8,
    "br_training_steps": 256,
    "minibatch_size": 64,
    "lr": 1e-2,
    "num_eval_games": 50,
    "psro_iterations": 2,
    "eval_games": 1,
    "eval_nash_conv": False,
    "threads": 1,
    "keep": "last",
    "nash_solver": "uniform",
}
MAX_WELFARE = {"nash_solver": "max_welfare"}
LONGER = {"br_training_steps": 512}
KL = {"kl_rollout_coef": 0.5}
MAGNET: dict[str, Any] = {"kl_magnet_coef": 0.5, "magnet_interval": 2}
EXACT_BASE: dict[str, Any] = {
    **{name: BASE[name] for name in ("game", "eval_games", "eval_nash_conv", "threads", "keep")},
    "oracle": "exact",
    "nash_solver": "max_welfare",
}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = settings.CHANGES | {
    "observation": ({}, {"observation": "standing"}),
    "psro_iterations": ({}, {"psro_iterations": 3}),
    "br_training_steps": ({}, LONGER),
    "br_rollout_steps": ({}, {"br_rollout_steps": 16}),
    "max_policies": ({}, {"max_policies": 2}),
    "nash_solver": ({}, MAX_WELFARE),
    "num_eval_games": ({"nash_solver": "rrd"}, {"num_eval_games": 70}),
    "warm_start": ({}, {"warm_start": False}),
    "self_play_share": ({}, {"self_play_share": 0.5}),
    "lr": ({}, {"lr": 3e-3}),
    "lr_final": ({}, {"lr_final": 1.0}),
    "clip_eps": ({}, {"clip_eps": 0.01}),
    "entropy_coef": ({}, {"entropy_coef": 0.5}),
    "entropy_coef_final": ({}, {"entropy_coef_final": 0.1}),
    "value_coef": ({}, {"value_coef": 0.1}),
    "max_grad_norm": ({}, {"max_grad_norm": 0.01}),
    "ppo_epochs": ({}, {"ppo_epochs": 2}),
    "minibatch_size": ({}, {"minibatch_size": 32}),
    "kl_rollout_coef": ({}, KL),
    "kl_rollout_coef_final": (KL, {"kl_rollout_coef_final": 0.1}),
    "kl_magnet_coef": (LONGER, MAGNET),
    "kl_magnet_coef_final": (LONGER | MAGNET, {"kl_magnet_coef_final": 0.1}),
    "magnet_interval": (LONGER | MAGNET, {"magnet_interval": 3}),
    "anneal": ({}, {"anneal": "root"}),
    "gamma": ({}, {"gamma": 0.5}),
    "gae_lambda": ({}, {"gae_lambda": 0.5}),
}
"""For each setting what the run has before the change, and the change."""

ELSEWHERE = {"oracle", "keep"}
"""Settings with tests of their own: after so little training the last solution is the best."""
NOT_ABOUT_LEARNING = settings.NOT_ABOUT_LEARNING | {"executor", "workers"}


def _learned(train: Train, changes: dict[str, Any]) -> Trained:
    return settings.learned(train, BASE | changes)


def test_the_table_of_changes_names_every_setting() -> None:
    names = {field.name for field in dataclasses.fields(PSROConfig)}
    assert CHANGES.keys() | NOT_ABOUT_LEARNING | ELSEWHERE == names
    assert not CHANGES.keys() & (NOT_ABOUT_LEARNING | ELSEWHERE)


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_what_is_learned(train: Train, name: str) -> None:
    base, change = CHANGES[name]
    before, after = (settings.learned_policy(train, BASE | base | more) for more in ({}, change))
    assert settings.differ(before[0], after[0]) or before[1] != after[1]


@pytest.mark.parametrize("name", ["max_policies", "nash_solver", "psro_iterations", "keep"])
def test_settings_of_the_loop_matter_with_exact_responses_too(train: Train, name: str) -> None:
    base: dict[str, Any] = EXACT_BASE | {"game": "mini-c", "psro_iterations": 3}
    change = {"max_policies": 2, "nash_solver": "uniform", "psro_iterations": 2, "keep": "best"}[name]
    before, after = (settings.learned(train, base | more) for more in ({}, {name: change}))
    mixtures = [read_checkpoint(run.folder / "policy.pt")["seats"] for run in (before, after)]
    assert settings.differ(before.weights, after.weights) or mixtures[0] != mixtures[1]


EXACTLY_WITHOUT_EFFECT = ("num_envs", "br_training_steps", "lr", "hidden_dims", "warm_start", "self_play_share")


@pytest.mark.parametrize("name", EXACTLY_WITHOUT_EFFECT)
def test_settings_without_effect_on_exact_responses_are_refused(name: str) -> None:
    base, change = CHANGES[name] if name not in ("num_envs", "hidden_dims") else ({}, settings.CHANGES[name][1])
    with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} has no effect with --oracle exact"):
        PSROConfig(**EXACT_BASE | base | change)


@pytest.mark.parametrize(
    "change", [{"eval_interval": 1}, {"checkpoint_interval": 2}, {"log_interval": 2}, {"eval_games": 7}]
)
def test_looking_does_not_change_what_is_learned(train: Train, change: dict[str, Any]) -> None:
    _learned(train, {}).assert_same_weights(_learned(train, change))


def test_measuring_nash_conv_in_evaluations_does_not_change_what_is_learned(train: Train) -> None:
    _learned(train, {"eval_interval": 1}).assert_same_weights(
        _learned(train, {"eval_interval": 1, "eval_nash_conv": True})
    )

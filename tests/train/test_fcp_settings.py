"""Every setting of fictitious co-play that should change what is learned does, and no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from bargain_train.algorithms.fcp import FCPConfig

from tests.train import settings
from tests.train.conftest import Train, Trained


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "fcp")


BASE: dict[str, Any] = {
    "game": "mini-b",
    "hidden_dims": (8,),
    "num_envs": 16,
    "rollout_steps": 8,
    "total_timesteps": 1600,
    "population_size": 2,
    "snapshot_interval": 128,
    "minibatch_size": 64,
    "lr": 1e-2,
    "eval_games": 1,
    "eval_nash_conv": False,
    "threads": 1,
}
LONGER: dict[str, Any] = {"total_timesteps": 3200}
PRIORITIZED: dict[str, Any] = {"prioritized": True}
KL: dict[str, Any] = {"kl_rollout_coef": 0.5}
MAGNET: dict[str, Any] = {"kl_magnet_coef": 0.5, "magnet_interval": 2}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = settings.CHANGES | {
    "observation": ({}, {"observation": "standing"}),
    "total_timesteps": ({}, LONGER),
    "population_size": (LONGER, {"population_size": 3}),
    "snapshot_interval": (LONGER, {"snapshot_interval": 256}),
    "prioritized": ({}, PRIORITIZED),
    "uniform_prob": (PRIORITIZED, {"uniform_prob": 0.0}),
    "rollout_steps": (LONGER, {"rollout_steps": 16}),
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
    "kl_magnet_coef": ({}, MAGNET),
    "kl_magnet_coef_final": (MAGNET, {"kl_magnet_coef_final": 0.1}),
    "magnet_interval": (MAGNET, {"magnet_interval": 3}),
    "anneal": ({}, {"anneal": "root"}),
    "gamma": ({}, {"gamma": 0.5}),
    "gae_lambda": ({}, {"gae_lambda": 0.5}),
}
"""For each setting what the run has before the change, and the change."""

WITHOUT = {"checkpoint_interval", "eval_interval"}
"""Settings of others: it stores every job that is finished, and evaluates at the end."""
NOT_ABOUT_LEARNING = settings.NOT_ABOUT_LEARNING - WITHOUT | {"executor", "workers"}


def _learned(train: Train, changes: dict[str, Any]) -> Trained:
    return settings.learned(train, BASE | changes)


def test_the_table_of_changes_names_every_setting() -> None:
    assert CHANGES.keys() | NOT_ABOUT_LEARNING == {field.name for field in dataclasses.fields(FCPConfig)}
    assert not CHANGES.keys() & NOT_ABOUT_LEARNING


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_what_is_learned(train: Train, name: str) -> None:
    base, change = CHANGES[name]
    before, after = (settings.learned_weights(train, BASE | base | more) for more in ({}, change))
    assert settings.differ(before, after)


@pytest.mark.parametrize("change", [{"log_interval": 3}, {"eval_games": 9}, {"eval_nash_conv": True}])
def test_looking_does_not_change_what_is_learned(train: Train, change: dict[str, Any]) -> None:
    _learned(train, {}).assert_same_weights(_learned(train, change))

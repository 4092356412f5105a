"""Every setting of NFSP that should change what is learned does, and no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from bargain_train.algorithms.nfsp import NFSPConfig

from tests.train import settings
from tests.train.conftest import Train, Trained


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "nfsp")


BASE: dict[str, Any] = {
    "game": "mini-b",
    "hidden_dims": (8,),
    "num_envs": 16,
    "rollout_steps": 8,
    "total_timesteps": 384,
    "eval_games": 1,
    "eval_nash_conv": False,
    "threads": 1,
    "eta": 0.4,
    "br_lr": 3e-2,
    "br_batch_size": 8,
    "avg_batch_size": 8,
    "br_train_freq": 16,
    "avg_train_freq": 16,
    "br_target_update_freq": 4,
}
FULL = {"avg_buffer_size": 20}
LONGER = {"total_timesteps": 768}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = settings.CHANGES | {
    "observation": ({}, {"observation": "standing"}),
    "total_timesteps": ({}, {"total_timesteps": 512}),
    "eta": ({}, {"eta": 0.6}),
    "epsilon_start": ({}, {"epsilon_start": 0.9}),
    "epsilon_end": ({}, {"epsilon_end": 0.9}),
    "epsilon_decay_steps": ({"epsilon_start": 0.9}, {"epsilon_decay_steps": 10_000}),
    "gamma": (LONGER, {"gamma": 0.5}),
    "br_lr": ({}, {"br_lr": 1e-3}),
    "br_buffer_size": ({}, {"br_buffer_size": 50}),
    "br_batch_size": ({}, {"br_batch_size": 9}),
    "br_train_freq": ({}, {"br_train_freq": 48}),
    "br_target_update_freq": (LONGER, {"br_target_update_freq": 7}),
    "avg_lr": ({}, {"avg_lr": 1e-2}),
    "avg_memory": (FULL, {"avg_memory": "window"}),
    "avg_buffer_size": ({}, FULL),
    "avg_batch_size": ({}, {"avg_batch_size": 9}),
    "avg_train_freq": ({}, {"avg_train_freq": 48}),
    "lr_final": ({}, {"lr_final": 1.0}),
    "rollout_steps": ({}, {"rollout_steps": 16}),
}
"""For each setting what the run has before the change, and the change."""


def _learned(train: Train, changes: dict[str, Any]) -> Trained:
    return settings.learned(train, BASE | changes)


def test_the_table_of_changes_names_every_setting() -> None:
    assert CHANGES.keys() | settings.NOT_ABOUT_LEARNING == {field.name for field in dataclasses.fields(NFSPConfig)}
    assert not CHANGES.keys() & settings.NOT_ABOUT_LEARNING


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_what_is_learned(train: Train, name: str) -> None:
    base, change = CHANGES[name]
    before, after = (settings.learned_weights(train, BASE | base | more) for more in ({}, change))
    assert settings.differ(before, after)


@pytest.mark.parametrize("change", [{"eval_interval": 128}, {"checkpoint_interval": 100}, {"log_interval": 3}])
def test_looking_does_not_change_what_is_learned(train: Train, change: dict[str, Any]) -> None:
    _learned(train, {}).assert_same_weights(_learned(train, change))

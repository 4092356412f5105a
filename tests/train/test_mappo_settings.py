"""Every setting of MAPPO that should change what is learned does, and no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from bargain_train.algorithms.mappo import MAPPOConfig

from tests.train import settings
from tests.train.conftest import Train, Trained


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path, "mappo")


BASE: dict[str, Any] = {
    "game": "mini-b",
    "hidden_dims": (8,),
    "critic_hidden_dims": (8,),
    "num_envs": 16,
    "rollout_steps": 8,
    "total_timesteps": 384,
    "eval_games": 1,
    "eval_nash_conv": False,
    "threads": 1,
    "lr": 3e-3,
    "minibatch_size": 32,
}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = settings.PPO_CHANGES | {
    "critic_hidden_dims": ({}, {"critic_hidden_dims": (8, 8)}),
    "centralized_critic": ({}, {"centralized_critic": False}),
    "value_norm": ({}, {"value_norm": False}),
    "share_actor": ({}, {"share_actor": True}),
}
"""For each setting what the run has before the change, and the change."""


def _learned(train: Train, changes: dict[str, Any]) -> Trained:
    return settings.learned(train, BASE | changes)


def test_the_table_of_changes_names_every_setting() -> None:
    assert CHANGES.keys() | settings.NOT_ABOUT_LEARNING == {field.name for field in dataclasses.fields(MAPPOConfig)}
    assert not CHANGES.keys() & settings.NOT_ABOUT_LEARNING


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_what_the_actors_learn(train: Train, name: str) -> None:
    base, change = CHANGES[name]
    before, after = (settings.learned_weights(train, BASE | base | more) for more in ({}, change))
    assert settings.differ(before, after)


@pytest.mark.parametrize("change", [{"eval_interval": 128}, {"checkpoint_interval": 100}, {"log_interval": 3}])
def test_looking_does_not_change_what_is_learned(train: Train, change: dict[str, Any]) -> None:
    _learned(train, {}).assert_same_weights(_learned(train, change))

"""Every setting of MAPPO that should change what is learned does, and no other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
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
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = settings.CHANGES | {
    "observation": ({}, {"observation": "history"}),
    "total_timesteps": ({}, {"total_timesteps": 512}),
    "lr": ({}, {"lr": 1e-3}),
    "lr_final": ({}, {"lr_final": 0.9}),
    "clip_eps": ({}, {"clip_eps": 1e-4}),
    "entropy_coef": ({}, {"entropy_coef": 0.3}),
    "entropy_coef_final": ({}, {"entropy_coef_final": 0.3}),
    "value_coef": ({}, {"value_coef": 2.0}),
    "max_grad_norm": ({}, {"max_grad_norm": 0.01}),
    "ppo_epochs": ({}, {"ppo_epochs": 2}),
    "minibatch_size": ({}, {"minibatch_size": 16}),
    "kl_rollout_coef": ({}, {"kl_rollout_coef": 0.5}),
    "kl_rollout_coef_final": ({"kl_rollout_coef": 0.1}, {"kl_rollout_coef_final": 0.9}),
    "kl_magnet_coef": ({}, {"kl_magnet_coef": 0.5}),
    "kl_magnet_coef_final": ({"kl_magnet_coef": 0.1}, {"kl_magnet_coef_final": 0.9}),
    "magnet_interval": ({"kl_magnet_coef": 0.5}, {"magnet_interval": 2}),
    "anneal": ({}, {"anneal": "root"}),
    "gamma": ({}, {"gamma": 0.5}),
    "gae_lambda": ({}, {"gae_lambda": 0.2}),
    "rollout_steps": ({}, {"rollout_steps": 16}),
    "critic_hidden_dims": ({}, {"critic_hidden_dims": (8, 8)}),
    "centralized_critic": ({}, {"centralized_critic": False}),
    "value_norm": ({}, {"value_norm": False}),
    "share_actor": ({}, {"share_actor": True}),
}
"""For each setting what the run has before the change, and the change."""

_KNOWN: dict[str, dict[str, torch.Tensor]] = {}


def _learned(train: Train, changes: dict[str, Any]) -> Trained:
    return settings.learned(train, BASE | changes)


def _weights(train: Train, changes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The actors' weights learned with these settings; a run that was made before is not made again."""
    key = str(sorted(changes.items()))
    if key not in _KNOWN:
        _KNOWN[key] = _learned(train, changes).weights
    return _KNOWN[key]


def test_the_table_of_changes_names_every_setting() -> None:
    assert CHANGES.keys() | settings.NOT_ABOUT_LEARNING == {field.name for field in dataclasses.fields(MAPPOConfig)}
    assert not CHANGES.keys() & settings.NOT_ABOUT_LEARNING


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_what_the_actors_learn(train: Train, name: str) -> None:
    base, change = CHANGES[name]
    assert settings.differ(_weights(train, base), _weights(train, base | change))


@pytest.mark.parametrize("change", [{"eval_interval": 128}, {"checkpoint_interval": 100}, {"log_interval": 3}])
def test_looking_does_not_change_what_is_learned(train: Train, change: dict[str, Any]) -> None:
    _learned(train, {}).assert_same_weights(_learned(train, change))

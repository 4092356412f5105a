"""What the tests of every algorithm's settings share: common changes, and what a run with given settings learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from bargain_eval.checkpoint import read_checkpoint
from bargain_train.algorithms import ALGORITHMS
from bargain_train.run import Run

if TYPE_CHECKING:
    from tests.train.conftest import Train, Trained

Settings = dict[str, Any]

TRANSFORMER: Settings = {"network": "transformer", "d_model": 8, "nhead": 2, "num_layers": 1}
SMALL: Settings = {"game": None, "quantities": (1, 1), "max_value": 2, "rounds": 2}
CHANGES: dict[str, tuple[Settings, Settings]] = {
    "game": ({}, {"game": "mini-a"}),
    "quantities": (SMALL, {"quantities": (2, 1)}),
    "min_value": (SMALL, {"min_value": 2}),
    "max_value": (SMALL, {"max_value": 9}),
    "rounds": (SMALL, {"rounds": 3}),
    "discount": (SMALL, {"discount": 0.5}),
    "outside_range": (SMALL, {"outside_range": (0.1, 0.5)}),
    "seed": ({}, {"seed": 1}),
    "network": ({}, TRANSFORMER),
    "hidden_dims": ({}, {"hidden_dims": (8, 8)}),
    "d_model": (TRANSFORMER, {"d_model": 16}),
    "nhead": (TRANSFORMER, {"nhead": 4}),
    "num_layers": (TRANSFORMER, {"num_layers": 2}),
    "num_envs": ({}, {"num_envs": 8}),
}
"""For each setting that all algorithms have, what the run has before the change, and the change."""

PPO_CHANGES: dict[str, tuple[Settings, Settings]] = CHANGES | {
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
}
"""The same, of all that learns by PPO on the decisions of one run."""

NOT_ABOUT_LEARNING = {
    *("device", "cuda_device", "threads", "resume", "results_dir", "checkpoint_dir", "checkpoint_interval"),
    *("eval_interval", "eval_games", "eval_nash_conv", "log_interval"),
    *("wandb", "wandb_project", "wandb_name", "wandb_tags", "tensorboard"),
}


def learned(train: Train, settings: Settings) -> Trained:
    """Trains the algorithm of `train` with these settings alone."""
    algorithm = ALGORITHMS[train.command]
    with Run(train.command, algorithm.config(**settings), console=False) as run:
        algorithm.train(run.config, run)
    return train.open(run.record.path)


_KNOWN: dict[str, tuple[dict[str, torch.Tensor], Any]] = {}


def learned_policy(train: Train, settings: Settings) -> tuple[dict[str, torch.Tensor], Any]:
    """The weights that are learned with these settings, and what each seat plays; a run is made once a session."""
    key = f"{train.command} {sorted(settings.items())}"
    if key not in _KNOWN:
        run = learned(train, settings)
        _KNOWN[key] = run.weights, read_checkpoint(run.folder / "policy.pt")["seats"]
    return _KNOWN[key]


def learned_weights(train: Train, settings: Settings) -> dict[str, torch.Tensor]:
    """The weights of `learned_policy`."""
    return learned_policy(train, settings)[0]


def differ(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    """Tells whether two policies differ in the shape or value of a weight."""
    same_shapes = before.keys() == after.keys() and all(before[key].shape == after[key].shape for key in before)
    return not same_shapes or any(not torch.equal(before[key], after[key]) for key in before)

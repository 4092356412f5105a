"""Training on a GPU: the same rollouts over the CUDA engine's tensors, and which device a run chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bargain_env import GAMES, torchrl_env
from bargain_eval import RandomPolicy
from bargain_eval.mixture import Mixture
from bargain_train import run as run_module
from bargain_train.algorithms import ALGORITHMS
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.collect import Rollouts
from bargain_train.config import MappoOptions
from bargain_train.critics import build_actor_critics
from bargain_train.networks import build_network
from bargain_train.run import Run

SPEC = GAMES["mini-c"]


def _rollouts(opponent: str) -> Rollouts:
    torch.manual_seed(0)
    if opponent == "critics that see both hands":
        _, (first, second) = build_actor_critics({"network": "mlp", "hidden_dims": [16]}, SPEC, MappoOptions())
        return Rollouts(first.spec_of_game, (first, second), num_envs=30, length=6, seed=5)
    network = build_network({"network": "mlp", "hidden_dims": [16]}, SPEC)
    random = RandomPolicy(SPEC)
    others: dict[str, Any] = {"self": network, "policy": random, "memory": Mixture([random, random], [0.5, 0.5], SPEC)}
    return Rollouts(SPEC, (network, others[opponent]), num_envs=30, length=6, seed=5)


@pytest.mark.parametrize("opponent", ["self", "policy", "memory", "critics that see both hands"])
def test_rollouts_over_the_cuda_engine_equal_those_over_the_cpu_engine(
    opponent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cuda.core")
    from host_launcher import host_engine

    def make(spec: Any, num_envs: int, device: str, seed: int, *, first_game: int, threads: int, views: bool) -> Any:
        return host_engine(spec, num_envs, seed=seed, first_game=first_game, views=views)

    ours = _rollouts(opponent)
    with monkeypatch.context() as patch:
        patch.setattr(torchrl_env, "make_engine", make)
        theirs = _rollouts(opponent)
    for round_ in range(4):
        mine, other = ours.collect(), theirs.collect()
        for key in mine.rows.keys(True, True):
            assert torch.equal(mine.rows[key], other.rows[key]), f"{key} of rollout {round_}"
        assert torch.equal(mine.head_value, other.head_value)
        if round_ == 1:
            theirs.load_state_dict(theirs.state_dict())
            ours.load_state_dict(ours.state_dict())


@pytest.mark.parametrize(
    ("settings", "usable", "expected"),
    [
        ({"device": "auto"}, False, "cpu"),
        ({"device": "auto", "cuda_device": 1}, True, "cuda:1"),
        ({"device": "cuda"}, True, "cuda:0"),
        ({"device": "cpu", "cuda_device": 1}, True, "cpu"),
    ],
)
def test_a_run_trains_where_it_is_told(
    settings: dict[str, Any], usable: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(device: str) -> str:
        return {"cpu": "cpu", "auto": "cuda:0" if usable else "cpu", "cuda": "cuda:0"}.get(device, device)

    monkeypatch.setattr(run_module, "resolve_device", resolve)
    assert Run("ppo", PPOConfig(**settings), console=False).device == expected


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["ppo", "mappo"])
def test_ppo_trains_on_a_gpu(tmp_path: Path, name: str) -> None:
    settings: dict[str, Any] = {"game": "mini-b", "num_envs": 64, "rollout_steps": 16, "total_timesteps": 4096}
    settings |= {"device": "cuda", "results_dir": str(tmp_path), "checkpoint_dir": str(tmp_path / "c")}
    settings |= {"checkpoint_interval": 1024, "eval_interval": 2048, "eval_games": 200}
    config = ALGORITHMS[name].config(**settings)
    with Run(name, config, console=False) as run:
        assert run.device == "cuda:0"
        ALGORITHMS[name].train(config, run)
    assert run.evaluation is not None
    assert 0 < run.evaluation["pool_payoff"] < 1

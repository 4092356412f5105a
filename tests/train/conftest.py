"""Tiny training runs for the tests of this folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from bargain_eval.checkpoint import read_checkpoint
from bargain_train.cli import main

COMMON = ["--game", "mini-b", "--hidden-dims", "16", "--num-envs", "32", "--eval-games", "20", "--threads", "1"]
TINY = {
    "ppo": [*COMMON, "--rollout-steps", "8", "--total-timesteps", "1024"],
    "mappo": [*COMMON, "--critic-hidden-dims", "16", "--rollout-steps", "8", "--total-timesteps", "1024"],
    "sampled-cfr": [*COMMON, "--iterations", "4", "--advantage-train-steps", "4", "--advantage-batch-size", "32"],
    "psro": [*COMMON, "--psro-iterations", "3", "--br-training-steps", "512", "--num-eval-games", "100"],
    "fcp": [
        *COMMON,
        "--rollout-steps",
        "8",
        "--total-timesteps",
        "4096",
        "--population-size",
        "2",
        "--snapshot-interval",
        "300",
    ],
}
"""A few updates of each command; four of PPO, whose flags other commands share, of 256 steps. Later flags win."""


class Trained(NamedTuple):
    """A stored run and the exit code of its command."""

    code: int
    folder: Path

    @property
    def run_id(self) -> str:
        return f"{self.folder.parent.name}_{self.folder.name.removeprefix('run_')}"

    @property
    def metadata(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "metadata.json").read_text()))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The metric lines without what the clock wrote."""
        clock = ("timestamp", "steps_per_second")
        lines = map(json.loads, (self.folder / "metrics.jsonl").read_text().splitlines())
        return [{key: value for key, value in line.items() if key not in clock} for line in lines]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """Every tensor of the final policy."""
        networks = read_checkpoint(self.folder / "policy.pt")["networks"]
        return {
            f"{index}.{name}": tensor
            for index, network in enumerate(networks)
            for name, tensor in network["policy_state_dict"].items()
        }

    def assert_same_weights(self, other: Trained) -> None:
        first, second = self.weights, other.weights
        assert first.keys() == second.keys()
        for name, tensor in first.items():
            assert torch.equal(tensor, second[name]), name


class Train:
    """Runs a training command with tiny settings and the given flags, in `root`."""

    def __init__(self, root: Path, command: str = "ppo") -> None:
        self.root, self.command = root, command
        self.flags = TINY.get(command, TINY["ppo"])

    def __call__(self, *flags: str) -> Trained:
        before = set(self.root.glob("results/*/run_*"))
        code = main([self.command, *self.flags, *flags])
        (folder,) = set(self.root.glob("results/*/run_*")) - before
        return Trained(code, folder)

    def open(self, folder: Path, code: int = 0) -> Trained:
        return Trained(code, folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    monkeypatch.chdir(tmp_path)
    return Train(tmp_path)

"""What the tests of stored runs share."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from bargain_eval.checkpoint import make_checkpoint
from bargain_eval.results import ResultsManager

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def checkpoint(step: int = 0) -> dict[str, Any]:
    weights = {"weight": torch.full((2, 3), float(step))}
    return make_checkpoint(
        algorithm="ppo",
        spec={"max_rounds": 3},
        networks=[{"config": {"kind": "mlp"}, "policy_state_dict": weights}],
        seats=[[(0, 1.0)], [(0, 1.0)]],
        step=step,
    )


def completed(
    manager: ResultsManager,
    payoff: float | None,
    algorithm: str = "ppo",
    seat: int | None = None,
    **hyperparameters: Any,
) -> str:
    run = manager.create_run(algorithm, 1, hyperparameters)
    run.set_final_metrics({"pool_payoff": payoff, "total": 1.0 if payoff is None else 1.0 - payoff, "seat": seat})
    run.complete()
    return run.run_id


def strict_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def index_on_disk(root: Path) -> dict[str, Any]:
    runs = strict_json(root / "index.json")["runs"]
    assert isinstance(runs, dict)
    return runs


def ids(runs: list[dict[str, Any]]) -> list[str]:
    return [run["run_id"] for run in runs]

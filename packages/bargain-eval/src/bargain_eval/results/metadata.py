"""The metadata of a run: its fields, and what of the hyperparameters may be stored."""

import os
import re
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bargain_eval.files import plain, read_json
from bargain_eval.results.layout import METADATA, Metadata, run_id
from bargain_eval.versions import software_versions

Status = Literal["running", "completed", "failed", "interrupted", "abandoned"]

_SECRET = re.compile(
    r"api[_-]?key|(access|private)[_-]?key|secret|passw(or)?d|credential|(^|[_-])token$", re.IGNORECASE
)


def new_metadata(
    *,
    algorithm: str,
    seed: int,
    hyperparameters: Mapping[str, Any],
    environment: str,
    env_config: Mapping[str, Any] | None,
    total_timesteps: int | None,
    tags: Iterable[str],
    device: str,
    time: datetime,
) -> Metadata:
    """The metadata, but for the run id, of a run that starts now in this process.

    `timestamp` is UTC in ISO form, durations are in seconds.

    Raises:
        TypeError: a hyperparameter that JSON cannot hold.
    """
    return {
        "algorithm": algorithm,
        "environment": environment,
        "timestamp": time.isoformat(timespec="microseconds"),
        "seed": seed,
        "device": device,
        "hyperparameters": plain(without_secrets(hyperparameters)),
        "env_config": plain(without_secrets(env_config or {})),
        "total_timesteps": total_timesteps,
        "actual_timesteps": 0,
        "training_time_seconds": 0.0,
        "num_updates": 0,
        "final_metrics": {},
        "best_metrics": {},
        "tags": list(tags),
        **started_here(),
    }


def started_here() -> Metadata:
    """The fields that say that this process is now running a run."""
    return {
        "status": "running",
        "error_message": None,
        "ended": None,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "versions": software_versions(),
    }


def ended(status: Status, error_message: str | None = None) -> Metadata:
    """The fields that say that a run has ended."""
    time = datetime.now(UTC).isoformat(timespec="microseconds")
    return {"status": status, "error_message": error_message, "ended": time}


def read_metadata(folder: Path) -> Metadata:
    """The metadata of the run in `folder`, with its id as its place says it and `path`, absolute.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: metadata.json is damaged.
    """
    stored = read_json(folder / METADATA)
    if not isinstance(stored, dict):
        raise ValueError(f"{folder / METADATA} is damaged: it holds no JSON object")
    return {**stored, "run_id": run_id(folder), "algorithm": folder.parent.name, "path": str(folder.resolve())}


def without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, nested mappings included, with `"***"` for whatever is named like a key, token or password."""
    return {str(name): _shown(str(name), value) for name, value in values.items()}


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_secrets(value)
    return "***" if _SECRET.search(name) and value is not None else value

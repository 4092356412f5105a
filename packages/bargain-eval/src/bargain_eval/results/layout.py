"""Where a run lies: run ids, folder names, file names and locks.

The run `ppo_20240115_143022_seed42` is the folder `ppo/run_20240115_143022_seed42` of the results folder, so either
name follows from the other.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

Metadata = dict[str, Any]
"""What metadata.json holds: the fields of `bargain_eval.results.metadata.new_metadata`."""

METADATA = "metadata.json"
CONFIG = "config.json"
METRICS_LINES = "metrics.jsonl"
METRICS = "metrics.json"
FINAL_EVAL = "final_eval.json"
POLICY = "policy.pt"
CHECKPOINTS = "checkpoints"

_LABEL = r"\d{8}_\d{6}_seed\d+(?:_\d+)?"
_ALGORITHM = re.compile(r"[A-Za-z0-9]\w*")
_FOLDER = re.compile(rf"run_({_LABEL})")
_RUN_ID = re.compile(rf"([A-Za-z0-9]\w*?)_({_LABEL})")
_STEP_FILE = re.compile(r"step_(\d+)\.pt")


def algorithm_name(algorithm: str) -> str:
    """`algorithm` as records spell it: the command `sampled-cfr` is the algorithm `sampled_cfr`.

    Raises:
        ValueError: the name cannot be a folder.
    """
    name = algorithm.replace("-", "_")
    if not _ALGORITHM.fullmatch(name):
        raise ValueError(f"{algorithm!r} is no algorithm name: use letters, digits, hyphens and underscores")
    return name


def make_run_folder(root: Path, algorithm: str, seed: int, time: datetime) -> Path:
    """Makes and returns a new folder for a run; of several processes asking at once, each gets its own.

    Raises:
        ValueError: no folder can be made in `root`.
    """
    parent = root / algorithm
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"no run can be stored in {root}: {error.strerror}.") from error
    label = f"run_{time:%Y%m%d_%H%M%S}_seed{seed}"
    folder, attempt = parent / label, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            attempt += 1
            folder = parent / f"{label}_{attempt}"
        else:
            return folder


def run_id(folder: Path) -> str:
    """The id of the run in `folder`."""
    return f"{folder.parent.name}_{folder.name.removeprefix('run_')}"


def run_folder(root: Path, identifier: str) -> Path:
    """The folder of the run `identifier`.

    Raises:
        ValueError: there is no such run.
    """
    if (match := _RUN_ID.fullmatch(identifier)) is not None:
        folder = root / match[1] / f"run_{match[2]}"
        if (folder / METADATA).is_file():
            return folder
    raise ValueError(f"there is no run {identifier!r} in {root}")


def run_folders(root: Path) -> Iterator[Path]:
    """All run folders below `root`, in no particular order."""
    if not root.is_dir():
        return
    for parent in root.iterdir():
        if _ALGORITHM.fullmatch(parent.name) and parent.is_dir():
            yield from (folder for folder in parent.iterdir() if _FOLDER.fullmatch(folder.name))


def step_files(folder: Path) -> dict[int, Path]:
    """The step checkpoints of the run in `folder`, by step, in rising order."""
    matches = ((_STEP_FILE.fullmatch(path.name), path) for path in (folder / CHECKPOINTS).glob("step_*.pt"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def stored_policies(folder: Path) -> list[str]:
    """The names of the policies that a run holds: `policy`, `best`, `latest`, then the `step_<k>` in rising order."""
    files = {"policy": folder / POLICY, **{name: folder / CHECKPOINTS / f"{name}.pt" for name in ("best", "latest")}}
    named = [name for name, path in files.items() if path.is_file()]
    return [*named, *(path.stem for path in step_files(folder).values())]


def policy_file(folder: Path, checkpoint: str | None = None) -> Path:
    """The stored policy of a run: policy.pt, else best.pt, else latest.pt; or the one named `best`, `step_128`, ...

    Raises:
        ValueError: there is none, or none of that name.
    """
    stored = stored_policies(folder)
    if checkpoint is None:
        if not stored:
            raise ValueError(f"run {run_id(folder)} has no stored policy yet")
        checkpoint = stored[0]
    if checkpoint not in stored:
        raise ValueError(f"run {run_id(folder)} has no checkpoint {checkpoint!r}, only {', '.join(stored) or 'none'}")
    return folder / POLICY if checkpoint == "policy" else folder / CHECKPOINTS / f"{checkpoint}.pt"


def run_lock(folder: Path) -> FileLock:
    """The lock that the one writer of a run holds as long as it lives.

    The operating system frees it however the process ends, and unlike a process id it is never taken over by a
    stranger, so "the lock is free" is what tells a dead run from a living one.
    """
    return FileLock(folder / "run.lock", timeout=0, thread_local=False)

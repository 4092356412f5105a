"""Runs whose process is gone: told by their free lock, marked, removed."""

import shutil
import socket
from pathlib import Path

from filelock import Timeout

from bargain_eval.files import remove_temporary_files, write_json
from bargain_eval.results.layout import CHECKPOINTS, METADATA, METRICS, Metadata, run_lock
from bargain_eval.results.metadata import ended, read_metadata
from bargain_eval.results.metrics import read_metrics


def abandon_if_dead(folder: Path) -> bool:
    """Marks the run in `folder` abandoned if it reads running though its writer, on this host, is gone.

    Returns:
        Whether it was marked; a run of another user or host, or one that was just removed, is left alone.
    """
    try:
        if not _runs_here(read_metadata(folder)):
            return False
        with run_lock(folder):
            metadata = read_metadata(folder)
            if not _runs_here(metadata):
                return False  # its writer closed it in between
            for written in (folder, folder / CHECKPOINTS):
                remove_temporary_files(written)
            del metadata["path"]
            write_json(folder / METRICS, read_metrics(folder))
            write_json(folder / METADATA, metadata | ended("abandoned", "the process ended without closing the run"))
            return True
    except (Timeout, PermissionError, FileNotFoundError):
        return False


def remove_if_failed(folder: Path) -> bool:
    """Removes the run in `folder` if it failed or was abandoned, and returns whether it did."""
    try:
        with run_lock(folder):
            if read_metadata(folder)["status"] not in {"failed", "abandoned"}:
                return False
            shutil.rmtree(folder)
            return True
    except (Timeout, PermissionError, FileNotFoundError):
        return False


def _runs_here(metadata: Metadata) -> bool:
    return metadata.get("status") == "running" and metadata.get("host") == socket.gethostname()

"""index.json: a cache of what the run folders say, under a lock, with paths relative to the results folder.

An entry is valid as long as its `stamp` (modification time, size and inode of metadata.json) is that of the file. So an
index that is missing, damaged, moved, or written by a process that knew less is put right by the next reader, and what
a reader is told never depends on it.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bargain_eval.files import read_json, remove_temporary_files, write_json
from bargain_eval.results.layout import METADATA, Metadata, run_folders, run_id
from bargain_eval.results.metadata import read_metadata

INDEX = "index.json"
LOCK_SECONDS = 30.0

_COPIED_FIELDS = ("algorithm", "environment", "seed", "timestamp", "status", "tags")


def refresh_index(root: Path, *, rebuild: bool = False) -> dict[str, Metadata]:
    """Brings index.json in step with the run folders and returns its entries by run id, newest run first.

    Costs one `stat` per run and one small read per run that changed. `rebuild` reads every run anew. A folder that
    cannot be written, or whose lock stays taken for `LOCK_SECONDS`, is read all the same and its index left alone.
    """
    if not root.is_dir():
        return {}
    if not os.access(root, os.W_OK):
        return _scan(root, _stored_entries(root))
    try:
        with FileLock(root / "index.lock", timeout=LOCK_SECONDS):
            return _refresh_locked(root, rebuild=rebuild)
    except Timeout:
        return _scan(root, _stored_entries(root))


def _refresh_locked(root: Path, *, rebuild: bool) -> dict[str, Metadata]:
    stored = _read_index(root)
    entries = _scan(root, {} if rebuild else _stored_entries(root))
    if rebuild or entries != stored.get("runs"):
        remove_temporary_files(root)
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        index = {"format_version": 1, "created": stored.get("created", now), "updated": now, "runs": entries}
        write_json(root / INDEX, index)
    return entries


def _read_index(root: Path) -> dict[str, Any]:
    try:
        stored = read_json(root / INDEX)
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _stored_entries(root: Path) -> dict[str, Metadata]:
    runs = _read_index(root).get("runs")
    return runs if isinstance(runs, dict) else {}


def _scan(root: Path, known: dict[str, Metadata]) -> dict[str, Metadata]:
    found = {}
    for folder in run_folders(root):
        entry = _entry(root, folder, known.get(run_id(folder)))
        if entry is not None:
            found[run_id(folder)] = entry
    return dict(sorted(found.items(), key=lambda item: (str(item[1]["timestamp"]), item[0]), reverse=True))


def _entry(root: Path, folder: Path, known: object) -> Metadata | None:
    """The index entry of a run; None for a folder that is only just being made, or damaged."""
    try:
        status = (folder / METADATA).stat()
        stamp = [status.st_mtime_ns, status.st_size, status.st_ino]
        if isinstance(known, dict) and known.get("stamp") == stamp and known.keys() >= set(_COPIED_FIELDS):
            return known
        metadata = read_metadata(folder)
    except (OSError, ValueError):
        return None
    copied = {name: metadata.get(name) for name in _COPIED_FIELDS}
    return {**copied, "path": folder.relative_to(root).as_posix(), "stamp": stamp}

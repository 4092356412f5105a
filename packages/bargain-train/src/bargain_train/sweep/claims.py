"""Who works on what, among any number of processes that share a folder."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import uuid4

from bargain_eval.files import replace_file
from filelock import FileLock, Timeout


class Claims:
    """A lock for each piece of work, which its worker holds as long as it lives: a free lock tells that it has ended.

    Args:
        folder: Where the locks lie; it is made.

    Raises:
        ValueError: If the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"the folder {folder.parent} cannot be made: {error.strerror}.") from error
        if not os.access(folder, os.W_OK):
            raise ValueError(f"the folder {folder.parent} cannot be written to; choose another --output-dir.")
        self._folder = folder

    def alone(self) -> AbstractContextManager[object]:
        """Returns a context in which no other process of the folder is in one; it waits for its turn."""
        return FileLock(self._folder / "alone.lock", thread_local=False)

    def take(self, name: str) -> FileLock | None:
        """Returns the lock of a piece of work, taken; None if another worker holds it."""
        lock = FileLock(self._folder / f"{name}.lock", timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        return lock

    def folder_id(self) -> str:
        """Returns a name that the folder has, and no other; to be called in `alone`."""
        path = self._folder / "id"
        if not path.is_file():
            with replace_file(path) as file:
                file.write(uuid4().hex.encode())
        return path.read_text()

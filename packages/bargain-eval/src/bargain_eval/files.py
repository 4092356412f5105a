"""Files that are whole or absent: atomic writing, and plain JSON values.

A reader never sees half a file and a killed writer never damages the old one: everything is written under a temporary
name in the same folder, flushed to the disk and renamed. The temporary names end in `.tmp`.
"""

import json
import math
import numbers
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a binary file that becomes `path`, whole, when the block ends without an exception.

    Costs two fsyncs, one of the file and one of its folder.
    """
    temporary = _temporary_name(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def replace_with_copy(source: Path, path: Path) -> None:
    """Makes `path` a second name of the file `source`, or a copy where the file system has no hard links.

    Only for files that are always replaced and never changed in place.
    """
    temporary = _temporary_name(path)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        # A rename onto another name of the same file succeeds and leaves both names.
        temporary.unlink(missing_ok=True)


def remove_temporary_files(folder: Path) -> None:
    """Removes what killed writers left in `folder`; the caller makes sure that nobody is writing there."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Writes `value`, made plain by `plain`, as indented JSON to `path`, atomically."""
    with replace_file(path) as file:
        file.write((dump_json(value, indent=2) + "\n").encode())


def read_json(path: Path) -> Any:
    """The JSON value stored in `path`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: it is not valid JSON ({error})") from error


def dump_json(value: object, indent: int | None = None) -> str:
    """`value` as JSON text that every parser accepts: made plain, without NaN or infinity."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value: object) -> Any:
    """`value` in JSON's own types.

    Scalars and arrays of numpy and torch become numbers and nested lists, mappings get string keys, sets are sorted,
    paths become strings, and NaN and infinity become None.

    Raises:
        TypeError: the value, or one inside it, has no such form.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | os.PathLike):
        return str(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [plain(item) for item in sorted(value)]
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} cannot be stored as JSON: {value!r}")


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid4().hex}.tmp")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened, and the rename is on its own
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""metrics.jsonl: one JSON object a line, written as the run goes."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bargain_eval.files import dump_json, replace_file
from bargain_eval.results.layout import METRICS_LINES

_OWN_FIELDS = ("step", "timestamp")


def append_metrics(folder: Path, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends the line `{"step", "timestamp", **metrics}` and flushes it."""
    if reserved := metrics.keys() & set(_OWN_FIELDS):
        raise ValueError(
            f"metrics cannot be named {' or '.join(sorted(reserved))}: every line has that field of its own"
        )
    line = dump_json({"step": step, "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), **metrics})
    with (folder / METRICS_LINES).open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """All lines of metrics.jsonl, oldest first; a line that a crash tore is left out."""
    path = folder / METRICS_LINES
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [row for row in map(_parse, lines) if row is not None]


def rewrite_metrics(folder: Path, last_step: int | None) -> None:
    """Keeps the whole lines of metrics.jsonl up to `last_step`; None keeps those of every step."""
    rows = [row for row in read_metrics(folder) if last_step is None or row["step"] <= last_step]
    with replace_file(folder / METRICS_LINES) as file:
        file.writelines((dump_json(row) + "\n").encode() for row in rows)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None

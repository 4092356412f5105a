"""What a page is made of: tables, figures and sections, all plain data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
        text: What stands there.
        key: What the column is sorted by: a number, or None to sort by `text`.
    """

    text: str
    key: float | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that the reader can sort.

    Attributes:
        headers: Names of the columns.
        rows: One tuple of cells for each row, as long as `headers`.
        title: A line above it, if any.
        note: A line below it, if any.
    """

    headers: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    title: str = ""
    note: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """For each column, whether it is sorted by numbers."""
        return tuple(any(row[k].key is not None for row in self.rows) for k in range(len(self.headers)))


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture with its words and its numbers.

    Attributes:
        name: Its anchor, unique on the page.
        title: Its heading; empty where that of the section says it.
        caption: What it shows and how to read it.
        alt: What stands in for the picture where it cannot be seen.
        svg: The picture, SVG markup that `svg.render` made.
        table: The numbers behind it.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    table: Table


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page, in reading order: text, tables, figures, more tables, and games to read.

    Attributes:
        name: Its anchor, unique on the page.
        title: Its heading.
        text: Paragraphs.
        tables: Tables before the figures.
        figures: The figures.
        more_tables: Tables after the figures.
        games: What `transcripts.sample_games` returned, or None.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    more_tables: tuple[Table, ...] = ()
    games: dict[str, Any] | None = None


def filled(table: Table) -> Table:
    """Returns the table without the columns that are empty in every row."""
    kept = [k for k in range(len(table.headers)) if any(row[k].text for row in table.rows)]
    rows = [tuple(row[k] for k in kept) for row in table.rows]
    return dataclasses.replace(table, headers=tuple(table.headers[k] for k in kept), rows=rows)


def text(value: object) -> Cell:
    """Returns a cell of words; None is an empty cell."""
    return Cell("" if value is None else str(value))


def number(value: float | None, error: float | None = None, digits: int = 4) -> Cell:
    """Returns the cell `value ± error`, sorted by value; what is missing or not finite is left out."""
    if value is None or not math.isfinite(value):
        return Cell("")
    shown = f"{value:.{digits}f}"
    if float(shown) == 0.0:
        shown = shown.removeprefix("-")
    if error is not None and math.isfinite(error):
        shown += f" ± {error:.{digits}f}"
    return Cell(shown, float(value))


def count(value: int | None) -> Cell:
    """Returns a whole number with thin thousands, sorted by value."""
    return Cell("") if value is None else Cell(f"{value:,}", float(value))


def seconds(value: float | None) -> Cell:
    """Returns a duration given in seconds, e.g. `2 min 05 s`, sorted by value."""
    if value is None:
        return Cell("")
    whole = round(value)
    if whole < 60:
        return Cell(f"{value:.1f} s", value)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return Cell(f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {left:02d} s", value)


def short(name: str, length: int = 30) -> str:
    """Returns `name`, with an ellipsis in its middle if it is longer than `length` characters."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[len(name) - (length - 1 - head) :]}"

"""How a cross-play is written as it goes: finished cells, the table of what is known, and the two files at the end.

Legend: `n` policies, `N` games of a cell.
"""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from bargain_env.spec import GameSpec
from numpy.lib import format as npy
from numpy.typing import NDArray

from bargain_eval.crossplay.entries import pair_key
from bargain_eval.crossplay.matrix import (
    CELL_ARRAYS,
    DEAL_ARRAYS,
    calls_path,
    cells_folder,
    game_rows,
    read_arrays,
    rows_path,
)
from bargain_eval.files import remove_temporary_files, replace_file, write_json
from bargain_eval.game_rows import GameRows

Cell = tuple[int, int]

_SECONDS_BETWEEN_WRITES = 1.0
_LARGEST_SHARE = 0.05  # of the time goes into writing X.json


class Writer:
    """Keeps X.json and the folder X.cells of a cross-play that is being played, and ends with X.json and X.rows.npz.

    Args:
        path: X.json; its folder is made.
        header: The first entries of X.json, in JSON's own types.
        files: For each cell the names of the files of its pieces in X.cells, in order.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], files: Mapping[Cell, Sequence[str]]) -> None:
        self._path, self._header, self._files = path, header, files
        self._names: list[str] = header["policy_names"]
        self._spec = GameSpec.from_dict(header["game"])
        size = len(self._names)
        self._cells: list[Cell] = [(i, j) for i in range(size) for j in range(size)]
        self._mean, self._error = np.full((2, size, size, 2), np.nan)
        self._count = np.zeros((size, size), dtype=np.int64)
        self._details: dict[str, dict[str, Any]] = {}
        self._deals: list[NDArray[Any]] = []
        self._next_write = 0.0
        self._folder = cells_folder(path)
        self._folder.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(self._folder)
        for own in (path, rows_path(path), calls_path(path)):
            for leftover in path.parent.glob(f".{own.name}.*.tmp"):
                leftover.unlink()

    def has_piece(self, name: str) -> bool:
        """Tells whether a piece is stored; a damaged file is removed."""
        file = self._folder / name
        try:
            read_arrays(file)
        except ValueError:
            file.unlink(missing_ok=True)
            return False
        return True

    def store_piece(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes the games of a piece."""
        with replace_file(self._folder / name) as file:
            np.savez(file, **cast("dict[str, Any]", arrays))

    def add_cell(self, cell: Cell) -> None:
        """Counts a cell whose pieces are all stored, and writes X.json if the last time was long enough ago.

        Raises:
            RuntimeError: If it was played on other deals than the cells before it.
        """
        parts = [game_rows(self._spec, read_arrays(self._folder / name)) for name in self._files[cell]]
        rows = GameRows.concatenate(parts)
        deals = [rows.game, rows.values, rows.outside]
        self._deals = self._deals or deals
        if not all(map(np.array_equal, deals, self._deals)):
            raise RuntimeError(f"{self._key(cell)} was played on other deals than the cells before it.")
        details = _details(rows)
        self._details[self._key(cell)] = details
        self._mean[cell] = details["payoff_0"], details["payoff_1"]
        self._error[cell] = details["payoff_0_se"], details["payoff_1_se"]
        self._count[cell] = len(rows)
        if time.monotonic() >= self._next_write:
            self.write_table()

    def write_table(self, llm: Mapping[str, Any] | None = None) -> None:
        """Writes X.json as far as it goes, with what is known of language models."""
        start = time.monotonic()
        numbers = range(len(self._names))
        files = [[list(self._files[i, j]) for j in numbers] for i in numbers]
        self._write(llm, complete=False, rows=self._folder.name, cells=files)
        self._next_write = start + max(_SECONDS_BETWEEN_WRITES, (time.monotonic() - start) / _LARGEST_SHARE)

    def finish(self, llm: Mapping[str, Any] | None = None) -> None:
        """Writes X.rows.npz, then X.json as complete, with what is known of language models, and removes X.cells."""
        rows = rows_path(self._path)
        with replace_file(rows) as file:
            self._merge(file)
        self._write(llm, complete=True, rows=rows.name)
        shutil.rmtree(self._folder)

    def _write(self, llm: Mapping[str, Any] | None, complete: bool, rows: str, **more: Any) -> None:
        content = {
            **self._header,
            "complete": complete,
            "payoff_matrix": self._mean,
            "payoff_se": self._error,
            "counts": self._count,
            "detailed_results": {
                key: self._details[key] for key in map(self._key, self._cells) if key in self._details
            },
            "rows": rows,
            **({} if llm is None else {"llm": llm}),
        }
        write_json(self._path, content | more)

    def _key(self, cell: Cell) -> str:
        return pair_key(self._names[cell[0]], self._names[cell[1]])

    def _merge(self, file: BinaryIO) -> None:
        """Writes the games of all cells as one archive, array by array, with one piece in memory at a time."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in DEAL_ARRAYS:
                self._write_array(archive, name, self._cells[:1], ())
            for name in CELL_ARRAYS:
                self._write_array(archive, name, self._cells, self._count.shape)

    def _write_array(self, archive: zipfile.ZipFile, name: str, cells: Sequence[Cell], shape: tuple[int, ...]) -> None:
        files = [self._folder / part for cell in cells for part in self._files[cell]]
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            for index, file in enumerate(files):
                with np.load(file, allow_pickle=False) as arrays:
                    array = np.ascontiguousarray(arrays[name])
                if index == 0:
                    games = len(self._deals[0])
                    layout = npy.header_data_from_array_1_0(array)
                    npy.write_array_header_1_0(member, layout | {"shape": (*shape, games, *array.shape[1:])})
                member.write(array.data)


def _details(rows: GameRows) -> dict[str, Any]:
    """Returns the entry of `detailed_results` for the games of one cell."""
    summary = rows.summary()
    several = len(rows) > 1
    stds = [float(rows.payoff[:, seat].std(ddof=1)) if several else None for seat in range(2)]
    return {
        "mean_reward_p0": summary["payoff_0"],
        "mean_reward_p1": summary["payoff_1"],
        "std_reward_p0": stds[0],
        "std_reward_p1": stds[1],
        "mean_welfare": summary["total"],
        **summary,
    }

"""The files of a cross-play: the table in X.json, and its games in X.rows.npz.

| array of X.rows.npz | shape | what |
|---|---|---|
| `game` | `[N]` int64 | indices of the games |
| `values`, `outside` | `[N, 2, I]`, `[N, 2]` int32 | the deals, the same in every cell, in points |
| `payoff` | `[n, n, N, 2]` float64 | payoff / own total of both seats |
| `outcome`, `offer`, `decisions` | `[n, n, N]` int8, int16, int8 | as in `GameRows` |
| `illegal` | `[n, n, N, 2]` int16 | as in `GameRows` |
| `actions` | `[n, n, N, D]` int16 | as in `GameRows` |

While a cross-play is being played its games lie in the folder X.cells, and X.json says so. With language models there
is a third file, X.calls.jsonl, see `model_calls`.

Legend: `n` policies, `N` games of a cell, `I` item types, `D` = `max_turns` decisions.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.arena import game_points
from bargain_eval.files import read_json
from bargain_eval.game_rows import GameRows
from bargain_eval.metagame.payoffs import PayoffTable

FORMAT = "bargain-crossplay"
FORMAT_VERSION = 1

DEAL_ARRAYS = ("game", "values", "outside")
CELL_ARRAYS = ("payoff", "outcome", "offer", "decisions", "illegal", "actions")

Arrays = Mapping[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Crossplay:
    """A payoff table with the games behind it; row = the policy in seat 0, column = the policy in seat 1.

    Attributes:
        path: X.json.
        spec: The game.
        seed: Key of the deals and of the policies' randomness.
        num_games: Games `N` of each cell.
        complete: False while cells are missing.
        policies: For each policy `name`, `policy` (its policy string), `group` and `fingerprint`.
        table: Mean payoffs with standard errors and counts; NaN and 0 where a cell is missing.
        rows: X.rows.npz, or X.cells while cells are missing.
        cell_files: `[n][n]` names of the files of each cell in X.cells, None once the games lie in X.rows.npz.
        llm: What the language models were asked and answered, see `write_calls`; None if there is nothing.
    """

    path: Path
    spec: GameSpec
    seed: int
    num_games: int
    complete: bool
    policies: tuple[dict[str, Any], ...]
    table: PayoffTable
    rows: Path
    cell_files: list[list[list[str]]] | None = None
    llm: dict[str, Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The policies' names, distinct, in the order of rows and columns."""
        return self.table.rows

    def cell(self, i: int, j: int) -> GameRows:
        """Returns the games of policy `i` in seat 0 against policy `j` in seat 1.

        The first call reads the games of all cells (about 36 bytes a game of the standard game).

        Raises:
            ValueError: If the cell has not been played, or the games' file does not fit the table.
        """
        if self.table.count[i, j] == 0:
            raise ValueError(f"{self.names[i]} against {self.names[j]} has not been played yet.")
        if self.cell_files is not None:
            parts = [game_rows(self.spec, read_arrays(self.rows / name)) for name in self.cell_files[i][j]]
            return GameRows.concatenate(parts)
        deals = {name: self._arrays[name] for name in DEAL_ARRAYS}
        return game_rows(self.spec, deals | {name: self._arrays[name][i, j] for name in CELL_ARRAYS})

    def averages(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Returns what each policy earns against all policies: means and standard errors, `[n]` each, by seat.

        The keys are `seat_0`, `seat_1` and `both_seats`. The opponents count alike, the policy itself among them, and
        are taken as they are: the errors are those of the deals, which all cells share. NaN for a single game.

        Raises:
            ValueError: If cells are missing.
        """
        self.table.complete()
        size, games = len(self.names), self.num_games
        earned = np.zeros((3, size, games))
        for i in range(size):
            for j in range(size):
                payoff = self.cell(i, j).payoff / size
                earned[0, i] += payoff[:, 0]
                earned[1, j] += payoff[:, 1]
        earned[2] = (earned[0] + earned[1]) / 2
        means = earned.mean(axis=2)
        errors = earned.std(axis=2, ddof=1) / np.sqrt(games) if games > 1 else np.full_like(means, np.nan)
        return {name: (means[k], errors[k]) for k, name in enumerate(("seat_0", "seat_1", "both_seats"))}

    @cached_property
    def _arrays(self) -> Arrays:
        arrays = read_arrays(self.rows)
        shape = (len(self.names), len(self.names), self.num_games)
        if any(arrays[name].shape[:3] != shape for name in CELL_ARRAYS):
            raise ValueError(f"{self.rows} does not belong to {self.path.name}: its cells are not {shape}.")
        return arrays


def rows_path(path: Path) -> Path:
    """Returns X.rows.npz of X.json."""
    return path.with_suffix(".rows.npz")


def cells_folder(path: Path) -> Path:
    """Returns X.cells of X.json."""
    return path.with_suffix(".cells")


def calls_path(path: Path) -> Path:
    """Returns X.calls.jsonl of X.json."""
    return path.with_suffix(".calls.jsonl")


def read_crossplay(path: str | Path) -> Crossplay:
    """Reads X.json; the games are read when a cell is asked for.

    Raises:
        ValueError: If there is no such file, or it is damaged or no cross-play.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError(f"{path} is no cross-play: it lacks the entry format={FORMAT!r}.")
    if stored.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {stored.get('format_version')}; this bargain-eval reads {FORMAT_VERSION}."
        )
    try:
        return Crossplay(
            path=path,
            spec=GameSpec.from_dict(stored["game"]),
            seed=stored["seed"],
            num_games=stored["num_games"],
            complete=stored["complete"],
            policies=tuple(stored["policies"]),
            table=PayoffTable(
                rows=tuple(stored["policy_names"]),
                columns=tuple(stored["policy_names"]),
                mean=np.array(stored["payoff_matrix"], dtype=np.float64),
                standard_error=np.array(stored["payoff_se"], dtype=np.float64),
                count=np.array(stored["counts"], dtype=np.int64),
            ),
            rows=path.parent / stored["rows"],
            cell_files=stored.get("cells"),
            llm=stored.get("llm"),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}.") from error


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the arrays of an .npz file.

    Raises:
        ValueError: If there is no such file, it is damaged, or it lacks an array of a cross-play.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in (*DEAL_ARRAYS, *CELL_ARRAYS)}
    except FileNotFoundError:
        raise ValueError(f"the games of the cross-play are missing: there is no file {path}.") from None
    except (BadZipFile, zlib.error, KeyError, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error


def game_rows(spec: GameSpec, arrays: Arrays) -> GameRows:
    """Returns the games of one cell from its stored `arrays`, `[N, ...]` each."""
    values, outside = arrays["values"].astype(np.int64), arrays["outside"].astype(np.int64)
    points, total = game_points(spec, values, outside, *(arrays[name] for name in ("outcome", "offer", "decisions")))
    return GameRows(
        game=arrays["game"],
        payoff=arrays["payoff"],
        points=points,
        values=values,
        outside=outside,
        total=total,
        outcome=arrays["outcome"],
        offer=arrays["offer"],
        decisions=arrays["decisions"],
        illegal=arrays["illegal"].astype(np.int64),
        actions=arrays["actions"],
    )

"""What a report is about: finds the stored runs and the cross-play files that the reader named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from bargain_eval.crossplay import Crossplay, read_crossplay
from bargain_eval.crossplay.matrix import FORMAT
from bargain_eval.files import read_json
from bargain_eval.results.layout import METADATA, Metadata, run_folder, run_folders
from bargain_eval.results.metadata import read_metadata


@dataclasses.dataclass(frozen=True)
class Source:
    """Everything that a report shows.

    Attributes:
        runs: Metadata of the stored runs, each with its `path`; by run id, which is algorithm, time and seed.
        crossplays: The cross-play matrices with the names of their files, in the order given.
    """

    runs: tuple[Metadata, ...]
    crossplays: tuple[tuple[str, Crossplay], ...]

    @property
    def config_hash(self) -> str:
        """Twelve hexadecimal digits that name the settings of all runs, and the games and policies of all matrices."""
        settings = {
            "runs": {run["run_id"]: run["hyperparameters"] for run in self.runs},
            "crossplays": [
                [matrix.spec.to_dict(), matrix.seed, matrix.num_games, list(matrix.names)]
                for _, matrix in self.crossplays
            ],
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def find(inputs: Sequence[str], results_dir: Path) -> Source:
    """Reads what `inputs` name.

    Each is a cross-play file, a run's folder, a folder of runs (with the cross-play files directly in it), or the id of
    a run in `results_dir`; without any input it is `results_dir` itself. What is named twice is shown once. Costs one
    small read per run, and each cross-play file with its rows.

    Raises:
        ValueError: If an input is none of these, or there is nothing to show.
    """
    runs, files = _named(inputs, results_dir)
    if not runs and not files:
        where = ", ".join(inputs) or results_dir
        raise ValueError(f"there is nothing to report: no stored run and no cross-play file in {where}.")
    return Source(runs=runs, crossplays=tuple((file.name, read_crossplay(file)) for file in files))


def find_runs(inputs: Sequence[str], results_dir: Path) -> tuple[Metadata, ...]:
    """Returns the runs alone that `find` would, without reading any cross-play; none if there are none.

    Raises:
        ValueError: If an input is nothing that `find` takes.
    """
    return _named(inputs, results_dir)[0]


def _named(inputs: Sequence[str], results_dir: Path) -> tuple[tuple[Metadata, ...], tuple[Path, ...]]:
    """Returns the runs by run id, and the cross-play files in the order given."""
    runs: dict[str, Metadata] = {}
    files: dict[Path, None] = {}
    for name in inputs or [str(results_dir)]:
        path = Path(name)
        if path.is_file():
            files[path.resolve()] = None
        elif (path / METADATA).is_file():
            _add(runs, path.resolve())
        elif path.is_dir():
            for folder in run_folders(path.resolve()):
                _add(runs, folder)
            files |= dict.fromkeys(sorted(file.resolve() for file in path.glob("*.json") if _is_crossplay(file)))
        elif path.suffix or path.parent != Path() or not inputs:
            raise ValueError(f"there is no file or folder {name!r}.")
        else:
            _add(runs, run_folder(results_dir, name))
    return tuple(runs[key] for key in sorted(runs)), tuple(files)


def _add(runs: dict[str, Metadata], folder: Path) -> None:
    """Adds the run in `folder`, if it has begun; a copy of it in another folder counts as the same run."""
    if (folder / METADATA).is_file():
        run = read_metadata(folder)
        runs.setdefault(run["run_id"], run)


def _is_crossplay(path: Path) -> bool:
    try:
        stored = read_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and stored.get("format") == FORMAT

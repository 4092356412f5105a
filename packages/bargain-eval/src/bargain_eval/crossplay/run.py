"""Plays a cross-play: every ordered pair of policies on the same deals, in parallel, resumable.

Legend: `n` policies, `N` games of a cell.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

from bargain_env.spec import GameSpec
from filelock import FileLock, Timeout

from bargain_eval.crossplay.entries import Entry, make_entries, pair_key
from bargain_eval.crossplay.jobs import CrossplayFailed, play_cells
from bargain_eval.crossplay.matrix import FORMAT, FORMAT_VERSION, Crossplay, cells_folder, read_crossplay, rows_path
from bargain_eval.crossplay.pieces import BLOCK_SIZE, Piece, cut, forget_policies
from bargain_eval.crossplay.writer import Cell, Writer
from bargain_eval.executor import make_executor
from bargain_eval.files import read_json
from bargain_eval.registry import load_policy, resolve_device
from bargain_eval.versions import software_versions

Loop = Callable[[Iterable[Cell], str, int], Iterable[Cell]]
"""Shows progress over the finished cells: takes them, a title and their number, and hands them on."""


def crossplay(
    policies: Sequence[str] = (),
    num_games: int = 500,
    seed: int = 0,
    *,
    output: str | Path,
    rl_checkpoints: Sequence[str] = (),
    baselines: Sequence[str] = (),
    spec: GameSpec | None = None,
    device: str = "cpu",
    results_dir: str | Path = "results",
    executor: str = "local",
    workers: int = 1,
    loop: Loop = lambda cells, title, total: cells,
) -> Crossplay:
    """Plays every ordered pair of policies, themselves included, on the same deals, and writes the table and the games.

    Game n of every cell is the deal (seed, n, 0), and a policy draws from generators seeded by (seed, its seat, block
    of games), whenever and wherever a cell is played. So the same arguments give the same files, byte for byte, on any
    executor and any number of workers, and however often the work was interrupted: finished cells are stored at once in
    X.cells, and the same call plays only what is missing. A changed policy file, game, seed, number of games or
    software version makes another cell. A finished cross-play is not played again.

    Args:
        policies: Policy strings of any kind.
        num_games: Games `N` of each cell, at least 1.
        seed: Key of the deals and of the policies' randomness, 0 to 2**64 - 1.
        output: X.json; beside it X.rows.npz and, until the end, X.cells are written.
        rl_checkpoints: More policy strings, grouped as checkpoints.
        baselines: More policy strings, grouped as baselines.
        spec: The game; the standard one if None.
        device: Where games and policies run: cpu, cuda:k or auto.
        results_dir: The folder of stored runs.
        executor: Where the jobs run, see `make_executor`.
        workers: Jobs at the same time.
        loop: Shows progress.

    Raises:
        ValueError: If an argument does not fit, a policy string is refused, or another process writes `output`.
        CrossplayFailed: (a RuntimeError) if cells failed; all others were played and are kept.
    """
    path = Path(output)
    _check(path, num_games, seed)
    spec = (spec or GameSpec()).with_observation("standing")
    results_dir = Path(results_dir).absolute()
    device = resolve_device(device) if executor == "local" else device
    entries = make_entries(
        {"policies": policies, "rl_checkpoints": rl_checkpoints, "baselines": baselines}, results_dir
    )
    for policy in dict.fromkeys(entry.policy for entry in entries):
        load_policy(policy, spec, seed, results_dir=results_dir)  # refused now rather than in every cell

    header = _header(entries, spec, seed, num_games, device)
    whole = Piece(("", ""), ("", ""), spec.to_dict(), seed, 0, num_games, device, str(results_dir))
    cells = {
        (i, j): cut(whole._replace(policies=(a.policy, b.policy), fingerprints=(a.fingerprint, b.fingerprint)))
        for (i, a), (j, b) in product(enumerate(entries), repeat=2)
    }
    with _only_writer(path):
        if _is_finished(path, header):
            shutil.rmtree(cells_folder(path), ignore_errors=True)
            return read_crossplay(path)
        with make_executor(executor, workers) as pool:
            writer = Writer(path, header, {cell: list(pieces) for cell, pieces in cells.items()})
            failed: dict[Cell, str] = {}
            ended = play_cells(cells, writer, pool, 2 * workers if workers > 1 else 1, failed)
            try:
                for _ in loop(ended, "Playing", len(cells)):
                    pass
            finally:
                forget_policies()
        if failed:
            writer.write_table()
            raise CrossplayFailed(_failure(failed, [entry.name for entry in entries]))
        writer.finish()
    return read_crossplay(path)


def _header(entries: Sequence[Entry], spec: GameSpec, seed: int, num_games: int, device: str) -> dict[str, Any]:
    """Returns the entries of X.json that say what is played, in JSON's own types."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "game": spec.to_dict(),
        "seed": seed,
        "num_games": num_games,
        "block_size": BLOCK_SIZE,
        "device": device.partition(":")[0],
        "policy_names": [entry.name for entry in entries],
        "policies": [dataclasses.asdict(entry) for entry in entries],
        "versions": software_versions(),
    }


def _failure(failed: Mapping[Cell, str], names: Sequence[str]) -> str:
    (i, j), text = next(iter(sorted(failed.items())))
    return (
        f"{len(failed)} of {len(names) ** 2} cells failed, first {pair_key(names[i], names[j])}: {text}; "
        "the others are kept, and the same command plays only those that failed."
    )


def _check(path: Path, num_games: int, seed: int) -> None:
    if num_games < 1:
        raise ValueError(f"num_games must be at least 1, got {num_games}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie between 0 and 2**64 - 1, got {seed}.")
    if path.suffix != ".json":
        raise ValueError(f"output must be named *.json, got {path}.")


@contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Holds the lock of X.json.

    Raises:
        ValueError: If another process holds it, or nothing can be written there.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ValueError(f"another process is writing {path}.") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        lock.release()


def _is_finished(path: Path, header: Mapping[str, Any]) -> bool:
    """Tells whether X.json is complete and of these very games.

    Raises:
        ValueError: If X.json is something else than a cross-play, which is not overwritten.
    """
    if not path.exists():
        return False
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError(f"{path} exists and is no cross-play; it is not overwritten.")
    same = all(stored.get(key) == value for key, value in header.items())
    return same and stored["complete"] and rows_path(path).is_file()

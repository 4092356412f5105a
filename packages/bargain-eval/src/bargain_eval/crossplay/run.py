"""Plays a cross-play: every ordered pair of policies on the same deals, in parallel, resumable.

Legend: `n` policies, `N` games of a cell.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bargain_env.spec import GameSpec
from filelock import FileLock, Timeout

from bargain_eval.crossplay.entries import pair_key
from bargain_eval.crossplay.jobs import CrossplayFailed, play_cells
from bargain_eval.crossplay.matrix import Crossplay, calls_path, cells_folder, read_crossplay
from bargain_eval.crossplay.model_calls import check_calls, spent, write_calls
from bargain_eval.crossplay.pieces import forget_policies
from bargain_eval.crossplay.plan import CallOptions, Plan, make_plan
from bargain_eval.crossplay.writer import Cell, Writer
from bargain_eval.executor import make_executor
from bargain_eval.llm.session import session

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
    calls: CallOptions | None = None,
    loop: Loop = lambda cells, title, total: cells,
) -> Crossplay:
    """Plays every ordered pair of policies, themselves included, on the same deals, and writes the table and the games.

    Game n of every cell is the deal (seed, n, 0), and a policy draws from generators seeded by (seed, its seat, block
    of games), whenever and wherever a cell is played. So the same arguments give the same files, byte for byte, on any
    executor and any number of workers, and however often the work was interrupted: finished cells are stored at once in
    X.cells, and the same call plays only what is missing. A changed policy file, game, seed, number of games or
    software version makes another cell. A finished cross-play is not played again.

    Language models are asked through a store of calls, so nothing that was answered is paid for twice. At the end
    X.calls.jsonl says what each of their moves was made of, and X.json sums it up as `llm`.

    Args:
        policies: Policy strings of any kind.
        num_games: Games `N` of each cell, at least 1.
        seed: Key of the deals and of the policies' randomness, 0 to 2**64 - 1.
        output: X.json; beside it X.rows.npz, X.calls.jsonl and, until the end, X.cells are written.
        rl_checkpoints: More policy strings, grouped as checkpoints.
        baselines: More policy strings, grouped as baselines.
        spec: The game; the standard one if None.
        device: Where games and policies run: cpu, cuda:k or auto.
        results_dir: The folder of stored runs.
        executor: Where the jobs run, see `make_executor`.
        workers: Jobs at the same time.
        calls: What the calls of language models may cost, and where they are kept.
        loop: Shows progress.

    Raises:
        ValueError: If an argument does not fit, a policy string is refused, another process writes `output`, or calls
            of language models cannot be made within the limit, see `check_calls`.
        CrossplayFailed: (a RuntimeError) if cells failed, which they also do if a limit of calls is reached; all others
            were played and are kept.
    """
    plan = make_plan(
        policies,
        num_games,
        seed,
        output=output,
        rl_checkpoints=rl_checkpoints,
        baselines=baselines,
        spec=spec,
        device=device,
        results_dir=results_dir,
        executor=executor,
        workers=workers,
        calls=calls,
    )
    with _only_writer(plan.path):
        if plan.is_finished():
            shutil.rmtree(cells_folder(plan.path), ignore_errors=True)
            return read_crossplay(plan.path)
        check_calls(plan)
        with make_executor(executor, workers) as pool:
            writer = Writer(plan.path, plan.header, {cell: list(pieces) for cell, pieces in plan.cells.items()})
            failed: dict[Cell, str] = {}
            ended = play_cells(plan.cells, writer, pool, 2 * workers if workers > 1 else 1, failed)
            try:
                for _ in loop(ended, "Playing", len(plan.cells)):
                    pass
            finally:
                forget_policies()
        llm = _record_calls(plan, writer)
        if failed:
            writer.write_table(llm)
            raise CrossplayFailed(_failure(failed, [entry.name for entry in plan.entries]) + spent(plan))
        writer.finish(llm)
    return read_crossplay(plan.path)


def _record_calls(plan: Plan, writer: Writer) -> dict[str, Any] | None:
    """Writes what language models were asked, as far as cells are played, and returns its summary; None without any."""
    calls_path(plan.path).unlink(missing_ok=True)
    if plan.session is None or not plan.models:
        return None
    writer.write_table()
    with session(plan.session) as opened:
        return write_calls(plan, opened, read_crossplay(plan.path))


def _failure(failed: Mapping[Cell, str], names: Sequence[str]) -> str:
    (i, j), text = next(iter(sorted(failed.items())))
    return (
        f"{len(failed)} of {len(names) ** 2} cells failed, first {pair_key(names[i], names[j])}: {text}; "
        "the others are kept, and the same command plays only those that failed."
    )


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

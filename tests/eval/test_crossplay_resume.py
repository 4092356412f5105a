"""Cross-play that is interrupted, killed, or run in parallel: nothing is played twice, and the files are the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env.spec import GameSpec
from bargain_eval.crossplay import Crossplay, CrossplayFailed, crossplay, jobs, pieces, read_crossplay
from bargain_eval.crossplay.pieces import Piece
from bargain_eval.registry import load_policy
from filelock import FileLock

POLICIES = ("random", "greedy", "fair_split", "aspiration?beta=.3")


def run(folder: Path, policies: Sequence[str] = POLICIES, **options: Any) -> Crossplay:
    return crossplay(policies, seed=4, output=folder / "m.json", **({"num_games": 300} | options))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def watch(monkeypatch: pytest.MonkeyPatch, stop_after: int = 10**9) -> list[Piece]:
    """Returns the list that gets every piece played in this process; Ctrl-C comes after so many."""
    played: list[Piece] = []
    honest = pieces.play_piece

    def play_piece(piece: Piece) -> Any:
        if len(played) == stop_after:
            raise KeyboardInterrupt
        played.append(piece)
        return honest(piece)

    monkeypatch.setattr(jobs, "play_piece", play_piece)
    return played


def interrupt(monkeypatch: pytest.MonkeyPatch, folder: Path, stop_after: int, *policies: str) -> list[Piece]:
    """Runs until so many pieces are played, and returns them."""
    with monkeypatch.context() as patch:
        played = watch(patch, stop_after)
        with pytest.raises(KeyboardInterrupt):
            run(folder, policies or POLICIES)
    assert len(played) == stop_after
    return played


def write_checkpoint(path: Path, seed: int) -> str:
    torch = pytest.importorskip("torch")
    networks, policies = pytest.importorskip("bargain_train.networks"), pytest.importorskip("bargain_train.policies")
    from bargain_eval import checkpoint

    torch.manual_seed(seed)
    network = networks.build_network({"network": "mlp", "hidden_dims": [16, 16]}, GameSpec())
    checkpoint.write_checkpoint(path, policies.policy_checkpoint("ppo", (network, network), step=0))
    return str(path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(folder)
    return files(folder)


def test_an_interrupted_run_goes_on_where_it_stopped(
    tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = interrupt(monkeypatch, tmp_path, 6)
    assert not read_crossplay(tmp_path / "m.json").complete
    after = watch(monkeypatch)
    run(tmp_path)
    assert len(after) == 10
    assert not set(map(str, before)) & set(map(str, after))
    assert files(tmp_path) == uninterrupted


def test_a_finished_run_is_not_played_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    finished = files(tmp_path)
    played = watch(monkeypatch)
    assert run(tmp_path).complete
    assert played == []
    assert files(tmp_path) == finished


@pytest.mark.parametrize("change", [{"num_games": 301}, {"spec": GameSpec(max_rounds=2)}, {"policies": POLICIES[:2]}])
def test_changed_arguments_replace_a_finished_run(change: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path)
    finished = files(tmp_path)
    run(tmp_path, **change)
    assert files(tmp_path).keys() == finished.keys()
    assert files(tmp_path)["m.json"] != finished["m.json"]
    (tmp_path / "fresh").mkdir()
    run(tmp_path / "fresh", **change)
    assert files(tmp_path / "fresh")["m.rows.npz"] == (tmp_path / "m.rows.npz").read_bytes()


def test_what_is_known_can_be_read_while_it_is_played(
    tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bargain_eval.crossplay.writer._SECONDS_BETWEEN_WRITES", 0.0)
    monkeypatch.setattr("bargain_eval.crossplay.writer._LARGEST_SHARE", np.inf)
    interrupt(monkeypatch, tmp_path, 6)
    partial = read_crossplay(tmp_path / "m.json")
    whole = json.loads(uninterrupted["m.json"])
    assert partial.table.count.tolist() == [[300] * 4, [300, 300, 0, 0], [0] * 4, [0] * 4]
    assert partial.table.mean[1, 1].tolist() == whole["payoff_matrix"][1][1]
    assert np.isnan(partial.table.mean[1, 2]).all()
    assert partial.cell(1, 1).payoff.mean(axis=0).tolist() == pytest.approx(whole["payoff_matrix"][1][1])
    with pytest.raises(ValueError, match=r"greedy against fair_split has not been played yet"):
        partial.cell(1, 2)
    with pytest.raises(ValueError, match="were never played"):
        partial.averages()


def test_a_damaged_cell_is_played_again(
    tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, tmp_path, 6)
    stored = sorted((tmp_path / "m.cells").glob("*.npz"))
    content = stored[2].read_bytes()
    stored[2].write_bytes(content[: len(content) // 2])
    played = watch(monkeypatch)
    run(tmp_path)
    assert len(played) == 11
    assert files(tmp_path) == uninterrupted


def test_a_changed_checkpoint_is_played_again_and_the_rest_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_checkpoint(tmp_path / "best.pt", seed=0)
    interrupt(monkeypatch, tmp_path, 8, "random", path, "greedy")
    write_checkpoint(tmp_path / "best.pt", seed=1)
    played = watch(monkeypatch)
    matrix = run(tmp_path, ["random", path, "greedy"])
    assert matrix.names == ("random", "best", "greedy")
    pairs = {piece.policies for piece in played}
    assert {pair for pair in pairs if path not in pair} == {("greedy", "greedy")}
    assert len(pairs) == 6
    fresh = crossplay(["random", path, "greedy"], 300, 4, output=tmp_path / "fresh.json")
    assert matrix.rows.read_bytes() == fresh.rows.read_bytes()


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_checkpoint(tmp_path / "best.pt", seed=0)
    honest = pieces.play_piece

    def play_piece(piece: Piece) -> Any:
        write_checkpoint(tmp_path / "best.pt", seed=1)
        return honest(piece)

    monkeypatch.setattr(jobs, "play_piece", play_piece)
    with pytest.raises(CrossplayFailed, match="is not the one that this cross-play began with"):
        run(tmp_path, [path])


class Failing:
    """Raises when it is asked for an action."""

    observation, device = "standing", "cpu"

    def get_action(self, *_: Any) -> Any:
        raise ConnectionError("the line\nis dead.")


def test_a_failing_policy_costs_only_its_own_cells(
    tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(policy: str, *rest: Any) -> Any:
        return Failing() if policy == "fair_split" else load_policy(policy, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "load_policy", load)
        with pytest.raises(CrossplayFailed) as failure:
            run(tmp_path)
    text = str(failure.value)
    assert "7 of 16 cells failed, first random_vs_fair_split: ConnectionError: the line is dead" in text
    assert "test_crossplay_resume.py" in text
    assert "\n" not in text
    partial = read_crossplay(tmp_path / "m.json")
    assert (partial.table.count > 0).sum() == 9
    assert (partial.table.count[2] == 0).all()
    played = watch(monkeypatch)
    run(tmp_path)
    assert len(played) == 7
    assert all("fair_split" in piece.policies for piece in played)
    assert files(tmp_path) == uninterrupted


class DyingPool(Executor):
    """Plays three pieces, and then its workers are gone."""

    def __init__(self) -> None:
        self.left = 3

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.left == 0:
            raise BrokenProcessPool
        self.left -= 1
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def test_dead_workers_end_the_run_and_what_was_played_is_kept(
    tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("bargain_eval.crossplay.run.make_executor", lambda *_: DyingPool())
        with pytest.raises(CrossplayFailed, match="a worker process died"):
            run(tmp_path)
    played = watch(monkeypatch)
    run(tmp_path)
    assert len(played) == 13
    assert files(tmp_path) == uninterrupted


def test_two_processes_do_not_write_the_same_file(tmp_path: Path) -> None:
    run(tmp_path)
    before = files(tmp_path)
    with FileLock(tmp_path / ".m.json.lock"), pytest.raises(ValueError, match=r"another process is writing .*m\.json"):
        run(tmp_path, num_games=50)
    assert files(tmp_path) == before
    assert run(tmp_path, num_games=50).num_games == 50


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_a_byte(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.pt", seed=0)
    for workers in (1, 2):
        run(tmp_path / str(workers), ["random", "tough", path], workers=workers, num_games=5000)
    assert files(tmp_path / "1") == files(tmp_path / "2")


KILLED = """
from bargain_eval.crossplay import crossplay
if __name__ == "__main__":
    crossplay({policies}, 12_000, 4, output={output!r}, workers={workers})
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_repeats_nothing_and_leaves_nobody_behind(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policies, output = ["tough", "myopic", "random", "aspiration"], tmp_path / "m.json"
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(policies=policies, output=str(output), workers=workers), encoding="utf-8")
    cells = tmp_path / "m.cells"
    with subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: len(list(cells.glob("*.npz"))) >= 3 or process.poll() is not None)
            children = descendants(process.pid)
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"
    until(lambda: not any(map(is_running, children)))
    stored = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.npz")}
    assert 3 <= len(stored) < 16

    played = watch(monkeypatch)
    crossplay(policies, 12_000, 4, output=output)
    assert len(played) == 16 - len(stored)
    assert not {piece.file_name for piece in played} & stored.keys()
    fresh = crossplay(policies, 12_000, 4, output=tmp_path / "fresh" / "m.json")
    for first, second in ((output, fresh.path), (output.with_suffix(".rows.npz"), fresh.rows)):
        assert first.read_bytes() == second.read_bytes()
    assert list(tmp_path.glob(".*.tmp")) == []


def until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """Returns the processes below `pid`; none where /proc does not tell."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found + [below for child in found for below in descendants(child)]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"

"""A cross-play on a Ray cluster of two nodes, one of which dies in the middle; `nox -s "executors(ray)"` runs it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray
from bargain_eval.crossplay import crossplay, jobs
from bargain_eval.crossplay.pieces import Outcome, Piece, play_piece
from ray.cluster_utils import Cluster

POLICIES = ("random", "greedy", "fair_split", "tioli", "aspiration")
SECONDS = 1.0
"""What a cell takes at least, so that the node dies while it plays."""


class Note(NamedTuple):
    """A line of the diary: a cell that began or ended on a node."""

    what: str
    cell: str
    node: str


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def noting(diary: Path) -> Callable[[Piece], Outcome]:
    """Returns a `play_piece` that notes what it plays; of a function within a function Ray sends the code itself."""

    def play(piece: Piece) -> Outcome:
        node = ray.get_runtime_context().get_node_id()
        with diary.open("a", encoding="utf-8") as file:
            file.write(f"began {piece.file_name} {node}\n")
        time.sleep(SECONDS)
        outcome = play_piece(piece)
        with diary.open("a", encoding="utf-8") as file:
            file.write(f"ended {piece.file_name} {node}\n")
        return outcome

    return play


def notes(diary: Path) -> list[Note]:
    lines = diary.read_text(encoding="utf-8").splitlines() if diary.exists() else []
    return [Note(*line.split()) for line in lines]


def play_all(folder: Path, **options: Any) -> None:
    crossplay(POLICIES, num_games=300, seed=4, output=folder / "m.json", **options)


def cells(diary: Path, what: str, node: str) -> list[str]:
    """Returns the cells that began or ended on a node, in order."""
    return [note.cell for note in notes(diary) if (note.what, note.node) == (what, node)]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the cluster does not get on")
        time.sleep(0.02)


def test_a_node_that_dies_loses_nothing(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, diary = tmp_path / "there", tmp_path / "diary"
    dying = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    stored: set[str] = set()

    def kill() -> None:
        """Ends the node just after it has begun a cell, when at least four of its cells are behind."""
        wait_until(lambda: len(cells(diary, "ended", dying.node_id)) >= 4)
        begun = len(cells(diary, "began", dying.node_id))
        wait_until(lambda: len(cells(diary, "began", dying.node_id)) > begun)
        stored.update(path.name for path in (there / "m.cells").glob("*.npz"))
        cluster.remove_node(dying, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "play_piece", noting(diary))
        play_all(there, executor="ray", workers=3)
    killer.join()

    began = Counter(note.cell for note in notes(diary) if note.what == "began")
    assert len(began) == len(POLICIES) ** 2
    assert stored
    assert {began[cell] for cell in stored} == {1}, "a stored cell was played again"
    lost = set(cells(diary, "began", dying.node_id)) - set(cells(diary, "ended", dying.node_id))
    assert lost, "no cell was being played on the node when it died"
    assert lost <= {note.cell for note in notes(diary) if note.what == "ended"}

    here = tmp_path / "here"
    play_all(here)
    assert {path.name for path in here.iterdir()} == {path.name for path in there.iterdir()}
    for path in here.iterdir():
        assert path.read_bytes() == (there / path.name).read_bytes(), path.name

"""Every executor runs jobs and hands back what they return or raise; those of clusters are tested where installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
from pathlib import Path

import pytest
from bargain_eval.cli import main
from bargain_eval.executor import make_executor

LIBRARIES = {"ray": "ray", "submitit": "submitit", "dask": "distributed"}


def double(number: int, plus: int = 0) -> int:
    return 2 * number + plus


def refuse(number: int) -> int:
    raise KeyError(f"no {number}")


def where() -> tuple[int, str | None]:
    time.sleep(0.2)  # so that one process cannot do all of them
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


@pytest.fixture(scope="module", params=[1, 2])
def local(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with make_executor("local", request.param) as executor:
        yield executor


def test_local_jobs_return_their_results_in_order(local: Executor) -> None:
    assert list(local.map(double, range(5))) == [0, 2, 4, 6, 8]
    assert local.submit(double, 4, plus=1).result() == 9


def test_an_exception_of_a_local_job_is_in_its_future(local: Executor) -> None:
    future = local.submit(refuse, 3)
    assert repr(future.exception()) == "KeyError('no 3')"
    assert local.submit(double, 1).result() == 2


def test_one_worker_is_this_process_and_two_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    with make_executor("local", 1) as executor:
        assert executor.submit(where).result() == (os.getpid(), None)
    with make_executor("local", 2) as executor:
        found = {future.result() for future in [executor.submit(where) for _ in range(6)]}
    assert len(found) == 2
    assert os.getpid() not in {pid for pid, _ in found}
    assert {threads for _, threads in found} == {"1"}
    assert "OMP_NUM_THREADS" not in os.environ


def die_or_wait(number: int) -> int:
    if number == 0:
        os._exit(9)
    time.sleep(0.5)
    return number


def test_a_process_that_dies_costs_its_own_job_alone() -> None:
    with make_executor("local", 2) as executor:
        futures = [executor.submit(die_or_wait, number) for number in (1, 0, 2, 3)]
        assert isinstance(futures[1].exception(), BrokenExecutor)
        assert [futures[index].result() for index in (0, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "workers", "message"),
    [("local", 0, "workers must be at least 1, got 0"), ("moon", 1, "choose one of local, ray, submitit, dask")],
)
def test_what_does_not_exist_is_named(name: str, workers: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_executor(name, workers)


@pytest.mark.parametrize(("name", "library"), LIBRARIES.items())
def test_a_missing_library_says_what_to_install(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=rf"needs {library}, .* pip install 'bargain-eval\[{name}\]'"):
        make_executor(name)


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_connection(**options: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")

    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(init=refuse_connection))
    with pytest.raises(ValueError, match="'ray' cannot reach its cluster: Failed to connect to Ray cluster"):
        make_executor("ray")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "library"), LIBRARIES.items())
def test_a_cluster_plays_the_same_cross_play(name: str, library: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed; nox -s executors has it")
    options = ["--policies", "random", "fair_split", "aspiration", "--num-games", "300"]
    assert main(["crossplay", *options, "--output", str(tmp_path / "here.json")]) == 0
    command = [sys.executable, "-m", "bargain_eval.cli", "crossplay", *options, "--output", "there.json"]
    played = subprocess.run(
        [*command, "--executor", name, "--workers", "2"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert played.returncode == 0, played.stderr
    assert played.stderr == ""
    for suffix in (".json", ".rows.npz"):
        here, there = (tmp_path / f"{place}{suffix}" for place in ("here", "there"))
        assert here.read_bytes().replace(b"here.", b"there.") == there.read_bytes()
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
        f"{place}{suffix}" for place in ("here", "there") for suffix in (".json", ".rows.npz")
    }

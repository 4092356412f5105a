"""Jobs: done once, in parallel, stored at once, begun again where a worker dies, finished where the run is stopped."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bargain_train.algorithms.psro import PSROConfig
from bargain_train.jobs import Job, Jobs, Result
from bargain_train.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run("psro", PSROConfig(results_dir=str(tmp_path / "results"), threads=1), console=False) as run:
        run.start()
        yield run


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    """A file of which each line is a job that began."""
    return tmp_path / "diary"


def begun(diary: Path) -> Counter[str]:
    return Counter(diary.read_text(encoding="utf-8").split())


def begin(task: dict[str, Any]) -> Result:
    with task["diary"].open("a", encoding="utf-8") as file:
        file.write(f"{task['name']}\n")
    time.sleep(task.get("seconds", 0.0))
    return {"name": task["name"], "number": torch.full((2,), task.get("number", 0.0))}


def die_at_first(task: dict[str, Any]) -> Result:
    first = not task["diary"].exists() or task["name"] not in task["diary"].read_text(encoding="utf-8").split()
    result = begin(task)
    if first or task.get("always"):
        time.sleep(0.3)
        os._exit(9)
    return result


def fail(task: dict[str, Any]) -> Result:
    begin(task)
    raise KeyError(f"{task['name']} cannot be done")


def stop_the_run(task: dict[str, Any]) -> Result:
    os.kill(task["run"], signal.SIGTERM)
    return begin(task)


def hand_back_a_path(task: dict[str, Any]) -> Result:
    return {"path": task["diary"]}


def hand_back_tensors(task: list[torch.Tensor]) -> Result:
    return {"tensors": [tensor + 1 for tensor in task]}


def jobs_of(diary: Path, *names: str, **more: Any) -> dict[str, Job]:
    tasks = {name: {"diary": diary, "name": name, "number": float(index)} for index, name in enumerate(names)}
    return {name: Job(begin, task | more) for name, task in tasks.items()}


def test_results_come_by_name_in_the_order_of_the_jobs(run: Run, diary: Path) -> None:
    jobs = jobs_of(diary, "z", "a", "m")
    with Jobs(run) as pool:
        results = pool.do(jobs)
    assert results is not None
    assert list(results) == ["z", "a", "m"]
    for index, (name, result) in enumerate(results.items()):
        assert result["name"] == name
        assert result["number"].tolist() == [index, index]


def test_a_job_that_was_done_is_read_and_not_done_again(run: Run, diary: Path) -> None:
    with Jobs(run) as pool:
        pool.do(jobs_of(diary, "b"))
    with Jobs(run) as pool:
        jobs = jobs_of(diary, "a", "b", "c")
        found = list(pool.each(jobs))
        again = pool.do(jobs)
    assert [name for name, _ in found] == ["b", "a", "c"]  # those that were stored come first
    assert found[0][1]["number"].tolist() == [0, 0]  # as it was when it was done
    assert again is not None
    assert list(again) == ["a", "b", "c"]
    assert begun(diary) == {"a": 1, "b": 1, "c": 1}


def test_what_is_yielded_is_what_a_resumed_run_will_read(run: Run, diary: Path) -> None:
    with Jobs(run) as pool:
        (first,) = pool.each(jobs_of(diary, "a"))
        (second,) = pool.each(jobs_of(diary, "a"))
    assert first[1].keys() == second[1].keys()
    assert torch.equal(first[1]["number"], second[1]["number"])
    with Jobs(run) as pool, pytest.raises(pickle.UnpicklingError, match="weights_only"):
        pool.do({"path": Job(hand_back_a_path, {"diary": diary})})


@pytest.mark.slow
def test_a_worker_that_dies_costs_one_job_which_is_begun_again(run: Run, diary: Path) -> None:
    jobs = jobs_of(diary, "long", "mortal", "c", "d")
    jobs["long"].task["seconds"] = 1.0  # so that it is the last to be finished
    jobs["mortal"] = Job(die_at_first, jobs["mortal"].task)
    with Jobs(run, workers=2) as pool:
        results = pool.do(jobs)
    assert results is not None
    assert [result["name"] for result in results.values()] == ["long", "mortal", "c", "d"]
    assert begun(diary) == {"long": 1, "mortal": 2, "c": 1, "d": 1}


@pytest.mark.slow
def test_a_worker_that_dies_three_times_ends_the_run_but_loses_no_other_job(run: Run, diary: Path) -> None:
    jobs = jobs_of(diary, "long", "mortal", "never")
    jobs["mortal"] = Job(die_at_first, jobs["mortal"].task | {"always": True})
    with Jobs(run, workers=2) as pool, pytest.raises(RuntimeError, match="the worker of mortal died 3 times"):
        pool.do(jobs)
    assert begun(diary)["mortal"] == 3
    with Jobs(run) as pool:
        pool.do(jobs_of(diary, "long"))
    assert begun(diary)["long"] == 1


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_a_job_raises_is_raised_and_the_others_under_way_are_stored(run: Run, diary: Path, workers: int) -> None:
    jobs = jobs_of(diary, "long", "wrong", "never", seconds=0.5)
    jobs["wrong"] = Job(fail, jobs["wrong"].task | {"seconds": 0.0})
    with Jobs(run, workers=workers) as pool, pytest.raises(KeyError, match="wrong cannot be done"):
        pool.do(jobs)
    assert begun(diary) == {"long": 1, "wrong": 1}
    with Jobs(run) as pool:
        assert pool.do(jobs_of(diary, "long")) is not None
    assert begun(diary)["long"] == 1


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stopped_run_finishes_what_is_under_way_and_begins_no_more(run: Run, diary: Path, workers: int) -> None:
    names = ("a", "b", "c", "d")
    jobs = jobs_of(diary, *names, run=os.getpid())
    jobs["a"] = Job(stop_the_run, jobs["a"].task)
    jobs["b"].task["seconds"] = 1.0
    with Jobs(run, workers=workers) as pool:
        assert pool.do(jobs) is None
        under_way = begun(diary)
        assert under_way in ({"a": 1}, {"a": 1, "b": 1}) if workers == 2 else under_way == {"a": 1}
        assert pool.do(jobs) is None
        assert begun(diary) == under_way
    run.stopped = False
    with Jobs(run, workers=workers) as pool:
        assert pool.do(jobs_of(diary, *names)) is not None
    assert begun(diary) == dict.fromkeys(names, 1)


def test_results_are_forgotten(run: Run, diary: Path) -> None:
    with Jobs(run) as pool:
        pool.do(jobs_of(diary, "a"))
        assert [path.name for path in (run.record.path / "jobs").iterdir()] == ["a.pt"]
        pool.forget()
        assert not (run.record.path / "jobs").exists()
        pool.forget()
        pool.do(jobs_of(diary, "a"))
    assert begun(diary) == {"a": 2}


def test_half_a_file_of_a_killed_run_is_removed_and_its_job_done(run: Run, diary: Path) -> None:
    folder = run.record.path / "jobs"
    folder.mkdir()
    (folder / ".a.pt.0123.tmp").write_bytes(b"half")
    with Jobs(run) as pool:
        pool.do(jobs_of(diary, "a"))
    assert [path.name for path in folder.iterdir()] == ["a.pt"]


@pytest.mark.slow
def test_thousands_of_tensors_travel_within_few_file_descriptors(run: Run) -> None:
    tensors = [torch.full((3,), float(index)) for index in range(1500)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Jobs(run, workers=2) as pool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, limits[0]), limits[1]))
        try:
            results = pool.do({name: Job(hand_back_tensors, tensors) for name in "ab"})
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert results is not None
    for result in results.values():
        assert torch.equal(torch.stack(result["tensors"]), torch.stack(tensors) + 1)
    assert not tensors[0].is_shared()


def test_an_executor_that_does_not_exist_is_named(run: Run) -> None:
    with pytest.raises(ValueError, match="choose one of local"):
        Jobs(run, "moon")

"""Studies that processes share, are killed in, and take up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from bargain_train.sweep.claims import Claims
from bargain_train.sweep.parameters import Choice, Parameter, Range
from bargain_train.sweep.samplers import make_pruner, make_sampler
from bargain_train.sweep.study import Outcome, Study, Task, open_study

PARAMETERS: dict[str, Parameter] = {"x": Range(0.0, 1.0), "dims": Choice(([1], [2, 2]))}


def _study(folder: Path, *, storage: str | None = None, identity: dict[str, Any] | None = None) -> Study:
    return open_study(
        "s",
        folder,
        PARAMETERS,
        identity or {"a": 1},
        storage=storage,
        direction="maximize",
        sampler=make_sampler("random", PARAMETERS, 5),
        pruner=make_pruner("none"),
    )


def _task(study: Study, num_trials: int = 9) -> Task:
    task = study.next_task(num_trials)
    assert task is not None
    return task


def _work(study: Study, num_trials: int) -> None:
    while (task := study.next_task(num_trials)) is not None:
        study.close(task, Outcome("complete", value=task.values["x"]))


WORKER = """
import os, signal, sys
from pathlib import Path
from tests.train.test_sweep_study import Outcome, _study
study, wanted, deadly = _study(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
while (task := study.next_task(wanted)) is not None:
    if task.trial.number == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    study.close(task, Outcome("complete", value=task.values["x"]))
    print(task.trial.number, flush=True)
"""


def _worker(folder: Path, num_trials: int, deadly: int = -1) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WORKER, str(folder), str(num_trials), str(deadly)]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment)


def test_two_processes_give_gap_free_trials_that_are_those_of_one(tmp_path: Path) -> None:
    workers = [_worker(tmp_path / "two", 16) for _ in range(2)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    done = [worker.communicate("\n")[0].split() for worker in workers]
    rows = _study(tmp_path / "two").rows()
    assert [row["trial"] for row in rows] == list(range(16))
    assert {row["state"] for row in rows} == {"complete"}
    assert sorted(int(number) for numbers in done for number in numbers) == list(range(16))
    assert json.loads((tmp_path / "two" / "trials.json").read_text()) == json.loads(json.dumps(rows))
    one = _study(tmp_path / "one")
    _work(one, 16)
    assert [row["values"] for row in one.rows()] == [row["values"] for row in rows]


def test_a_killed_process_leaves_a_trial_that_is_run_again_and_not_counted_twice(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    worker = _worker(folder, 5, deadly=3)
    assert worker.communicate("\n")[0].split() == ["ready", "0", "1", "2"]
    assert worker.returncode == -signal.SIGKILL
    study = _study(folder)
    before = study.rows()
    assert [row["state"] for row in before] == ["complete"] * 3 + ["running"]
    taken = []
    while (task := study.next_task(5)) is not None:
        taken.append((task.trial.number, task.values))
        study.close(task, Outcome("complete", value=task.values["x"]))
    assert [number for number, _ in taken] == [3, 4]
    assert taken[0][1] == before[3]["values"]
    assert [row["state"] for row in study.rows()] == ["complete"] * 5
    assert study.next_task(5) is None
    assert study.next_task(6) is not None


def test_a_trial_in_living_hands_is_not_given_out(tmp_path: Path) -> None:
    study, other = _study(tmp_path), _study(tmp_path)
    first, second = _task(study), _task(other)
    assert (first.trial.number, second.trial.number) == (0, 1)
    assert other.next_task(2) is None
    study.close(first, Outcome("stopped"))
    again = _task(other, 2)
    assert (again.trial.number, again.values) == (0, first.values)


def test_a_trial_of_another_folder_is_left_to_it(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    here, there = _study(tmp_path / "here", storage=storage), _study(tmp_path / "there", storage=storage)
    task = _task(there, 2)
    there.close(task, Outcome("stopped"))
    second = _task(here, 2)
    assert second.trial.number == 1
    assert here.next_task(2) is None
    assert _task(there, 2).trial.number == 0


def test_a_process_with_another_folder_does_not_overshoot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    here, there = _study(tmp_path / "here", storage=storage), _study(tmp_path / "there", storage=storage)
    ask = optuna.Study.ask

    def slow_ask(study: optuna.Study) -> optuna.Trial:
        monkeypatch.setattr(optuna.Study, "ask", ask)
        _task(there, 1)
        return ask(study)

    monkeypatch.setattr(optuna.Study, "ask", slow_ask)
    assert here.next_task(1) is None
    assert [row["state"] for row in here.rows()] == ["running", "failed"]


def test_outcomes_are_rows_and_the_best_come_first(tmp_path: Path) -> None:
    study = _study(tmp_path)
    for outcome in (Outcome("complete", value=1.0), Outcome("failed", error="It diverged."), Outcome("pruned")):
        task = _task(study)
        task.trial.report(0.25, 1)
        study.close(task, outcome)
    study.close(_task(study), Outcome("complete", value=2.0))
    rows = study.rows()
    assert [row["state"] for row in rows] == ["complete", "failed", "pruned", "complete"]
    assert [row["objective"] for row in rows] == [1.0, None, 0.25, 2.0]
    assert [row["error"] for row in rows] == [None, "It diverged.", None, None]
    assert all(row["values"]["dims"] in ([1], [2, 2]) and row["seconds"] >= 0 for row in rows)
    assert [row["trial"] for row in study.best_first()] == [3, 0]


def test_a_study_with_another_identity_is_refused(tmp_path: Path) -> None:
    _study(tmp_path, identity={"space": {"x": [1, 2]}, "seed": 1})
    _study(tmp_path, identity={"space": {"x": [1, 2]}, "seed": 1})
    with pytest.raises(ValueError, match="the study s was begun with other seed; give this one a name of its own"):
        _study(tmp_path, identity={"space": {"x": [1, 2]}, "seed": 2})


@pytest.mark.parametrize("storage", ["nowhere://x", "sqlite:////nowhere/at/all.db", "postgresql://x@127.0.0.1:1/x"])
def test_a_storage_that_cannot_be_opened_is_one_sentence(tmp_path: Path, storage: str) -> None:
    with pytest.raises(ValueError, match=r"^--storage (cannot be opened: |needs a driver of )[^\n]*\.$"):
        _study(tmp_path, storage=storage)


def test_a_half_line_at_the_end_of_a_journal_is_removed(tmp_path: Path) -> None:
    """Optuna would read over it once, write the next record behind it, and never open the journal again."""
    _work(_study(tmp_path), 2)
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":4,"worker')
    for wanted in (3, 4):
        _work(_study(tmp_path), wanted)
    assert [row["state"] for row in _study(tmp_path).rows()] == ["complete"] * 4


def test_a_damaged_journal_is_one_sentence(tmp_path: Path) -> None:
    _work(_study(tmp_path), 1)
    journal = tmp_path / "journal.log"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([lines[0], "nonsense\n", *lines[2:]]))
    with pytest.raises(ValueError, match=r"^the journal \S+journal.log is damaged; [^\n]*\.$"):
        _study(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"the folder \S+s cannot be made: Not a directory\.$"):
        _study(tmp_path / "file" / "s")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match=r"the folder \S+s cannot be written to; choose another --output-dir\.$"):
        _study(tmp_path / "s")


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        _study(tmp_path, storage=str(tmp_path))


def test_the_lock_of_a_journal_is_a_link_that_leads_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna forgives a lock whose holder was killed only if the link's target exists."""
    monkeypatch.chdir(tmp_path)
    symlink, found = os.symlink, []

    def watched(target: str, link: str) -> None:
        symlink(target, link)
        found.append(Path(link).exists())

    monkeypatch.setattr(os, "symlink", watched)
    _work(_study(Path("study"), storage="folder/journal.log"), 1)
    assert found
    assert all(found)


def test_work_is_claimed_once_until_its_worker_lets_go(tmp_path: Path) -> None:
    first, second = Claims(tmp_path / "locks"), Claims(tmp_path / "locks")
    lock = first.take("a")
    assert lock is not None
    assert second.take("a") is None
    assert second.take("b") is not None
    lock.release()
    assert second.take("a") is not None
    assert first.folder_id() == second.folder_id() != Claims(tmp_path / "other").folder_id()

"""Many stored runs: ids, lists, ranking, export and the index."""

import csv
import json
import os
import subprocess
import sys
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest
from bargain_env import GAMES, GameSpec
from bargain_eval.results import ResultsManager, index, store
from bargain_eval.results.views import game_name
from filelock import FileLock
from stored_runs import ENVIRONMENT, checkpoint, completed, ids, index_on_disk, strict_json


def test_fifty_runs_of_one_second_are_distinct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FrozenTime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "FrozenTime":
            return cls(2024, 1, 15, 14, 30, 22, tzinfo=tz)

    monkeypatch.setattr(store, "datetime", FrozenTime)
    manager = ResultsManager(tmp_path)
    runs = [manager.create_run("ppo", 42, {"number": number}) for number in range(50)]

    expected = ["ppo_20240115_143022_seed42", *(f"ppo_20240115_143022_seed42_{n}" for n in range(2, 51))]
    assert [run.run_id for run in runs] == expected
    assert [manager.get_run(run.run_id)["hyperparameters"]["number"] for run in runs] == list(range(50))
    assert sorted(ids(manager.list_runs())) == sorted(expected)


def test_eight_processes_of_twenty_runs_are_all_listed(tmp_path: Path) -> None:
    code = """
import sys
from bargain_eval.results import ResultsManager
manager = ResultsManager(sys.argv[1])
for _ in range(20):
    run = manager.create_run("ppo", 1, {})
    run.log_metrics(1, {"loss": 0.5})
    run.complete()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, env=ENVIRONMENT) for _ in range(8)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 8

    on_disk = index_on_disk(tmp_path)
    assert len(on_disk) == 160
    assert {entry["status"] for entry in on_disk.values()} == {"completed"}
    runs = ResultsManager(tmp_path).list_runs()
    assert len({run["path"] for run in runs}) == 160
    assert {run["status"] for run in runs} == {"completed"}


def test_lists_are_filtered_and_newest_first(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    assert manager.list_runs() == []
    first = manager.create_run("ppo", 1, {}, tags=["a", "b"])
    second = manager.create_run("sampled_cfr", 1, {}, tags=["b"])
    second.complete()

    assert ids(manager.list_runs()) == [second.run_id, first.run_id]
    assert ids(manager.list_runs(algorithm="sampled-cfr")) == [second.run_id]
    assert ids(manager.list_runs(status="running")) == [first.run_id]
    assert ids(manager.list_runs(tags=["b"])) == [second.run_id, first.run_id]
    assert ids(manager.list_runs(tags=["b", "a"])) == [first.run_id]
    assert manager.list_runs("ppo", "completed") == []


def test_the_best_run_is_truly_the_best(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    assert manager.get_best_run() is None
    low, best = completed(manager, 0.2), completed(manager, 0.6)
    completed(manager, 0.5)
    completed(manager, float("nan"))
    completed(manager, None)
    other = completed(manager, 0.7, "mappo")
    one_seat = completed(manager, 0.9, opponent="tioli")
    unfinished = manager.create_run("ppo", 1, {})
    unfinished.set_final_metrics({"pool_payoff": 5.0})
    unfinished.interrupt()

    def best_id(*arguments: Any, **options: Any) -> str | None:
        found = manager.get_best_run(*arguments, **options)
        return None if found is None else found["run_id"]

    assert best_id("ppo") == best
    assert best_id() == other
    assert best_id("ppo", minimize=True) == low
    assert best_id("ppo", metric="final_metrics.total", minimize=True) == best
    assert best_id("ppo", include_one_seat=True) == one_seat
    assert best_id("ppo", metric="final_metrics.absent") is None
    assert best_id("fcp") is None


def test_the_leaderboard_has_every_algorithm_and_one_seat_runs_apart(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    ppo, mappo = completed(manager, 0.5), completed(manager, 0.75, "mappo")
    completed(manager, 0.25)
    tioli, in_seat = completed(manager, 0.9, opponent="tioli"), completed(manager, 0.8, seat=0)
    completed(manager, 0.7, opponent="tioli")
    greedy = completed(manager, 0.95, opponent="greedy", algorithm="ex2psro")

    board = manager.leaderboard()

    assert ids(board.both_seats) == [mappo, ppo]
    assert ids(board.one_seat) == [greedy, tioli, in_seat]
    assert manager.leaderboard("final_metrics.absent").both_seats == []


def test_runs_are_compared_side_by_side(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    first = completed(manager, 0.5, lr=0.1, network={"kind": "mlp", "sizes": [1]})
    second = completed(manager, 0.25, lr=0.2, network={"kind": "mlp", "sizes": [1]}, clip=0.3)

    compared = manager.compare_runs([first, second])

    assert compared["hyperparameters"] == {"lr": {first: 0.1, second: 0.2}, "clip": {second: 0.3}}
    assert compared["final_metrics"]["pool_payoff"] == {first: 0.5, second: 0.25}
    assert list(compared["runs"]) == [first, second]
    assert compared["runs"][first]["status"] == "completed"


def test_completed_runs_are_exported(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path / "results")
    first = completed(manager, 0.5, network={"sizes": [1, 2]}, name='a "quoted", name')
    second = completed(manager, None, "mappo")
    manager.create_run("ppo", 0, {})

    assert manager.export_results(tmp_path / "out.csv") == 2
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == sorted(rows[0])
    assert [row["run_id"] for row in rows] == [second, first]
    assert [row["final_metrics.pool_payoff"] for row in rows] == ["", "0.5"]
    assert rows[1]["hyperparameters.network.sizes"] == "[1, 2]"
    assert rows[1]["hyperparameters.name"] == 'a "quoted", name'

    assert manager.export_results(tmp_path / "out.txt", "json") == 2
    exported = strict_json(tmp_path / "out.txt")
    assert ids(exported) == [second, first]
    assert exported[1]["hyperparameters"]["network"] == {"sizes": [1, 2]}
    with pytest.raises(ValueError, match="csv or json"):
        manager.export_results(tmp_path / "out.txt")
    with pytest.raises(ValueError, match="no regular file"):
        manager.export_results(tmp_path, "csv")


# Index and folder


@pytest.mark.parametrize("damage", [b"", b'{"runs": {', b"[]", b'{"runs": 3}', b"\xff\xfe", None])
def test_a_missing_or_damaged_index_is_rebuilt(tmp_path: Path, damage: bytes | None) -> None:
    manager = ResultsManager(tmp_path)
    expected = [completed(manager, 0.5), completed(manager, 0.6)][::-1]
    (tmp_path / "index.json").unlink()
    if damage is not None:
        (tmp_path / "index.json").write_bytes(damage)

    assert ids(manager.list_runs()) == expected
    assert list(index_on_disk(tmp_path)) == expected


def test_an_index_that_disagrees_with_the_folders_is_put_right(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    first, second = completed(manager, 0.5), completed(manager, 0.6)
    stored = strict_json(tmp_path / "index.json")
    stored["runs"]["ppo_20200101_000000_seed9"] = stored["runs"].pop(first)
    stored["runs"][second] = {"stamp": stored["runs"][second]["stamp"]}
    (tmp_path / "index.json").write_text(json.dumps(stored), encoding="utf-8")

    assert ids(manager.list_runs(status="completed")) == [second, first]
    assert list(index_on_disk(tmp_path)) == [second, first]

    stored["runs"] = index_on_disk(tmp_path)
    stored["runs"][first]["status"] = "failed"
    (tmp_path / "index.json").write_text(json.dumps(stored), encoding="utf-8")
    assert len(manager.list_runs(status="completed")) == 2
    assert manager.rebuild_index() == 2
    assert index_on_disk(tmp_path)[first]["status"] == "completed"


def test_the_index_follows_metadata_that_changed_behind_it(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    run_id = completed(manager, 0.5)
    path = Path(manager.get_run(run_id)["path"]) / "metadata.json"
    path.write_text(json.dumps(strict_json(path) | {"status": "failed"}), encoding="utf-8")

    assert ids(manager.list_runs(status="failed")) == [run_id]
    assert index_on_disk(tmp_path)[run_id]["status"] == "failed"


@pytest.mark.parametrize("obstacle", ["read_only", "locked"])
def test_an_index_that_cannot_be_written_does_not_stop_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    manager = ResultsManager(tmp_path)
    run_id = completed(manager, 0.5)
    (tmp_path / "index.json").write_text("damaged", encoding="utf-8")
    monkeypatch.setattr(index, "LOCK_SECONDS", 0.05)
    if obstacle == "read_only":
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert ids(manager.list_runs()) == [run_id]
    else:
        with FileLock(tmp_path / "index.lock"):
            assert ids(manager.list_runs()) == [run_id]
    assert (tmp_path / "index.json").read_text(encoding="utf-8") == "damaged"


def test_one_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    kept, damaged = completed(manager, 0.5), completed(manager, 0.6)
    (Path(manager.get_run(damaged)["path"]) / "metadata.json").write_text("{", encoding="utf-8")

    assert ids(manager.list_runs()) == [kept]
    assert manager.cleanup_failed_runs() == []
    with pytest.raises(ValueError, match="damaged"):
        manager.get_run(damaged)


def test_a_moved_folder_works_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new" / "place").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "old")
    manager = ResultsManager()
    run = manager.create_run("ppo", 0, {})
    run.save_final_policy(checkpoint(9))
    run.set_final_metrics({"pool_payoff": 0.5})
    monkeypatch.chdir(tmp_path)
    run.complete()
    assert run.path.is_relative_to(tmp_path / "old")

    (tmp_path / "old" / "results").rename(tmp_path / "new" / "place" / "results")
    monkeypatch.chdir(tmp_path / "new")
    moved = ResultsManager("place/results")
    monkeypatch.chdir("/")

    best = moved.get_best_run("ppo")
    assert best is not None
    assert moved.load_policy(best["run_id"])["step"] == 9
    assert Path(best["path"]) == tmp_path / "new/place/results/ppo" / run.path.name
    assert str(tmp_path) not in (tmp_path / "new/place/results/index.json").read_text(encoding="utf-8")


# Processes that die


def test_games_are_ranked_apart(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    for game, payoff in (("mini-b", 0.9), ("default", 0.6), ("default", 0.5)):
        record = manager.create_run("ppo", 1, {}, env_config=GAMES[game].with_observation("history").to_dict())
        record.set_final_metrics({"pool_payoff": payoff})
        record.complete()
    best, small = manager.get_best_run("ppo"), manager.get_best_run("ppo", game="mini-b")
    assert best is not None
    assert small is not None
    assert best["final_metrics"]["pool_payoff"] == 0.6
    assert small["final_metrics"]["pool_payoff"] == 0.9
    assert manager.get_best_run("ppo", game="mini-a") is None
    anywhere = manager.get_best_run("ppo", game=None)
    assert anywhere is not None
    assert anywhere["run_id"] == small["run_id"]
    board = manager.leaderboard(game="mini-b")
    assert board.game == "mini-b"
    assert [run["run_id"] for run in board.both_seats] == [small["run_id"]]


def test_a_game_is_called_by_its_name_or_its_numbers() -> None:
    spec = GameSpec((2, 3), max_rounds=5, max_value=4, discount=0.98, outside_range=(0.1, 0.5))
    assert game_name({"env_config": spec.to_dict()}) == "2x3 values 1-4 rounds 5 discount 0.98 outside 0.1-0.5"
    assert game_name({"env_config": None}) == "default"

import csv
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_eval.checkpoint import CheckpointError, make_checkpoint
from bargain_eval.results import ResultsManager, RunRecord, index, store
from bargain_eval.results.views import game_name
from filelock import FileLock

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def checkpoint(step: int = 0) -> dict[str, Any]:
    weights = {"weight": torch.full((2, 3), float(step))}
    return make_checkpoint(
        algorithm="ppo",
        spec={"max_rounds": 3},
        networks=[{"config": {"kind": "mlp"}, "policy_state_dict": weights}],
        seats=[[(0, 1.0)], [(0, 1.0)]],
        step=step,
    )


def completed(
    manager: ResultsManager,
    payoff: float | None,
    algorithm: str = "ppo",
    seat: int | None = None,
    **hyperparameters: Any,
) -> str:
    run = manager.create_run(algorithm, 1, hyperparameters)
    run.set_final_metrics({"pool_payoff": payoff, "total": 1.0 if payoff is None else 1.0 - payoff, "seat": seat})
    run.complete()
    return run.run_id


def strict_json(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def index_on_disk(root: Path) -> dict[str, Any]:
    runs = strict_json(root / "index.json")["runs"]
    assert isinstance(runs, dict)
    return runs


def ids(runs: list[dict[str, Any]]) -> list[str]:
    return [run["run_id"] for run in runs]


# Writing one run


def test_a_run_is_recorded_from_the_first_second(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    run = manager.create_run(
        "sampled-cfr", 7, {"lr": 3e-4, "sizes": (64, 64)}, env_config={"max_rounds": 3}, total_timesteps=100, tags=["a"]
    )

    assert run.run_id.startswith("sampled_cfr_")
    assert run.path == tmp_path / "sampled_cfr" / run.run_id.replace("sampled_cfr_", "run_")
    assert strict_json(run.path / "config.json") == {"lr": 3e-4, "sizes": [64, 64]}
    metadata = strict_json(run.path / "metadata.json")
    expected = {
        "run_id": run.run_id,
        "algorithm": "sampled_cfr",
        "environment": "bargain",
        "seed": 7,
        "device": "cpu",
        "hyperparameters": {"lr": 3e-4, "sizes": [64, 64]},
        "env_config": {"max_rounds": 3},
        "total_timesteps": 100,
        "actual_timesteps": 0,
        "training_time_seconds": 0.0,
        "num_updates": 0,
        "final_metrics": {},
        "best_metrics": {},
        "tags": ["a"],
        "status": "running",
        "error_message": None,
        "pid": os.getpid(),
    }
    assert metadata.items() >= expected.items()
    assert {"python", "numpy", "torch"} <= metadata["versions"].keys()
    assert abs(datetime.now(UTC) - datetime.fromisoformat(metadata["timestamp"])).total_seconds() < 60
    assert index_on_disk(tmp_path)[run.run_id]["status"] == "running"


def test_a_completed_run_holds_the_files_of_the_layout(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    run = manager.create_run("ppo", 42, {})
    run.log_metrics(10, {"loss": 0.5})
    run.save_checkpoint(checkpoint(10), 10, is_best=True)
    run.save_final_policy(checkpoint(10))
    run.save_final_eval({"pool_payoff": np.float32(0.5)})
    run.set_final_metrics({"pool_payoff": np.float32(0.5)})
    run.set_best_metrics({"pool_payoff": torch.tensor(0.75)})
    run.set_progress(10, np.int64(1), 2.5)  # type: ignore[arg-type]  # counters of numpy are accepted
    run.complete()

    files = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    documented = {"metadata.json", "config.json", "metrics.jsonl", "metrics.json", "final_eval.json", "policy.pt"}
    assert files == documented | {f"checkpoints/{name}.pt" for name in ("step_10", "best", "latest")} | {"run.lock"}
    assert strict_json(run.path / "final_eval.json") == {"pool_payoff": 0.5}
    stored = manager.get_run(run.run_id)
    assert stored["status"] == "completed"
    assert stored["final_metrics"] == {"pool_payoff": 0.5}
    assert stored["best_metrics"] == {"pool_payoff": 0.75}
    assert (stored["actual_timesteps"], stored["num_updates"], stored["training_time_seconds"]) == (10, 1, 2.5)
    assert stored["path"] == str(run.path)
    assert index_on_disk(tmp_path)[run.run_id]["status"] == "completed"


def test_every_metric_lands(tmp_path: Path) -> None:
    run = ResultsManager(tmp_path).create_run("mappo", 0, {})
    metrics = {
        "float": 0.5,
        "int": 3,
        "flag": True,
        "name": "x",
        "none": None,
        "numpy32": np.float32(0.5),
        "numpy64": np.float64(0.25),
        "numpy16": np.float16(0.5),
        "numpy_long": np.longdouble(0.5),
        "numpy_int": np.int64(7),
        "numpy_unsigned": np.uint8(7),
        "numpy_flag": np.bool_(True),
        "numpy_array": np.array([0.5, np.nan], np.float32),
        "torch_scalar": torch.tensor(0.5),
        "torch_bfloat": torch.tensor(0.5, dtype=torch.bfloat16),
        "torch_int": torch.tensor(7),
        "torch_gradient": torch.tensor(0.5, requires_grad=True),
        "torch_vector": torch.tensor([0.5, 0.25]),
        "nested": {"seat": [np.float32(0.5), torch.tensor(1)]},
        "nan": float("nan"),
        "infinite": torch.tensor(-torch.inf),
    }
    run.log_metrics(64, metrics)
    run.log_metrics(np.int64(128), {"loss": 1})  # type: ignore[arg-type]  # steps of numpy are accepted
    live = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    run.complete()

    assert strict_json(run.path / "metrics.json") == live
    assert [row.pop("step") for row in live] == [64, 128]
    assert live[0].pop("timestamp") <= live[1].pop("timestamp")
    assert live[0] == {
        "float": 0.5,
        "int": 3,
        "flag": True,
        "name": "x",
        "none": None,
        "numpy32": 0.5,
        "numpy64": 0.25,
        "numpy16": 0.5,
        "numpy_long": 0.5,
        "numpy_int": 7,
        "numpy_unsigned": 7,
        "numpy_flag": True,
        "numpy_array": [0.5, None],
        "torch_scalar": 0.5,
        "torch_bfloat": 0.5,
        "torch_int": 7,
        "torch_gradient": 0.5,
        "torch_vector": [0.5, 0.25],
        "nested": {"seat": [0.5, 1]},
        "nan": None,
        "infinite": None,
    }


def test_metrics_that_cannot_land_are_refused(tmp_path: Path) -> None:
    run = ResultsManager(tmp_path).create_run("ppo", 0, {})
    with pytest.raises(TypeError, match=r"builtins\.object cannot be stored as JSON"):
        run.log_metrics(1, {"thing": object()})
    with pytest.raises(ValueError, match="step"):
        run.log_metrics(1, {"step": 3})
    assert not (run.path / "metrics.jsonl").exists()


def test_checkpoints_keep_the_newest_the_best_and_the_latest(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path / "results")
    run = manager.create_run("ppo", 0, {})
    mirror = tmp_path / "checkpoints" / "ppo"
    for step in (5, 10, 100, 1000):
        run.save_checkpoint(checkpoint(step), step, is_best=step == 10, keep=2, mirror=mirror)

    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {
        "step_100.pt",
        "step_1000.pt",
        "best.pt",
        "latest.pt",
    }
    assert manager.load_policy(run.run_id, "best")["step"] == 10
    assert manager.load_policy(run.run_id, "latest")["step"] == 1000
    assert manager.load_policy(run.run_id, "step_100")["step"] == 100
    assert manager.load_policy(run.run_id)["step"] == 10
    assert sorted(path.name for path in mirror.iterdir()) == ["best.pt", "latest.pt"]
    assert torch.load(mirror / "latest.pt", weights_only=True)["step"] == 1000
    assert torch.load(mirror / "best.pt", weights_only=True)["step"] == 10
    with pytest.raises(ValueError, match="has no checkpoint 'step_10', only best, latest, step_100, step_1000"):
        manager.load_policy(run.run_id, "step_10")
    with pytest.raises(ValueError, match=r"has no checkpoint '\.\./\.\./x'"):
        manager.load_policy(run.run_id, "../../x")
    with pytest.raises(ValueError, match="at least 1"):
        run.save_checkpoint(checkpoint(), 0, keep=0)

    for step in range(2000, 2008):
        run.save_checkpoint(checkpoint(step), step, keep=None)
    assert len(list((run.path / "checkpoints").glob("step_*.pt"))) == 10
    run.save_final_policy(checkpoint(2008))
    assert manager.load_policy(run.run_id)["step"] == 2008


def test_saving_one_step_twice_leaves_the_second(tmp_path: Path) -> None:
    run = ResultsManager(tmp_path).create_run("ppo", 0, {})
    run.save_checkpoint(checkpoint(1), 5, is_best=True)
    run.save_checkpoint(checkpoint(2), 5, is_best=True, mirror=run.path / "checkpoints")

    names = {path.name: torch.load(path, weights_only=True)["step"] for path in (run.path / "checkpoints").iterdir()}
    assert names == {"step_5.pt": 2, "best.pt": 2, "latest.pt": 2}


def test_without_hard_links_checkpoints_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    manager = ResultsManager(tmp_path)
    run = manager.create_run("ppo", 0, {})
    run.save_checkpoint(checkpoint(3), 3)
    assert manager.load_policy(run.run_id, "latest")["step"] == 3
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {"step_3.pt", "latest.pt"}


def test_secrets_are_not_stored(tmp_path: Path) -> None:
    secrets = ("api_key", "openai-api-key", "OPENAI_API_KEY", "hf_token", "secret", "db_password", "access_key")
    harmless = {"max_tokens": 5, "token_budget": 6, "observation_key": "obs", "api_key_none": None, "lr": 0.1}
    hyperparameters = dict.fromkeys(secrets, "hunter2") | harmless | {"nested": {"token": "hunter2"}}
    run = ResultsManager(tmp_path).create_run("ppo", 0, hyperparameters, env_config={"password": "hunter2"})

    stored = strict_json(run.path / "config.json")
    assert {name: stored[name] for name in secrets} == dict.fromkeys(secrets, "***")
    assert {name: stored[name] for name in harmless} == harmless
    assert stored["nested"] == {"token": "***"}
    assert all("hunter2" not in path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.json"))


@pytest.mark.parametrize("end", ["complete", "interrupt", "fail"])
def test_a_run_ends_once(tmp_path: Path, end: str) -> None:
    manager = ResultsManager(tmp_path)
    run = manager.create_run("ppo", 0, {})
    run.fail(ZeroDivisionError("by zero")) if end == "fail" else getattr(run, end)()

    stored = manager.get_run(run.run_id)
    assert stored["status"] == {"complete": "completed", "interrupt": "interrupted", "fail": "failed"}[end]
    assert stored["error_message"] == ("ZeroDivisionError: by zero" if end == "fail" else None)
    assert strict_json(run.path / "metrics.json") == []
    for write in (run.complete, lambda: run.log_metrics(1, {}), lambda: run.set_final_metrics({})):
        with pytest.raises(RuntimeError, match="is closed"):
            write()


def test_bad_names_make_no_folder(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path / "results")
    with pytest.raises(ValueError, match="no algorithm name"):
        manager.create_run("../evil", 0, {})
    with pytest.raises(ValueError, match="seed must be at least 0"):
        manager.create_run("ppo", -1, {})
    with pytest.raises(TypeError, match="cannot be stored"):
        manager.create_run("ppo", 0, {"callback": print})
    assert manager.list_runs() == []
    assert list(tmp_path.iterdir()) == []


# Taking a run up again


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    run = manager.create_run("ppo", 0, {"lr": 1})
    for step in (1, 2, 3):
        run.log_metrics(step, {"value": step})
        run.save_checkpoint(checkpoint(step), step)
    run.interrupt()
    with (run.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "val')
    (run.path / "checkpoints" / ".step_4.pt.0.tmp").write_bytes(b"half")

    resumed = manager.open_run(run.run_id, truncate_after_step=2)
    assert (resumed.run_id, resumed.path) == (run.run_id, run.path)
    assert manager.get_run(run.run_id)["status"] == "running"
    assert index_on_disk(tmp_path)[run.run_id]["status"] == "running"
    assert not (run.path / "metrics.json").exists()
    assert {path.name for path in (run.path / "checkpoints").iterdir()} == {"step_1.pt", "step_2.pt", "latest.pt"}
    resumed.log_metrics(3, {"value": 30})
    resumed.complete()

    assert [(row["step"], row["value"]) for row in strict_json(run.path / "metrics.json")] == [(1, 1), (2, 2), (3, 30)]
    stored = manager.get_run(run.run_id)
    assert (stored["status"], stored["hyperparameters"]) == ("completed", {"lr": 1})
    assert "path" not in strict_json(run.path / "metadata.json")
    assert len(manager.list_runs()) == 1


def test_resuming_without_a_step_keeps_all_whole_rows(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    run = manager.create_run("ppo", 0, {})
    run.log_metrics(1, {})
    run.fail("out of memory")

    resumed = manager.open_run(run.run_id)
    resumed.log_metrics(2, {})
    resumed.complete()

    assert [row["step"] for row in strict_json(run.path / "metrics.json")] == [1, 2]
    assert manager.get_run(run.run_id)["error_message"] is None


def test_a_living_run_cannot_be_taken_up(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    run = manager.create_run("ppo", 0, {})
    with pytest.raises(ValueError, match=f"{run.run_id} is being written by process {os.getpid()} on "):
        manager.open_run(run.run_id)
    run.log_metrics(1, {})


@pytest.mark.parametrize("bad_id", ["ppo_20240115_143022_seed42", "nonsense", "../x_20240115_143022_seed42", ""])
def test_unknown_runs_are_named(tmp_path: Path, bad_id: str) -> None:
    manager = ResultsManager(tmp_path)
    for ask in (manager.get_run, manager.open_run, manager.load_policy, lambda name: manager.compare_runs([name])):
        with pytest.raises(ValueError, match=f"there is no run '{bad_id}' in ") as refusal:
            ask(bad_id)
        assert "\n" not in str(refusal.value)


# Many runs


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


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_is_on_disk_and_marked_abandoned(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from bargain_eval.results import ResultsManager
run = ResultsManager(sys.argv[1]).create_run("ppo", 3, {"lr": 0.5})
for step in (1, 2, 3):
    run.log_metrics(step, {"loss": step})
Path(sys.argv[2]).touch()
time.sleep(60)
"""
    root, ready = tmp_path / "results", tmp_path / "ready"
    manager = ResultsManager(root)
    mine = manager.create_run("ppo", 4, {})
    with subprocess.Popen([sys.executable, "-c", code, str(root), str(ready)], env=ENVIRONMENT, text=True) as process:
        wait_for(ready, process)
        assert manager.cleanup_failed_runs(delete=True) == [], "living runs were judged"
        process.send_signal(signal.SIGKILL)

    (killed,) = (run for run in manager.list_runs(status="running") if run["run_id"] != mine.run_id)
    folder = Path(killed["path"])
    assert strict_json(folder / "config.json") == {"lr": 0.5}
    assert len((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()) == 3

    metadata = strict_json(folder / "metadata.json")
    (folder / "metadata.json").write_text(json.dumps(metadata | {"host": "elsewhere"}), encoding="utf-8")
    assert manager.cleanup_failed_runs() == [], "a run of another host was judged"
    (folder / "metadata.json").write_text(json.dumps(metadata | {"pid": os.getpid()}), encoding="utf-8")
    assert manager.cleanup_failed_runs() == [killed["run_id"]], "a process id given out again hid a dead run"

    assert manager.get_run(killed["run_id"])["status"] == "abandoned"
    assert index_on_disk(root)[killed["run_id"]]["status"] == "abandoned"
    assert [row["loss"] for row in strict_json(folder / "metrics.json")] == [1, 2, 3]
    assert manager.cleanup_failed_runs() == []
    assert manager.get_run(mine.run_id)["status"] == "running"


def test_cleanup_deletes_failed_and_abandoned_runs_alone(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path)
    runs: dict[str, RunRecord] = {
        name: manager.create_run("ppo", 0, {}) for name in ("good", "failed", "stopped", "lost")
    }
    runs["good"].complete()
    runs["failed"].fail("error")
    runs["stopped"].interrupt()
    lost = runs.pop("lost").run_id
    living = manager.create_run("ppo", 0, {})

    assert manager.cleanup_failed_runs(delete=True) == sorted([lost, runs["failed"].run_id])
    assert set(ids(manager.list_runs())) == {runs["good"].run_id, runs["stopped"].run_id, living.run_id}
    assert set(index_on_disk(tmp_path)) == set(ids(manager.list_runs()))
    assert not runs["failed"].path.exists()


def test_a_kill_at_any_moment_leaves_everything_loadable(tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
import torch
from bargain_eval.checkpoint import make_checkpoint
from bargain_eval.results import ResultsManager

torch.set_num_threads(1)
root, *delays = sys.argv[1:]

def save_forever():
    run = ResultsManager(root).create_run("ppo", 1, {})
    weights = {"weight": torch.rand(500, 500)}
    networks = [{"config": {}, "policy_state_dict": weights}]
    for step in range(1, 200):
        data = make_checkpoint(algorithm="ppo", spec={}, networks=networks, seats=[[(0, 1.0)]] * 2, step=step)
        run.save_checkpoint(data, step, is_best=step % 2 == 1, keep=2)
        run.log_metrics(step, {"loss": 1.0})
        run.set_progress(step, step, 1.0)
        if step == 1:
            os.write(ready, b"x")
    time.sleep(60)

for delay in delays:
    wait, ready = os.pipe()
    child = os.fork()
    if child == 0:
        save_forever()
    os.read(wait, 1)
    time.sleep(float(delay))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    rounds = 20
    generator = random.Random(0)
    delays = [f"{generator.uniform(0.0, 0.1):.4f}" for _ in range(rounds)]
    command = [sys.executable, "-c", code, str(tmp_path), *delays]
    subprocess.run(command, env=ENVIRONMENT, check=True, timeout=60)

    assert len(index_on_disk(tmp_path)) == rounds
    manager = ResultsManager(tmp_path)
    runs = manager.list_runs(status="running")
    assert len(runs) == rounds
    saved = 0
    for run in runs:
        latest = manager.load_policy(run["run_id"], "latest")["step"]
        assert run["actual_timesteps"] <= latest <= run["actual_timesteps"] + 1
        assert manager.load_policy(run["run_id"], "best")["step"] in {latest, latest - 1, latest - 2}
        for path in Path(run["path"], "checkpoints").glob("step_*.pt"):
            assert manager.load_policy(run["run_id"], path.stem)["step"] == int(path.stem.removeprefix("step_"))
        saved += latest
    assert saved > 3 * rounds, "too few saves for the kills to mean anything"
    assert len(manager.cleanup_failed_runs()) == rounds
    assert list(tmp_path.rglob(".*.tmp")) == []


# Malicious files


class TouchFile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("name", [None, "policy", "best", "latest", "step_1"])
@pytest.mark.parametrize("archive", [True, False])
def test_a_malicious_policy_is_refused(tmp_path: Path, name: str | None, archive: bool) -> None:
    manager = ResultsManager(tmp_path / "results")
    run = manager.create_run("ppo", 0, {})
    evil = checkpoint() | {"resume": TouchFile(tmp_path / "trace")}
    path = run.path / "policy.pt" if name in {None, "policy"} else run.path / "checkpoints" / f"{name}.pt"
    torch.save(evil, path) if archive else path.write_bytes(pickle.dumps(evil))

    with pytest.raises(CheckpointError, match="refused"):
        manager.load_policy(run.run_id, name)

    assert not (tmp_path / "trace").exists()


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

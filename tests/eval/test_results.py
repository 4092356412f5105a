"""One stored run: what is written, when, and how it ends."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from bargain_eval.results import ResultsManager
from stored_runs import checkpoint, index_on_disk, strict_json

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

"""The run's own services: intervals, clock, threads, seeds, and what they refuse."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from bargain_eval import ResultsManager
from bargain_train.config import StepConfig
from bargain_train.run import Run, available_cores, torch_threads
from bargain_train.seeds import derive_seed


def _config(tmp_path: Path, **settings: Any) -> StepConfig:
    folders = {"results_dir": str(tmp_path / "results"), "checkpoint_dir": str(tmp_path / "mirror")}
    base: dict[str, Any] = {"game": "mini-b", "threads": 1}
    return StepConfig(**(base | folders | settings))


def test_nothing_is_stored_before_the_start(tmp_path: Path) -> None:
    with Run("ppo", _config(tmp_path), console=False) as run:
        assert not run.started
        assert run.seconds == 0.0
        with pytest.raises(RuntimeError, match="not been started"):
            run.log({})
        assert not (tmp_path / "results").exists()
    assert not (tmp_path / "results").exists()


def test_a_started_run_is_running_and_left_unfinished_it_is_interrupted(tmp_path: Path) -> None:
    manager = ResultsManager(tmp_path / "results")
    with Run("ppo", _config(tmp_path), console=False) as run:
        run.start()
        assert manager.get_run(run.record.run_id)["status"] == "running"
        run.advance(10)
        assert run.seconds > 0
    stored = manager.get_run(run.record.run_id)
    assert stored["status"] == "interrupted"
    assert stored["actual_timesteps"] == 10
    assert stored["num_updates"] == 1


def test_an_error_before_the_start_stores_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), Run("ppo", _config(tmp_path), console=False):
        raise ValueError("bad")
    assert not (tmp_path / "results").exists()


def test_due_counts_crossings_once(tmp_path: Path) -> None:
    run = Run("ppo", _config(tmp_path, checkpoint_interval=100, eval_interval=70), console=False)
    crossed: dict[str, list[int]] = {"checkpoint": [], "eval": []}
    for _ in range(12):
        run.advance(33)
        for name, steps in crossed.items():
            if run.due(name):
                steps.append(run.step)
            assert not run.due(name)
    assert crossed["checkpoint"] == [132, 231, 330]
    assert crossed["eval"] == [99, 165, 231, 297, 363]


def test_log_interval_counts_updates_and_forced_lines_are_never_lost(tmp_path: Path) -> None:
    with Run("ppo", _config(tmp_path, log_interval=3), console=False) as run:
        run.start()
        for update in range(1, 8):
            run.advance(5)
            run.log({"x": update}, force=update == 4)
    lines = ResultsManager(tmp_path / "results").get_run(run.record.run_id)["path"]
    steps = [line.split(",")[0] for line in (Path(lines) / "metrics.jsonl").read_text().splitlines()]
    assert steps == ['{"step": 15', '{"step": 20', '{"step": 30']


def test_best_is_kept_only_if_it_improves(tmp_path: Path) -> None:
    with Run("ppo", _config(tmp_path), console=False) as run:
        run.start()
        assert [run.keep_best(payoff) for payoff in (0.4, 0.3, 0.4, 0.5)] == [True, False, False, True]
        assert run.record.metadata["best_metrics"] == {"pool_payoff": 0.5, "step": 0}


def test_threads_and_handlers_are_given_back(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Run("ppo", _config(tmp_path, threads=1), console=False):
        assert torch.get_num_threads() == 1
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert torch.get_num_threads() == 2
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_torch_threads_are_lent_for_the_while() -> None:
    torch.set_num_threads(2)
    with torch_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_a_run_off_the_main_thread_takes_no_signals(tmp_path: Path) -> None:
    stored = []

    def work() -> None:
        with Run("ppo", _config(tmp_path), console=False) as run:
            run.start()
        stored.append(run.record.metadata["status"])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert stored == ["interrupted"]


def test_no_thread_number_takes_every_core(tmp_path: Path) -> None:
    assert Run("ppo", _config(tmp_path, threads=0), console=False).threads == available_cores() >= 1


def test_entering_seeds_the_networks(tmp_path: Path) -> None:
    drawn = []
    for seed in (1, 1, 2):
        with Run("ppo", _config(tmp_path, seed=seed), console=False):
            drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1] != drawn[2]


def test_streams_are_unrelated_and_seeds_beyond_32_bits_differ() -> None:
    seeds = {derive_seed(seed, stream) % 2**32 for seed in (0, 1, 2**32, 2**63 - 1) for stream in ("a", "b", "ab")}
    assert len(seeds) == 12
    assert derive_seed(5, "actions") == derive_seed(5, "actions") < 2**64


def test_a_gpu_that_is_not_there_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'^(device|there is no device) "cuda.*\.$'):
        Run("ppo", _config(tmp_path, device="cuda", cuda_device=99))


def test_a_missing_tensorboard_is_named_before_anything_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'bargain-train\[tensorboard\]'"):
        Run("ppo", _config(tmp_path, tensorboard=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 2**63}, "seed"),
        ({"seed": -1}, "seed"),
        ({"total_timesteps": 0}, "total_timesteps"),
        ({"device": "tpu"}, "device"),
        ({"rounds": 99}, "leave out"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _config(tmp_path, **settings)


def test_a_config_survives_json_and_unknown_fields_are_named(tmp_path: Path) -> None:
    config = _config(tmp_path, wandb_tags=("a", "b"))
    assert StepConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match=r"unknown settings for StepConfig: colour\."):
        StepConfig.from_dict({"colour": 1})

"""What is common to every run: the stored record, the sinks of metrics, the clock, checkpoints, signals and status."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
import torch
from bargain_eval.checkpoint import read_checkpoint
from bargain_eval.registry import load_policy
from bargain_eval.results import ResultsManager, RunRecord

from bargain_train.config import RunConfig
from bargain_train.loggers import MultiLogger, create_logger

_RESUMABLE = ("interrupted", "failed", "abandoned", "running")


class Run:
    """One run of an algorithm, from its first second a folder in the results store; a context manager.

    Entering seeds every generator and takes SIGINT and SIGTERM: the first asks the algorithm to stop after its update
    (`should_stop`), a second SIGINT stops at once. Leaving closes the record as completed, interrupted or failed.

    Args:
        algorithm: The training command.
        config: Its settings.
        console: Print progress to the terminal.

    Attributes:
        config: The settings; of a resumed run, those it was started with.
        record: The stored run.
        step: Environment steps taken.
        updates: Updates made.
        best: Best pool payoff in evaluations so far, None before the first.
        resumed: The `resume` part of the checkpoint to go on from; None for a new run.
        stopped: True once a signal asked to stop.
        evaluation: The final evaluation, once there is one.

    Raises:
        ValueError: If `config.resume` names no run that can be resumed.
    """

    def __init__(self, algorithm: str, config: RunConfig, *, console: bool = True) -> None:
        self.algorithm = algorithm
        self.config = config
        self.step = self.updates = 0
        self.best: float | None = None
        self.resumed: dict[str, Any] | None = None
        self.stopped = False
        self.evaluation: dict[str, Any] | None = None
        self._seconds_before = 0.0
        self._marks: dict[str, int] = {}
        self._console = console
        self.record = self._resume() if config.resume else self._create()
        self.threads = config.threads or len(os.sched_getaffinity(0))
        self._logger: MultiLogger | None = None
        self._handlers: dict[int, Any] = {}

    def _create(self) -> RunRecord:
        config = self.config
        return ResultsManager(config.results_dir).create_run(
            self.algorithm,
            config.seed,
            config.to_dict(),
            env_config=config.spec().to_dict(),
            total_timesteps=config.total_timesteps,
            tags=config.wandb_tags or (self.algorithm, "bargain"),
            device=self.device,
        )

    def _resume(self) -> RunRecord:
        manager = ResultsManager(self.config.results_dir)
        run_id = str(self.config.resume)
        stored = manager.get_run(run_id)
        if stored["status"] not in _RESUMABLE:
            raise ValueError(f"run {run_id} is {stored['status']}; there is nothing to resume.")
        latest = Path(stored["path"]) / "checkpoints" / "latest.pt"
        if not latest.is_file():
            raise ValueError(f"run {run_id} has no checkpoint to resume from.")
        checkpoint = read_checkpoint(latest)
        if "resume" not in checkpoint:
            raise ValueError(f"the checkpoint of run {run_id} holds no training state.")
        self.resumed = checkpoint["resume"]
        progress = self.resumed["run"]
        self.step, self.updates, self.best = checkpoint["step"], progress["updates"], progress["best"]
        self._seconds_before = progress["seconds"]
        for name in ("checkpoint", "eval"):
            self.due(name)
        return manager.open_run(run_id, truncate_after_step=self.step)

    @property
    def device(self) -> str:
        """The device to train on: "cpu" or "cuda:k"."""
        return f"cuda:{self.config.cuda_device}" if self.config.device == "cuda" else "cpu"

    @property
    def seconds(self) -> float:
        """Seconds of training, those before a resumption included."""
        return self._seconds_before + time.perf_counter() - self._started

    def __enter__(self) -> Self:
        config, record = self.config, self.record
        random.seed(config.seed)
        np.random.seed(config.seed % 2**32)  # noqa: NPY002 - for libraries that draw from the global generator
        torch.manual_seed(config.seed)
        torch.set_num_threads(self.threads)
        self._started = self._logged_at = time.perf_counter()
        self._logged_step = self.step
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)
        self._logger = create_logger(
            console=self._console,
            wandb_project=config.wandb_project if config.wandb else None,
            wandb_name=config.wandb_name or record.run_id,
            wandb_config=config.to_dict(),
            wandb_tags=config.wandb_tags or (self.algorithm, "bargain"),
            wandb_dir=record.path,
            tensorboard_dir=record.path / "tensorboard" if config.tensorboard else None,
            total=config.total_timesteps,
            start=self.step,
        )
        return self

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._logger is not None:
            self._logger.close()
        self.record.set_progress(self.step, self.updates, self.seconds)
        if isinstance(error, KeyboardInterrupt) or (error is None and self.stopped):
            self.record.interrupt()
        elif error is not None:
            self.record.fail(error)
        else:
            self.record.complete()

    def should_stop(self) -> bool:
        """Tells whether the budget is spent or a signal asked to stop."""
        return self.stopped or self.step >= self.config.total_timesteps

    def advance(self, steps: int) -> None:
        """Counts an update that used `steps` environment steps."""
        self.step += steps
        self.updates += 1

    def due(self, name: str) -> bool:
        """Tells whether the interval `config.<name>_interval` was crossed since the last call; at most once an update."""
        mark = self.step // getattr(self.config, f"{name}_interval")
        crossed = mark > self._marks.get(name, 0)
        self._marks[name] = mark
        return crossed

    def log(self, metrics: Mapping[str, Any], *, force: bool = False) -> None:
        """Writes the metrics of this update to the record and every sink, in every `log_interval`-th update.

        Adds `steps_per_second` since the last written line. `force` writes whatever the interval.
        """
        if self._logger is None:
            raise RuntimeError("the run has not been entered.")
        if self.updates % self.config.log_interval and not force:
            return
        now = time.perf_counter()
        rate = (self.step - self._logged_step) / max(now - self._logged_at, 1e-9)
        self._logged_at, self._logged_step = now, self.step
        line = dict(metrics) | {"updates": self.updates, "steps_per_second": rate}
        self.record.log_metrics(self.step, line)
        self._logger.log(self.step, line)

    def save(self, checkpoint: Mapping[str, Any], *, is_best: bool = False) -> None:
        """Stores a checkpoint with the state that `resume` needs, and mirrors best.pt and latest.pt."""
        progress = {"updates": self.updates, "best": self.best, "seconds": self.seconds}
        resume = dict(checkpoint.get("resume", {})) | {"run": progress}
        mirror = self.config.checkpoint_dir or f"checkpoints/{self.algorithm}"
        self.record.save_checkpoint(dict(checkpoint) | {"resume": resume}, self.step, is_best, mirror=mirror)
        self.record.set_progress(self.step, self.updates, self.seconds)

    def keep_best(self, pool_payoff: float) -> bool:
        """Tells whether this evaluation is the best so far, and remembers it if so."""
        if self.best is not None and pool_payoff <= self.best:
            return False
        self.best = pool_payoff
        self.record.set_best_metrics({"pool_payoff": pool_payoff, "step": self.step})
        return True

    def finish(self, checkpoint: Mapping[str, Any], evaluation: Mapping[str, Any], *, seat: int | None = None) -> None:
        """Stores the final policy (without training state), its evaluation, and the metrics that runs are ranked by.

        Args:
            checkpoint: The final policy.
            evaluation: What `evaluate_policy` returned on the deals of the final evaluation.
            seat: The learner's seat in a run against a fixed opponent, None if both seats learned.
        """
        self.record.save_final_policy({key: value for key, value in checkpoint.items() if key != "resume"})
        self.record.save_final_eval(evaluation)
        final = {key: evaluation[key] for key in ("pool_payoff", "pool_payoff_se")}
        if seat is None:
            names = ("payoff_0", "payoff_1", "total", "agreement_rate", "first_move_walk_rate", "mean_decisions")
            final |= {name: evaluation["self_play"][name] for name in names}
        self.record.set_final_metrics(final | {"seat": seat})
        self.evaluation = dict(evaluation)

    def load_opponent(self, policy: str) -> Any:
        """Returns the policy that `policy` names, on this run's game and device."""
        config = self.config
        return load_policy(policy, config.spec(), config.seed, self.device, config.results_dir)

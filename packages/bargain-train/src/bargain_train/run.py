"""What is common to every run: the stored record, the sinks of metrics, the clock, checkpoints, signals and status."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from bargain_eval.checkpoint import read_checkpoint
from bargain_eval.policy import Policy
from bargain_eval.registry import load_policy, parse_policy_string, resolve_device
from bargain_eval.results import ResultsManager, RunRecord
from bargain_eval.results.layout import algorithm_name

from bargain_train.config import RunConfig
from bargain_train.distributed import ALONE, Team
from bargain_train.loggers import MultiLogger, create_logger, require_tensorboard
from bargain_train.seeds import derive_seed

_RESUMABLE = ("interrupted", "failed", "abandoned", "running")


class Run:
    """One run of an algorithm; a context manager.

    Entering seeds torch, from which networks draw their first weights, and takes SIGINT and SIGTERM: the first asks
    the algorithm to stop after its update (`should_stop`), a second SIGINT stops at once. The algorithm builds all it
    needs, so that every bad setting has shown itself, and calls `start`: from then on the run is a folder in the
    results store. Leaving closes it as completed (after `finish`), interrupted or failed.

    Args:
        algorithm: The training command.
        config: Its settings; with `resume`, those that the stored run was started with.
        console: Print progress to the terminal.
        mirror: Mirror best.pt and latest.pt where the algorithm's are by default, if the settings name no folder.
        team: The processes that make this run together; the first alone starts and writes it.

    Attributes:
        config: The settings.
        device: Where to train, "cpu" or "cuda:k"; several processes of a machine take GPUs from the chosen one on.
        threads: CPU threads.
        step: Environment steps taken.
        updates: Updates made.
        best: Best pool payoff in evaluations so far, None before the first.
        resumed: The `resume` part of the checkpoint to go on from; None for a new run.
        stopped: True once a signal asked to stop.
        team: The processes that make this run together.
        finished: True once the final policy is stored.
        evaluation: The final evaluation, once there is one.

    Raises:
        ValueError: If `config.resume` names no run that can be resumed, or a setting needs what is not there,
            a GPU for one.
    """

    def __init__(
        self, algorithm: str, config: RunConfig, *, console: bool = True, mirror: bool = True, team: Team = ALONE
    ) -> None:
        if config.tensorboard:
            require_tensorboard()
        self.algorithm = algorithm
        self.config = config
        self.team = team
        self.device = _device(config, team.local_rank)
        self.threads = config.threads or max(1, available_cores() // team.local_size)
        self.step = self.updates = 0
        self.best: float | None = None
        self.resumed: dict[str, Any] | None = None
        self.stopped = self.finished = False
        self.evaluation: dict[str, Any] | None = None
        self._console = console
        self._mirror = config.checkpoint_dir or (f"checkpoints/{algorithm_name(algorithm)}" if mirror else None)
        self._manager = ResultsManager(config.results_dir)
        self._record: RunRecord | None = None
        self._logger: MultiLogger | None = None
        self._handlers: dict[int, Any] = {}
        self._marks: dict[str, int] = {}
        self._spent_before = 0
        self._saved_step: int | None = None
        self._seconds_before = 0.0
        self._started_at: float | None = None
        if config.resume is not None:
            self._read_checkpoint(config.resume)

    def _read_checkpoint(self, run_id: str) -> None:
        stored = self._manager.get_run(run_id)
        if stored["status"] not in _RESUMABLE:
            raise ValueError(f"run {run_id} is {stored['status']}; there is nothing to resume.")
        latest = Path(stored["path"]) / "checkpoints" / "latest.pt"
        if not latest.is_file():
            raise ValueError(f"run {run_id} has no checkpoint to resume from.")
        checkpoint = read_checkpoint(latest)
        if "resume" not in checkpoint:
            raise ValueError(f"the checkpoint of run {run_id} holds no training state.")
        self.resumed = checkpoint["resume"]
        progress = checkpoint["resume"]["run"]
        self.step, self.updates, self.best = checkpoint["step"], progress["updates"], progress["best"]
        self._saved_step, self._seconds_before = self.step, progress["seconds"]
        self._spent_before = self.spent

    @property
    def record(self) -> RunRecord:
        """The stored run.

        Raises:
            RuntimeError: Before `start`.
        """
        if self._record is None:
            raise RuntimeError("the run has not been started.")
        return self._record

    @property
    def started(self) -> bool:
        """True once the run is stored."""
        return self._record is not None

    @property
    def seconds(self) -> float:
        """Seconds since `start`, and those before a resumption."""
        return self._seconds_before + (0.0 if self._started_at is None else time.perf_counter() - self._started_at)

    def __enter__(self) -> Self:
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        torch.manual_seed(derive_seed(self.config.seed, "networks"))
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask_to_stop)
        return self

    def start(self) -> None:
        """Creates the record of a new run or reopens that of a resumed one, and opens the sinks of metrics.

        Raises:
            ValueError: If another process is writing the run to be resumed.
        """
        config = self.config
        tags = config.wandb_tags or (self.algorithm, "bargain")
        if config.resume is not None:
            self._record = self._manager.open_run(config.resume, truncate_after_step=self.step)
        else:
            self._record = self._manager.create_run(
                self.algorithm,
                config.seed,
                config.to_dict(),
                env_config=config.spec().to_dict(),
                total_timesteps=config.budget if config.unit == "steps" else None,
                tags=tags,
                device=self.device if self.team.alone else f"{self.device}, {self.team.size} processes",
            )
        self._started_at = self._logged_at = time.perf_counter()
        self._logged_step = self.step
        self._logger = create_logger(
            console=self._console,
            wandb_project=config.wandb_project if config.wandb else None,
            wandb_name=config.wandb_name or self._record.run_id,
            wandb_config=config.to_dict(),
            wandb_tags=tags,
            wandb_dir=self._record.path,
            wandb_id=self._record.run_id,
            tensorboard_dir=self._record.path / "tensorboard" if config.tensorboard else None,
            total=config.budget,
            start=self.spent,
            unit=config.unit,
        )

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close(error)
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            torch.set_num_threads(self._threads_before)

    def _close(self, error: BaseException | None) -> None:
        if self._record is None:
            return
        self._record.set_progress(self.step, self.updates, self.seconds)
        if error is not None and not isinstance(error, KeyboardInterrupt):
            self._record.fail(error)
        elif self.finished:
            self._record.complete()
        else:
            self._record.interrupt()
        if self._logger is not None:
            self._logger.close()

    @property
    def spent(self) -> int:
        """How much of the budget is used, in its unit."""
        return self.step if self.config.unit == "steps" else self.updates

    def should_stop(self) -> bool:
        """Tells whether the budget is spent or a signal asked to stop."""
        return self.stopped or self.spent >= self.config.budget

    def advance(self, steps: int, updates: int = 1) -> None:
        """Counts updates that used `steps` environment steps together."""
        self.step += steps
        self.updates += updates

    def due(self, name: str) -> bool:
        """Tells whether a multiple of `config.<name>_interval` steps or iterations was passed since the last call."""
        interval = getattr(self.config, f"{name}_interval")
        mark = self.spent // interval
        crossed = mark > self._marks.get(name, self._spent_before // interval)
        self._marks[name] = mark
        return crossed

    def log(self, metrics: Mapping[str, Any], *, force: bool = False) -> None:
        """Writes the metrics of this update to the record and every sink, in every `log_interval`-th update.

        Adds `updates`, and `steps_per_second` since the last written line. Metrics that are objects, such as
        populations, go to the record alone. `force` writes whatever the interval.
        """
        record = self.record
        if self._logger is None or (self.updates % self.config.log_interval and not force):
            return
        now = time.perf_counter()
        rate = (self.step - self._logged_step) / max(now - self._logged_at, 1e-9)
        self._logged_at, self._logged_step = now, self.step
        line = dict(metrics) | {"updates": self.updates, "steps_per_second": rate}
        record.log_metrics(self.step, line)
        self._logger.log(self.step, {name: value for name, value in line.items() if not isinstance(value, Mapping)})

    def status(self, text: str) -> None:
        """Shows on the terminal what is being done."""
        if self._logger is not None:
            self._logger.status(text)

    @property
    def unsaved(self) -> bool:
        """True if no checkpoint of the present step is stored."""
        return self._saved_step != self.step

    def save(self, checkpoint: Mapping[str, Any], *, is_best: bool = False) -> None:
        """Stores a checkpoint with the state that `resume` needs, and mirrors best.pt and latest.pt."""
        progress = {"updates": self.updates, "best": self.best, "seconds": self.seconds}
        resume = dict(checkpoint.get("resume", {})) | {"run": progress}
        self.record.save_checkpoint(dict(checkpoint) | {"resume": resume}, self.step, is_best, mirror=self._mirror)
        self.record.set_progress(self.step, self.updates, self.seconds)
        self._saved_step = self.step

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
            checkpoint: The final policy, without what resuming needs.
            evaluation: What an `Evaluator` returned on the deals of the final evaluation.
            seat: The learner's seat in a run against a fixed opponent, None if both seats learned.
        """
        self.record.save_final_policy(checkpoint)
        self.record.save_final_eval(evaluation)
        final = {key: evaluation[key] for key in ("pool_payoff", "pool_payoff_se")}
        if seat is None:
            names = ("payoff_0", "payoff_1", "total", "agreement_rate", "first_move_walk_rate", "mean_decisions")
            final |= {name: evaluation["self_play"][name] for name in names} | evaluation["nash_conv"]
        self.record.set_final_metrics(final | {"seat": seat})
        self.evaluation = dict(evaluation)
        self.finished = True

    def load_opponent(self, policy: str) -> Policy:
        """Returns the policy that `policy` names, on this run's game and device.

        Raises:
            ValueError: If the string does not fit, or names a language model.
        """
        config = self.config
        if parse_policy_string(policy)[0] == "openai":
            raise ValueError(f"{policy} is a language model, which cannot be asked as often as training needs it.")
        return load_policy(policy, config.spec(), config.seed, self.device, config.results_dir)


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Lets torch use `number` threads for the while.

    1 where games are played in threads of our own: those would contend with torch's for the same cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(config: RunConfig, number: int) -> str:
    """Returns the device of the process of this number on its machine."""
    device = resolve_device(config.device)
    return device if device == "cpu" else resolve_device(f"cuda:{config.cuda_device + number}")


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

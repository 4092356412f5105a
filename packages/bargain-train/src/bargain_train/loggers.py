"""Where metrics go besides the stored run: the console, TensorBoard and W&B, through one small interface."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from bargain_eval.results import nash_conv_text
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Logger(Protocol):
    """A sink of metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes `metrics` under the environment step `step`."""
        ...

    def close(self) -> None:
        """Flushes and ends the sink."""
        ...


CONSOLE_METRICS = (
    ("payoff_0", "seat 0"),
    ("payoff_1", "seat 1"),
    ("total", "total"),
    ("agreement_rate", "deals"),
    ("first_move_walk_rate", "1st walk"),
    ("mean_decisions", "length"),
    ("br_gain_0", "gain 0"),
    ("br_gain_1", "gain 1"),
    ("br_payoff_0", "resp. 0"),
    ("br_payoff_1", "resp. 1"),
    ("entropy", "entropy"),
    ("explained_variance", "expl.var"),
    ("eval/pool_payoff", "eval pool"),
    ("eval/nash_conv", "NashConv"),
    ("eval/nash_conv_lower", "   NashConv"),
)
"""The metrics of the console's table and their headings; beside a lower bound of NashConv stands the upper one."""


class ConsoleLogger:
    """A progress bar with rate and time left, and a line of the metrics that matter about 20 times a run.

    Where the output is no terminal there is no bar, only the lines.

    Args:
        total: Budget; None shows no bar.
        lines: Lines to print over the whole budget; without a budget every call prints one.
        start: What a resumed run had spent of it.
        unit: What the budget counts, "steps" or "iterations" (the metric `updates`).
    """

    def __init__(self, total: int | None = None, lines: int = 20, start: int = 0, unit: str = "steps") -> None:
        self.console = Console(stderr=True)
        self._total, self._lines, self._unit = total, lines, unit
        self._printed = -1
        self._columns: list[tuple[str, str]] = []
        self._recent: dict[str, float] = {}
        self._progress: Progress | None = None
        if total is not None and self.console.is_terminal:
            self._progress = Progress(
                TextColumn(unit),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:,.0f} steps/s"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=self.console,
            )
            self._task = self._progress.add_task("", total=total, completed=start, rate=0.0)
            self._progress.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar, and prints a line if one is due."""
        self._recent |= metrics
        spent = step if self._unit == "steps" else int(metrics.get("updates", 0))
        if self._progress is not None:
            self._progress.update(self._task, completed=spent, rate=metrics.get("steps_per_second", 0.0))
        line = spent * self._lines // self._total if self._total else self._printed + 1
        if line > self._printed:
            self._printed = line
            self._print(step)

    def status(self, text: str) -> None:
        """Says behind the bar what is being done."""
        if self._progress is not None:
            self._progress.update(self._task, description=text)

    def _print(self, step: int) -> None:
        columns = [(name, heading) for name, heading in CONSOLE_METRICS if name in self._recent]
        if not columns:
            columns = [(name, name) for name in self._recent]
        headings = [heading.rjust(7) for _, heading in columns]
        if columns != self._columns:
            self._columns = columns
            self._print_line("step", headings, style="bold")
        cells = zip(columns, headings, strict=True)
        self._print_line(f"{step:,}", [self._shown(name).rjust(len(heading)) for (name, _), heading in cells])

    def _shown(self, name: str) -> str:
        if name == "eval/nash_conv_lower":
            return nash_conv_text(self._recent, prefix="eval/", digits=3)
        return f"{self._recent[name]:.4f}"

    def _print_line(self, step: str, cells: Sequence[str], style: str | None = None) -> None:
        line = "  ".join((step.rjust(10), *cells))
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Ends the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class TorchRLLogger:
    """One of TorchRL's loggers as a sink. Values that are not finite are left out, which the services refuse.

    Args:
        logger: A `torchrl.record.loggers.Logger`.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes every finite metric."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._logger.log_metrics(finite, step=step)

    def close(self) -> None:
        """Flushes and ends the logger."""
        experiment = self._logger.experiment
        (experiment.finish if hasattr(experiment, "finish") else experiment.close)()


class MultiLogger:
    """Several sinks as one.

    Args:
        loggers: The sinks.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = list(loggers)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes to every sink; numpy and torch scalars count as numbers.

        Raises:
            TypeError: If a metric is no number.
        """
        numbers = {name: float(value) for name, value in metrics.items()}
        for logger in self.loggers:
            logger.log(step, numbers)

    def status(self, text: str) -> None:
        """Shows on the console, if it has a bar, what is being done."""
        for logger in self.loggers:
            if isinstance(logger, ConsoleLogger):
                logger.status(text)

    def close(self) -> None:
        """Ends every sink."""
        for logger in self.loggers:
            logger.close()


def create_logger(
    console: bool = True,
    wandb_project: str | None = None,
    wandb_name: str | None = None,
    wandb_config: Mapping[str, Any] | None = None,
    wandb_tags: Sequence[str] = (),
    tensorboard_dir: str | Path | None = None,
    total: int | None = None,
    start: int = 0,
    wandb_dir: str | Path | None = None,
    wandb_id: str | None = None,
    unit: str = "steps",
) -> MultiLogger:
    """Builds a logger with `log(step, metrics)` and `close()`.

    Args:
        console: Print to the terminal.
        wandb_project: Log to this W&B project; None = no W&B. WANDB_MODE=offline needs no account.
        wandb_name: W&B name of the run.
        wandb_config: Settings shown with the run.
        wandb_tags: W&B tags.
        tensorboard_dir: Write TensorBoard files here; None = none.
        total: Budget, for the progress bar.
        start: What was spent of it before.
        wandb_dir: Where W&B keeps its files; the current folder if None.
        wandb_id: W&B id, so that a resumed run goes on in the same W&B run. A sweep's own id goes before it.
        unit: What the budget counts, "steps" or "iterations".

    Raises:
        ValueError: If TensorBoard is wanted and not installed.
    """
    loggers: list[Logger] = [ConsoleLogger(total, start=start, unit=unit)] if console else []
    if tensorboard_dir is not None:
        require_tensorboard()
        from torchrl.record.loggers.tensorboard import TensorboardLogger

        folder = Path(tensorboard_dir)
        loggers.append(TorchRLLogger(TensorboardLogger(exp_name=folder.name, log_dir=str(folder.parent))))
    if wandb_project is not None:
        from torchrl.record.loggers.wandb import WandbLogger

        service = WandbLogger(
            exp_name=wandb_name,
            project=wandb_project,
            id=os.environ.get("WANDB_RUN_ID", wandb_id),
            save_dir=None if wandb_dir is None else str(wandb_dir),
            log_env_packages=False,
            config=dict(wandb_config or {}),
            tags=list(wandb_tags),
        )
        loggers.append(TorchRLLogger(service))
    return MultiLogger(loggers)


def require_tensorboard() -> None:
    """Raises ValueError, naming the extra, if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError("TensorBoard files need an extra: pip install 'bargain-train[tensorboard]'.")

"""A trial: one stored run a seed, watched by the pruner, and judged when it is complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from bargain_eval.results import ResultsManager

from bargain_train.config import RunConfig
from bargain_train.run import Run
from bargain_train.sweep.objectives import OBJECTIVES, score
from bargain_train.sweep.plan import Plan
from bargain_train.sweep.study import Outcome, Task
from bargain_train.sweep.training import FAILURES, config_to_resume, failure, train


def run_trial(plan: Plan, task: Task) -> Outcome:
    """Trains once with each seed and judges; what was done of the trial before is not done again.

    Returns:
        How it ended; the value is the mean over the seeds.
    """
    values = []
    for place, seed in enumerate(plan.seeds):
        try:
            config = plan.config(task.values, seed)
            run = TrialRun(plan, task.trial, config, place)
            if not run.complete:
                train(run)
            if run.pruned:
                return Outcome("pruned")
            if run.stopped:
                return Outcome("stopped")
            values.append(score(plan.objective, run.run_id, config, device=run.device, threads=run.threads))
        except FAILURES as error:
            return Outcome("failed", error=failure(error))
    return Outcome("complete", value=sum(values) / len(values))


class TrialRun(Run):
    """A run of a trial. It tells the trial its id and its evaluations, and stops where the pruner says so.

    Args:
        plan: The search.
        trial: Whose run it is; if it has one of this seed, that is gone on with.
        config: The settings of a new run.
        place: How many runs of the trial come before it.

    Attributes:
        pruned: True once the pruner stopped it.
    """

    def __init__(self, plan: Plan, trial: optuna.Trial, config: RunConfig, place: int) -> None:
        self.pruned = False
        self._trial, self._place = trial, place
        self._metrics = OBJECTIVES[plan.objective].metrics
        self._stored: dict[str, Any] | None = None
        run_id = trial.user_attrs.get("runs", {}).get(str(config.seed))
        if run_id is not None:
            self._stored = ResultsManager(config.results_dir).get_run(run_id)
            if self._stored["status"] != "completed":
                config = config_to_resume(config, self._stored)
        super().__init__(plan.algorithm, config, mirror=False)

    @property
    def complete(self) -> bool:
        """True if the run has ended as it should."""
        return self.finished or (self._stored is not None and self._stored["status"] == "completed")

    @property
    def run_id(self) -> str:
        """The id of the stored run."""
        return str(self.record.run_id if self._stored is None else self._stored["run_id"])

    def start(self) -> None:
        """Starts the run and notes its id in the trial."""
        super().start()
        self._stored = self.record.metadata
        self._trial.set_user_attr("runs", self._trial.user_attrs.get("runs", {}) | {str(self.config.seed): self.run_id})

    def log(self, metrics: Mapping[str, Any], *, force: bool = False) -> None:
        """Writes the metrics, and reports to the trial if they are of an evaluation after which the run goes on."""
        super().log(metrics, force=force)
        value = next((metrics[name] for name in self._metrics if name in metrics), None)
        interval = getattr(self.config, "eval_interval", None)
        if value is None or interval is None:
            return
        number = self._place * (self.config.budget // interval) + self.spent // interval
        reported = self._trial.study.get_trials(deepcopy=False)[self._trial.number].intermediate_values
        if number not in reported:
            self._trial.report(float(value), number)
        if not self.should_stop() and self._trial.should_prune():
            self.pruned = self.stopped = True

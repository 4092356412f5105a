"""A process at work on a study."""

from __future__ import annotations

from pathlib import Path

import yaml
from bargain_eval.files import replace_file

from bargain_train.sweep.plan import Plan
from bargain_train.sweep.printing import print_trials, say, shown
from bargain_train.sweep.study import Outcome, Study, Task
from bargain_train.sweep.trial import run_trial

BEST = "best.yaml"


def search(plan: Plan, study: Study, folder: Path) -> int:
    """Works on the trials until none is left for this process, and prints the best.

    Returns:
        The exit code: 0, or 1 if a trial of the study failed, or 130 if a signal asked to stop.
    """
    name = study.study.study_name
    done = sum(row["state"] != "running" for row in study.rows())
    say(f"Study {name} in {folder}: {done} of {plan.num_trials} trials are done.")
    if not work_on(plan, study, folder):
        return 130
    _write_files(plan, study, folder)
    print_trials(plan, study, folder, folder / BEST)
    return int(any(row["state"] == "failed" for row in study.rows()))


def work_on(plan: Plan, study: Study, folder: Path) -> bool:
    """Works on the trials until none is left for this process; returns False if a signal asked to stop."""
    while (task := study.next_task(plan.num_trials)) is not None:
        number = task.trial.number
        say(f"\nTrial {number}: {shown(task.values)}")
        outcome = run_trial(plan, task)
        study.close(task, outcome)
        if outcome.state == "stopped":
            say(f"Stopped. The same command goes on with trial {number}.")
            return False
        if outcome.state == "complete":
            _write_files(plan, study, folder)
        say(_ended(plan, study, task, outcome))
    return True


def _ended(plan: Plan, study: Study, task: Task, outcome: Outcome) -> str:
    number = task.trial.number
    if outcome.state == "failed":
        return f"Trial {number} failed: {outcome.error}"
    if outcome.state == "pruned":
        return f"Trial {number} was pruned."
    best = study.best_first()[0]
    return f"Trial {number}: {plan.objective} {outcome.value:.4f} (best {best['objective']:.4f}, trial {best['trial']})"


def _write_files(plan: Plan, study: Study, folder: Path) -> None:
    """Writes trials.json, and the settings of the best trial so far, if one is complete, as a file for `--config`."""
    with study.alone():
        study.write_trials()
        for best in study.best_first()[:1]:
            note = (
                f"# Trial {best['trial']} of the study {study.study.study_name}: {plan.objective} "
                f"{best['objective']:.6g}, run {' '.join(best['runs'].values())}.\n"
            )
            text = yaml.safe_dump(plan.settings(best["values"]), sort_keys=False, default_flow_style=None)
            with replace_file(folder / BEST) as file:
                file.write((note + text).encode())

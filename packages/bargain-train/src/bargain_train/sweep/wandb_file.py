"""The same searches as files for `wandb sweep`, whose agents call the training commands."""

from __future__ import annotations

from typing import Any

import yaml

from bargain_train.algorithms import ALGORITHMS
from bargain_train.sweep.objectives import OBJECTIVES, logged_metric
from bargain_train.sweep.options import SweepOptions
from bargain_train.sweep.parameters import Range
from bargain_train.sweep.plan import Plan, make_plan

ALL_SEEDS = (42, 123, 456, 789, 1337)

_METHODS = ("grid", "random", "bayes")


def sweep_file(plan: Plan, run_cap: int | None = None) -> str:
    """Returns the YAML text of a W&B sweep that makes the same search.

    Args:
        plan: The search.
        run_cap: The most runs.

    Raises:
        ValueError: If W&B cannot do it: by this method, for this objective, or with several seeds a trial.
    """
    if plan.method not in _METHODS:
        raise ValueError(f"W&B has no method {plan.method}; choose one of {', '.join(_METHODS)}.")
    ranges = [name for name, parameter in plan.parameters.items() if isinstance(parameter, Range)]
    if plan.method == "grid" and ranges:
        raise ValueError(f"W&B makes no grid of ranges; {', '.join(ranges)} must have values.")
    if len(plan.seeds) > 1:
        raise ValueError("a W&B run trains once; give one of --seeds.")
    goal = {"name": logged_metric(plan.objective, plan.fixed.config), "goal": OBJECTIVES[plan.objective].direction}
    return _text(
        command=["bargain-train", plan.algorithm, "--wandb", f"--seed={plan.seeds[0]}", *plan.fixed.words, "${args}"],
        method=plan.method,
        metric=goal,
        parameters=dict(plan.space),
        **({} if run_cap is None else {"run_cap": run_cap}),
    )


def comparison_file() -> str:
    """Returns the YAML text of a W&B sweep that trains every algorithm with each of `ALL_SEEDS`."""
    return _text(
        command=["bargain-train", "sweep", "--compare-algorithms", "${args}", "--", "--wandb"],
        method="grid",
        metric={"name": OBJECTIVES["payoff"].metrics[0], "goal": "maximize"},
        parameters={"algorithms": {"values": list(ALGORITHMS)}, "seeds": {"values": list(ALL_SEEDS)}},
    )


def files() -> dict[str, str]:
    """Returns the text of every file of the folder sweeps/ by its name: one an algorithm, and one of all."""
    texts = {
        f"sweep_{name.replace('-', '_')}.yaml": sweep_file(make_plan(SweepOptions(algorithm=name, method="bayes")))
        for name in ALGORITHMS
    }
    texts["sweep_all_algorithms.yaml"] = comparison_file()
    note = "# Written by `python sweeps/generate.py` from the search spaces in bargain_train.algorithms.\n"
    return {name: note + text for name, text in texts.items()}


def _text(**sweep: Any) -> str:
    return yaml.safe_dump({"program": "bargain-train", **sweep}, sort_keys=False, default_flow_style=None, width=120)

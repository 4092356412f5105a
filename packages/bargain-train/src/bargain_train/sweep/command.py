"""`bargain-train sweep`: reads what is asked for and does it."""

from __future__ import annotations

import dataclasses
import shlex
from collections import deque
from pathlib import Path

import optuna
from bargain_eval.cli_tools import sentence

from bargain_train.algorithms import ALGORITHMS
from bargain_train.sweep.objectives import OBJECTIVES
from bargain_train.sweep.options import SweepOptions
from bargain_train.sweep.plan import Plan, make_plan
from bargain_train.sweep.printing import print_comparison, say
from bargain_train.sweep.samplers import STARTUP, draw, make_pruner, make_sampler
from bargain_train.sweep.settings import find_algorithm, read_settings
from bargain_train.sweep.sharing import as_they_end, in_this_process
from bargain_train.sweep.study import Study, open_study

COMPARED_SEEDS = (42, 123, 456)


def sweep(options: SweepOptions) -> int:
    """Does what the command line asks for and returns the exit code: 1 if a training failed, 130 if it was stopped.

    Raises:
        ValueError: If something of it does not fit.
    """
    if not in_this_process(options.executor, options.workers):
        options = _absolute(options)
    if options.compare_algorithms:
        return _compare(options)
    plan = make_plan(options)
    if options.print_wandb:
        from bargain_train.sweep.wandb_file import sweep_file

        say(sweep_file(plan, options.num_trials).rstrip())
        return 0
    if options.dry_run:
        return _show_trials(plan, make_sampler(plan.method, plan.parameters, plan.seed))

    from bargain_train.sweep.search import search

    study, folder = _open(plan, options)
    if not in_this_process(options.executor, options.workers):
        copies = deque(dataclasses.replace(options) for _ in range(options.workers))
        if not all(as_they_end(work, copies, options.executor, options.workers)):
            return 130
    return search(plan, study, folder)


def work(options: SweepOptions) -> bool:
    """Works on the trials of a study in a process of its own; returns False if a signal asked to stop."""
    from bargain_train.sweep.search import work_on

    plan = make_plan(options)
    return work_on(plan, *_open(plan, options))


def _absolute(options: SweepOptions) -> SweepOptions:
    """Returns the options with paths that mean the same wherever a process stands."""
    return dataclasses.replace(
        options,
        output_dir=options.output_dir.resolve(),
        results_dir=str(Path(options.results_dir).resolve()),
        space=options.space and options.space.resolve(),
    )


def _open(plan: Plan, options: SweepOptions) -> tuple[Study, Path]:
    """Returns the study of a search and its folder."""
    name = options.study or f"{plan.algorithm.replace('-', '_')}_{plan.method}"
    folder = options.output_dir / name
    study = open_study(
        name,
        folder,
        plan.parameters,
        plan.identity(),
        storage=options.storage,
        direction=OBJECTIVES[plan.objective].direction,
        sampler=make_sampler(plan.method, plan.parameters, plan.seed),
        pruner=make_pruner(plan.pruner),
    )
    return study, folder


def _show_trials(plan: Plan, sampler: optuna.samplers.BaseSampler) -> int:
    """Prints the commands of the first trials, as many as depend on no result; returns 1 if one would be refused."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler)
    shown = min(STARTUP[plan.method] or plan.num_trials, plan.num_trials)
    refused = 0
    for _ in range(shown):
        values = draw(study.ask(), plan.parameters)
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]
        for seed in plan.seeds:
            say(shlex.join(["bargain-train", plan.algorithm, *plan.fixed.words, *flags, f"--seed={seed}"]))
        try:
            plan.config(values, plan.seeds[0])
        except ValueError as error:
            refused += 1
            say(f"# is refused: {sentence(error)}")
    if shown < plan.num_trials:
        say(f"# and {plan.num_trials - shown} trials more, which depend on the results of these")
    return int(refused > 0)


def _compare(options: SweepOptions) -> int:
    names = list(dict.fromkeys(find_algorithm(name) for name in options.algorithms or ALGORITHMS))
    seeds = options.seeds or COMPARED_SEEDS
    fixed = read_settings(names, options.settings, seed=seeds[0], results_dir=options.results_dir)
    if options.dry_run:
        for seed in seeds:
            for name in names:
                say(shlex.join(["bargain-train", name, *fixed[name].words, f"--seed={seed}"]))
        return 0

    from bargain_train.sweep.comparison import cells, compare

    wanted = cells({name: fixed[name].config for name in names}, seeds)
    ended = []
    folder = options.output_dir / (options.study or "comparison")
    for one in compare(wanted, folder, options.executor, options.workers):
        ended.append(one)
        run = "" if one.run is None else f", run {one.run['run_id']}"
        error = "" if one.error is None else f": {one.error}"
        say(f"{one.cell.algorithm}, seed {one.cell.config.seed}: {one.state}{run}{error}")
    print_comparison(sorted(ended, key=lambda one: wanted.index(one.cell)))
    if any(one.state == "stopped" for one in ended):
        say("Stopped. The same command goes on with what is missing.")
        return 130
    return int(any(one.state == "failed" for one in ended))

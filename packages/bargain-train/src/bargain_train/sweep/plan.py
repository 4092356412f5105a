"""What a search is told, made ready: the algorithm, its fixed settings, what is searched and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bargain_eval.files import plain

from bargain_train.algorithms import ALGORITHMS
from bargain_train.config import RunConfig
from bargain_train.sweep.objectives import check_objective
from bargain_train.sweep.options import Method, ObjectiveName, PrunerName, SweepOptions
from bargain_train.sweep.parameters import Grid, Parameter, read_parameters, read_space
from bargain_train.sweep.settings import Fixed, deciding, find_algorithm, read_settings

DEFAULT_TRIALS = 20

EVALUATIONS = 4
"""The fewest evaluations of a trial that may be pruned."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        algorithm: The training command.
        fixed: The settings that all trials share.
        space: What is searched, as W&B describes it.
        parameters: The same, read.
        method: How it is searched.
        objective: What is to be best.
        pruner: Which trials stop early.
        seed: Seed of the search.
        seeds: Seeds of each trial's trainings.
        num_trials: Trials in all.
    """

    algorithm: str
    fixed: Fixed
    space: Mapping[str, Any]
    parameters: Mapping[str, Parameter]
    method: Method
    objective: ObjectiveName
    pruner: PrunerName
    seed: int
    seeds: tuple[int, ...]
    num_trials: int

    def config(self, values: Mapping[str, Any], seed: int) -> RunConfig:
        """Returns the settings of a trial's training.

        Args:
            values: The trial's values of the parameters.
            seed: The training's seed.

        Raises:
            ValueError: If they do not fit together.
        """
        base = self.fixed.config
        config = type(base).from_dict(base.to_dict() | dict(values) | {"seed": seed})
        often = max(1, config.budget // EVALUATIONS)
        if self.pruner == "none" or getattr(config, "eval_interval", 0) <= often:
            return config
        return type(base).from_dict(config.to_dict() | {"eval_interval": often})

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what `--config` needs to train with a trial's values: them, and the settings that were given."""
        fixed = self.fixed.config.to_dict()
        return {name: fixed[name] for name in self.fixed.names} | dict(values)

    def identity(self) -> dict[str, Any]:
        """Returns, in JSON's types, all that the results of the trials depend on; those of a study share it."""
        settings = deciding(self.fixed.config.to_dict())
        del settings["seed"]
        identity = {
            "algorithm": self.algorithm,
            "settings": settings,
            "space": self.space,
            "method": self.method,
            "objective": self.objective,
            "pruner": self.pruner,
            "seed": self.seed,
            "seeds": self.seeds,
        }
        return dict(plain(identity))


def make_plan(options: SweepOptions) -> Plan:
    """Returns the search that the command line asks for.

    Raises:
        ValueError: If a setting, the space or the objective does not fit.
    """
    algorithm = find_algorithm(options.algorithm or "")
    seeds = options.seeds or (options.seed,)
    fixed = read_settings([algorithm], options.settings, seed=seeds[0], results_dir=options.results_dir)[algorithm]
    own = ALGORITHMS[algorithm].space
    written: Mapping[str, Any] = own if options.space is None else read_space(options.space)
    space = {name: part for name, part in written.items() if name.replace("-", "_") not in fixed.names}
    if not space:
        raise ValueError("nothing is left to search; give fewer settings after --.")
    parameters = read_parameters(space, ALGORITHMS[algorithm].config)
    check_objective(options.objective, fixed.config)
    return Plan(
        algorithm=algorithm,
        fixed=fixed,
        space=space,
        parameters=parameters,
        method=options.method,
        objective=options.objective,
        pruner=options.pruner,
        seed=options.seed,
        seeds=seeds,
        num_trials=_num_trials(options, parameters),
    )


def _num_trials(options: SweepOptions, parameters: Mapping[str, Parameter]) -> int:
    if options.method != "grid":
        return options.num_trials or DEFAULT_TRIALS
    size = Grid(parameters, options.seed).size
    return size if options.num_trials is None else min(size, options.num_trials)

"""Where the settings of a trial come from: Optuna's samplers, each seeded by the trial's number."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from bargain_train.seeds import derive_seed
from bargain_train.sweep.options import Method, PrunerName
from bargain_train.sweep.parameters import Choice, Grid, Parameter, Range

STARTUP = {"random": None, "grid": None, "bayes": 10, "gp": 10, "cma": 1}
"""How many trials of a method depend on no result; None = all."""


def draw(trial: optuna.Trial, parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Returns the values of all parameters in `trial`: those that it has, and else new ones, which it then has."""
    return {name: _draw(trial, name, parameter) for name, parameter in parameters.items()}


def _draw(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        codes = {_code(value): value for value in parameter.values}
        return codes[trial.suggest_categorical(name, list(codes))]
    if parameter.integer:
        step = 1 if parameter.step is None else int(parameter.step)
        return trial.suggest_int(name, int(parameter.low), int(parameter.high), step=step)
    return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


def stored_values(params: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Returns the values of the stored parameters `params` of a trial."""
    found = {}
    for name, parameter in parameters.items():
        if name in params:
            codes = {_code(value): value for value in parameter.values} if isinstance(parameter, Choice) else {}
            found[name] = codes.get(params[name], params[name])
    return found


def _code(value: Any) -> Any:
    """Returns a choice as Optuna can store it, which no list is."""
    return json.dumps(value) if isinstance(value, list) else value


def make_sampler(method: Method, parameters: Mapping[str, Parameter], seed: int) -> BaseSampler:
    """Returns the sampler of a method.

    What it draws for a trial follows from `seed`, the trial's number and the results before it: neither the process
    that draws it nor an interruption changes it, and no two trials of a study draw alike.

    Raises:
        ValueError: If CMA-ES is not installed, or `parameters` are none that it can search.
    """
    if method == "grid":
        return _GridSampler(Grid(parameters, seed))
    if method == "cma":
        if importlib.util.find_spec("cmaes") is None:
            raise ValueError("--method cma needs cmaes, which is not installed; pip install 'bargain-train[cma]'.")
        if sum(isinstance(parameter, Range) for parameter in parameters.values()) < 2:
            raise ValueError("--method cma needs at least two parameters that are ranges; try --method bayes.")
    makers: dict[str, Callable[[int], BaseSampler]] = {
        "random": lambda number: optuna.samplers.RandomSampler(seed=number),
        "bayes": _tree_parzen,
        "gp": lambda number: optuna.samplers.GPSampler(
            seed=number, n_startup_trials=10, warn_independent_sampling=False
        ),
        "cma": lambda number: optuna.samplers.CmaEsSampler(
            seed=number, independent_sampler=_tree_parzen(number), warn_independent_sampling=False
        ),
    }
    return _SeededSampler(makers[method], seed)


def make_pruner(name: PrunerName) -> optuna.pruners.BasePruner:
    """Returns the pruner of that name, for evaluations numbered 1, 2, ..."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return optuna.pruners.NopPruner()


def _tree_parzen(seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=10, multivariate=True)


class _GridSampler(BaseSampler):
    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return _code(self._grid[trial.number][param_name])


class _SeededSampler(BaseSampler):
    """Draws each trial by a sampler of its own, whose seed is the trial's.

    Args:
        make: Makes a sampler of a seed.
        seed: Seed of them all.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._number: int | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            self._number = trial.number
            self._sampler = self._make(derive_seed(self._seed, f"trial {trial.number}") % 2**32)
        return self._sampler

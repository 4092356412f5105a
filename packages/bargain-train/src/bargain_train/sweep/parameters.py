"""What is searched: settings by name, each with its choices or its range, read from `parameters` of a W&B sweep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bargain_train.config import RunConfig
from bargain_train.seeds import derive_seed

GRID_POINTS = 5
"""Values that a grid takes of a range."""

NOT_SEARCHED = ("seed", "resume", "results_dir")
"""What a sweep sets for each training itself."""


class Choice(NamedTuple):
    """One of some values.

    Attributes:
        values: Numbers, strings, booleans or lists of numbers.
    """

    values: tuple[Any, ...]

    def grid(self) -> list[Any]:
        """Returns all values."""
        return list(self.values)


class Range(NamedTuple):
    """A number from `low` to `high`, both included.

    Attributes:
        low: The least.
        high: The greatest.
        log: Every factor between them is alike likely, not every difference.
        step: The numbers are `low` and so many of these steps more; None = all.
        integer: Whole numbers alone.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def grid(self) -> list[Any]:
        """Returns at most `GRID_POINTS` values from `low` to `high`, evenly spaced (by factors if `log`)."""
        shares = [k / (GRID_POINTS - 1) for k in range(GRID_POINTS)]
        points = [self.low + (self.high - self.low) * share for share in shares]
        if self.log:
            points = [self.low * (self.high / self.low) ** share for share in shares]
        step = 1 if self.integer and self.step is None else self.step
        if step is not None:
            points = [self.low + round((point - self.low) / step) * step for point in points]
        points = [min(max(float(f"{point:.6g}"), self.low), self.high) for point in points]
        return list(dict.fromkeys(int(point) if self.integer else float(point) for point in points))


Parameter = Choice | Range


class Grid:
    """All combinations of the parameters' `grid` values, in an order whose every beginning is spread over them.

    Takes no memory, however many there are.

    Args:
        parameters: The parameters by name.
        seed: Where the order begins.

    Attributes:
        size: How many there are; any `size` consecutive numbers give each once.
    """

    def __init__(self, parameters: Mapping[str, Parameter], seed: int) -> None:
        self._values = {name: parameter.grid() for name, parameter in parameters.items()}
        self.size = math.prod(map(len, self._values.values()))
        self._stride = max(1, round(self.size * (math.sqrt(5) - 1) / 2))
        while math.gcd(self._stride, self.size) > 1:
            self._stride += 1
        self._start = derive_seed(seed, "grid") % self.size

    def __getitem__(self, number: int) -> dict[str, Any]:
        place = (self._start + number * self._stride) % self.size
        point = {}
        for name, values in self._values.items():
            place, k = divmod(place, len(values))
            point[name] = values[k]
        return point


def read_space(path: Path) -> dict[str, Any]:
    """Returns the `parameters` that a YAML file holds, alone or as those of a whole W&B sweep.

    Raises:
        ValueError: If the file cannot be read or holds none.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the space {path} cannot be read: {error.strerror}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the space {path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if isinstance(found, dict):
        found = found.get("parameters", found)
    if not isinstance(found, dict) or not found:
        raise ValueError(f"the space {path} must hold parameters by name.")
    return {str(name): description for name, description in found.items()}


def read_parameters(space: Mapping[str, Any], config: type[RunConfig]) -> dict[str, Parameter]:
    """Returns the parameters that `space` describes, by the names of the fields of `config`.

    Raises:
        ValueError: If a name is no field that can be searched, or a description is none.
    """
    known = {field.name for field in dataclasses.fields(config)} - set(NOT_SEARCHED)
    parameters = {}
    for written, description in space.items():
        name = written.replace("-", "_")
        if name not in known:
            raise ValueError(f"{written} cannot be searched; it is no setting of {config.__name__}, or each run's own.")
        parameters[name] = _read_parameter(written, description)
    return parameters


_KEYS = {
    "constant": {"value"},
    "categorical": {"values"},
    "uniform": {"min", "max"},
    "log_uniform_values": {"min", "max"},
    "int_uniform": {"min", "max"},
    "q_uniform": {"min", "max", "q"},
}
"""What describes each of W&B's distributions that can be searched, beside its name."""


def _read_parameter(name: str, description: Any) -> Parameter:
    problem = ValueError(
        f"the parameter {name} is described in no way that can be searched: value, values, or min < max with "
        "distribution uniform, log_uniform_values, int_uniform or q_uniform (numbers as 1.0e-5)."
    )
    if not isinstance(description, Mapping):
        raise problem
    distribution = description.get("distribution") or _implied(description)
    keys = set(description) - {"distribution"}
    if not isinstance(distribution, str) or keys != _KEYS.get(distribution):
        raise problem
    if distribution in ("constant", "categorical"):
        values = [description["value"]] if distribution == "constant" else description["values"]
        if not isinstance(values, list) or not values or not all(map(_is_value, values)):
            raise problem
        return Choice(tuple(values))
    numbers = [description[key] for key in keys]
    low, high, step = description["min"], description["max"], description.get("q")
    whole = all(isinstance(number, int) for number in numbers)
    if not all(map(_is_number, numbers)) or low >= high or (distribution == "int_uniform" and not whole):
        raise problem
    log = distribution == "log_uniform_values"
    if (log and low <= 0) or (step is not None and step <= 0):
        raise problem
    if step is not None:
        low, high = _multiple(math.ceil(low / step - 1e-9), step), _multiple(math.floor(high / step + 1e-9), step)
        if low > high:
            raise problem
    return Range(low, high, log, step, integer=whole and distribution in ("int_uniform", "q_uniform"))


def _implied(description: Mapping[str, Any]) -> str:
    """Returns the distribution that W&B takes where none is named."""
    if "value" in description:
        return "constant"
    if "values" in description:
        return "categorical"
    ends = description.get("min"), description.get("max")
    return "int_uniform" if all(isinstance(end, int) for end in ends) else "uniform"


def _multiple(number: int, step: float) -> float:
    """Returns `number` steps, as W&B counts them from zero."""
    return number * step if isinstance(step, int) else float(f"{number * step:.12g}")


def _is_value(value: Any) -> bool:
    """Tells whether a setting can have the value: no mapping, no date, but a list."""
    plain = (str, int, float, type(None))
    return all(isinstance(item, plain) for item in (value if isinstance(value, list) else [value]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

"""The settings of the trainings, as they follow after `--`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bargain_eval.cli_tools import read_options

from bargain_train.algorithms import ALGORITHMS
from bargain_train.config import RunConfig

_WITHOUT_EFFECT = (
    *("resume", "results_dir", "checkpoint_dir", "checkpoint_interval", "log_interval"),
    *("device", "cuda_device", "threads", "executor", "workers"),
    *("wandb", "wandb_project", "wandb_name", "wandb_tags", "tensorboard"),
)
"""Settings that say where a training computes and what it writes, not what it learns."""

_INSTEAD = {
    "seed": "give --seed or --seeds before the --.",
    "results-dir": "give --results-dir before the --.",
    "resume": "the same sweep again goes on with what did not end.",
}


class Fixed(NamedTuple):
    """What all trainings of an algorithm share.

    Attributes:
        config: The settings, with the seed and the results folder of the first.
        names: Those that were given.
        words: The same as flags and values.
    """

    config: RunConfig
    names: tuple[str, ...]
    words: tuple[str, ...]


def find_algorithm(name: str) -> str:
    """Returns the command of the algorithm `name`, whose words may be joined by hyphens or underscores.

    Raises:
        ValueError: If there is none.
    """
    command = name.replace("_", "-")
    if command not in ALGORITHMS:
        raise ValueError(f"there is no algorithm {name!r}; choose one of {', '.join(ALGORITHMS)}.")
    return command


def read_settings(
    algorithms: Sequence[str], settings: Sequence[str], *, seed: int, results_dir: str
) -> dict[str, Fixed]:
    """Returns what all trainings of each algorithm share; of several, each takes the settings that it has.

    Args:
        algorithms: Commands.
        settings: Flags and their values.
        seed: Of the first training.
        results_dir: Where runs are stored.

    Raises:
        ValueError: If a value is bad, no algorithm has such a setting, or the sweep sets it itself.
    """
    groups = _by_flag(settings)
    for name, _ in groups:
        if name in _INSTEAD:
            raise ValueError(f"--{name} is each training's own; {_INSTEAD[name]}")
        if len(algorithms) > 1 and not any(_field(algorithm, name) for algorithm in algorithms):
            raise ValueError(f"none of {', '.join(algorithms)} has a setting --{name}.")
    found = {}
    for algorithm in algorithms:
        own = [(name, words) for name, words in groups if len(algorithms) == 1 or _field(algorithm, name)]
        words = tuple(word for _, group in own for word in group)
        arguments = [*words, f"--seed={seed}", f"--results-dir={results_dir}"]
        config = read_options(ALGORITHMS[algorithm].config, arguments, f"bargain-train {algorithm}")
        names = tuple(dict.fromkeys(str(_field(algorithm, name)) for name, _ in own))
        found[algorithm] = Fixed(config, names, words)
    return found


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what of a config, as fields by name, decides what is learned."""
    return {name: value for name, value in config.items() if name not in _WITHOUT_EFFECT}


def _by_flag(settings: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Returns each flag's name, written with hyphens, and its words, the flag included."""
    groups: list[tuple[str, list[str]]] = []
    for word in settings:
        if word.startswith("--"):
            groups.append((word[2:].partition("=")[0].replace("_", "-"), [word]))
        elif groups:
            groups[-1][1].append(word)
        else:
            raise ValueError(f"after -- come settings such as --game mini-b, not {word!r}.")
    return groups


def _field(algorithm: str, flag: str) -> str | None:
    """Returns the field that a flag sets, itself or by its off form; None if the algorithm has none."""
    fields = {field.name for field in dataclasses.fields(ALGORITHMS[algorithm].config)}
    name = flag.replace("-", "_")
    return next((known for known in (name, name.removeprefix("no_")) if known in fields), None)

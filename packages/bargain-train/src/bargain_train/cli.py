"""The command line `bargain-train`. Nothing here imports torch before the command line is read."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bargain_eval.cli_tools import Command, run_cli

from bargain_train.algorithms import ALGORITHMS, Algorithm
from bargain_train.config import RunConfig
from bargain_train.sweep.options import SweepOptions

if TYPE_CHECKING:
    from bargain_train.run import Run

_DESCRIPTION = """Trains agents for the bargaining game.

Every training command writes one run (metrics, checkpoints, final evaluation) into --results-dir; look at runs with
`bargain-eval results`. `sweep` trains many. Each command explains its settings, e.g. `bargain-train ppo --help`. Ctrl-C
leaves a run that --resume continues. --config FILE reads settings from a JSON or YAML file, such as the config.json of
a stored run; flags given beside it win. A bad value is answered by one sentence and exit code 2."""

_WITH_RESUME = ("resume", "results_dir")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `bargain-train` with `argv` (the arguments of the process if None) and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Command] = {
        name: (algorithm.config, _command(name, algorithm)) for name, algorithm in ALGORITHMS.items()
    }
    commands["sweep"] = (SweepOptions, _sweep)
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    try:
        arguments = expand_config(arguments[:cut]) + expand_config(arguments[cut:])
    except ValueError as error:
        sys.stderr.write(f"bargain-train: {error}\n")
        return 2
    return run_cli("bargain-train", _DESCRIPTION, commands, arguments)


def expand_config(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with `--config FILE` replaced by the file's settings as flags, before all others.

    Raises:
        ValueError: If the file is missing or holds no settings.
    """
    given: list[str] = []
    file: str | None = None
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name != "--config":
            given.append(argument)
        else:
            file = value if equals else next(rest, "")
            if not file:
                raise ValueError("--config needs a file.")
    if file is None:
        return given
    settings = [flag for name, value in _read_config(Path(file)).items() for flag in _flags(name, value)]
    return given[:1] + settings + given[1:]


def _read_config(path: Path) -> dict[Any, Any]:
    import yaml

    kind, load = ("YAML", yaml.safe_load) if path.suffix in (".yaml", ".yml") else ("JSON", json.loads)
    try:
        settings = load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"the config file {path} cannot be read: {error.strerror}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the config file {path} is not valid {kind}: {' '.join(str(error).split())}.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"the config file {path} must hold settings by name.")
    return settings


def _flags(name: object, value: Any) -> list[str]:
    flag = f"--{str(name).replace('_', '-')}"
    if value is None:
        return []
    return [flag, *map(str, value)] if isinstance(value, list) else [f"{flag}={value}"]


def _sweep(options: SweepOptions) -> int:
    from bargain_train.sweep.command import sweep

    _refuse_torchrun("sweep")
    return sweep(options)


def _command(name: str, algorithm: Algorithm) -> Callable[[Any], int]:
    def command(config: RunConfig) -> int:
        from bargain_train.distributed import TeamError, join
        from bargain_train.run import Run
        from bargain_train.summary import print_summary

        if name != "ppo":
            _refuse_torchrun(name)
        try:
            with join() as team:
                run = Run(name, config if config.resume is None else _stored_config(name, algorithm, config), team=team)
                _train(run, algorithm)
                if team.leads:
                    print_summary(run)
                team.wait()
        except (FloatingPointError, TeamError) as error:
            sys.stderr.write(f"bargain-train {name}: {error}\n")
            return 1
        return 0 if run.finished else 130

    return command


def _train(run: Run, algorithm: Algorithm) -> None:
    try:
        with run:
            algorithm.train(run.config, run)
    except ValueError as error:
        if not run.started:
            raise
        raise RuntimeError(f"run {run.record.run_id} failed: {error}") from error


def _refuse_torchrun(name: str) -> None:
    """Raises ValueError in a process that torchrun started with others."""
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1:
        raise ValueError(f"torchrun spreads one PPO learner over processes; start {name} without it.")


def _stored_config(name: str, algorithm: Algorithm, config: RunConfig) -> RunConfig:
    """Returns the settings that the run named by --resume was started with.

    Raises:
        ValueError: If other settings were given, or there is no such run of this algorithm.
    """
    from bargain_eval.results import ResultsManager
    from bargain_eval.results.layout import algorithm_name

    defaults = algorithm.config()
    changed = [
        f"--{field.name.replace('_', '-')}"
        for field in dataclasses.fields(config)
        if field.name not in _WITH_RESUME and getattr(config, field.name) != getattr(defaults, field.name)
    ]
    if changed:
        raise ValueError(f"--resume continues a run with its own settings; leave out {', '.join(changed)}.")
    stored = ResultsManager(config.results_dir).get_run(str(config.resume))
    if stored["algorithm"] != algorithm_name(name):
        raise ValueError(f"run {config.resume} is one of {stored['algorithm']}, not of {name}.")
    settings = stored["hyperparameters"] | {"resume": config.resume, "results_dir": config.results_dir}
    return algorithm.config.from_dict(settings)


if __name__ == "__main__":
    sys.exit(main())

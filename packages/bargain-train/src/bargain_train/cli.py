"""The command line `bargain-train`. Nothing here imports torch before the command line is read."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bargain_eval.cli_tools import Command, run_cli

from bargain_train.algorithms import ALGORITHMS, Algorithm
from bargain_train.config import RunConfig

_DESCRIPTION = """Trains agents for the bargaining game.

Every command writes one run (metrics, checkpoints, final evaluation) into --results-dir; look at runs with
`bargain-eval results`. Each command explains its settings, e.g. `bargain-train ppo --help`. Ctrl-C leaves a run that
--resume continues. --config FILE reads settings from a JSON or YAML file, such as the config.json of a stored run;
flags given beside it win. A bad value is answered by one sentence and exit code 2."""

_WITH_RESUME = ("resume", "results_dir")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `bargain-train` with `argv` (the arguments of the process if None) and returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Command] = {
        name: (algorithm.config, _command(name, algorithm)) for name, algorithm in ALGORITHMS.items()
    }
    try:
        arguments = expand_config(arguments)
    except ValueError as error:
        sys.stderr.write(f"bargain-train: {error}\n")
        return 2
    return run_cli("bargain-train", _DESCRIPTION, commands, arguments)


def expand_config(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with `--config FILE` replaced by the file's settings as flags, before all others.

    Raises:
        ValueError: If the file is missing or holds no settings.
    """
    result, file, rest = [], None, iter(arguments)
    for argument in rest:
        if argument == "--config":
            file = next(rest, None)
            if file is None:
                raise ValueError("--config needs a file.")
        elif argument.startswith("--config="):
            file = argument.partition("=")[2]
        else:
            result.append(argument)
    if file is None:
        return result
    return result[:1] + [flag for name, value in _read_config(Path(file)).items() for flag in _flags(name, value)] + (
        result[1:]
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the config file {path} cannot be read: {error.strerror}.") from error
    try:
        if path.suffix in (".yaml", ".yml"):
            import yaml

            settings = yaml.safe_load(text)
        else:
            settings = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the config file {path} is not valid {path.suffix or 'JSON'}: {error}.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"the config file {path} must hold settings by name.")
    return settings


def _flags(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None or value == []:
        return []
    if isinstance(value, bool):
        return [f"{flag}={value}"]
    return [flag, *map(str, value)] if isinstance(value, list) else [flag, str(value)]


def _command(name: str, algorithm: Algorithm) -> Callable[[Any], int]:
    def command(config: RunConfig) -> int:
        from bargain_train.run import Run
        from bargain_train.summary import print_summary

        run = Run(name, _stored_config(algorithm, config) if config.resume else config)
        with run:
            algorithm.train(run.config, run)
        print_summary(run)
        return 130 if run.stopped else 0

    return command


def _stored_config(algorithm: Algorithm, config: RunConfig) -> RunConfig:
    """Returns the settings that the run named by --resume was started with.

    Raises:
        ValueError: If other settings were given, or there is no such run of this algorithm.
    """
    from bargain_eval.results import ResultsManager

    defaults = algorithm.config()
    changed = [
        f"--{field.name.replace('_', '-')}"
        for field in dataclasses.fields(config)
        if field.name not in _WITH_RESUME and getattr(config, field.name) != getattr(defaults, field.name)
    ]
    if changed:
        raise ValueError(f"--resume continues a run with its own settings; leave out {', '.join(changed)}.")
    stored = ResultsManager(config.results_dir).get_run(str(config.resume))
    settings = stored["hyperparameters"] | {"resume": config.resume, "results_dir": config.results_dir}
    return algorithm.config.from_dict(settings)


if __name__ == "__main__":
    sys.exit(main())

"""The files of sweeps/ are what W&B takes, and what its agents make of them is what the commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from bargain_train import cli
from bargain_train.algorithms import ALGORITHMS
from bargain_train.cli import main
from bargain_train.config import RunConfig
from bargain_train.sweep.options import SweepOptions
from bargain_train.sweep.parameters import read_parameters
from bargain_train.sweep.samplers import draw, make_sampler
from bargain_train.sweep.wandb_file import files
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

FOLDER = Path(__file__).parents[2] / "sweeps"
OF_ONE = [f"sweep_{name.replace('-', '_')}.yaml" for name in ALGORITHMS]


def _sweep(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")))


def rendered(sweep: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """Returns the command that W&B's agent starts for `point`, by W&B's own functions."""
    made = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.items()}})
    words: list[str] = []
    for chunk in create_sweep_command(list(sweep["command"])):
        words += made[chunk[2:-1]] if chunk.startswith("${") else [str(chunk)]
    return words


def test_the_files_are_up_to_date() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.yaml")}
    assert written == files(), "run python sweeps/generate.py"
    assert set(written) == {*OF_ONE, "sweep_all_algorithms.yaml"}


@pytest.mark.parametrize("name", [*OF_ONE, "sweep_all_algorithms.yaml"])
def test_the_keys_and_types_are_those_of_a_sweep(name: str) -> None:
    sweep = _sweep(name)
    assert set(sweep) == {"program", "command", "method", "metric", "parameters"}
    assert sweep["program"] == sweep["command"][0] == "bargain-train"
    assert sweep["method"] in ("grid", "random", "bayes")
    assert sweep["metric"] == {"name": "eval/pool_payoff", "goal": "maximize"}
    assert sweep["command"].count("${args}") == 1
    assert all(isinstance(chunk, str) for chunk in sweep["command"])
    for part in sweep["parameters"].values():
        if "values" in part:
            assert list(part) == ["values"]
            assert len({type(value) for value in part["values"]}) == 1
        else:
            assert sweep["method"] != "grid"
            assert set(part) == {"distribution", "min", "max"}
            kind = int if part["distribution"] == "int_uniform" else float
            assert type(part["min"]) is type(part["max"]) is kind
            assert part["min"] < part["max"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_an_agent_starts_is_parsed_to_the_same_values(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[tuple[str, RunConfig]] = []

    def catch(command: str, algorithm: Any) -> Any:
        del algorithm

        def keep(config: RunConfig) -> int:
            configs.append((command, config))
            return 0

        return keep

    monkeypatch.setattr(cli, "_command", catch)
    sweep = _sweep(f"sweep_{name.replace('-', '_')}.yaml")
    parameters = read_parameters(sweep["parameters"], ALGORITHMS[name].config)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=make_sampler("random", parameters, 3))
    booleans = set()
    for _ in range(6):
        point = draw(study.ask(), parameters)
        program, *arguments = rendered(sweep, point)
        assert program == "bargain-train"
        assert main(arguments) == 0
        command, config = configs.pop()
        assert command == name
        read = config.to_dict()
        assert {key: read[key] for key in point} == point
        assert (read["wandb"], read["seed"]) == (True, 42)
        booleans |= {(key, value) for key, value in point.items() if isinstance(value, bool)}
    assert all((key, not value) in booleans for key, value in booleans)


def test_the_sweep_over_all_algorithms_trains_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[SweepOptions] = []

    def keep(options: SweepOptions) -> int:
        caught.append(options)
        return 0

    monkeypatch.setattr(cli, "_sweep", keep)
    sweep = _sweep("sweep_all_algorithms.yaml")
    assert sweep["method"] == "grid"
    for algorithm, seed in zip(ALGORITHMS, sweep["parameters"]["seeds"]["values"] * 2, strict=False):
        assert main(rendered(sweep, {"algorithms": algorithm, "seeds": seed})[1:]) == 0
        assert caught[-1].compare_algorithms
        assert (caught[-1].algorithms, caught[-1].seeds, caught[-1].settings) == ((algorithm,), (seed,), ("--wandb",))


def test_a_search_is_printed_for_wandb(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "--algorithm", "ppo", "--print-wandb", "--method", "bayes"]
    assert main([*words, "--num-trials", "7", "--objective", "nash-conv", "--", "--lr=0.5", "--game", "mini-b"]) == 0
    sweep = yaml.safe_load(capsys.readouterr().out)
    assert sweep["command"] == [
        "bargain-train",
        "ppo",
        "--wandb",
        "--seed=42",
        "--lr=0.5",
        "--game",
        "mini-b",
        "${args}",
    ]
    assert sweep["run_cap"] == 7
    assert sweep["metric"] == {"name": "eval/nash_conv", "goal": "minimize"}
    assert set(sweep["parameters"]) == set(ALGORITHMS["ppo"].space) - {"lr"}
    assert main([*words, "--objective", "nash-conv"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["metric"]["name"] == "eval/nash_conv_upper"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--method", "gp"], "W&B has no method gp"),
        (["--method", "grid"], "W&B makes no grid of ranges; lr, clip_eps, entropy_coef must have values."),
        (["--objective", "welfare"], "runs log no welfare"),
        (["--seeds", "1", "2"], "a W&B run trains once"),
    ],
)
def test_what_wandb_cannot_do_is_one_sentence(
    flags: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "--algorithm", "ppo", "--print-wandb", *flags]) == 2
    assert problem in capsys.readouterr().err

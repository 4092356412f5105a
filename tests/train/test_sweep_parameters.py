"""Search spaces: how they are read, what a grid is, and that the training commands take all of every space."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from bargain_train import cli
from bargain_train.algorithms import ALGORITHMS
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.sweep.parameters import Choice, Grid, Parameter, Range, read_parameters, read_space
from bargain_train.sweep.samplers import draw


def _parameters(name: str) -> dict[str, Parameter]:
    return read_parameters(ALGORITHMS[name].space, ALGORITHMS[name].config)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_command_takes_every_value_of_every_parameter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[Any] = []

    def keep(config: Any) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr(cli, "_command", lambda name, algorithm: keep)
    grids = {parameter: values.grid() for parameter, values in _parameters(name).items()}
    for k in range(max(map(len, grids.values()))):
        point = {parameter: values[min(k, len(values) - 1)] for parameter, values in grids.items()}
        assert cli.main([name, *(f"--{parameter}={value}" for parameter, value in point.items())]) == 0
        read = configs.pop().to_dict()
        assert {parameter: read[parameter] for parameter in point} == point
    assert any(value is False for values in grids.values() for value in values) or name == "nfsp"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_any_combination_is_a_config_and_the_default_lies_within_the_space(name: str) -> None:
    parameters, config = _parameters(name), ALGORITHMS[name].config
    random = np.random.default_rng(1)
    for _ in range(60):
        config.from_dict({key: random.choice(np.array(part.grid(), object)) for key, part in parameters.items()})
    default = config().to_dict()
    for key, part in parameters.items():
        if isinstance(part, Range):
            assert part.low <= default[key] <= part.high, key
        else:
            assert default[key] in part.values, key


def test_parameters_are_read_as_wandb_means_them() -> None:
    space = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-3},
        "clip-eps": {"min": 0.1, "max": 0.3},
        "ppo_epochs": {"min": 1, "max": 8},
        "rollout_steps": {"distribution": "q_uniform", "min": 16, "max": 64, "q": 16},
        "share": {"values": [True, False]},
        "hidden_dims": {"values": [[64, 64], [128]]},
        "num_envs": {"value": 128},
    }
    assert read_parameters(space, PPOConfig) == {
        "lr": Range(1e-5, 1e-3, log=True),
        "clip_eps": Range(0.1, 0.3),
        "ppo_epochs": Range(1, 8, integer=True),
        "rollout_steps": Range(16, 64, step=16, integer=True),
        "share": Choice((True, False)),
        "hidden_dims": Choice(([64, 64], [128])),
        "num_envs": Choice((128,)),
    }


@pytest.mark.parametrize(
    "description",
    [
        {"min": 0.1},
        {"min": 0.3, "max": 0.1},
        {"min": 1, "max": 4, "values": [1, 4]},
        {"values": []},
        {"values": 3},
        {"min": "1e-5", "max": 1e-3},
        {"min": 0.1, "max": float("inf")},
        {"distribution": "log_uniform_values", "min": 0, "max": 1},
        {"distribution": "int_uniform", "min": 0.5, "max": 1},
        {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0},
        {"distribution": "q_uniform", "min": 17, "max": 31, "q": 16},
        {"distribution": "normal", "mu": 0.0, "sigma": 1.0},
        {"distribution": ["uniform"], "min": 0.1, "max": 0.2},
        {"value": {"nested": 1}},
        {"values": [0.1, {"nested": 1}]},
        {"values": [[0.1, [0.2]]]},
        {},
        3,
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(description: Any) -> None:
    with pytest.raises(ValueError, match="the parameter lr is described in no way"):
        read_parameters({"lr": description}, PPOConfig)


@pytest.mark.parametrize("name", ["colour", "seed", "resume", "results_dir"])
def test_what_is_no_setting_to_search_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be searched"):
        read_parameters({name: {"values": [1, 2]}}, PPOConfig)


def test_steps_are_counted_from_zero_and_stay_within_the_ends() -> None:
    """As `round(x / q) * q` of W&B's reference, where that lies between the ends."""
    space = {
        "rollout_steps": {"distribution": "q_uniform", "min": 10, "max": 39, "q": 16},
        "gae_lambda": {"distribution": "q_uniform", "min": 0.8, "max": 0.97, "q": 0.05},
    }
    found = read_parameters(space, PPOConfig)
    assert found["rollout_steps"].grid() == [16, 32]
    assert found["gae_lambda"].grid() == [0.8, 0.85, 0.9, 0.95]
    trials = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [draw(trials.ask(), found) for _ in range(30)]
    assert {values["rollout_steps"] for values in drawn} == {16, 32}
    assert {round(values["gae_lambda"], 9) for values in drawn} == {0.8, 0.85, 0.9, 0.95}


def test_a_space_is_read_from_a_file_alone_or_within_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("lr: {min: 1.0e-5, max: 1.0e-3}\n")
    assert read_space(path) == {"lr": {"min": 1e-5, "max": 1e-3}}
    path.write_text("method: bayes\nparameters:\n  lr: {value: 0.1}\n")
    assert read_space(path) == {"lr": {"value": 0.1}}
    for text, problem in (("a: [", "is not valid YAML"), ("[1]", "must hold parameters"), ("", "must hold parameters")):
        path.write_text(text)
        with pytest.raises(ValueError, match=problem):
            read_space(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_space(tmp_path / "none.yaml")


def test_the_grid_of_a_range_has_its_ends_and_is_even() -> None:
    assert Range(0.1, 0.3).grid() == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.3])
    factors = np.diff(np.log(Range(1e-5, 1e-3, log=True).grid()))
    assert factors == pytest.approx(math.log(100) / 4, rel=1e-5)
    assert Range(1, 3, integer=True).grid() == [1, 2, 3]
    assert Range(1, 10, integer=True).grid() == [1, 3, 5, 8, 10]
    assert Range(16, 64, step=16, integer=True).grid() == [16, 32, 48, 64]
    assert all(isinstance(value, int) for value in Range(1, 10, integer=True).grid())


def test_a_grid_has_every_combination_once_and_begins_all_over() -> None:
    parameters: dict[str, Parameter] = {
        "a": Choice((1, 2, 3)),
        "b": Range(0.0, 1.0),
        "c": Choice((True, False)),
        "d": Range(1, 2, integer=True),
    }
    grid = Grid(parameters, seed=3)
    points = [tuple(grid[number].items()) for number in range(grid.size)]
    assert grid.size == len(set(points)) == 3 * 5 * 2 * 2
    begun = points[:15]
    for k, (name, parameter) in enumerate(parameters.items()):
        assert {point[k] for point in begun} == {(name, value) for value in parameter.grid()}
    assert points != [tuple(Grid(parameters, seed=4)[number].items()) for number in range(grid.size)]


def test_a_large_grid_takes_no_memory() -> None:
    grid = Grid({f"x{k}": Range(0.0, 1.0) for k in range(30)}, seed=0)
    assert grid.size == 5**30
    assert grid[5**30 - 1] != grid[0]

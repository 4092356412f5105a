"""The command line: every bad value is one sentence and exit code 2, and no run is stored for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from bargain_eval import ResultsManager
from bargain_train.algorithms import ALGORITHMS, Algorithm
from bargain_train.cli import expand_config, main

if TYPE_CHECKING:
    from tests.train.conftest import Train


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command, checks that it fails as promised, and returns its sentence."""
    capsys.readouterr()
    assert main(arguments) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert error.count("\n") == 1
    assert error.startswith("bargain-train")
    assert error.rstrip().endswith((".", "?")) or "--" in error
    return error


BAD = {
    "no such gpu": (["--device", "cuda", "--cuda-device", "99"], 'device "cuda'),
    "unknown flag": (["--num-env", "3"], "--num-envs"),
    "not a number": (["--lr", "fast"], "--lr"),
    "zero rate": (["--lr", "0"], "--lr"),
    "zero envs": (["--num-envs", "0"], "--num-envs"),
    "short rollout": (["--rollout-steps", "1"], "--rollout-steps"),
    "hidden size": (["--hidden-dims", "0"], "--hidden-dims"),
    "no hidden layer": (["--hidden-dims"], "--hidden-dims"),
    "heads": (["--network", "transformer", "--d-model", "10", "--nhead", "4"], "--d-model must be a multiple"),
    "network": (["--network", "cnn"], "--network"),
    "opponent": (["--opponent", "nobody"], "unknown policy 'nobody'"),
    "model as opponent": (["--opponent", "gpt-4o"], "gpt-4o is a language model"),
    "opponent's option": (["--opponent", "random?x=1"], "no option 'x'"),
    "opponent's file": (["--opponent", "missing.pt"], "missing.pt"),
    "opponent's run": (["--opponent", "run:ppo_1"], "ppo_1"),
    "seat alone": (["--seat", "1"], "--seat"),
    "seat": (["--opponent", "random", "--seat", "2"], "--seat"),
    "two networks and an opponent": (["--opponent", "random", "--no-share"], "--no-share"),
    "two games": (["--game", "mini-a", "--rounds", "3"], "--game"),
    "game": (["--quantities", "0"], "item_quantities"),
    "seed": (["--seed", str(2**63)], "--seed"),
    "resume": (["--resume", "ppo_20200101_000000_seed1"], "there is no run"),
    "resume with settings": (["--resume", "x", "--lr", "1"], "--resume continues a run with its own settings"),
    "config": (["--config"], "--config needs a file"),
    "missing config": (["--config", "none.json"], "none.json cannot be read"),
    "clip": (["--clip-eps", "1"], "--clip-eps"),
    "gamma": (["--gamma=-1"], "--gamma"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_one_sentence_and_stores_nothing(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, expected = BAD[name]
    assert expected in _refused(capsys, "ppo", *flags)
    assert list(folder.iterdir()) == []


def test_unknown_and_missing_commands_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean ppo" in _refused(capsys, "pppo")
    assert "a command is missing" in _refused(capsys)


@pytest.mark.parametrize("arguments", [["--help"], ["ppo", "--help"]])
def test_help_explains_on_stdout(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    output = capsys.readouterr().out
    assert "bargain-train" in output
    if arguments[0] == "ppo":
        for flag in ("--num-envs", "--no-share", "--hidden-dims", "--eval-interval", "--opponent", "--resume"):
            assert flag in output


def test_help_loads_no_torch() -> None:
    code = "import sys; from bargain_train.cli import main; main(['ppo', '--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_what_cannot_be_resumed_is_said(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("--total-timesteps", "256")
    assert "is completed; there is nothing to resume" in _refused(capsys, "ppo", "--resume", run.run_id)
    manager = ResultsManager("results")
    other = manager.create_run("nfsp", 1, {})
    other.interrupt()
    assert f"{other.run_id} is one of nfsp, not of ppo" in _refused(capsys, "ppo", "--resume", other.run_id)
    fresh = manager.create_run("ppo", 1, {})
    assert "no checkpoint to resume from" in _refused(capsys, "ppo", "--resume", fresh.run_id)
    fresh.interrupt()


def test_a_run_that_is_being_written_is_not_resumed(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("--total-timesteps", "256")
    record = ResultsManager("results").open_run(run.run_id)
    assert "is being written by process" in _refused(capsys, "ppo", "--resume", run.run_id)
    record.interrupt()


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_a_config_file_sets_flags_and_flags_win(train: Train, folder: Path, kind: str) -> None:
    settings = {
        "lr": 1e-3,
        "hidden_dims": [8, 8],
        "share": False,
        "wandb-tags": ["x"],
        "opponent": None,
        "wandb_name": "-dash",
    }
    path = folder / f"settings.{kind}"
    path.write_text(json.dumps(settings) if kind == "json" else yaml.safe_dump(settings))
    expanded = expand_config(["ppo", "--lr", "0.5", "--config", str(path), "--share"])
    assert expanded[0] == "ppo"
    assert expanded[-3:] == ["--lr", "0.5", "--share"]
    run = train(f"--config={path}", "--total-timesteps", "256", "--lr", "0.002", "--hidden-dims", "4")
    stored = json.loads((run.folder / "config.json").read_text())
    assert stored["lr"] == 0.002
    assert stored["hidden_dims"] == [4]
    assert stored["share"] is False
    assert stored["wandb_tags"] == ["x"]
    assert stored["wandb_name"] == "-dash"


def test_a_boolean_flag_overrides_the_config_file(train: Train, folder: Path) -> None:
    (folder / "settings.json").write_text('{"share": false}')
    run = train("--config", "settings.json", "--share", "--total-timesteps", "256")
    assert json.loads((run.folder / "config.json").read_text())["share"] is True


def test_the_config_of_a_stored_run_repeats_it(train: Train) -> None:
    run = train("--seed", "5", "--observation", "history", "--total-timesteps", "256", "--tensorboard")
    again = train("--config", str(run.folder / "config.json"))
    stored, repeated = (json.loads((each.folder / "config.json").read_text()) for each in (run, again))
    assert repeated == stored | {"total_timesteps": 1024}  # the flags of `train` win
    for name, tensor in run.weights.items():
        assert tensor.shape == again.weights[name].shape


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '{"colour": 1}', "--colour"),
        ("a.yaml", "colour: 1", "--colour"),
        ("a.json", "{", "is not valid JSON"),
        ("a.yaml", "a: [", "is not valid YAML"),
        ("a.json", "[1]", "must hold settings by name"),
        ("a.yaml", "lr: fast", "--lr"),
        ("a.json", '{"hidden_dims": []}', "--hidden-dims"),
        ("a.json", '{"lr": {"x": 1}}', "--lr"),
    ],
)
def test_a_bad_config_file_is_one_sentence(
    folder: Path, name: str, text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).write_text(text)
    assert expected in _refused(capsys, "ppo", "--config", name)
    assert [path.name for path in folder.iterdir()] == [name]


def test_flags_as_sweep_agents_write_them(train: Train) -> None:
    run = train("--total_timesteps=256", "--share=False", "--hidden_dims=[4, 4]", "--wandb=False", "--lr=0.01")
    stored = json.loads((run.folder / "config.json").read_text())
    assert (stored["share"], stored["wandb"], stored["hidden_dims"], stored["lr"]) == (False, False, [4, 4], 0.01)


def test_the_summary_says_what_was_learned_and_where_it_lies(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = train("--total-timesteps", "256", "--results-dir", "results")
    output, error = capsys.readouterr()
    for word in ("256 steps, 1 updates", "random", "greedy", "fair_split", "mean", "Self-play", run.run_id):
        assert word in output
    assert f"bargain-eval results --show {run.run_id}\n" in output
    assert "seat 0" in error
    assert "\x1b" not in output + error


def test_another_results_folder_is_part_of_the_advice(
    capsys: pytest.CaptureFixture[str], folder: Path, train: Train
) -> None:
    assert main(["ppo", *train.flags, "--total-timesteps", "256", "--results-dir", "else[where]"]) == 0
    assert "--results-dir else[where]" in capsys.readouterr().out
    assert (folder / "else[where]" / "index.json").is_file()


def test_threads_are_given_back(train: Train) -> None:
    torch.set_num_threads(1)
    train("--total-timesteps", "256", "--threads", "2")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    "flags", [("ppo", "--lr"), ("ppo", "--kl-rollout-coef"), ("nfsp", "--br-lr"), ("sampled-cfr", "--lr")]
)
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_number_that_is_not_finite_is_refused(
    flags: tuple[str, str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*flags, value]) == 2
    assert f"{flags[1]}: Input should be a finite number, got {value}." in capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ALGORITHMS.values())
def test_an_unknown_setting_is_refused_in_python_too(algorithm: Algorithm) -> None:
    unknown: dict[str, Any] = {"rollout": 3}
    with pytest.raises(ValueError, match="Unexpected keyword argument"):
        algorithm.config(**unknown)


def test_results_that_cannot_be_stored_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["ppo", "--results-dir", str(tmp_path / "file")]) == 2
    assert "no run can be stored in" in capsys.readouterr().err

"""Several processes train as one would: the same games and steps, one run, and one end for all."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from bargain_env.spec import GAMES
from bargain_eval.checkpoint import read_checkpoint
from bargain_train.algorithms.ppo import PPOConfig, train
from bargain_train.cli import main
from bargain_train.collect import Rollouts
from bargain_train.distributed import ALONE, Team, join
from bargain_train.networks import build_network
from bargain_train.run import Run
from bargain_train.updates import Learner, ppo_update
from torch import nn

if TYPE_CHECKING:
    from tests.train.conftest import Train, Trained

SPEC = GAMES["mini-b"]
FULL_BATCH = ("--minibatch-size", "256")
Patch = Callable[[pytest.MonkeyPatch], None]


def together(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Returns what `function` returns or raises in each of two processes that are a team."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bargain_train.algorithms.ppo", "bargain_train.cli", "bargain_train.ppo_run"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends = []
    for rank in range(2):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_member, args=(rank, port, sender, function, arguments))
        process.start()
        sender.close()
        ends.append((process, receiver))
    results = [receiver.recv() if receiver.poll(100) else None for _, receiver in ends]
    for process, receiver in ends:
        receiver.close()
        process.join()
    return results


def _member(rank: int, port: int, sender: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    names = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", TORCHELASTIC_RUN_ID="test")
    torch.set_num_threads(1)
    try:
        result = function(*arguments)
    except Exception as error:
        result = error
    sender.send(result)


def command(folder: Path, flags: list[list[str]], patch: Patch | None = None) -> tuple[int, str, str]:
    """Runs `bargain-train ppo` with this process's flags; patched in the second. Returns code, stdout and stderr."""
    rank = int(os.environ["RANK"])
    if patch is not None and rank == 1:
        patch(pytest.MonkeyPatch())
    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(["ppo", *flags[rank]])
    return code, output.getvalue(), errors.getvalue()


def both(folder: Path, flags: list[str], patch: Patch | None = None) -> list[Any]:
    return together(command, folder, [flags, flags], patch)


def the_run(train: Train) -> Trained:
    (folder,) = train.root.glob("results/ppo/run_*")
    return train.open(folder)


# What they compute together


def statistics(samples: list[list[float]]) -> dict[str, Any]:
    with join() as team:
        sample = torch.tensor(samples[team.rank])
        mean, std = team.mean_and_std(sample)
        return {
            "mean": float(mean),
            "std": float(std),
            "variance": team.variance(sample),
            "counts": team.counts(len(sample)),
            "totals": team.totals({"sum": sample.sum(), "rank": team.rank}),
            "largest": team.largest(float(team.rank) - 3.5),
            "gathered": team.gather(samples[team.rank]),
            "part": team.part(torch.arange(6)).tolist(),
            "stream": team.stream("draws"),
        }


@pytest.mark.parametrize("samples", [[[1.0, 5.0, 2.5, 2.5, 1e3], [-7.0, 0.125]], [[3.0, 4.0], []], [[], []]])
def test_statistics_are_those_of_all_rows_together(samples: list[list[float]]) -> None:
    first, second = together(statistics, samples)
    whole = np.array([*samples[0], *samples[1]])
    expected = (whole.mean(), whole.std(), whole.var(), whole.sum()) if len(whole) else (0.0, 0.0, 0.0, 0.0)
    found = first["mean"], first["std"], first["variance"], first["totals"]["sum"]
    assert found == pytest.approx(expected, rel=1e-6)
    assert first["counts"] == [len(sample) for sample in samples]
    assert first["totals"]["rank"] == 1
    assert first["largest"] == -2.5
    assert (first.pop("gathered"), second.pop("gathered")) == (samples, [])
    assert (first.pop("part"), second.pop("part")) == ([0, 1, 2], [3, 4, 5])
    assert (first.pop("stream"), second.pop("stream")) == ("draws", "draws of process 1")
    assert first == second


def test_alone_statistics_are_those_of_torch() -> None:
    sample = torch.randn(1001, generator=torch.Generator().manual_seed(0))
    mean, std = ALONE.mean_and_std(sample)
    assert torch.equal(mean, sample.mean())
    assert torch.equal(std, sample.std(correction=0))
    assert ALONE.variance(sample) == float(sample.var(correction=0))
    assert ALONE.variance(sample[:0]) == 0.0


def layer() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 1))


def loss_of(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = module(rows).square().mean()
    return loss


def gradients_of(module: nn.Module) -> list[Any]:
    return [parameter.grad.numpy() for parameter in module.parameters() if parameter.grad is not None]


def gradients(rows: torch.Tensor, split: int) -> tuple[float, list[Any]]:
    with join() as team:
        module, part = layer(), (rows[:split], rows[split:])[team.rank]
        loss = loss_of(module, part) * (len(part) / len(rows))
        loss.backward()
        total = team.sum_gradients(module.parameters(), loss.detach())
        return float(total), gradients_of(module)


def test_gradients_add_up_to_those_of_one_loss() -> None:
    rows = torch.randn(10, 5, generator=torch.Generator().manual_seed(1))
    module = layer()
    loss = loss_of(module, rows)
    loss.backward()
    (total, first), (_, second) = together(gradients, rows, 3)
    assert total == pytest.approx(loss.item(), rel=1e-6)
    for expected, one, other in zip(gradients_of(module), first, second, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(one, other)


# What they play


def play(team: Team) -> dict[str, Any]:
    torch.manual_seed(0)
    network = build_network({"network": "mlp", "hidden_dims": [8]}, SPEC)
    rollouts = Rollouts(SPEC, (network, network), num_envs=6, length=20, seed=3, team=team)
    rows = [rollouts.collect().rows.clone() for _ in range(2)][-1]
    names = ("observation", "player", "action", "reward", "done")
    return {name: rows[name].numpy() for name in names} | {"frames": rollouts.frames}


def play_part() -> dict[str, Any]:
    with join() as team:
        return play(team)


def test_the_games_of_two_processes_are_those_of_one() -> None:
    whole, parts = play(ALONE), together(play_part)
    assert [part.pop("frames") for part in parts] == [120, 120]
    assert whole.pop("frames") == 120
    assert whole["done"].sum(0).min() > 1, "no game was dealt anew"
    for name, rows in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts], 1), rows)


# What they learn


def learned(settings: dict[str, Any]) -> list[Any]:
    with join() as team:
        config = PPOConfig(**settings)
        with Run("ppo", config, console=False, mirror=False, team=team) as run:
            policy: Any = train(config, run)
        team.wait()
    return [tensor.numpy() for network in policy.networks for tensor in network.state_dict().values()]


VARIANTS: dict[str, dict[str, Any]] = {
    "small minibatches": {"minibatch_size": 50},
    "minibatches of less than a row each": {"minibatch_size": 1, "ppo_epochs": 1, "num_envs": 2, "total_timesteps": 64},
    "two networks": {"share": False, "kl_rollout_coef": 0.2, "kl_magnet_coef": 0.3, "magnet_interval": 2},
    "opponent": {"opponent": "fair_split", "seat": 1, "observation": "history"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_all_processes_hold_the_same_weights(tmp_path: Path, name: str) -> None:
    settings = {"game": "mini-b", "hidden_dims": (16,), "num_envs": 32, "rollout_steps": 8, "eval_games": 20}
    settings |= {"total_timesteps": 768, "threads": 1, "eval_nash_conv": False, "results_dir": str(tmp_path)}
    first, second = together(learned, settings | VARIANTS[name])
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(np.isfinite(one).all() for one in first)


@pytest.mark.slow
def test_torchrun_learns_what_one_process_does(train: Train) -> None:
    """Each epoch is one step on all rows, so that both sum over the same rows, whatever the order of the shuffle."""
    one = train(*FULL_BATCH)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    flags = [*train.flags, *FULL_BATCH, "--results-dir", "together", "--checkpoint-interval", "512"]
    done = subprocess.run(
        [*launch, "--nproc-per-node=2", "-m", "bargain_train.cli", "ppo", *flags],
        cwd=train.root,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1,024 steps, 4 updates") == 1
    assert done.stderr.count("1st walk") == 1
    (folder,) = (train.root / "together" / "ppo").glob("run_*")
    two = train.open(folder)
    assert two.metadata["status"] == "completed"
    assert two.metadata["device"] == "cpu, 2 processes"
    assert len(read_checkpoint(folder / "checkpoints" / "latest.pt")["resume"]["processes"]) == 2
    assert len(one.metrics) == len(two.metrics) == 4
    for line, other in zip(one.metrics, two.metrics, strict=True):
        assert list(line) == list(other)
        assert other == pytest.approx(line, rel=1e-4, abs=1e-5)
    for name, tensor in one.weights.items():
        torch.testing.assert_close(two.weights[name], tensor, rtol=1e-4, atol=1e-6)


# How they end


def stop_halfway(patch: pytest.MonkeyPatch) -> None:
    advance = Run.advance

    def advance_and_stop(run: Run, steps: int) -> None:
        advance(run, steps)
        if run.step == 512:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(Run, "advance", advance_and_stop)


def test_a_signal_to_one_process_stops_all_and_the_run_resumes_to_the_same_weights(train: Train) -> None:
    flags = [*train.flags, "--minibatch-size", "100"]
    (code, _, _), _ = both(train.root, [*flags, "--results-dir", "whole"])
    (folder,) = train.root.glob("whole/ppo/run_*")
    whole = train.open(folder, code)
    codes = [code for code, _, _ in both(train.root, flags, stop_halfway)]
    half = the_run(train)
    assert codes == [130, 130]
    assert half.metadata["status"] == "interrupted"
    assert half.metadata["actual_timesteps"] == 512
    assert main(["ppo", "--resume", half.run_id]) == 2, "one process cannot go on with the work of two"
    (code, output, errors), silent = both(train.root, ["--resume", half.run_id])
    assert (code, silent) == (0, (0, "", "")), errors
    assert half.run_id in output
    assert half.metadata["status"] == "completed"
    assert half.metrics == whole.metrics
    half.assert_same_weights(whole)


def test_a_run_of_one_process_is_not_resumed_by_two(train: Train) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_halfway(patch)
        half = train()
    assert half.code == 130
    for code, output, errors in both(train.root, ["--resume", half.run_id]):
        assert (code, output) == (2, "")
        assert errors == "bargain-train ppo: a run resumes in as many processes as began it, 1, not 2.\n"
    assert half.metadata["status"] == "interrupted"


def fail_in_the_third_update(patch: pytest.MonkeyPatch) -> None:
    left = 2

    def failing(*arguments: Any) -> dict[str, float]:
        nonlocal left
        if not left:
            raise KeyError("a defect")
        left -= 1
        return ppo_update(*arguments)

    patch.setattr("bargain_train.learner.ppo_update", failing)


def test_a_process_that_fails_ends_the_other(train: Train) -> None:
    first, second = both(train.root, [*train.flags, "--checkpoint-interval", "256"], fail_in_the_third_update)
    assert repr(second) == "KeyError('a defect')"
    sentence = "another process of this training has ended, or did not answer; see what it says."
    assert first[0] == 1
    assert first[2].endswith(f"bargain-train ppo: {sentence}\n")
    run = the_run(train)
    assert run.metadata["status"] == "failed"
    assert run.metadata["error_message"] == f"TeamError: {sentence}"
    assert [line["step"] for line in run.metrics] == [256, 512]
    assert (run.folder / "checkpoints" / "latest.pt").is_file()


def learn_something_else(patch: pytest.MonkeyPatch) -> None:
    def drifting(learner: Learner, *arguments: Any) -> dict[str, float]:
        metrics = ppo_update(learner, *arguments)
        with torch.no_grad():
            next(learner.network.parameters())[0, 0] += 1e-6
        return metrics

    patch.setattr("bargain_train.learner.ppo_update", drifting)


def test_weights_that_differ_end_the_run_at_its_checkpoint(train: Train) -> None:
    first, second = both(train.root, [*train.flags, "--checkpoint-interval", "512"], learn_something_else)
    assert (first[0], second[0]) == (1, 1)
    assert first[2].endswith("process 1 has other weights than process 0; train on devices of one kind.\n")
    run = the_run(train)
    assert run.metadata["status"] == "failed"
    assert [line["step"] for line in run.metrics] == [256, 512]
    assert not (run.folder / "checkpoints" / "latest.pt").exists()


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        ("--lr=1e-3", "--lr=2e-3", "the processes have different settings"),
        ("--num-envs=33", "--num-envs=33", "--num-envs must be a multiple of the 2 processes, got 33."),
    ],
)
def test_settings_that_do_not_fit_start_no_run(train: Train, first: str, second: str, sentence: str) -> None:
    ended = together(command, train.root, [[*train.flags, first], [*train.flags, second]])
    for code, output, errors in ended:
        assert (code, output) == (2, "")
        assert errors.startswith(f"bargain-train ppo: {sentence}")
    assert not list(train.root.glob("results/ppo/*"))


@pytest.mark.parametrize("name", ["nfsp", "mappo", "psro", "sweep"])
def test_torchrun_is_for_ppo(
    name: str, train: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([name, *(["--algorithm", "ppo"] if name == "sweep" else [])]) == 2
    said = f"bargain-train {name}: torchrun spreads one PPO learner over processes; start {name} without it.\n"
    assert capsys.readouterr().err == said
    assert not list(train.root.iterdir())


def test_torchrun_with_one_process_changes_nothing(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    one = train()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "1")
    other = train()
    assert other.metrics == one.metrics
    assert other.metadata["device"] == "cpu"
    other.assert_same_weights(one)
    assert json.loads((other.folder / "config.json").read_text()) == json.loads(
        (one.folder / "config.json").read_text()
    )

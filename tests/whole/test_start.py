"""The command lines start fast, fail in one sentence, and tests cannot reach the network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

HEAVY = ("torch", "tensordict", "torchrl", "wandb", "pettingzoo", "matplotlib", "scipy")

HELP = """
import sys
from {module} import main
code = main({arguments!r})
loaded = [name for name in {heavy!r} if name in sys.modules]
sys.exit(code or (f"loaded {{', '.join(loaded)}}" if loaded else 0))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("bargain_train.cli", ["--help"]),
        ("bargain_train.cli", ["ppo", "--help"]),
        ("bargain_eval.cli", ["--help"]),
        ("bargain_eval.cli", ["baselines", "--help"]),
        ("bargain_eval.cli", ["results", "--help"]),
    ],
)
def test_help_loads_nothing_heavy(module: str, arguments: list[str]) -> None:
    done = run("-c", HELP.format(module=module, arguments=arguments, heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "--" in done.stdout or "ppo" in done.stdout


@pytest.mark.parametrize(
    ("module", "arguments", "named"),
    [
        ("bargain_train.cli", [], "ppo"),
        ("bargain_train.cli", ["pp"], "did you mean ppo?"),
        ("bargain_train.cli", ["ppo", "--no-such-flag", "1"], "--no-such-flag"),
        ("bargain_train.cli", ["ppo", "--lr", "-1"], "--lr"),
        ("bargain_train.cli", ["ppo", "--network", "cnn"], "cnn"),
        ("bargain_train.cli", ["ppo", "--num-envs", "many"], "many"),
        ("bargain_train.cli", ["ppo", "--seat", "1"], "--opponent"),
        ("bargain_train.cli", ["ppo", "--resume", "no-such-run"], "no-such-run"),
        ("bargain_eval.cli", ["baselines", "--num-games", "0"], "--num-games"),
        ("bargain_eval.cli", ["baselines", "--policies", "rondom"], "'random'"),
        ("bargain_eval.cli", ["results"], "--list"),
    ],
)
def test_a_bad_command_line_exits_2_with_one_line(module: str, arguments: list[str], named: str) -> None:
    done = run("-m", module, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert named in done.stderr


def test_no_test_reaches_the_network() -> None:
    with socket.socket() as outward, pytest.raises(RuntimeError, match="without network"):
        outward.connect(("192.0.2.1", 80))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


@pytest.mark.parametrize("arguments", [["ppo", "--help"], ["--help"]], ids=["long", "short"])
def test_a_reader_that_is_gone_causes_no_traceback(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "bargain_train.cli", *arguments]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert result.stderr == ""
    assert result.returncode == 1

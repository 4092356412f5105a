"""Everything the READMEs show is run: Python blocks as they stand, commands with a small budget."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from bargain_eval.llm.session import SessionOptions, session
from llm_server import WALK, LlmServer

pytest.importorskip("torchrl")

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "packages").glob("*/README.md"))]
MARKED = ("run", "test")

QUICK = "--num-envs 8 --eval-games 20 --no-eval-nash-conv --no-wandb"
ITERATIONS = "--psro-iterations 2 --br-training-steps 128 --br-rollout-steps 8 --num-eval-games 20"
SMALL = {
    "bargain-train ppo": f"{QUICK} --total-timesteps 128 --rollout-steps 8",
    "bargain-train nfsp": f"{QUICK} --total-timesteps 128 --rollout-steps 8",
    "bargain-train sampled-cfr": f"{QUICK} --iterations 2 --advantage-train-steps 2",
    "bargain-train mappo": f"{QUICK} --total-timesteps 128 --rollout-steps 8",
    "bargain-train psro": f"{QUICK} {ITERATIONS}",
    "bargain-train ex2psro": f"{QUICK} {ITERATIONS}",
    "bargain-train fcp": f"{QUICK} --total-timesteps 2048 --population-size 2 --snapshot-interval 9 --rollout-steps 8",
    "bargain-train sweep --algorithm": f"--num-trials 2 -- {QUICK} --total-timesteps 128 --rollout-steps 8",
    "bargain-train sweep --compare": f"--algorithms ppo --seeds 1 -- {QUICK} --total-timesteps 128 --rollout-steps 8",
    "bargain-eval baselines": "--num-games 100",
    "bargain-eval best-response": "--types 64 --own-types 16 --counters 1 --repeats 3 --games 256 --threads 1",
    "bargain-eval crossplay": "--num-games 50",
    "bargain-eval metagame": "--bootstrap 20",
    "bargain-eval results --load": "--eval-games 20",
    "bargain-eval search": "--opponents random --num-games 2 --num-simulations 2",
}
"""Flags added to the commands that begin so; of a flag given twice the last counts."""


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    marked: str | None
    text: str


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    fences = re.finditer(r"(?:<!-- command: (\w+) -->\n)?^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    page = str(path.relative_to(ROOT))
    return [Block(page, text.count("\n", 0, f.start(3)), f[2], f[1], f[3]) for f in fences]


BLOCKS = [block for path in PAGES for block in blocks(path)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
COMMANDS = sorted(
    {
        shlex.join(words)
        for block in BLOCKS
        if block.language == "bash"
        for line in block.text.replace("\\\n", " ").splitlines()
        if (words := shlex.split(line, comments=True))
    }
)


class Store(NamedTuple):
    """A folder in which two runs were trained with the default network, and evaluated on the way."""

    folder: Path
    run_id: str
    other_run_id: str


def execute(command: str) -> int:
    """Runs a `bargain-...` command in this process and returns its exit code."""
    program, *arguments = shlex.split(command)
    main = importlib.import_module(f"{program.replace('-', '_')}.cli").main
    return int(main(arguments))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (1, 2):
            assert execute(f"bargain-train ppo --seed {seed} {SMALL['bargain-train ppo']} --eval-interval 64") == 0
        assert execute("bargain-eval crossplay --num-games 50") == 0
    ids = sorted(f"ppo_{path.name.removeprefix('run_')}" for path in (folder / "results/ppo").iterdir())
    return Store(folder, *ids)


@pytest.fixture
def store(trained: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The current folder, with a copy of the trained runs in it."""
    folder = tmp_path / "work"
    shutil.copytree(trained.folder, folder)
    monkeypatch.chdir(folder)
    return trained._replace(folder=folder)


@pytest.fixture
def language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that stands in for OpenAI's."""
    with LlmServer(lambda request: WALK).running() as server, session(SessionOptions(str(tmp_path / "calls.sqlite"))):
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield


def test_the_two_commands_for_newcomers_are_marked() -> None:
    marked = {block.marked: block.text for block in BLOCKS if block.marked}
    assert tuple(marked) == MARKED
    for name in MARKED:
        assert README.count(f"<!-- command: {name} -->\n```bash\n") == 1
    for package in (ROOT / "packages").iterdir():
        assert f"./packages/{package.name}" in marked["run"].splitlines()[0]
    assert "-c constraints.txt" in marked["run"]
    assert "bargain-train ppo" in marked["run"].splitlines()
    assert marked["test"].splitlines() == [
        "python -m pip install -r requirements-dev.txt",
        "python -m pytest -q -n auto --maxprocesses 4",
    ]


@pytest.mark.usefixtures("language_model")
@pytest.mark.parametrize("block", PYTHON, ids=[f"{block.page}:{block.line}" for block in PYTHON])
def test_python_block(block: Block, store: Store) -> None:
    assert store.folder == Path.cwd()
    code = compile("\n" * block.line + block.text, ROOT / block.page, "exec")
    exec(code, {"__name__": "__readme__"})


@pytest.mark.parametrize("command", COMMANDS)
def test_command(
    command: str, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("walk\nno\n"))  # for what is played in the terminal
    if command.startswith("python -m pip install "):
        check_installation(command.removeprefix("python -m pip install "))
        return
    if command == "python -m pytest -q -n auto --maxprocesses 4":
        return  # this suite
    command = command.replace("OTHER_RUN_ID", store.other_run_id).replace("RUN_ID", store.run_id)
    if "--resume" in command:
        interrupt(store)
    else:
        command = " ".join([command, *(flags for start, flags in SMALL.items() if command.startswith(start))])
    assert execute(command) == 0, capsys.readouterr().err
    assert capsys.readouterr().out


def check_installation(arguments: str) -> None:
    """Checks that the paths and pins of a `pip install` line exist; nothing is installed."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    words = [word for word in shlex.split(arguments) if not word.startswith(("-", "https://"))]
    assert words
    for word in words:
        assert word in pins or (ROOT / word.partition("[")[0]).exists(), word


def interrupt(store: Store) -> None:
    """Makes the run look as if Ctrl-C had ended it."""
    path = store.folder / "results" / store.run_id.replace("_", "/run_", 1) / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(metadata | {"status": "interrupted"}), encoding="utf-8")


def test_links_lead_somewhere() -> None:
    for path in (*PAGES, ROOT / "CONTRIBUTING.md"):
        text = path.read_text(encoding="utf-8")
        headings = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("#"):
                assert target[1:] in headings, f"{path}: {target}"
            elif not target.startswith("https://"):
                assert os.path.exists(path.parent / target), f"{path}: {target}"

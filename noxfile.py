"""What we do with the repository, by name; `nox -l` lists it. What we promise to users is in tox.ini."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PACKAGES = ("bargain-env", "bargain-eval", "bargain-train")
CONSTRAINTS = str(ROOT / "constraints.txt")

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

WITHOUT_THE_OTHERS = """
import sys
import bargain_env
engine = bargain_env.make_engine(num_envs=64, threads=2)
engine.reset()
for _ in range(100):
    engine.step(engine.random_actions())
heavy = {"torch", "tensordict", "torchrl", "gymnasium", "pettingzoo"} & set(sys.modules)
assert not heavy, f"import bargain_env loads {heavy}"
bargain_env.parallel_env().reset()
"""


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format; `-- --fix` repairs what it can."""
    session.install("-c", CONSTRAINTS, "ruff")
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *([] if session.posargs else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict, on the packages, the tests and the scripts."""
    session.install("-r", "requirements-dev.txt")
    session.run("mypy", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite on the working tree; `-- tests/env -k parity` for a part of it."""
    session.install("-r", "requirements-dev.txt")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def golden(session: nox.Session) -> None:
    """Writes the recorded games of tests/golden and the tables of docs/ anew, for review as a diff."""
    session.install("-r", "requirements-dev.txt")
    session.run("python", "tests/golden/generate.py")
    session.run("python", "docs/generate.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The pages of docs/ as HTML in docs/_build/html; a broken reference is an error."""
    session.install("-c", CONSTRAINTS, "sphinx", "furo", "myst-parser")
    session.run("sphinx-build", "-W", "-b", "html", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed of the games and of PPO, each against its own limit, measured in one run."""
    session.install("-r", "requirements-dev.txt")
    for name in ("env", "ppo"):
        session.run("python", f"benchmarks/{name}.py")


@nox.session
def learning(session: nox.Session) -> None:
    """What PPO learns over several seeds, against known values (an hour); `-- --seeds 1 --only greedy` for less."""
    session.install("-r", "requirements-dev.txt")
    session.run("python", "benchmarks/learning.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Wheels and source archives into dist/, each lower distribution installed and used without those above."""
    session.install("-c", CONSTRAINTS, "build")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for package in PACKAGES:
        session.run("python", "-m", "build", "--outdir", "dist", f"packages/{package}", silent=True)
    session.log("built %s", ", ".join(sorted(file.name for file in (ROOT / "dist").iterdir())))

    env_wheel, eval_wheel = (str(next((ROOT / "dist").glob(f"bargain_{name}-*.whl"))) for name in ("env", "eval"))
    python = _fresh_environment(session, env_wheel)
    session.run(python, "-c", WITHOUT_THE_OTHERS, external=True)
    python = _fresh_environment(session, env_wheel, eval_wheel)
    command = str(Path(python).with_name("bargain-eval"))
    session.run(command, "baselines", "--num-games", "200", external=True)
    session.run(python, "-c", "import importlib.util as u; assert not u.find_spec('torch')", external=True)


def _fresh_environment(session: nox.Session, *wheels: str) -> str:
    """Returns the Python of a new virtual environment that holds `wheels` and what they need, outside this tree."""
    work = ROOT / session.create_tmp()
    folder = work / f"fresh-{len(wheels)}"
    shutil.rmtree(folder, ignore_errors=True)
    session.chdir(work)
    session.run("python", "-m", "venv", str(folder))
    python = next(str(path) for path in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if path.exists())
    session.run(python, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, *wheels, external=True)
    return python

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

CORE_TESTS = ("engine", "engine_arguments", "parity", "golden", "deals", "philox", "fuzz", "threads", "pettingzoo")
THREAD_TESTS = ("engine", "threads", "fuzz")
EXTENSION_TESTS = [f"tests/env/test_{name}.py" for name in ("engine", "parity", "golden", "threads", "aec")]

GYMNASIUM_TESTS = [f"tests/env/test_{name}.py" for name in ("gymnasium", "gymnasium_vector", "pettingzoo")]

# Libraries whose pins clash with ours, or with each other's.
INTEGRATIONS = {
    "supersuit": ["supersuit==3.11.0", "torch==2.13.0"],
    "tianshou": ["tianshou==2.0.1", "torch==2.13.0"],
    "rllib": ["ray[rllib]==2.60.0", "torch==2.13.0"],
}

EXECUTORS = ("ray", "submitit", "dask")

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
    session.run("python", "-m", "pytest", *(session.posargs or ["-n", "auto", "--maxprocesses", "4"]))


@nox.session
def golden(session: nox.Session) -> None:
    """Writes the recorded games of tests/golden, what is generated of docs/, and sweeps/ anew, for review as a diff."""
    session.install("-r", "requirements-dev.txt")
    session.run("python", "tests/golden/generate.py")
    session.run("python", "docs/generate.py")
    session.run("python", "docs/pictures.py")
    session.run("python", "sweeps/generate.py")


@nox.session
def docs(session: nox.Session) -> None:
    """The pages of docs/ as HTML in docs/_build/html; a broken reference is an error."""
    session.install("-c", CONSTRAINTS, "sphinx", "furo", "myst-parser")
    session.run("sphinx-build", "-W", "-b", "html", "docs", "docs/_build/html")


@nox.session
def bench(session: nox.Session) -> None:
    """Speed of the games, of PPO and of the evaluations, against limits and peers, measured in one run."""
    session.install("-r", "requirements-dev.txt")
    session.run("python", "benchmarks/env.py")
    for name in ("exact", "best_response", "crossplay", "sampled_cfr", "search"):
        session.run("python", f"benchmarks/{name}.py", env={"OMP_NUM_THREADS": "1"})
    session.run("python", "benchmarks/ppo.py")
    session.run("python", "benchmarks/ppo.py", "--parts")


@nox.session
def peers(session: nox.Session) -> None:
    """Speed of the games of other packages beside ours (a gigabyte: JAX and EnvPool's assets)."""
    packages = ("pgx==2.6.0", "jax==0.10.2", "envpool==1.2.5", "open-spiel==2.0.2", "pygame==2.6.1")
    session.install("-c", CONSTRAINTS, "./packages/bargain-env", *packages)
    session.run("python", "benchmarks/peers.py", *session.posargs)


@nox.session
def learning(session: nox.Session) -> None:
    """What the training commands learn over five seeds, against known values and in pairs (hours).

    `-- --only nfsp sampled-cfr --jobs 2` for a part: every task whose name begins so, two runs at the same time;
    `-- --seeds 1 --only greedy` for a few minutes. `-- --help` lists the tasks.
    """
    session.install("-r", "requirements-dev.txt")
    session.run("python", "benchmarks/learning.py", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """The tests that need an NVIDIA GPU with a driver of CUDA 13, and the speed on it."""
    session.install("-r", "requirements-dev.txt", "./packages/bargain-env[cuda13]")
    session.run("python", "-c", "import torch; assert torch.cuda.is_available(), 'torch finds no GPU'")
    session.run("python", "-m", "pytest", "-m", "gpu", "tests")
    session.run("python", "benchmarks/gpu.py")


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


@nox.session(python=["3.11", "3.12", "3.13"])
def wheels(session: nox.Session) -> None:
    """A wheel of the game as each Python gets it: from 3.12 on one for all, checked symbol by symbol, then tested."""
    wheelhouse = ROOT / ".nox" / "wheelhouse"
    tag = "cp311-cp311" if session.python == "3.11" else "cp312-abi3"
    session.install("-c", CONSTRAINTS, "pytest", "hypothesis", "scipy", "abi3audit")
    built = list(wheelhouse.glob(f"*-{tag}-*.whl"))
    if session.python != "3.13" or not built:
        for old in built:
            old.unlink()
        folder = ["-C", f"build-dir={session.create_tmp()}/build", "-w", str(wheelhouse)]
        session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", *folder, "packages/bargain-env")
    (wheel,) = wheelhouse.glob(f"*-{tag}-*.whl")
    if tag.endswith("abi3"):
        session.run("abi3audit", "--strict", "--verbose", str(wheel))
    session.install("-c", CONSTRAINTS, "--force-reinstall", str(wheel))
    session.run("python", "-m", "pytest", "-q", *(session.posargs or EXTENSION_TESTS))


@nox.session
@nox.parametrize("sanitizer", [nox.param("address,undefined", id="address"), nox.param("thread", id="thread")])
def sanitize(session: nox.Session, sanitizer: str) -> None:
    """The C++ core built with the compiler's sanitizers (gcc on Linux) under its tests; `-- -k fuzz` for a part."""
    session.install("-c", CONSTRAINTS, "pytest", "hypothesis", "scipy", "numpy", "gymnasium", "pettingzoo")
    settings = (
        f"cmake.define.BARGAIN_SANITIZE={sanitizer}",
        "cmake.build-type=RelWithDebInfo",
        f"build-dir={session.create_tmp()}/build",
    )
    options = [word for setting in settings for word in ("-C", setting)]
    session.install("-c", CONSTRAINTS, "--force-reinstall", "--no-deps", *options, "packages/bargain-env")
    threads = sanitizer == "thread"
    names = THREAD_TESTS if threads else CORE_TESTS
    environment = {
        "LD_PRELOAD": _runtime(session, "tsan" if threads else "asan") + ":" + _runtime(session, "stdc++"),
        "BARGAIN_FUZZ": "100" if threads else "500",
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself never frees everything; test_threads.py counts instead
        "TSAN_OPTIONS": "halt_on_error=1",
    }
    fixed = ["setarch", "-R"] if threads else []  # the thread sanitizer does not stand a random memory layout
    command = [*fixed, "python", "-m", "pytest", "-q", "-s", *(f"tests/env/test_{name}.py" for name in names)]
    session.run(*command, *session.posargs, env=environment, external=threads)


def _runtime(session: nox.Session, library: str) -> str:
    """Returns the path of a library of the compiler, to be loaded before Python."""
    return str(session.run("gcc", f"-print-file-name=lib{library}.so", external=True, silent=True)).strip()


@nox.session
@nox.parametrize("library", list(INTEGRATIONS), ids=list(INTEGRATIONS))
def integrations(session: nox.Session, library: str) -> None:
    """The example and the documentation's block for a library, in an environment of its own."""
    session.install(*INTEGRATIONS[library], "pytest", "hypothesis", "scipy", "./packages/bargain-env[render]")
    tests = ("tests/whole/test_examples.py", "tests/whole/test_use_it_from.py")
    session.run("python", "-m", "pytest", "-q", *tests, "-k", library)
    if library == "rllib":  # it pins the oldest gymnasium that we support
        session.run("python", "-m", "pytest", "-q", *EXTENSION_TESTS, *GYMNASIUM_TESTS)


@nox.session
@nox.parametrize("library", EXECUTORS, ids=EXECUTORS)
def executors(session: nox.Session, library: str) -> None:
    """A cross-play on a cluster of this machine, by each library that can make one, in an environment of its own.

    With Ray also one on two nodes, of which one dies.
    """
    packages = ("./packages/bargain-env", f"./packages/bargain-eval[{library}]")
    session.install("-c", CONSTRAINTS, "pytest", *packages)
    session.run("python", "-m", "pytest", "-q", "tests/eval/test_executor.py", "-k", library)
    if library == "ray":
        session.run("python", "-m", "pytest", "-q", "tests/eval/ray_cluster.py")


@nox.session
def llm_peer(session: nox.Session) -> None:
    """Games against a real server of language models: `transformers serve` with two tiny ones, which are made here."""
    packages = ("./packages/bargain-env", "./packages/bargain-eval[torch]", "./packages/bargain-train")
    session.install("-c", CONSTRAINTS, "pytest", "transformers[serving]", *packages)
    session.run("python", "-m", "pytest", "-q", "tests/eval/llm_peer.py", *session.posargs)


@nox.session
def sweeps(session: nox.Session) -> None:
    """The files of sweeps/ against W&B's own engine, whose pins clash with ours."""
    session.install("sweeps==0.3.0")
    session.run("python", "sweeps/check.py")


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

"""The rooms of the three distributions and what each may import, as a test.

`bargain-env <- bargain-eval <- bargain-train`, never the other way round. Names are short: `env.spec` is
`bargain_env.spec`, and `eval.results.*` is every module of that package.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {short: ROOT / f"packages/bargain-{short}" for short in ("env", "eval", "train")}
MAX_LINES = 500
BROUGHT_BY = {
    "tensordict": "torchrl",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "pyspiel": "open-spiel",
    "cuda": "cuda-core",
    "dask": "distributed",
    "sqlalchemy": "optuna",
}
"""The distribution to declare where it is not named like the module; torchrl brings the tensordict that fits it."""


class Room(NamedTuple):
    """What a module may import beside the standard library: anywhere, and within functions or for types alone."""

    anywhere: str
    lazily: str = ""


# A new module gets a line here. A line that grows is a decision about the design, not a formality.
ROOMS: dict[str, Room] = {
    # the game
    "env": Room(
        "env.spec env.engine env.registration",
        "env.aec_env env.gymnasium_env env.gymnasium_vector env.openspiel env.pettingzoo_env env.torchrl_env",
    ),
    "env.registration": Room("", "gymnasium"),
    "env.spec": Room("numpy"),
    "env.checks": Room("numpy env.spec"),
    "env.reference": Room("numpy env.spec"),
    "env.engine": Room("env.checks env.spec", "env.cpu_engine env.cuda_device env.cuda_engine"),
    "env.layout": Room("numpy env.spec"),
    "env.cpu_engine": Room("numpy env._cpu env.checks env.engine env.layout env.spec"),
    "env.cuda_device": Room("", "torch cuda"),
    "env.cuda_source": Room("env.layout env.spec"),
    "env.cuda_launcher": Room("numpy torch cuda env.cuda_device env.cuda_source env.spec"),
    "env.cuda_engine": Room("numpy torch env.checks env.cuda_launcher env.cuda_source env.engine env.layout env.spec"),
    "env.rendering": Room("numpy env.checks env.engine env.reference env.spec", "env.drawing"),
    "env.drawing": Room("numpy PIL env.reference env.spec"),
    "env.one_game": Room("numpy env.checks env.spec"),
    "env.pettingzoo_common": Room("numpy gymnasium pettingzoo env.layout env.rendering env.spec"),
    "env.pettingzoo_env": Room(
        "numpy gymnasium pettingzoo env.checks env.engine env.one_game env.pettingzoo_common env.rendering env.spec"
    ),
    "env.aec_env": Room(
        "numpy gymnasium pettingzoo env.checks env.engine env.one_game env.pettingzoo_common env.rendering env.spec"
    ),
    "env.bargain_v0": Room("env.aec_env env.pettingzoo_env"),
    "env.gymnasium_vector": Room("numpy gymnasium env.checks env.engine env.layout env.spec"),
    "env.gymnasium_env": Room("numpy gymnasium env.checks env.gymnasium_vector env.one_game env.rendering env.spec"),
    "env.torchrl_env": Room("torch tensordict torchrl env.checks env.engine env.spec env.torchrl_views"),
    "env.torchrl_views": Room("torch tensordict torchrl env.engine env.layout"),
    "env.openspiel": Room("numpy pyspiel env.checks env.openspiel_table env.spec"),
    "env.openspiel_table": Room("env.reference env.spec"),
    "env.testing": Room("env.testing.*"),
    "env.testing.*": Room("numpy env.engine env.layout env.reference env.spec env.testing.*", "torch"),
    # what plays
    "eval": Room("", "eval.*"),
    "eval.policy": Room("numpy env.spec", "torch"),
    "eval.registry": Room("env.spec eval.policy", "env.cuda_device"),
    "eval.baselines": Room("numpy env.spec eval.policy"),
    "eval.heuristics": Room("numpy env.spec eval.policy eval.baselines"),
    "eval.pretrained": Room("numpy env.spec eval.policy", "eval.checkpoint eval.files"),
    "eval.equilibria": Room("numpy env.spec eval.policy eval.baselines"),
    "eval.mixture": Room("numpy env.spec eval.policy"),
    "eval.by_seat": Room("numpy env.spec eval.policy"),
    # how it is measured
    "eval.game_rows": Room("numpy env.reference"),
    "eval.arena": Room("numpy env.engine env.reference env.spec eval.policy eval.game_rows"),
    "eval.evaluate": Room("numpy env.spec eval.policy eval.registry eval.game_rows eval.arena"),
    "eval.measures": Room("numpy env.reference env.spec eval.game_rows"),
    "eval.mistakes": Room("numpy env.spec eval.game_rows"),
    "eval.executor": Room("", "dask distributed ray submitit"),
    "eval.crossplay": Room("eval.crossplay.*"),
    "eval.crossplay.*": Room("numpy filelock env.spec eval.*"),
    "eval.metagame": Room("eval.metagame.*"),
    "eval.metagame.*": Room("numpy scipy eval.metagame.*"),
    "eval.exact": Room("eval.exact.*"),
    "eval.exact.*": Room(
        "numpy scipy env.* eval.policy eval.game_rows eval.arena eval.by_seat eval.mixture eval.files eval.exact.*"
    ),
    "eval.comparison": Room(""),
    "eval.comparison.*": Room("numpy eval.comparison.*"),
    "eval.comparison.stored": Room(
        "numpy eval.comparison.* eval.report.runs eval.results.layout eval.results.metrics eval.results.views"
    ),
    # how it is shown
    "eval.llm": Room("eval.llm.*"),
    "eval.llm.*": Room("numpy env.* eval.policy eval.llm.*", "jinja2"),
    "eval.llm.client": Room("eval.llm.request eval.llm.wire eval.policy", "openai"),
    "eval.llm.store": Room("filelock eval.llm.request eval.policy"),
    "eval.llm.session": Room("eval.llm.*", "platformdirs"),
    "eval.llm.audit": Room("eval.game_rows eval.llm.*"),
    "eval.llm.policy": Room("numpy env.spec eval.heuristics eval.policy eval.registry eval.llm.*"),
    "eval.report": Room("eval.report.*"),
    "eval.report.*": Room("numpy matplotlib jinja2 env.* eval.*"),
    # how it is stored
    "eval.files": Room(""),
    "eval.versions": Room(""),
    "eval.checkpoint": Room("eval.files eval.versions", "torch"),
    "eval.results": Room("eval.results.*"),
    "eval.results.*": Room("filelock env.spec eval.files eval.versions eval.checkpoint eval.results.*"),
    # the command line
    "eval.cli_tools": Room("pydantic tyro eval.policy"),
    "eval.game_options": Room("pydantic env.spec"),
    "eval.commands": Room(""),
    "eval.commands.*": Room("numpy pydantic rich tyro env.* eval.*"),
    "eval.cli": Room("eval.cli_tools", "eval.commands.*"),
    # what every training run is made of
    "train": Room("", "train.loggers"),
    "train.config": Room("pydantic env.spec eval.game_options"),
    "train.loggers": Room("rich eval.results", "torchrl"),
    "train.seeds": Room("numpy"),
    "train.distributed": Room("torch"),
    "train.run": Room(
        "torch eval.checkpoint eval.policy eval.registry eval.results.* train.config train.distributed train.loggers "
        "train.seeds"
    ),
    "train.summary": Room("rich train.run"),
    # the shared pieces of the algorithms
    "train.networks": Room("torch env.spec", "train.table_network"),
    "train.table_network": Room("numpy torch env.spec eval.exact.* train.networks"),
    "train.exact_oracle": Room("numpy env.spec eval.exact.* train.networks train.policies train.table_network"),
    "train.actors": Room("torch tensordict train.networks"),
    "train.policies": Room(
        "numpy torch env.spec eval.by_seat eval.checkpoint eval.mixture eval.policy eval.results.* "
        "train.actors train.networks"
    ),
    "train.collector": Room("torch tensordict torchrl env.torchrl_env env.torchrl_views"),
    "train.collect": Room(
        "numpy torch tensordict env.spec env.torchrl_env eval.policy "
        "train.actors train.collector train.distributed train.hands train.networks train.pool train.seeds"
    ),
    "train.advantage": Room("torch"),
    "train.buffers": Room("torch tensordict env.spec"),
    "train.transitions": Room("torch tensordict env.spec train.advantage train.buffers"),
    "train.q_updates": Room("torch tensordict env.spec train.buffers train.config train.networks train.seeds"),
    "train.modes": Room(
        "torch tensordict env.spec env.torchrl_env train.actors train.collector train.networks train.q_updates "
        "train.seeds train.transitions"
    ),
    "train.traversal": Room(
        "torch tensordict env.spec env.engine env.torchrl_views train.actors train.buffers train.seeds"
    ),
    "train.regret": Room(
        "torch tensordict env.spec train.actors train.buffers train.config train.networks train.seeds train.traversal"
    ),
    "train.hands": Room("torch env.torchrl_env env.torchrl_views"),
    "train.critics": Room("torch torchrl env.spec train.config train.networks"),
    "train.guide": Room("train.networks"),
    "train.updates": Room(
        "torch tensordict torchrl train.config train.actors train.distributed train.guide train.networks"
    ),
    "train.exploration": Room("numpy torch env.engine env.spec"),
    "train.imitation": Room("torch train.actors train.networks"),
    "train.nash_conv": Room("env.spec eval.by_seat eval.exact.* eval.mixture eval.policy"),
    "train.evaluation": Room("eval.evaluate eval.policy train.nash_conv train.policies train.run"),
    "train.learner": Room("torch tensordict env.spec train.advantage train.collect train.distributed train.updates"),
    "train.ppo_run": Room(
        "torch env.spec eval.policy train.collect train.distributed train.evaluation train.learner train.networks "
        "train.policies train.run train.seeds train.updates"
    ),
    # populations, and the jobs that they are made of
    "train.pool": Room("torch train.actors train.networks"),
    "train.jobs": Room("torch eval.executor eval.files train.run"),
    "train.responses": Room(
        "torch env.spec train.config train.collect train.guide train.jobs train.learner train.networks train.policies "
        "train.pool train.run train.seeds train.updates"
    ),
    "train.co_play": Room(
        "numpy train.config train.jobs train.networks train.policies train.responses train.run train.seeds"
    ),
    "train.population": Room("numpy torch eval.metagame.*"),
    "train.oracle": Room("eval.metagame.* train.population train.run"),
    "train.exact_play": Room("env.spec train.exact_oracle train.networks train.oracle train.population"),
    "train.population_jobs": Room(
        "torch env.reference env.spec eval.arena eval.baselines eval.game_rows train.config train.jobs train.networks "
        "train.oracle train.policies train.population train.responses train.run train.seeds"
    ),
    "train.explorer": Room(
        "numpy torch train.config train.exploration train.imitation train.policies train.population "
        "train.population_jobs train.responses train.run train.seeds"
    ),
    "train.oracle_run": Room(
        "numpy env.spec eval.metagame.* eval.policy train.config train.evaluation train.jobs train.networks "
        "train.oracle train.policies train.population train.population_jobs train.run"
    ),
    "train.search": Room("train.search.*"),
    "train.search.*": Room(
        "numpy torch env.spec eval.by_seat eval.exact.game eval.exact.types eval.mixture eval.policy eval.registry "
        "train.actors train.search.*"
    ),
    # the algorithms: their settings load at once, everything else when training starts
    "train.algorithms": Room("train.config train.algorithms.*"),
    "train.algorithms.*": Room(
        "pydantic train.config",
        "torch tensordict torchrl env.* eval.* train.run train.seeds train.networks train.actors train.policies "
        "train.collect train.critics train.advantage train.updates train.evaluation train.learner train.modes "
        "train.q_updates train.regret train.traversal train.co_play train.exact_oracle train.exact_play train.explorer "
        "train.jobs train.oracle train.oracle_run train.population train.population_jobs train.ppo_run",
    ),
    # sweeps: what the command line is told loads at once, everything else when one begins
    "train.sweep": Room(""),
    "train.sweep.options": Room("tyro pydantic"),
    "train.sweep.*": Room(
        "filelock optuna rich sqlalchemy yaml eval.cli_tools eval.commands.common eval.files train.algorithms "
        "train.config train.seeds train.sweep.*",
        "eval.evaluate eval.exact.* eval.files eval.registry eval.results.* train.nash_conv train.run",
    ),
    "train.sweep.sharing": Room("eval.executor"),
    "train.sweep.training": Room("eval.cli_tools eval.results.* train.algorithms train.config train.run"),
    "train.sweep.trial": Room("optuna eval.results.* train.config train.run train.sweep.*"),
    "train.sweep.comparison": Room("eval.files eval.results.* train.config train.run train.sweep.*"),
    "train.cli": Room(
        "eval.cli_tools train.algorithms train.config train.sweep.options",
        "yaml eval.results.* train.distributed train.run train.summary train.sweep.command",
    ),
}


class Import(NamedTuple):
    """One imported module, and whether it loads only in a function or for the type checker."""

    name: str
    line: int
    lazy: bool


def sources() -> dict[str, Path]:
    """Returns the Python files by short module name."""
    found = {}
    for short, package in PACKAGES.items():
        root = package / "src" / f"bargain_{short}"
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join((short, *parts)).removesuffix(".__init__")] = path
    return found


SOURCES = sources()
MODULES = {*SOURCES, "env._cpu"}


def short_name(name: str) -> str:
    return re.sub(r"^bargain_(env|eval|train)\b", r"\1", name)


def imports_of(path: Path) -> list[Import]:
    return list(_walk(ast.parse(path.read_text(encoding="utf-8")), lazy=False))


def _walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(short_name(alias.name), node.lineno, lazy) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: a relative import"
        yield from (Import(name, node.lineno, lazy) for name in _imported_from(node))
    elif isinstance(node, ast.Call) and (name := _dynamic_import(node)) is not None:
        yield Import(short_name(name), node.lineno, lazy)
    for child in ast.iter_child_nodes(node):
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        types_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and child in node.body
        yield from _walk(child, lazy or inside or types_only)


def _imported_from(node: ast.ImportFrom) -> Iterator[str]:
    """Yields what `from A import b` loads: the module A.b if there is one, else where A defines b, else A."""
    module = short_name(node.module or "")
    for alias in node.names:
        inner = f"{module}.{alias.name}"
        yield inner if inner in MODULES else _exports(module).get(alias.name, module)


def _exports(module: str) -> dict[str, str]:
    """Returns the homes of the names that the `__init__` of a package hands on at its top level."""
    if module not in PACKAGES:
        return {}
    tree = ast.parse(SOURCES[module].read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "__future__"]
    return {alias.name: short_name(node.module or "") for node in nodes for alias in node.names}


def _dynamic_import(node: ast.Call) -> str | None:
    """Returns the literal name in `import_module("name")` or `__import__("name")`."""
    called = ast.unparse(node.func).rpartition(".")[2]
    if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
        return str(node.args[0].value)
    return None


def room_of(module: str) -> Room | None:
    """Returns the line of a module: its own, else the one with * of the package above it."""
    return ROOMS.get(module) or ROOMS.get(f"{module.rpartition('.')[0]}.*")


def allowed(name: str, names: str) -> bool:
    own = name.partition(".")[0] in PACKAGES
    for pattern in names.split():
        package = pattern.removesuffix(".*")
        if name == pattern or (pattern != package and (name == package or name.startswith(f"{package}."))):
            return True
        if not own and name.partition(".")[0] == pattern:
            return True
    return False


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_a_module_imports_what_its_room_may(module: str) -> None:
    room = room_of(module)
    assert room is not None, f"{module} has no line in ROOMS: decide what it may import"
    for name, line, lazy in imports_of(SOURCES[module]):
        if name.partition(".")[0] in sys.stdlib_module_names:
            continue
        may = f"{room.anywhere} {room.lazily}" if lazy else room.anywhere
        assert allowed(name, may), f"{SOURCES[module]}:{line} imports {name}; {module} may import: {may}"


def test_every_room_exists() -> None:
    used = {module if module in ROOMS else f"{module.rpartition('.')[0]}.*" for module in SOURCES}
    assert set(ROOMS) == used


@pytest.mark.parametrize(("short", "above"), [("env", ("eval", "train")), ("eval", ("train",))])
def test_imports_go_one_way(short: str, above: tuple[str, ...]) -> None:
    for module, path in SOURCES.items():
        if module.partition(".")[0] == short:
            roots = {name.partition(".")[0] for name, _, _ in imports_of(path)}
            assert roots.isdisjoint(above), f"{module} imports {roots & set(above)}"


def test_no_algorithm_imports_another() -> None:
    algorithms = [module for module in SOURCES if module.startswith("train.algorithms.")]
    assert algorithms
    for module in algorithms:
        assert not [name for name, _, _ in imports_of(SOURCES[module]) if name.startswith("train.algorithms")]


def test_evaluation_loads_torch_only_within_functions() -> None:
    for module, path in SOURCES.items():
        if module.partition(".")[0] == "eval":
            eager = {name.partition(".")[0] for name, _, lazy in imports_of(path) if not lazy}
            assert eager.isdisjoint({"torch", "tensordict", "torchrl"}), module


def test_files_stay_short() -> None:
    code = [path for package in PACKAGES.values() for path in (package / "src").rglob("*") if path.is_file()]
    code = [path for path in code if path.suffix in (".py", ".pyi", ".h", ".cpp", ".cu", ".cuh")]
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in code}
    assert lines
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def project(short: str) -> dict[str, Any]:
    with (PACKAGES[short] / "pyproject.toml").open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["project"]
    return table


def requirements(short: str) -> list[str]:
    table = project(short)
    extras = table.get("optional-dependencies", {}).values()
    return [*table["dependencies"], *(line for extra in extras for line in extra)]


def test_the_versions_are_one() -> None:
    versions = {f"{short}, project": project(short)["version"] for short in PACKAGES}
    for short in PACKAGES:
        versions[f"{short}, installed"] = distribution(f"bargain-{short}").version
        found = re.search(r'^__version__ = "(.*)"$', SOURCES[short].read_text(encoding="utf-8"), re.MULTILINE)
        assert found, f"bargain_{short} has no __version__"
        versions[f"{short}, __version__"] = found[1]
    cited = re.search(r'^version: "?([^"\s]+)', (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited
    versions["CITATION.cff"] = cited[1]
    assert len(set(versions.values())) == 1, versions
    assert f"## {cited[1]}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("short", PACKAGES)
def test_siblings_are_pinned(short: str) -> None:
    siblings = [line for line in requirements(short) if line.startswith("bargain-")]
    assert len(siblings) == list(PACKAGES).index(short)
    for line in siblings:
        assert line.partition("==")[2] == project(short)["version"], line


@pytest.mark.parametrize("short", PACKAGES)
def test_imports_are_declared(short: str) -> None:
    """A distribution names every library that its modules may import, so that none comes by accident."""
    declared = {re.split(r"[\[=<>~!; ]", line)[0].lower() for line in requirements(short)} | set(inherited(short))
    used = {
        name.partition(".")[0]
        for module, path in SOURCES.items()
        if module.partition(".")[0] == short
        for name, _, _ in imports_of(path)
    }
    third_party = used - set(sys.stdlib_module_names) - set(PACKAGES)
    assert {BROUGHT_BY.get(name, name) for name in third_party} <= declared


def inherited(short: str) -> Iterator[str]:
    """Yields the libraries of the distributions below, which come with the pinned sibling."""
    for below in list(PACKAGES)[: list(PACKAGES).index(short)]:
        yield from (re.split(r"[\[=<>~!; ]", line)[0].lower() for line in requirements(below))


@pytest.mark.parametrize("short", PACKAGES)
def test_the_entry_points_load(short: str) -> None:
    points = distribution(f"bargain-{short}").entry_points
    assert bool(points) == (short != "env")
    for point in points:
        assert callable(point.load()), point

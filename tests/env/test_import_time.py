"""`import bargain_env` loads numpy and nothing heavier."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import json, sys
import numpy
before = set(sys.modules)
import bargain_env
print(json.dumps([sorted(sys.modules), sorted(set(sys.modules) - before)]))
"""


def _modules(script: str) -> list[list[str]]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded: list[list[str]] = json.loads(done.stdout)
    return loaded


def test_import_needs_numpy_alone() -> None:
    loaded, added = _modules(SCRIPT)
    roots = {name.partition(".")[0] for name in loaded}
    assert roots.isdisjoint({"torch", "tensordict", "torchrl", "gymnasium", "pettingzoo", "cuda", "scipy"})
    third_party = {name.partition(".")[0] for name in added} - set(sys.stdlib_module_names)
    assert third_party <= {"bargain_env", "numpy"}
    assert len(added) < 40, added


def test_an_engine_needs_no_more() -> None:
    loaded, _ = _modules(SCRIPT.replace("import bargain_env\n", "import bargain_env\nbargain_env.make_engine()\n"))
    assert {name.partition(".")[0] for name in loaded}.isdisjoint({"torch", "gymnasium", "pettingzoo"})


def test_adapters_load_when_they_are_named() -> None:
    loaded, _ = _modules(SCRIPT.replace("import bargain_env\n", "import bargain_env\nbargain_env.parallel_env\n"))
    assert "pettingzoo" in loaded
    assert "torch" not in loaded


def test_a_star_import_needs_no_framework_and_dir_knows_the_adapters() -> None:
    star = "from bargain_env import *\nassert make_engine and 'env' in dir(bargain_env)\n"
    loaded, _ = _modules(SCRIPT.replace("import bargain_env\n", "import bargain_env\n" + star))
    assert {name.partition(".")[0] for name in loaded}.isdisjoint({"torch", "gymnasium", "pettingzoo"})

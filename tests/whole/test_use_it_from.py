"""Every block of docs/use_it_from.md runs as it stands; the library it needs may live in another environment."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "use_it_from.md").read_text(encoding="utf-8")
MODULES = {"rllib": "ray"}
"""The module to look for where a library is not named like it."""


class Block(NamedTuple):
    """A fenced block, and the library named above it."""

    needs: str
    code: str


BLOCKS = [Block(*found) for found in re.findall(r"<!-- needs: (\w+) -->\n```python\n(.*?)^```$", PAGE, re.S | re.M)]


def test_every_block_says_what_it_needs_and_every_section_has_one() -> None:
    assert len(BLOCKS) == PAGE.count("```python\n") == PAGE.count("\n## ")
    assert {"bargain_env", "supersuit", "tianshou", "rllib", "torchrl"} <= {block.needs for block in BLOCKS}


@pytest.mark.parametrize("block", BLOCKS, ids=[block.needs for block in BLOCKS])
def test_the_block_is_short_and_runs(block: Block, tmp_path: Path) -> None:
    assert len(block.code.splitlines()) <= 15
    module = MODULES.get(block.needs, block.needs)
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}")
    result = subprocess.run(
        [sys.executable, "-c", block.code], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()

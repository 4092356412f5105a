"""An algorithm from elsewhere learns the game through the Gymnasium views."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "maskable_ppo.py"


def test_maskable_ppo_learns(tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib")
    command = [sys.executable, str(EXAMPLE), "--timesteps", "25000"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    before, after = (float(number) for number in re.findall(r"mean payoff (\d\.\d+)", done.stdout))
    errors = [float(number) for number in re.findall(r"\+- (\d\.\d+)", done.stdout)]
    assert after - before > 10 * sum(errors)

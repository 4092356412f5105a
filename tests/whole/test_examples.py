"""Every example runs as it stands."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NEEDS = {
    "maskable_ppo": "sb3_contrib",
    "openspiel_cfr": "pyspiel",
    "cleanrl_supersuit": "supersuit",
    "tianshou_dqn": "tianshou",
    "rllib_ppo": "ray",
}
"""What an example needs beyond the three distributions; without it the example is skipped."""
BUDGET = {
    "cleanrl_supersuit": ["--timesteps", "8192"],
    "tianshou_dqn": ["--timesteps", "1000"],
    "rllib_ppo": ["--iterations", "1", "--batch-size", "500"],
}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3
    assert NEEDS.keys() | BUDGET.keys() <= {example.stem for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(example: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec(NEEDS.get(example.stem, "bargain_env")) is None:
        pytest.skip(f"needs {NEEDS[example.stem]}")
    result = subprocess.run(
        [sys.executable, str(example), *BUDGET.get(example.stem, [])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert any(character.isdigit() for character in result.stdout)

"""The tables of the documentation are what the code says, and the metrics it explains are those that are logged."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from bargain_train.cli import main

ROOT = Path(__file__).parents[2]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["game.md", "mappo.md", "nfsp.md", "ppo.md", "sampled_cfr.md", "sweeps.md"])
def test_generated_tables_are_up_to_date(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert _generator().generate(page) == written, "run python docs/generate.py"


def test_every_logged_metric_is_explained_and_every_explained_metric_is_logged(tmp_path: Path) -> None:
    flags = ["--game", "mini-a", "--num-envs", "16", "--rollout-steps", "8", "--total-timesteps", "128"]
    flags += ["--kl-rollout-coef", "0.1", "--kl-magnet-coef", "0.1"]
    places = ["--eval-games", "20", "--eval-interval", "128", "--results-dir", str(tmp_path)]
    assert main(["ppo", *flags, *places, "--checkpoint-dir", str(tmp_path / "mirror"), "--hidden-dims", "8"]) == 0
    (lines,) = tmp_path.glob("ppo/*/metrics.json")
    logged = {name for line in json.loads(lines.read_text(encoding="utf-8")) for name in line} - {"step", "timestamp"}
    text = (ROOT / "docs" / "ppo.md").read_text(encoding="utf-8")
    section = text.partition("## Metrics")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert logged == {name for row in rows for name in re.findall(r"`([^`]+)`", row)}

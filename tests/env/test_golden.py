"""The golden games, byte for byte; the engine plays them to the same end."""

from __future__ import annotations

import difflib
import runpy
from pathlib import Path

import numpy as np
import pytest
from bargain_env import make_engine

FOLDER = Path(__file__).parents[1] / "golden"
GENERATE = runpy.run_path(str(FOLDER / "generate.py"))
GOLDEN = GENERATE["GOLDEN"]


def test_every_file_has_its_game() -> None:
    assert len(GOLDEN) >= 12
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(GOLDEN)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_game(name: str) -> None:
    stored = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    current = GENERATE["golden_text"](name)
    difference = difflib.unified_diff(stored.splitlines(), current.splitlines(), "stored", "current", lineterm="")
    assert stored == current, "\n".join(["run tests/golden/generate.py if this is meant:", *difference])


@pytest.mark.parametrize("name", GOLDEN)
def test_the_engine_plays_the_golden_game(name: str) -> None:
    spec, seed, index, episode, moves = GOLDEN[name]
    engine = make_engine(spec, seed=seed, autoreset=False)
    engine.set_state(engine.get_state() | {"game": np.array([index]), "episode": np.array([max(episode - 1, 0)])})
    engine.reset(seed if episode == 0 else None)
    assert engine.get_state()["episode"] == [episode]
    played: list[str] = []
    while not engine.terminated[0]:
        engine.step(engine.random_actions() if moves is None else np.array([moves[len(played)]]))
        played.append(str(engine.get_state()["actions"][0, len(played)]))
    shares = " ".join(np.format_float_positional(share, unique=True, trim="0") for share in engine.reward[0])
    stored = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert stored.endswith(f"rewards {shares}\nmoves [{', '.join(played)}]\n")

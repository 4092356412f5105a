"""Draws the pictures of the documentation: `python docs/pictures.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bargain_env import raw_env
from PIL import Image

DOCS = Path(__file__).parent


def negotiation() -> Any:
    """Returns a game that ends in a deal in the second round, as the environment draws it."""
    env = raw_env(seed=0, render_mode="rgb_array")
    env.reset(options={"values": [[62, 15, 88], [34, 71, 53]], "outside": [301, 238]})
    for bundle in ((2, 1, 0), (5, 4, 1), (3, 4, 0)):
        env.step(env.spec.encode_offer(bundle))
    env.step(env.spec.accept_action)
    return env.render()


PICTURES = {"negotiation.png": negotiation}


def main() -> None:
    for name, draw in PICTURES.items():
        Image.fromarray(draw()).save(DOCS / name, optimize=True)


if __name__ == "__main__":
    main()

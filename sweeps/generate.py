"""Writes the files for `wandb sweep` anew, from the search spaces of the algorithms: `python sweeps/generate.py`."""

from __future__ import annotations

from pathlib import Path

from bargain_train.sweep.wandb_file import files

FOLDER = Path(__file__).parent


def main() -> None:
    """Writes every file, and removes those of algorithms that are gone."""
    for outdated in FOLDER.glob("sweep_*.yaml"):
        outdated.unlink()
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"{len(files())} files in {FOLDER}")


if __name__ == "__main__":
    main()

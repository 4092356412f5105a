"""Holds the files of this folder against W&B's own engine: its schema, and the points that it draws of them.

Needs the distribution `sweeps`, whose pins clash with ours: `nox -s sweeps`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import yaml

import sweeps

POINTS = 6


def main() -> int:
    """Prints the last of some points of each file, drawn as in a sweep; returns 1 if a file breaks the schema."""
    broken = 0
    for path in sorted(Path(__file__).parent.glob("*.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        violations = sweeps.schema_violations_from_proposed_config(config)
        broken += bool(violations)
        runs: list[sweeps.SweepRun] = []
        for _ in range(POINTS):
            run = sweeps.next_run(config, runs)
            run.state = sweeps.RunState.finished
            run.summary_metrics = {config["metric"]["name"]: random.random()}
            runs.append(run)
        print(path.name, violations or {name: part["value"] for name, part in runs[-1].config.items()})
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Certified best responses on the standard game, one thread: `OMP_NUM_THREADS=1 python benchmarks/best_response.py`.

Each row doubles one number of the first row's budget. The last column says how many times as long it takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

from bargain_env import GameSpec
from bargain_eval import load_policy
from bargain_eval.exact.certified import Budget, Certificate, certify
from timing import machine

BASE = Budget(types=1024, own_types=64, counters=4, repeats=3, games=32_768, mimic_types=64, mimic_games=32)


def measure(policy: str, budget: Budget) -> tuple[Certificate, float]:
    spec = GameSpec()
    loaded = load_policy(policy, spec)
    start = time.perf_counter()
    found = certify((loaded, loaded), spec, budget=budget)
    return found, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="pretrained")
    parser.add_argument("--types", type=int, default=BASE.types)
    parser.add_argument("--own-types", type=int, default=BASE.own_types)
    parser.add_argument("--counters", type=int, default=BASE.counters)
    parser.add_argument("--repeats", type=int, default=BASE.repeats)
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("types", "own_types", "counters", "repeats")}
    base = dataclasses.replace(BASE, **given)
    print(f"{machine()}, policy {arguments.policy}\n")
    print("| budget | seconds | NashConv | times |")
    print("|---|---|---|---|")
    first = 0.0
    for name in ("", "types", "own_types", "counters", "repeats"):
        budget = dataclasses.replace(base, **({name: 2 * getattr(base, name)} if name else {}))
        found, seconds = measure(arguments.policy, budget)
        first = first or seconds
        what = f"{getattr(budget, name)} {name.replace('_', ' ')}" if name else _words(budget)
        interval = f"{found.nash_conv_lower:.4f} to {found.nash_conv_upper:.4f}"
        print(f"| {what} | {seconds:.1f} | {interval} | {seconds / first:.2f} |", flush=True)


def _words(budget: Budget) -> str:
    return f"{budget.types} types, {budget.own_types} own types, {budget.counters} counters, {budget.repeats} repeats"


if __name__ == "__main__":
    main()

"""What PPO learns, over seeds: `python benchmarks/learning.py [--seeds 1 2 3 4 5] [--only self-play]`.

Runs the commands of the documentation's table one after the other, prints the table, and exits 1 if a figure misses its
target. Every figure is measured on held-out deals that training never sees, the same for every run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from typing import Any, NamedTuple

from bargain_eval import ResultsManager, load_policy, play
from bargain_eval.evaluate import FINAL_EVAL_SEED
from bargain_train.cli import main as bargain_train

RANDOM = 0.500527  # what random play earns each seat against random play


class Task(NamedTuple):
    """A command, whom its policy is measured against, and the least payoff that counts as learned."""

    flags: tuple[str, ...]
    opponent: str | None
    seat: int
    target: float


RESPONSE = ("--lr", "1e-3", "--entropy-coef", "0.2", "--entropy-coef-final", "0.0005", "--minibatch-size", "2048")
"""What a best response takes: it explores for longer and learns faster than self-play may."""

TASKS = {
    "self-play": Task((), None, 0, 1.15),
    "greedy": Task(("--opponent", "greedy", "--seat", "0", *RESPONSE), "greedy", 0, 0.62),
    "random-0": Task(("--opponent", "random", "--seat", "0", *RESPONSE), "random", 0, RANDOM + 0.97 * 0.30012),
    "random-1": Task(("--opponent", "random", "--seat", "1", *RESPONSE), "random", 1, RANDOM + 0.97 * 0.24493),
}
"""Self-play must reach a total of 1.15 with at least .50 in each seat; the best responses have known values."""


def learn(task: Task, seed: int, options: argparse.Namespace, folder: str) -> tuple[Any, float]:
    places = ["--results-dir", folder, "--checkpoint-dir", f"{folder}/mirror"]
    budget = ["--total-timesteps", str(options.timesteps)] if options.timesteps else []
    flags = ["ppo", "--seed", str(seed), "--threads", str(options.threads), *places, *task.flags, *budget]
    if bargain_train(flags) != 0:
        raise SystemExit(f"training failed: {' '.join(flags)}")
    run = ResultsManager(folder).list_runs()[0]
    policy = load_policy(f"run:{run['run_id']}", results_dir=folder)
    opponent = policy if task.opponent is None else load_policy(task.opponent)
    players = (policy, opponent) if task.seat == 0 else (opponent, policy)
    return play(players, options.games, FINAL_EVAL_SEED).summary(), run["training_time_seconds"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--only", choices=list(TASKS), nargs="+", default=list(TASKS))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--timesteps", type=int, help="a budget other than the command's own")
    parser.add_argument("--games", type=int, default=100_000, help="held-out deals")
    options = parser.parse_args()
    rows, missed = [], 0
    for name in options.only:
        task = TASKS[name]
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as folder:
                summary, seconds = learn(task, seed, options, folder)
            if task.opponent is None:
                reached = summary["total"] >= task.target and min(summary["payoff_0"], summary["payoff_1"]) >= 0.5
            else:
                reached = summary[f"payoff_{task.seat}"] >= task.target
            missed += not reached
            numbers = [summary[key] for key in ("payoff_0", "payoff_1", "total")]
            rates = [summary[key] for key in ("agreement_rate", "first_move_walk_rate")]
            rows.append(
                f"| {name} | {seed} | "
                + " | ".join(f"{number:.4f}" for number in numbers)
                + f" | {summary['total_se']:.4f} | "
                + " | ".join(f"{rate:.3f}" for rate in rates)
                + f" | {seconds:.0f} s | {'yes' if reached else 'NO'} |"
            )
            print(rows[-1], flush=True)
    print("\n| task | seed | seat 0 | seat 1 | total | se | deals | walk at once | time | reached |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

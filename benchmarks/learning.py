"""What the training commands learn, over seeds: `python benchmarks/learning.py [--seeds 1 2] [--only nfsp] [--jobs 2]`.

Runs the commands of `TASKS`, prints tables in Markdown, and exits 1 if a figure misses its target. Payoffs are measured
on held-out deals that training never sees, the same for every run; NashConv, the sum of what both seats could still
gain by a best response, is exact.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from bargain_eval import ResultsManager, load_policy, play
from bargain_eval.evaluate import FINAL_EVAL_SEED
from bargain_eval.exact import evaluate, policy_profile, tabular_game
from bargain_train.algorithms import ALGORITHMS
from bargain_train.networks import build_network
from bargain_train.policies import NetworkPolicy, read_network, stored_network
from bargain_train.responses import ResponseTask, train_response

RANDOM = 0.500527  # what random play earns each seat against random play


class Response(NamedTuple):
    """A best response to a fixed opponent on the standard game, and the least payoff that counts as learned."""

    command: str
    opponent: str
    seat: int
    flags: tuple[str, ...]
    payoff: float


class PoolResponse(NamedTuple):
    """A best response, as fictitious co-play trains it, to a pool of one network, which plays as `opponent` does."""

    command: str
    seat: int
    payoff: float
    opponent: str = "random"


class SelfPlay(NamedTuple):
    """Self-play on the standard game, and the least total that counts as learned, with at least .50 in each seat."""

    command: str
    flags: tuple[str, ...]
    total: float


class Equilibrium(NamedTuple):
    """Learning on a small game, the largest NashConv that counts as learned, and the one that we hope for."""

    command: str
    game: str
    flags: tuple[str, ...] = ()
    nash_conv: float | None = None
    stretch: float | None = None


Task = Response | PoolResponse | SelfPlay | Equilibrium

RESPONSE = ("--lr", "1e-3", "--entropy-coef", "0.2", "--entropy-coef-final", "0.0005", "--minibatch-size", "2048")
"""What a best response takes: it explores for longer and learns faster than self-play may."""

SMALL = ("--hidden-dims", "64", "64")
"""Enough for a small game."""

PATIENT = (*SMALL, "--rollout-steps", "32", "--total-timesteps", "3000000", "--lr", "3e-3", "--lr-final", "0.02")
EXPLORING = (*PATIENT, "--gae-lambda", "1", "--entropy-coef", "0.2", "--entropy-coef-final", "0.005")
CRITICS = ("--critic-hidden-dims", "64", "64")
MAGNET = ("--kl-magnet-coef", "0.1", "--magnet-interval", "20")
"""PPO on a small game: much entropy for long, then little; MAPPO's critics there; and PPO held close to what it played
some updates ago."""

FICTITIOUS = (*SMALL, "--num-envs", "128", "--total-timesteps", "400000")
WINDOW = ("--avg-memory", "window", "--avg-buffer-size")
"""NFSP on a small game, and with the latest decisions in place of a sample of all."""

POPULATIONS = (*SMALL, "--nash-solver", "max_welfare", "--psro-iterations", "8")
LAST = (*SMALL, "--psro-iterations", "8", "--keep", "last")
"""PSRO on a small game, whose iterations are many updates each."""

REGRET = (*SMALL, "--iterations", "20", "--advantage-train-steps", "300")
FEW_DEALS = (*SMALL, "--iterations", "20", "--advantage-train-steps", "500", "--num-envs", "32")
SHORT_REGRET = ("--advantage-memory-size", "3000")
"""Sampled CFR on a small game; with so few deals that a network which is never renewed keeps to the first ones; and
with memories so short that what they keep makes a difference."""

_TASKS: dict[str, Task] = {
    "self-play": SelfPlay("ppo", (), 1.15),
    "greedy": Response("ppo", "greedy", 0, RESPONSE, 0.62),
    "random-0": Response("ppo", "random", 0, RESPONSE, RANDOM + 0.97 * 0.30012),
    "random-1": Response("ppo", "random", 1, RESPONSE, RANDOM + 0.97 * 0.24493),
    "fcp-random-0": PoolResponse("fcp", 0, 0.98 * 0.8007),
    "fcp-random-1": PoolResponse("fcp", 1, 0.98 * 0.7455),
    "psro-a": Equilibrium("psro", "mini-a", POPULATIONS, 0.02),
    "psro-c": Equilibrium("psro", "mini-c", LAST),
    "ex2psro-c": Equilibrium("ex2psro", "mini-c", LAST),
    "nfsp-a": Equilibrium("nfsp", "mini-a", FICTITIOUS, 0.03),
    "nfsp-b": Equilibrium("nfsp", "mini-b", FICTITIOUS, 0.06),
    "nfsp-b-standing": Equilibrium("nfsp", "mini-b", (*FICTITIOUS, "--observation", "standing")),
    "nfsp-b-window-100": Equilibrium("nfsp", "mini-b", (*FICTITIOUS, *WINDOW, "100")),
    "nfsp-b-window-1000": Equilibrium("nfsp", "mini-b", (*FICTITIOUS, *WINDOW, "1000")),
    "sampled-cfr-a": Equilibrium("sampled-cfr", "mini-a", REGRET, 0.03),
    "sampled-cfr-b": Equilibrium("sampled-cfr", "mini-b", REGRET, 0.06),
    "sampled-cfr-b-standing": Equilibrium("sampled-cfr", "mini-b", (*REGRET, "--observation", "standing")),
    "sampled-cfr-b-network": Equilibrium("sampled-cfr", "mini-b", (*REGRET, "--readout", "network")),
    "sampled-cfr-b-few": Equilibrium("sampled-cfr", "mini-b", FEW_DEALS),
    "sampled-cfr-b-few-finetune": Equilibrium("sampled-cfr", "mini-b", (*FEW_DEALS, "--no-reinitialise")),
    "sampled-cfr-b-short": Equilibrium("sampled-cfr", "mini-b", (*REGRET, *SHORT_REGRET)),
    "sampled-cfr-b-short-window": Equilibrium("sampled-cfr", "mini-b", (*REGRET, *SHORT_REGRET, "--memory", "window")),
    "mappo-self-play": SelfPlay("mappo", (), 1.15),
    "mappo-b": Equilibrium("mappo", "mini-b", (*EXPLORING, *CRITICS), 0.02, 0.005),
    "mappo-c": Equilibrium("mappo", "mini-c", (*EXPLORING, *CRITICS), 0.04, 0.01),
    "ppo-b": Equilibrium("ppo", "mini-b", EXPLORING, 0.02, 0.005),
    "ppo-c": Equilibrium("ppo", "mini-c", EXPLORING, 0.04, 0.01),
    "ppo-b-magnet": Equilibrium("ppo", "mini-b", (*EXPLORING, *MAGNET), 0.02, 0.005),
    "ppo-b-rollout": Equilibrium("ppo", "mini-b", (*EXPLORING, "--kl-rollout-coef", "0.1"), 0.02, 0.005),
}
TASKS = {name: task for name, task in _TASKS.items() if task.command in ALGORITHMS}
"""A task without a target is there to be compared with another."""

COMPARISONS = (
    ("sampled-cfr-b", "sampled-cfr-b-network", "NashConv"),
    ("sampled-cfr-b-few", "sampled-cfr-b-few-finetune", "NashConv"),
    ("sampled-cfr-b-short", "sampled-cfr-b-short-window", "NashConv"),
    ("ex2psro-c", "psro-c", "welfare"),
)
"""Pairs of tasks, the better one first: over the same seeds, its mean NashConv must be the smaller, or its welfare the
larger."""

PAYOFFS = ("task", "seed", "seat 0", "seat 1", "total", "se", "deals", "walk at once", "time", "reached")
EQUILIBRIA = ("task", "seed", "NashConv", "welfare", "agreement", "time", "reached", "stretch")
PAIRS = ("better", "worse", "seeds", "by", "mean", "of the worse", "gain", "as expected")


class Outcome(NamedTuple):
    """A finished run: its row of the table, whether it missed its target, and what `COMPARISONS` compares, if known."""

    cells: tuple[str, ...]
    missed: bool
    measures: dict[str, float]


def train(task: Task, seed: int, options: argparse.Namespace, folder: str) -> tuple[Any, float]:
    """Returns the final policy of a run in `folder`, and the seconds it took."""
    if isinstance(task, PoolResponse):
        return respond(task, seed, options)
    flags = [*task.flags, "--seed", str(seed), "--threads", str(options.threads)]
    flags += ["--results-dir", folder, "--checkpoint-dir", f"{folder}/mirror"]
    flags += ["--game", task.game] if isinstance(task, Equilibrium) else ["--no-eval-nash-conv"]
    if isinstance(task, Response):
        flags += ["--opponent", task.opponent, "--seat", str(task.seat)]
    if options.budget:
        field = ALGORITHMS[task.command].config.budget_field
        flags += [f"--{field.replace('_', '-')}", str(options.budget)]
    command = [sys.executable, "-m", "bargain_train.cli", task.command, *flags]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"training failed: {' '.join(command)}\n{done.stderr[-2000:]}")
    run = ResultsManager(folder).list_runs()[0]
    return load_policy(f"run:{run['run_id']}", results_dir=folder), run["training_time_seconds"]


def respond(task: PoolResponse, seed: int, options: argparse.Namespace) -> tuple[Any, float]:
    """Returns a response to a network that plays uniformly, trained with the settings of a command, and the seconds."""
    config: Any = ALGORITHMS[task.command].config(seed=seed)
    spec, network = config.spec(), config.network_config()
    uniform = build_network(network, spec)
    for weights in uniform.state_dict().values():
        weights.zero_()
    opponents = [(stored_network(uniform), 1.0)]
    training: dict[str, Any] = {"steps": options.budget or config.response_steps, "threads": options.threads}
    training |= {name: getattr(config, name) for name in ("num_envs", "rollout_steps", "seed")}
    begun = perf_counter()
    found = train_response(
        ResponseTask(spec=spec, network=network, options=config, seat=task.seat, opponents=opponents, **training)
    )
    response = read_network(found["network"], spec)
    return NetworkPolicy((response, response)), perf_counter() - begun


def learn(name: str, seed: int, options: argparse.Namespace) -> Outcome:
    """Trains once and measures the final policy."""
    task = TASKS[name]
    with tempfile.TemporaryDirectory() as folder:
        policy, seconds = train(task, seed, options, folder)
    start, time = (name, str(seed)), f"{seconds:.0f} s"
    if isinstance(task, Equilibrium):
        outcome = nash_conv(task, policy, start, time)
    else:
        outcome = payoffs(task, policy, options.games, start, time)
    print(" | ".join(outcome.cells), file=sys.stderr, flush=True)
    return outcome


def nash_conv(task: Equilibrium, policy: Any, start: tuple[str, ...], time: str) -> Outcome:
    game = tabular_game(policy.spec)
    found = evaluate(game, policy_profile(game, policy))
    reached, stretch = (None if limit is None else found.nash_conv <= limit for limit in (task.nash_conv, task.stretch))
    cells = (f"{found.nash_conv:.4f}", f"{found.welfare:.4f}", f"{found.agreement_rate:.3f}", time)
    return Outcome(
        (*start, *cells, said(reached), said(stretch)),
        reached is False,
        {"NashConv": found.nash_conv, "welfare": found.welfare},
    )


def payoffs(
    task: Response | PoolResponse | SelfPlay, policy: Any, games: int, start: tuple[str, ...], time: str
) -> Outcome:
    opponent = policy if isinstance(task, SelfPlay) else load_policy(task.opponent)
    seat = 0 if isinstance(task, SelfPlay) else task.seat
    players = (policy, opponent) if seat == 0 else (opponent, policy)
    summary = play(players, games, FINAL_EVAL_SEED).summary()
    first, second, total, error = (float(summary[key] or 0) for key in ("payoff_0", "payoff_1", "total", "total_se"))
    if isinstance(task, SelfPlay):
        reached = total >= task.total and min(first, second) >= 0.5
    else:
        reached = (first, second)[seat] >= task.payoff
    numbers = (f"{number:.4f}" for number in (first, second, total, error))
    rates = (f"{summary[key]:.3f}" for key in ("agreement_rate", "first_move_walk_rate"))
    return Outcome((*start, *numbers, *rates, time, said(reached)), not reached, {})


def said(reached: bool | None) -> str:
    return "-" if reached is None else "yes" if reached else "NO"


def compare(
    better: str, worse: str, measure: str, found: dict[tuple[str, int], Outcome], seeds: Sequence[int]
) -> Outcome:
    """Compares two tasks in pairs over the same seeds."""
    numbers = [[found[name, seed].measures[measure] for seed in seeds] for name in (better, worse)]
    first, second = (np.array(row, dtype=np.float64) for row in numbers)
    gains = second - first if measure == "NashConv" else first - second
    error = f" ± {gains.std(ddof=1) / np.sqrt(len(seeds)):.4f}" if len(seeds) > 1 else ""
    means = (f"{first.mean():.4f}", f"{second.mean():.4f}", f"{gains.mean():.4f}{error}")
    as_expected = bool(gains.mean() > 0)
    return Outcome((better, worse, str(len(seeds)), measure, *means, said(as_expected)), not as_expected, {})


def print_table(headings: Sequence[str], rows: Sequence[Outcome]) -> None:
    if rows:
        print("\n| " + " | ".join(headings) + " |")
        print("|" + "---|" * len(headings))
        print("\n".join(f"| {' | '.join(row.cells)} |" for row in rows))


def main() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument(
        "--only", nargs="+", default=[""], help=f"tasks, or how the names of several begin: {', '.join(TASKS)}"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of a run (default: the cores / --jobs)")
    parser.add_argument("--budget", "--timesteps", type=int, help="steps or iterations, instead of the command's own")
    parser.add_argument("--games", type=int, default=100_000, help="held-out deals")
    options = parser.parse_args()
    options.threads = options.threads or max(1, cores // options.jobs)
    starts = tuple(start for start in options.only if start not in TASKS)
    names = [name for name in TASKS if name in options.only or name.startswith(starts)]
    if missing := [start for start in options.only if not any(name.startswith(start) for name in names)]:
        parser.error(f"no task begins with {', '.join(missing)}")
    if len(set(options.seeds)) < len(options.seeds):
        parser.error("each seed once")

    runs = [(name, seed) for name in names for seed in options.seeds]
    with ThreadPoolExecutor(options.jobs) as pool:
        found = dict(zip(runs, pool.map(lambda run: learn(run[0], run[1], options), runs), strict=True))
    pairs = [compare(*pair, found, options.seeds) for pair in COMPARISONS if {*pair[:2]} <= set(names)]
    print_table(PAYOFFS, [found[run] for run in runs if not isinstance(TASKS[run[0]], Equilibrium)])
    print_table(EQUILIBRIA, [found[run] for run in runs if isinstance(TASKS[run[0]], Equilibrium)])
    print_table(PAIRS, pairs)
    return int(any(outcome.missed for outcome in (*found.values(), *pairs)))


if __name__ == "__main__":
    sys.exit(main())

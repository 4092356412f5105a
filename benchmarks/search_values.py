"""How close the root values of the search come to best responses: `python benchmarks/search_values.py [--types 2000]`.

Seat 0 of the standard game searches from its first decision on a random policy, with the opponent as its model, for
evenly spread own types. What it believes to earn is compared with the exact best response: the mean over all types is
known (uniform .8007, myopic .6863), and the exact values of the very types drawn serve as control variate, so that the
spread over types drops out and the error of the search is what remains.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from bargain_env import GameSpec
from bargain_eval import load_policy
from bargain_eval.exact.opponent import tabulate_sample
from bargain_eval.exact.public_tree import PublicTree
from bargain_eval.exact.types import Types, sample_types
from bargain_eval.exact.views import decision_views
from bargain_train.search import SearchPolicy
from numpy.typing import NDArray
from timing import machine

KNOWN = {"random": 0.8007, "myopic": 0.6863}
"""What the best response of seat 0 earns on average over all types."""

SETTINGS = {
    "random": "num_simulations=1000&gumbel&considered=80",
    "myopic": "num_simulations=4000&gumbel&considered=80&c_puct=0.3",
}


def values_against_random(spec: GameSpec, types: Types) -> NDArray[np.float64]:
    """Returns `[N]`: the best response's payoffs to uniform play, which tells nothing, by backward induction."""
    quantities = np.asarray(spec.item_quantities)
    total = types.values @ quantities
    share = (types.values @ (quantities - spec.offers).T) / total[:, None]
    outside = types.outside / total
    stop = np.maximum(share, outside[:, None])
    best = stop  # by the offer that stands at the last own decision
    for decision in range(spec.max_turns - 2, -1, -2):
        if decision == spec.max_turns - 2:
            going_on = (share + outside[:, None]) / 2
        else:
            going_on = (share + outside[:, None] + best.sum(axis=1, keepdims=True)) / spec.num_actions
        best = np.maximum(stop, going_on.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = np.maximum(outside, going_on.max(axis=1))
    return found


def exact_values(spec: GameSpec, opponent: str, types: Types, hands: int) -> NDArray[np.float64]:
    """Returns `[N]`: the best response's payoffs by own type, from `hands` sampled hands of the opponent."""
    if opponent == "random":
        return values_against_random(spec, types)
    tables = tabulate_sample(load_policy(opponent, spec), spec, 1, hands, np.random.default_rng(1))
    tree = PublicTree(spec, 0, tables, types)
    parts = np.array_split(np.arange(len(types)), -(-len(types) // 64))
    return np.concatenate([tree.of_types(part).upper()[0] for part in parts]).astype(np.float64)


def row(spec: GameSpec, opponent: str, settings: str, types: Types, hands: int, seed: int) -> str:
    """Searches for every type and returns the line of the table."""
    policy = load_policy(f"search:random?{settings}&opponent={opponent}", spec, seed=seed)
    assert isinstance(policy, SearchPolicy)
    nothing = np.zeros((len(types), 0), dtype=np.int64)
    view, _ = decision_views(spec.with_observation("history"), types.values, types.outside, 0, nothing)
    start = time.perf_counter()
    found = policy.search(view, np.random.default_rng(seed)).value[:, 0].double().numpy()
    seconds = time.perf_counter() - start
    short = exact_values(spec, opponent, types, hands) - found
    controlled = KNOWN[opponent] - short.mean()
    error = short.std(ddof=1) / len(short) ** 0.5
    return (
        f"| {opponent} | `{settings}` | {len(types):,} | {found.mean():.4f} | {controlled:.4f} ± {error:.4f} "
        f"| {KNOWN[opponent]:.4f} | {seconds:.0f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opponent", choices=sorted(KNOWN), nargs="+", default=sorted(KNOWN))
    parser.add_argument("--settings", help="options of the search policy, instead of those chosen for the opponent")
    parser.add_argument("--types", type=int, default=2000)
    parser.add_argument("--hands", type=int, default=1024, help="sampled hands of the opponent, for the exact values")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec = GameSpec()
    types = sample_types(spec, options.types, np.random.default_rng(options.seed))
    print(machine())
    print("\n| opponent | search | own types | mean root value | with control variate | best response | time |")
    print("|---|---|---|---|---|---|---|")
    for opponent in options.opponent:
        settings = options.settings or SETTINGS[opponent]
        print(row(spec, opponent, settings, types, options.hands, options.seed), flush=True)


if __name__ == "__main__":
    main()

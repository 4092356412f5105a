"""Language models in cross-play: what it would cost and, with `--play` and a key in OPENAI_API_KEY, what they earn."""

from __future__ import annotations

import argparse
from typing import Any

from bargain_eval.crossplay import CallOptions, crossplay, estimate_calls, make_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["gpt-4o", "o3?effort=low"])
    parser.add_argument("--games", type=int, default=10)
    parser.add_argument("--max-cost", type=float, default=1.0, help="dollars that may be spent")
    parser.add_argument("--play", action="store_true")
    options = parser.parse_args()
    arguments: dict[str, Any] = {
        "policies": options.models,
        "baselines": ["random", "fair_split"],
        "num_games": options.games,
        "output": "results/language_models.json",
    }

    for estimate in estimate_calls(make_plan(**arguments)):
        planned = estimate.planned
        cost = "an unknown price" if planned.cost is None else f"${planned.cost:.2f}"
        print(f"{planned.model}: about {planned.calls} calls in {estimate.games} games, for {cost}")
    if not options.play:
        return

    matrix = crossplay(**arguments, calls=CallOptions(max_cost=options.max_cost))  # goes on where it was stopped
    mean, error = matrix.averages()["both_seats"]
    for k, name in enumerate(matrix.names):
        print(f"{name}: {mean[k]:.3f} ± {error[k]:.3f}")
    for name, summary in (matrix.llm or {"policies": {}})["policies"].items():
        print(f"{name}: {summary['how']['fallback']} of {summary['decisions']} moves were the fallback's")


if __name__ == "__main__":
    main()

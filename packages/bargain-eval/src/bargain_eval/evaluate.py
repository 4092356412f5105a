"""The evaluation that every run is ranked by: a policy against the fixed pool, in both seats, on held-out deals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bargain_env.spec import GameSpec

from bargain_eval.arena import play
from bargain_eval.game_rows import standard_error
from bargain_eval.policy import Policy, UnsupportedGame
from bargain_eval.registry import load_policy, resolve_device

POOL = ("random", "greedy", "fair_split", "tioli")
"""The fixed opponents, as policy strings."""

VALIDATION_SEED = 2**63
"""Key of the deals that choose the best checkpoint; users' seeds lie below."""

FINAL_EVAL_SEED = 2**63 + 1
"""Key of the deals of every final evaluation."""


def evaluate_policy(
    policy: Policy | str,
    *,
    num_games: int = 1000,
    seed: int = FINAL_EVAL_SEED,
    spec: GameSpec | None = None,
    device: str = "cpu",
    results_dir: str | Path = "results",
    opponents: Sequence[str] = POOL,
    seats: Sequence[int] = (0, 1),
    threads: int = 1,
) -> dict[str, Any]:
    """Plays `policy` against each opponent in each seat, and against itself, on the same `num_games` deals.

    Args:
        policy: A policy or a policy string.
        num_games: Deals; each is played once per opponent and seat, and once in self-play.
        seed: Key of the deals.
        spec: The game; None = the policy's own.
        device: Where the games and the policies loaded here run; see `resolve_device`.
        results_dir: Where `run:` policy strings are looked up.
        opponents: Policy strings.
        seats: The seats that the policy takes.
        threads: Blocks of games played at the same time.

    Returns:
        JSON-ready: `pool_payoff` with `pool_payoff_se` (the policy's payoff / own total, averaged over seats and
        opponents; the error clusters by deal); `opponents[NAME]["seat_0" | "seat_1"]` with `payoff`, `payoff_se`,
        `opponent_payoff`, `opponent_payoff_se`, `agreement_rate` and `illegal_rate`; `self_play`, the summary of
        `GameRows`, None for a policy of one seat; `left_out`, why an opponent does not exist on this game; `num_games`,
        `seed`, `seats`, `game`.

    Raises:
        ValueError: If a policy string or number does not fit, or no opponent exists on this game.
    """
    device = resolve_device(device)
    if isinstance(policy, str):
        policy = load_policy(policy, spec, device=device, results_dir=results_dir)
    if not seats or not set(seats) <= {0, 1} or len(set(seats)) < len(seats):
        raise ValueError(f"seats must be 0, 1 or both, got {tuple(seats)}.")
    game: GameSpec = spec or getattr(policy, "spec", None) or GameSpec()
    pool, left_out = _load_pool(opponents, game, device, results_dir)

    options: dict[str, Any] = {"spec": game, "device": device, "threads": threads}
    cells: dict[str, dict[str, Any]] = {}
    payoffs = np.zeros(num_games)
    for name, opponent in pool.items():
        cells[name] = {}
        for seat in seats:
            rows = play((policy, opponent) if seat == 0 else (opponent, policy), num_games, seed, **options)
            summary = rows.summary()
            payoffs += rows.payoff[:, seat] / (len(pool) * len(seats))
            cells[name][f"seat_{seat}"] = {
                "payoff": summary[f"payoff_{seat}"],
                "payoff_se": summary[f"payoff_{seat}_se"],
                "opponent_payoff": summary[f"payoff_{1 - seat}"],
                "opponent_payoff_se": summary[f"payoff_{1 - seat}_se"],
                "agreement_rate": summary["agreement_rate"],
                "illegal_rate": summary["illegal_rate"],
            }
    both = len(seats) == 2
    return {
        "pool_payoff": float(payoffs.mean()),
        "pool_payoff_se": standard_error(payoffs),
        "opponents": cells,
        "left_out": left_out,
        "self_play": play((policy, policy), num_games, seed, **options).summary() if both else None,
        "num_games": num_games,
        "seed": seed,
        "seats": list(seats),
        "game": game.with_observation("standing").to_dict(),
    }


def _load_pool(
    names: Sequence[str], spec: GameSpec, device: str, results_dir: str | Path
) -> tuple[dict[str, Policy], dict[str, str]]:
    pool, left_out = {}, {}
    for name in names:
        try:
            pool[name] = load_policy(name, spec, device=device, results_dir=results_dir)
        except UnsupportedGame as error:
            left_out[name] = str(error)
    if not pool:
        raise ValueError(f"none of the opponents {', '.join(names) or '(none given)'} exists on this game.")
    return pool, left_out

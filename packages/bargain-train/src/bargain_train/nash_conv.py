"""How far a policy is from a Nash equilibrium, measured while it learns."""

from __future__ import annotations

from bargain_env.spec import GameSpec
from bargain_eval.exact import evaluate, policy_profile, tabular_game
from bargain_eval.policy import Policy

EXACT_BYTES = 2**26


def measure_nash_conv(
    policy: Policy, spec: GameSpec, seed: int, *, device: str = "cpu", threads: int = 1
) -> dict[str, float | None]:
    """Returns the NashConv of a policy that plays both seats."""
    del seed, device, threads
    try:
        game = tabular_game(spec, EXACT_BYTES)
    except ValueError:
        return {}
    result = evaluate(game, policy_profile(game, policy))
    return {"nash_conv": result.nash_conv, "gain_0": float(result.gains[0]), "gain_1": float(result.gains[1])}

"""How far a policy is from a Nash equilibrium: exactly on small games, else by a certificate that costs seconds."""

from __future__ import annotations

import dataclasses
from typing import Any

from bargain_env.spec import GameSpec
from bargain_eval.by_seat import policy_of_seat
from bargain_eval.exact import Budget, TabularGame, certify, evaluate, policy_profile, tabular_game
from bargain_eval.exact.opponent import why_untabulated
from bargain_eval.mixture import members
from bargain_eval.policy import HasMemory, HasProbabilities, Policy

EXACT_BYTES = 2**26
"""The most that the tables of a policy may take, a mixture's members together; they take some 5 seconds at worst."""

MOST_MEMBERS = 4
"""Members of the largest mixture that is bounded from above; each needs types of its own, so time grows with them."""

ROUTINE = Budget(types=64, own_types=32, counters=2, repeats=4, games=8192, mimic_types=64, mimic_games=32)
"""While training: some 5 seconds of one core for a standing 256-256 MLP on the standard game."""

FINAL = Budget(types=128, own_types=64, counters=8, repeats=5, games=16384, mimic_types=64, mimic_games=64)
"""At the end of training: some 25 seconds of one core, for an interval less than half as wide."""


def measure_nash_conv(
    policy: Policy, spec: GameSpec, seed: int, *, budget: Budget = ROUTINE, device: str = "cpu", threads: int = 1
) -> dict[str, float | None]:
    """Returns the NashConv of a policy that plays both seats: the sum of what each seat gains by a best response.

    Exact if the policy, or each member of a mixture, tells its probabilities and remembers nothing, and the tables fit
    into `EXACT_BYTES`. Otherwise `bargain_eval.exact.certify` bounds it, each interval with 95 % confidence: from below
    always; from above if the policy is of the standing observation, and no mixture of more than `MOST_MEMBERS`. The
    same policy and seed give the same numbers, whatever `threads`, and the policy's own generators are not used.

    Args:
        policy: Who plays both seats.
        spec: The game.
        seed: Seed of the samples of a certificate.
        budget: What a certificate may cost; with twice the repetitions where only lower bounds exist, which cost less.
        device: Where a certificate plays its games.
        threads: Parts of a certificate computed at the same time.

    Returns:
        Exact: `nash_conv`, and what each seat gains, `gain_0` and `gain_1`. Bounded: `nash_conv_lower` and
        `nash_conv_upper`; `gain_lower_0`, `gain_upper_0`, `gain_lower_1`, `gain_upper_1`; an upper bound that does not
        exist is None. Then also `mimic_regret_0` and `mimic_regret_1`: the estimate, without margin, of what a seat
        gains if each of its types plays like the type that suits it best, below 0 if that does not pay.
    """
    players = policy_of_seat(policy, 0), policy_of_seat(policy, 1)
    if (game := _small_game(spec, [member for player in players for member in members(player)])) is not None:
        found = evaluate(game, policy_profile(game, *players))
        return {"nash_conv": found.nash_conv, "gain_0": float(found.gains[0]), "gain_1": float(found.gains[1])}
    tabulated = [why_untabulated(player) is None and len(members(player)) <= MOST_MEMBERS for player in players]
    if not any(tabulated):
        budget = dataclasses.replace(budget, repeats=2 * budget.repeats)
    options: dict[str, Any] = {"most_members": MOST_MEMBERS, "device": device, "threads": threads}
    certificate = certify(players, spec, budget=budget, seed=seed, **options)
    bounds: dict[str, float | None] = {
        "nash_conv_lower": certificate.nash_conv_lower,
        "nash_conv_upper": certificate.nash_conv_upper,
    }
    for seat, part in enumerate(certificate.seats):
        bounds |= {f"gain_lower_{seat}": part.gain_lower, f"gain_upper_{seat}": part.gain_upper}
        bounds[f"mimic_regret_{seat}"] = part.estimates["mimic"] - part.payoff
    return bounds


def _small_game(spec: GameSpec, policies: list[Policy]) -> TabularGame | None:
    """Returns the game as tables; None if those of `policies`, which play one seat each, are too large or unknown."""
    if not all(isinstance(member, HasProbabilities) and not isinstance(member, HasMemory) for member in policies):
        return None
    try:
        return tabular_game(spec, 2 * EXACT_BYTES // len(policies))
    except ValueError:
        return None

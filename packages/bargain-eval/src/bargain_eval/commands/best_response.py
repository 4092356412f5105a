"""`bargain-eval best-response`: how far policies are from an equilibrium, as a certified interval."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from bargain_env.spec import GameSpec
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.table import Table

from bargain_eval.commands.common import PlayOptions, console, progress, refuse_language_models
from bargain_eval.files import dump_json
from bargain_eval.registry import load_policy, resolve_device


@dataclass(frozen=True, kw_only=True)
class BestResponseOptions(PlayOptions):
    """Bound what a best response to a frozen policy earns, and NashConv, on games of any size.

    Prints for each seat what the policy earns there, an interval for what the best response to the other seat would
    earn, and for the gain; and the interval of NashConv, the sum of both gains (not half of it). Upper bounds exist
    against policies of the standing observation, and mixtures of them; against policies that read the history there are
    lower bounds alone. NashConv says little by itself, for always walking has none: read it together with the total.

    Each number is measured --repeats times with independent samples, and the interval is Student's. More --types narrow
    the gap between the bounds that sampling leaves, more --counters the gap that the cut tree leaves. The policies
    themselves are asked for their probabilities, so they are best small or on a GPU. With --threads above 1 set
    OMP_NUM_THREADS=1, so that the threads do not compete for the cores.

    For instance
        bargain-eval best-response --policy tioli
        bargain-eval best-response --policy run:RUN_ID --threads 2
        bargain-eval best-response --policy random --policy-1 myopic --types 512 --json
        bargain-eval best-response --policy run:RUN_ID --responder-0 run:OTHER_RUN_ID
    """

    policy: str
    """Policy string NAME[:ARGUMENT][?key=value] of what plays seat 0, and seat 1 too without --policy-1."""
    policy_1: str | None = None
    """Policy string of what plays seat 1."""
    responder_0: tuple[str, ...] = ()
    """Policies to try as deviations of seat 0, such as one trained against the other seat; lower bounds."""
    responder_1: tuple[str, ...] = ()
    """Policies to try as deviations of seat 1."""
    types: Annotated[int, Field(ge=1)] = 2048
    """Types of the opponent in a sample; time and memory grow in proportion."""
    own_types: Annotated[int, Field(ge=16)] = 128
    """Types of the responder in a sample."""
    counters: Annotated[int, Field(ge=1)] = 8
    """Counteroffers followed at each node; after the others the responder is told the opponent's type."""
    repeats: Annotated[int, Field(ge=3)] = 4
    """Independent repetitions of the whole measurement."""
    games: Annotated[int, Field(ge=1)] = 131_072
    """Games in a repetition that tell what the policies earn, and what each responder earns."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Probability with which each interval covers."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Parts computed at the same time, each of which takes up to a gigabyte."""


def best_response(options: BestResponseOptions) -> int:
    """Certifies what `options` names and prints it; returns the exit code 0.

    Raises:
        ValueError: If a policy string does not fit, or names a language model.
    """
    from bargain_eval.exact.certified import Budget, certify

    refuse_language_models(
        options.policy, options.policy_1 or options.policy, *options.responder_0, *options.responder_1
    )
    device = resolve_device(options.device)
    named = options.game is not None or options.spec() != GameSpec()

    def load(policy: str, spec: GameSpec | None) -> Any:
        return load_policy(policy, spec, seed=options.seed, device=device, results_dir=options.results_dir)

    first = load(options.policy, options.spec() if named else None)
    spec: GameSpec = options.spec() if named else getattr(first, "spec", GameSpec())
    second = first if options.policy_1 is None else load(options.policy_1, spec)
    certificate = certify(
        (first, second),
        spec,
        budget=Budget(
            types=options.types,
            own_types=options.own_types,
            counters=options.counters,
            repeats=options.repeats,
            games=options.games,
            responder_games=options.games,
        ),
        seed=options.seed,
        responders=[[load(name, spec) for name in names] for names in (options.responder_0, options.responder_1)],
        confidence=options.confidence,
        threads=options.threads,
        device=device,
        progress=lambda parts, total: progress(parts, "Measuring", total),
    )
    policies = [options.policy, options.policy_1 or options.policy]
    outcome: dict[str, Any] = {
        "game": spec.with_observation("standing").to_dict(),
        "policies": policies,
        "responders": [list(options.responder_0), list(options.responder_1)],
        "seed": options.seed,
        **certificate.to_dict(),
    }
    if options.json:
        sys.stdout.write(dump_json(outcome) + "\n")
    else:
        console().print(_table(outcome))
        console().print(_notes(outcome))
    return 0


def _table(outcome: dict[str, Any]) -> Table:
    names, seats = outcome["policies"], outcome["seats"]
    table = Table(
        "share of own total", f"seat 0: {names[0]}", f"seat 1: {names[1]}", "both", title="certified best responses"
    )
    total = f"{outcome['total']:.4f} ± {outcome['total_se']:.4f}"
    payoffs = [f"{seat['payoff']:.4f} ± {seat['payoff_se']:.4f}" for seat in seats]
    table.add_row("payoff", *payoffs, total)
    table.add_row("best response", *(_interval(seat["value_lower"], seat["value_upper"]) for seat in seats), "")
    gains = [_interval(seat["gain_lower"], seat["gain_upper"]) for seat in seats]
    nash_conv = _interval(outcome["nash_conv_lower"], outcome["nash_conv_upper"])
    table.add_row("gain", *gains, f"{nash_conv} (NashConv)")
    table.add_section()
    for name in dict.fromkeys(name for seat in seats for name in seat["estimates"]):
        found = (seat["estimates"].get(name) for seat in seats)
        table.add_row(f"estimate: {name}", *("" if value is None else f"{value:.4f}" for value in found), "")
    return table


def _notes(outcome: dict[str, Any]) -> str:
    budget = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in outcome["budget"].items())
    lines = [
        f"agreement rate {outcome['agreement_rate']:.4f}; intervals cover with probability {outcome['confidence']:g}",
        f"{outcome['seconds']:.0f} s; budget: {budget}",
    ]
    lines += [f"no upper bound against the policy of {seat}: {why}" for seat, why in outcome["no_upper"].items()]
    return "\n".join(lines)


def _interval(lower: float, upper: float | None) -> str:
    return f"at least {lower:.4f}" if upper is None else f"{lower:.4f} to {upper:.4f}"

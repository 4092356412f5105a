"""`bargain-eval exact`: what policies or solvers earn, and could gain, on a game that is small enough to enumerate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from bargain_env.spec import GameSpec
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.table import Table

from bargain_eval.commands.common import console, progress
from bargain_eval.exact import (
    SOLVERS,
    Evaluation,
    Profile,
    TabularGame,
    evaluate,
    policy_profile,
    regret_by_outside,
    save_profile,
    tabular_game,
    welfare_bounds,
)
from bargain_eval.exact.solve import powers_of_ten
from bargain_eval.files import dump_json
from bargain_eval.game_options import GameOptions
from bargain_eval.registry import load_policy, resolve_device

_MOST_PAIRS = 2 * 10**9  # offers times pairs of types for which the bounds are still a matter of seconds
_STEPS = 100  # of the progress bar


@dataclass(frozen=True, kw_only=True)
class ExactOptions(GameOptions):
    """Compute payoffs, best responses and NashConv exactly, on a game small enough for tables.

    Either --policy names what plays, or --solve what computes a profile. Every deal and every sequence of offers is
    enumerated, so nothing is estimated: payoffs are expectations as a share of the own total, the best response of a
    seat knows the other seat's strategy but not its deal, and NashConv is the sum of both seats' gains from it, not
    divided by two. NashConv alone says little, for always walking has none: read it together with the total.

    The game defaults to the policy's own. Games beyond the limit (about 500 MB of probabilities, as the standard game
    is by far) are refused; bargain-eval best-response bounds their best responses.

    For instance
        bargain-eval exact --policy random --game mini-b
        bargain-eval exact --policy run:RUN_ID
        bargain-eval exact --policy tioli --policy-1 greedy --quantities 2 1 --max-value 4 --rounds 2 --json
        bargain-eval exact --solve cfr+ --iterations 10000 --game mini-c --output equilibrium.npz
        bargain-eval exact --policy tabular:equilibrium.npz
    """

    policy: str | None = None
    """Policy string NAME[:ARGUMENT][?key=value] of what plays seat 0, and seat 1 too without --policy-1."""
    policy_1: str | None = None
    """Policy string of what plays seat 1."""
    solve: Literal["cfr", "cfr+", "linear-cfr", "xfp", "mmd"] | None = None
    """Solve the game instead: counterfactual regret minimisation (cfr, cfr+, linear-cfr), fictitious play (xfp) or
    magnetic mirror descent (mmd); prints NashConv at powers of ten."""
    iterations: Annotated[int, Field(ge=1)] | None = None
    """Iterations of the solver (1000 if left out)."""
    output: str | None = None
    """Write the profile to this file; --policy tabular:FILE plays it."""
    device: str = "cpu"
    """Where the policies compute: cpu, cuda, cuda:k, or auto, which is a GPU if one can be used."""
    results_dir: str = "results"
    """The folder of stored runs, for policies named run:RUN_ID."""
    json: bool = False
    """Print one JSON object instead of tables."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.policy is None) == (self.solve is None):
            raise ValueError("give either --policy or --solve.")
        if self.solve is None and self.iterations is not None:
            raise ValueError("--iterations needs --solve.")
        if self.policy is None and self.policy_1 is not None:
            raise ValueError("--policy-1 needs --policy.")


def exact(options: ExactOptions) -> int:
    """Evaluates what `options` names and prints it; returns the exit code 0.

    Raises:
        ValueError: If the game is too large, or a policy string does not fit or has no probabilities.
    """
    if options.output is not None and not Path(options.output).parent.is_dir():
        raise ValueError(f"--output: there is no folder {Path(options.output).parent}.")
    outcome: dict[str, Any] = {}
    if options.policy is not None:
        game, profile = _tabulated(options)
        outcome["policies"] = [options.policy, options.policy_1 or options.policy]
    else:
        game = tabular_game(options.spec())
        profile, outcome["curve"] = _solved(game, options)
        outcome["solver"] = options.solve
    found = evaluate(game, profile)
    outcome = {"game": game.spec.with_observation("standing").to_dict()} | outcome | _numbers(game, found)
    if options.output is not None:
        save_profile(options.output, game, profile)
    if options.json:
        sys.stdout.write(dump_json(outcome) + "\n")
        return 0
    if "curve" in outcome:
        console().print(_curve_table(outcome["curve"], options))
    console().print(_table(found, outcome))
    console().print(_notes(outcome))
    return 0


def _tabulated(options: ExactOptions) -> tuple[TabularGame, Profile]:
    named = options.game is not None or options.spec() != GameSpec()
    where: dict[str, Any] = {"device": resolve_device(options.device), "results_dir": options.results_dir}
    first = load_policy(options.policy or "", options.spec() if named else None, **where)
    spec = options.spec() if named else getattr(first, "spec", GameSpec())
    game = tabular_game(spec)
    second = first if options.policy_1 is None else load_policy(options.policy_1, spec, **where)
    return game, policy_profile(game, first, second)


def _solved(game: TabularGame, options: ExactOptions) -> tuple[Profile, list[dict[str, Any]]]:
    iterations = options.iterations or 1000
    shown = powers_of_ten(iterations)
    stops = sorted({*shown, *range(1, iterations, max(1, iterations // _STEPS))})
    curve = []
    solver = SOLVERS[options.solve or ""](game, stops)
    for done, profile in progress(solver, "Solving", total=len(stops)):
        if done in shown:
            found = evaluate(game, profile)
            curve.append(
                {
                    "iterations": done,
                    "nash_conv": found.nash_conv,
                    "welfare": found.welfare,
                    "agreement_rate": found.agreement_rate,
                }
            )
    return profile, curve


def _numbers(game: TabularGame, found: Evaluation) -> dict[str, Any]:
    small = game.spec.num_offers * game.num_types**2 <= _MOST_PAIRS
    bounds = welfare_bounds(game) if small else None
    binned = regret_by_outside(game, found)
    return {
        "num_types": game.num_types,
        "num_information_sets": [game.num_information_sets(seat) for seat in range(2)],
        "payoffs": found.payoffs,
        "best_payoffs": found.best_payoffs,
        "gains": found.gains,
        "nash_conv": found.nash_conv,
        "welfare": found.welfare,
        "agreement_rate": found.agreement_rate,
        "walk_welfare": 2 * float(game.chance @ game.walk),
        "first_best_welfare": bounds and bounds.first_best,
        "largest_interim_regret": found.interim_regret.max(axis=1),
        "interim_regret_by_outside": binned,
    }


def _table(found: Evaluation, outcome: dict[str, Any]) -> Table:
    names = outcome.get("policies") or [outcome["solver"]] * 2
    title = f"payoffs as a share of the own total, {outcome['num_types']} types a seat"
    table = Table("", f"seat 0: {names[0]}", f"seat 1: {names[1]}", "both", title=title)
    for label, pair in (("payoff", found.payoffs), ("best response", found.best_payoffs), ("gain", found.gains)):
        total = "" if label == "best response" else _figure(pair.sum())
        table.add_row(label, *map(_figure, pair), f"{total} (NashConv)" if label == "gain" else total)
    table.add_row("largest regret of a type", *map(_figure, outcome["largest_interim_regret"]), "")
    return table


def _notes(outcome: dict[str, Any]) -> str:
    best = outcome["first_best_welfare"]
    bound = "" if best is None else f", no two policies earn more than {_figure(best)}"
    rate, walk = _figure(outcome["agreement_rate"]), _figure(outcome["walk_welfare"])
    return f"agreement rate {rate}; both walking earns {walk} in total{bound}"


def _curve_table(curve: list[dict[str, Any]], options: ExactOptions) -> Table:
    table = Table("iterations", "NashConv", "total payoff", "agreement rate", title=f"{options.solve}")
    for point in curve:
        figures = (point[name] for name in ("nash_conv", "welfare", "agreement_rate"))
        table.add_row(str(point["iterations"]), *map(_figure, figures))
    return table


def _figure(number: float) -> str:
    return f"{round(float(number), 6) + 0.0:.6f}"

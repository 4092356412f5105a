"""What `bargain-eval crossplay` prints about language models: what they would cost, and what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bargain_eval.crossplay import ModelEstimate
from bargain_eval.llm.audit import known_sum
from bargain_eval.llm.prices import Prices
from bargain_eval.llm.session import CHARACTERS_PER_TOKEN, OUTPUT_TOKENS, OUTPUT_TOKENS_OF_REASONING
from bargain_eval.llm.view import listed

ASSUMED = (
    "where no answer is stored, the policy tough moves, so games last as long as the other player lets them",
    f"a reply is as long as the stored ones of its model on average, else {OUTPUT_TOKENS} tokens, or "
    f"{OUTPUT_TOKENS_OF_REASONING:,} if it reasons first",
    f"a request has one token per {CHARACTERS_PER_TOKEN} characters, none of which the server has cached",
    "every reply is a move, so that no model is asked again",
)
"""What an estimate takes for granted."""


def estimate_summary(estimates: Sequence[ModelEstimate], prices: Prices) -> dict[str, Any]:
    """Returns what a dry run found, JSON-ready; `cost` is in dollars, None where a price is unknown."""
    rows = [
        {"model": row.planned.model, "games": row.games, "decisions": row.decisions}
        | {name: getattr(row.planned, name) for name in ("calls", "input_tokens", "output_tokens", "cost")}
        for row in estimates
    ]
    sums = {name: known_sum([row[name] for row in rows]) for name in ("calls", "input_tokens", "output_tokens", "cost")}
    return {
        "dry_run": True,
        "models": rows,
        "total": sums,
        "assumed": ASSUMED,
        "prices": {"path": prices.path, "date": prices.date, "source": prices.source},
    }


def print_estimate(summary: Mapping[str, Any], out: Console) -> None:
    """Prints what `estimate_summary` returned."""
    if not summary["models"]:
        out.print("No language model takes part, so there is nothing to ask. Nothing was played or written.")
        return
    out.print("What language models would be asked, beside what is stored")
    table = _table("model", "games", "decisions", "calls", "tokens in", "tokens out", "cost")
    for row in [*summary["models"], {"model": "together", "games": None, "decisions": None} | summary["total"]]:
        numbers = (row[name] for name in ("games", "decisions", "calls", "input_tokens", "output_tokens"))
        table.add_row(row["model"], *map(_whole, numbers), _dollars(row["cost"]))
    out.print(table)
    prices = summary["prices"]
    out.print(f"Assumed: {'; '.join(summary['assumed'])}.")
    out.print(f"Prices: {prices['path']}, of {prices['date'] or 'an unknown date'}.")
    out.print("Nothing was sent or written; without --dry-run the calls are made, up to --max-cost and --max-calls.")


def print_models(llm: Mapping[str, Any], names: Sequence[str], out: Console) -> None:
    """Prints the entry `llm` of a cross-play of the policies of these names."""
    out.print("Language models: first replies that were no move, moves of the fallback, and what the calls took")
    table = _table("", "decisions", "no move", "fallback", "calls", "tokens in", "tokens out", "cost")
    prompts: dict[str, list[str]] = {}
    for name, policy in llm["policies"].items():
        number = str(names.index(name) + 1)
        failures = policy["invalid_first_replies"], policy["how"]["fallback"]
        shares = (f"{failed / max(policy['decisions'], 1):.1%}" for failed in failures)
        counts = (_whole(policy[key]) for key in ("calls", "input_tokens", "output_tokens"))
        table.add_row(f"{number} {name}", _whole(policy["decisions"]), *shares, *counts, _dollars(policy["cost"]))
        words = f"{policy['prompt']['name']} {policy['prompt']['sha256'][:8]}"
        prompts.setdefault(words, []).append(number)
    out.print(table)
    out.print(f"Prompts: {'; '.join(f'{words} of {listed(numbers)}' for words, numbers in prompts.items())}")
    missing = sum(policy["how"]["missing"] for policy in llm["policies"].values())
    if missing:
        out.print(f"The answers behind {missing:,} of the moves are not in the file of calls.")


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _whole(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _dollars(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:,.4f}" if cost < 1 else f"${cost:,.2f}"

"""The calls of language models in a cross-play: what is refused before it begins, and what is written down afterwards.

X.calls.jsonl holds one line for each move of a language model, in the order of cells, games and moves: `cell`,
`policy`, and the fields of `AuditedMove`. The entry `llm` of X.json sums them up.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bargain_eval.crossplay.entries import pair_key
from bargain_eval.crossplay.matrix import Crossplay, calls_path
from bargain_eval.crossplay.plan import Plan
from bargain_eval.files import replace_file
from bargain_eval.llm.audit import AuditedMove, ModelSummary, audit_games
from bargain_eval.llm.prices import read_prices
from bargain_eval.llm.session import Session
from bargain_eval.llm.store import CallStore, Spent


def check_calls(plan: Plan) -> None:
    """Checks that the calls can be made and their limit kept, before anything is played or paid for.

    Raises:
        ValueError: If there is a limit in dollars and a model without a price, or a server needs a key that is not set
            and nothing is stored of the model.
    """
    if plan.session is None:
        return
    prices = read_prices(plan.session.prices)
    for model in plan.models.values():
        name = model.model_name
        if plan.session.max_cost is not None and prices.find(name) is None:
            raise ValueError(
                f"{name} has no price in {prices.path}, so a limit in dollars cannot be kept; copy that file, add the "
                "price, and name the copy by --prices, or leave out --max-cost."
            )
        if model.lacks_key and not _is_stored(name, plan.session.store):
            raise ValueError(
                f"OPENAI_API_KEY is not set, which {name} needs; set it, or name another server by OPENAI_BASE_URL or "
                "?base_url=. To see what the calls would cost, use --dry-run."
            )


def _is_stored(model: str, path: str) -> bool:
    if not Path(path).exists():
        return False
    with CallStore(path) as store:
        return store.has_calls(model)


def spent(plan: Plan) -> str:
    """Returns a sentence about what a cross-play has paid for so far, "" if it has no language models."""
    if plan.session is None:
        return ""
    with CallStore(plan.session.store) as store:
        paid = store.spent(plan.session.run)
    return f" Paid for so far: {money(paid)}; no answer is paid for twice."


def money(paid: Spent) -> str:
    """Returns calls and dollars in words."""
    cost = "at an unknown price" if paid.cost is None else f"for ${paid.cost:.4f}"
    return f"{paid.calls:,} {'call' if paid.calls == 1 else 'calls'} {cost}"


def write_calls(plan: Plan, session: Session, matrix: Crossplay) -> dict[str, Any]:
    """Writes X.calls.jsonl about the cells that are played, and returns the entry `llm` of X.json.

    Costs about 0.5 ms for each move of a language model.
    """
    path = calls_path(plan.path)
    with replace_file(path) as file:
        summaries = {k: ModelSummary(policy, session) for k, policy in plan.models.items()}
        for k, cell, move in _moves(plan, matrix, session):
            summaries[k].add(move)
            line = {"cell": cell, "policy": matrix.names[k]} | move.to_dict()
            file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
        prices = {"date": session.prices.date, "source": session.prices.source}
    policies = {matrix.names[k]: summary.to_dict() for k, summary in summaries.items()}
    return {"calls": path.name, "prices": prices, "policies": policies}


def _moves(plan: Plan, matrix: Crossplay, session: Session) -> Iterator[tuple[int, str, AuditedMove]]:
    """Yields all moves of language models with the number of the policy and the name of the cell."""
    for i, j in np.argwhere(matrix.table.count > 0).tolist():
        pair = (i, j)
        seats = [seat for seat in range(2) if pair[seat] in plan.models]
        if seats:
            rows, cell = matrix.cell(i, j), pair_key(matrix.names[i], matrix.names[j])
            by_seat = [audit_games(plan.models[pair[seat]], session, rows, seat) for seat in seats]
            for move in heapq.merge(*by_seat, key=lambda move: (move.game, move.move)):
                yield pair[move.seat], cell, move

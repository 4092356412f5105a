"""What a language model was asked in games that were played, what it answered, and how that became its moves.

The moves of a finished game say what the model saw, hence which calls it made, and the store has their answers. So
nothing has to be written down while games are played.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bargain_eval.game_rows import GameRows
from bargain_eval.llm.policy import OpenAIPolicy, decide
from bargain_eval.llm.request import Answer
from bargain_eval.llm.session import Session
from bargain_eval.llm.store import StoredCall
from bargain_eval.llm.view import PlayerView

HOWS = ("schema", "text", "retry", "fallback", "missing")
"""How a move can have come about, see `AuditedMove.how`."""

_TOKENS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


class AuditedCall(NamedTuple):
    """A call behind a move.

    Attributes:
        asked: The last message to the model: the state of the game, or why its first reply was no move.
        problem: Why its reply was no move, "" if it was one.
        stored: The call as it is stored.
    """

    asked: str
    problem: str
    stored: StoredCall

    def to_dict(self) -> dict[str, Any]:
        """Returns the call in JSON's own types; the whole request is found in the store by `key`."""
        answer = self.stored.answer.to_dict()
        said = {"key": self.stored.key, "asked": self.asked, "text": answer.pop("text"), "problem": self.problem}
        return said | answer | {"cost": self.stored.cost}


class AuditedMove(NamedTuple):
    """A move of a language model, and where it comes from.

    Attributes:
        game: The game.
        move: The number of the move in the game, from 1.
        seat: The model's seat.
        action: What was played.
        how: As `Decision.how`: "schema", "text", "retry" or "fallback"; "missing" if the store does not have the
            answers by which this was played.
        calls: The calls: one, or two where the model was asked again.
    """

    game: int
    move: int
    seat: int
    action: int
    how: str
    calls: tuple[AuditedCall, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the move in JSON's own types."""
        return self._asdict() | {"calls": [call.to_dict() for call in self.calls]}


def audit_games(policy: OpenAIPolicy, session: Session, rows: GameRows, seat: int) -> Iterator[AuditedMove]:
    """Yields all moves of a model that had `seat` in the games of `rows`; costs about 0.5 ms each."""
    for n in range(len(rows)):
        hand = tuple(rows.values[n, seat].tolist()), int(rows.outside[n, seat])
        actions = rows.actions[n, : rows.decisions[n]].tolist()
        for turn in range(seat, len(actions), 2):
            view = PlayerView(policy.spec, seat, *hand, tuple(actions[:turn]))
            how, calls = _explain(policy, session, view, policy.sample(int(rows.game[n])), actions[turn])
            yield AuditedMove(int(rows.game[n]), turn + 1, seat, actions[turn], how, calls)


def _explain(
    policy: OpenAIPolicy, session: Session, view: PlayerView, sample: str, action: int
) -> tuple[str, tuple[AuditedCall, ...]]:
    """Returns how `action` came about, and the calls behind it."""
    client = policy.client(session)
    calls: list[AuditedCall] = []
    answers: list[Answer] = []
    while (decision := decide(view, answers)).how == "ask":
        request = policy.request(client, view, answers)
        stored = session.store.call(request.key(sample))
        if stored is None:
            return "missing", tuple(calls)
        if stored.cost is None:  # paid before its price was known
            stored = stored._replace(cost=session.prices.cost(policy.model_name, stored.answer))
        answers.append(stored.answer)
        calls.append(AuditedCall(request.messages[-1][1], decide(view, answers).problem, stored))
    if decision.action not in (None, action):
        return "missing", ()
    return decision.how, tuple(calls)


class ModelSummary:
    """Counts what the moves of one language model took.

    Args:
        policy: The model.
        session: The session of its calls.
    """

    def __init__(self, policy: OpenAIPolicy, session: Session) -> None:
        self._policy, self._client = policy, policy.client(session)
        self._hows: Counter[str] = Counter()
        self._calls: dict[str, StoredCall] = {}

    def add(self, move: AuditedMove) -> None:
        """Counts a move; a call that stands behind several moves counts once."""
        self._hows[move.how] += 1
        self._calls |= {call.stored.key: _without_texts(call.stored) for call in move.calls}

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary in JSON's own types.

        Sums of tokens and of dollars are None where one of their numbers is unknown. `sent` lists what was sent beside
        the conversation, which may differ between calls where a parameter was refused.
        """
        policy, answers = self._policy, [call.answer for call in self._calls.values()]
        sent = Counter(json.dumps(_sent(answer), sort_keys=True) for answer in answers)
        return {
            "model": policy.model_name,
            "host": self._client.host,
            "api": self._client.api,
            "prompt": {"name": policy.prompt.name, "sha256": policy.prompt.sha256},
            "fallback": policy.fallback,
            "decisions": self._hows.total(),
            "how": {how: self._hows[how] for how in HOWS},
            "invalid_first_replies": self._hows["retry"] + self._hows["fallback"],
            "calls": len(answers),
            "finish": dict(sorted(Counter(answer.finish for answer in answers).items())),
            **{name: known_sum([getattr(answer, name) for answer in answers]) for name in _TOKENS},
            "cost": known_sum([call.cost for call in self._calls.values()]),
            "sent": [json.loads(text) | {"calls": count} for text, count in sorted(sent.items())],
        }


def _without_texts(call: StoredCall) -> StoredCall:
    return call._replace(request="", answer=dataclasses.replace(call.answer, text=None, reasoning=None))


def _sent(answer: Answer) -> dict[str, Any]:
    return {"model": answer.model, "parameters": answer.parameters, "dropped": answer.dropped}


def known_sum(numbers: Sequence[Any]) -> Any:
    """Returns the sum, in the order given; None if one of the numbers is."""
    return None if None in numbers else sum(numbers)

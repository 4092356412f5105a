"""Language models as policies: what they are asked, how an answer becomes a move, and what happens if it does not.

Legend: `B` rows, `A` actions, `O` features of the history observation.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from bargain_env.spec import GameSpec, ObservationKind
from numpy.typing import NDArray

from bargain_eval.heuristics import ToughPolicy
from bargain_eval.llm.client import Client
from bargain_eval.llm.loop import run_in_loop
from bargain_eval.llm.prompt import load_prompt
from bargain_eval.llm.reply import Reply, read_reply, reply_schema
from bargain_eval.llm.request import Answer, Request, is_reasoning_model
from bargain_eval.llm.session import Session, current_session
from bargain_eval.llm.view import PlayerView
from bargain_eval.policy import HasMemory, PolicyRequest, check_shapes, like, read_bool, to_numpy
from bargain_eval.registry import load_policy

MAX_ANSWERS = 2
"""Answers that one decision may take: the first, and one more after being told what is wrong with it."""

_LONGEST_REPEATED = 4000  # characters of a reply

How = Literal["ask", "schema", "text", "retry", "fallback"]


class Decision(NamedTuple):
    """What a model's answers decide.

    Attributes:
        action: A legal action; None if another answer is needed, or the fallback decides.
        how: "schema" if the first answer is a JSON object, "text" if it is words that decide, "retry" if the second
            answer decides, "fallback" if neither does, "ask" if the model is to be asked, again if there is a problem.
        problem: What is wrong with the last answer, as a sentence to the model; "" if nothing is.
    """

    action: int | None
    how: How
    problem: str = ""


def decide(view: PlayerView, answers: Sequence[Answer]) -> Decision:
    """Returns what the answers so far, none to `MAX_ANSWERS`, decide in the position of `view`; a pure function."""
    if not answers:
        return Decision(None, "ask")
    reply = _read(view, answers[-1])
    if reply.action is None:
        return Decision(None, "ask" if len(answers) < MAX_ANSWERS else "fallback", reply.problem)
    if len(answers) > 1:
        return Decision(reply.action, "retry")
    return Decision(reply.action, "schema" if _is_object(answers[0].text) else "text")


def _read(view: PlayerView, answer: Answer) -> Reply:
    if answer.finish == "length":
        return Reply(None, "Your reply was cut off before its end: give a shorter one.")
    if answer.text is None or answer.finish in ("refusal", "content_filter"):
        return Reply(None, "Your reply said no move.")
    return read_reply(view, answer.text)


def _can_be_repeated(text: str, finish: str) -> bool:
    """Tells whether a reply is shown to the model again.

    One that is cut off or long may fill all that the model can read, so that the second call would fail for good.
    """
    return finish != "length" and len(text) <= _LONGEST_REPEATED


def _is_object(text: str | None) -> bool:
    try:
        return isinstance(json.loads(text or ""), dict)
    except ValueError:
        return False


class OpenAIPolicy:
    """A language model at the table, through the API of OpenAI or of any server that speaks it.

    Every decision is one call, and one more if the answer makes no legal move: the model is then told what is wrong.
    If that does not help, the fallback policy moves, and this is counted. Calls are cached, limited and recorded by the
    session, see `SessionOptions`. The same session, seed, game and position give the same answer, from the store.
    A game is known by its number in `game_ids`; without, each call of `get_action` plays new ones. Threads may share a
    policy, and nothing is remembered of a game beside what the observation says.

    Args:
        model_name: The model's name at the server.
        temperature: None = the server's own. A reasoning model takes none, unless its effort is "none".
        verbose: Whether each conversation is written to standard error.
        reasoning_effort: How hard a reasoning model thinks, e.g. "low"; None = the server's own.
        api: "responses", "chat", or "auto": see `Client`.
        base_url: The server, None = OPENAI_BASE_URL, else OpenAI's own.
        prompt: What the model is told: "baseline", "compact", "minimal", or the path of a file of that form.
        max_output_tokens: Limit of a reply, reasoning included; None = the server's own.
        fallback: The policy string of a policy without memory that moves where the model makes no legal move.
        reasoning: Whether the model is one that reasons; None = tell by its name.
        summary: The kind of reasoning summary to ask for, e.g. "auto"; None = none.
        structured: Whether the server is asked to keep replies to the JSON schema.
        spec: The game; the standard one if None.
        seed: Tells repetitions apart: the same game with another seed is another draw.
        session: The session of all calls, None = the current one at each call.
        client: The server, None = the session's client of `base_url` and `api`.

    Attributes:
        spec: The game.
        prompt: The prompt, with its name and hash.
        counts: How many decisions came about in which way, see `Decision.how`; "dry" counts those of dry runs, in which
            a move that is not stored is that of the policy `tough`, which bargains to the last move.

    Raises:
        ValueError: If an argument does not fit, or the prompt or the fallback cannot be loaded.
    """

    observation: ObservationKind = "history"
    device: ClassVar[str] = "cpu"

    def __init__(
        self,
        model_name: str,
        temperature: float | None = None,
        verbose: bool = False,
        *,
        reasoning_effort: str | None = None,
        api: Literal["auto", "responses", "chat"] = "auto",
        base_url: str | None = None,
        prompt: str = "baseline",
        max_output_tokens: int | None = None,
        fallback: str = "always_walk",
        reasoning: bool | None = None,
        summary: str | None = None,
        structured: bool = True,
        spec: GameSpec | None = None,
        seed: int = 0,
        session: Session | None = None,
        client: Client | None = None,
    ) -> None:
        if not model_name:
            raise ValueError("a language model needs a name, e.g. openai:gpt-4o.")
        if temperature is not None and not 0 <= temperature < float("inf"):
            raise ValueError(f"temperature must be at least 0, got {temperature}.")
        if max_output_tokens is not None and max_output_tokens < 1:
            raise ValueError(f"max_output_tokens must be at least 1, got {max_output_tokens}.")
        if client is None:
            Client(base_url, api)  # refused now rather than at the first call
        self.spec = (spec or GameSpec()).with_observation("history")
        self.model_name, self.temperature = model_name, None if temperature is None else float(temperature)
        self.reasoning_effort, self.max_output_tokens, self.summary = reasoning_effort, max_output_tokens, summary
        self.reasoning = is_reasoning_model(model_name) if reasoning is None else reasoning
        self.prompt = load_prompt(prompt)
        self.fallback, self.seed, self.verbose = fallback, seed, verbose
        self.counts: Counter[str] = Counter()
        self._systems = tuple(self.prompt.system(self.spec, seat) for seat in (0, 1))
        self._schema = reply_schema(self.spec) if structured else None
        self._fallback = _load_fallback(fallback, self.spec)
        self._dry = ToughPolicy(self.spec)
        self._session, self._client, self._server = session, client, (base_url, api)
        self._lock, self._games = threading.Lock(), 0

    @classmethod
    def from_request(cls, request: PolicyRequest) -> Self:
        """Builds the policy of `openai:MODEL?temperature=0.7&prompt=compact&effort=low` and so on.

        The options are named as the arguments, `effort` as `reasoning_effort`.
        """
        options = request.read_options(
            temperature=float,
            effort=str,
            prompt=str,
            base_url=str,
            api=str,
            max_output_tokens=int,
            fallback=str,
            reasoning=read_bool,
            summary=str,
            structured=read_bool,
            verbose=read_bool,
        )
        effort = options.pop("effort", None)
        return cls(request.argument, reasoning_effort=effort, spec=request.spec, seed=request.seed, **options)

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        """Returns the actions `[B]`; see `Policy.get_action`. `rng` is not used: chance is the server's.

        Raises:
            ValueError: If a shape is not the contract's, or a row is of a finished game.
            BudgetReached: If the session's limits leave no room for a call.
            LlmUnavailable: If a call got no answer after all retries. What was answered is stored.
            LlmRefused: If the server refuses a call for good.
        """
        check_shapes(self.spec, self.observation, obs, action_mask)
        rows, masks = np.atleast_2d(to_numpy(obs)), np.atleast_2d(to_numpy(action_mask)).astype(bool, copy=False)
        views = [PlayerView.from_observation(self.spec, row) for row in rows]
        samples = self._samples(len(rows), game_ids)
        session = self._session or current_session()
        decisions = run_in_loop(self._decide_all, session, views, samples)
        actions = self._dry.get_action(rows, masks) if session.options.dry_run else np.empty(len(rows), np.int64)
        for index, decision in enumerate(decisions):
            if decision.how == "ask":
                continue  # in a dry run
            action = decision.action
            if action is None or not masks[index, action]:
                action = self.fallback_action(rows[index], masks[index], samples[index])
            actions[index] = action
        return like(obs, actions if len(obs.shape) == 2 else actions[0])

    @property
    def lacks_key(self) -> bool:
        """True if the server needs a key that is not set, see `Client.lacks_key`."""
        return (self._client or Client(*self._server)).lacks_key

    def client(self, session: Session) -> Client:
        """Returns the client that makes this policy's calls in `session`."""
        return self._client or session.client(*self._server)

    def sample(self, game: int) -> str:
        """Returns the sample's index of all calls in a game, see `Request.key`."""
        return f"{self.seed}:{game}"

    def request(self, client: Client, view: PlayerView, answers: Sequence[Answer] = ()) -> Request:
        """Returns the next call of a decision: the first, or with the first answer in `answers`, the re-ask."""
        messages = [("user", self.prompt.state(view))]
        for answer in answers:
            retry = self.prompt.retry(_read(view, answer).problem)
            if answer.text is None or not _can_be_repeated(answer.text, answer.finish):
                # servers refuse an empty message, and two of the user in a row
                messages[-1] = ("user", f"{messages[-1][1]}\n\n{retry}")
            else:
                messages += [("assistant", answer.text), ("user", retry)]
        return Request(
            model=self.model_name,
            system=self._systems[view.seat],
            messages=tuple(messages),
            schema=self._schema,
            temperature=self.temperature,
            reasoning_effort=self.reasoning_effort,
            max_output_tokens=self.max_output_tokens,
            api=client.api,
            host=client.host,
            reasoning=self.reasoning,
            summary=self.summary,
        )

    def fallback_action(self, obs: NDArray[Any], action_mask: NDArray[np.bool_], sample: str) -> int:
        """Returns what the fallback does for one row, `[O]` and `[A]`; chance is fixed by sample and move."""
        move = len(PlayerView.from_observation(self.spec, obs).offers)
        digest = hashlib.sha256(f"{sample}:{move}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return int(self._fallback.get_action(obs, action_mask, rng))

    def _samples(self, count: int, game_ids: Any) -> list[str]:
        if game_ids is not None:
            return [self.sample(int(game)) for game in np.atleast_1d(to_numpy(game_ids))]
        with self._lock:
            first, self._games = self._games, self._games + count
        return [f"{self.seed}:call {number}" for number in range(first, first + count)]

    async def _decide_all(self, session: Session, views: list[PlayerView], samples: list[str]) -> list[Decision]:
        """Decides all positions, as many at a time as the client allows; after a failure no new call is begun."""
        client = self.client(session)
        decisions: dict[int, Decision] = {}
        failures: list[Exception] = []
        waiting = iter(range(len(views)))

        async def work() -> None:
            for index in waiting:
                if failures:
                    return
                try:
                    decisions[index] = await self._decide_one(session, client, views[index], samples[index])
                except Exception as error:
                    failures.append(error)

        await asyncio.gather(*(work() for _ in range(min(client.concurrency, len(views)))))
        if failures:
            raise failures[0]
        return [decisions[index] for index in range(len(views))]

    async def _decide_one(self, session: Session, client: Client, view: PlayerView, sample: str) -> Decision:
        answers: list[Answer] = []
        while (decision := decide(view, answers)).how == "ask":
            request = self.request(client, view, answers)
            answer = await session.answer(client, request, sample)
            if answer is None:
                break
            answers.append(answer)
            if self.verbose or session.options.verbose:
                sys.stderr.write(_conversation(request, answer, sample))
        with self._lock:
            self.counts["dry" if decision.how == "ask" else decision.how] += 1
        return decision


def _load_fallback(policy: str, spec: GameSpec) -> Any:
    loaded = load_policy(policy, spec)
    if isinstance(loaded, OpenAIPolicy):
        raise ValueError("the fallback of a language model cannot be another one; name a simple policy.")
    if isinstance(loaded, HasMemory):
        raise ValueError(f"the fallback {policy!r} remembers games, which a fallback cannot; name another policy.")
    return loaded


def _conversation(request: Request, answer: Answer, sample: str) -> str:
    """Returns the last message of a request and its answer as lines to read, written at once."""
    said = answer.text if answer.text is not None else f"(no text: {answer.finish})"
    thoughts = f"\n[reasoning] {answer.reasoning}" if answer.reasoning else ""
    return f"--- {request.model}, game {sample}\n{request.messages[-1][1]}{thoughts}\n[reply] {said}\n"

"""What language models may cost, and where their answers are kept: the setting that all their calls are made in."""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from bargain_eval.llm.client import Client, LlmUnavailable
from bargain_eval.llm.loop import run_in_loop
from bargain_eval.llm.prices import Prices, read_prices
from bargain_eval.llm.request import Answer, Request
from bargain_eval.llm.store import CallStore

DEFAULT_RUN = "default"

CHARACTERS_PER_TOKEN = 3.5
"""Of a request, as estimates count."""
OUTPUT_TOKENS, OUTPUT_TOKENS_OF_REASONING = 300, 3000
"""Of a reply of a model of which none is stored, and of one that reasons first."""

_FIRST_WAIT, _LAST_WAIT = 0.02, 0.5  # seconds between two looks at a call that is under way elsewhere


@dataclasses.dataclass(frozen=True)
class SessionOptions:
    """The settings of a session; travels by pickle.

    Attributes:
        store: The file of stored calls.
        run: Who pays: the limits hold for all sessions of this name with this store together.
        max_calls: Limit of calls, None = none.
        max_cost: Limit in dollars, None = none. The last calls before it are sent one at a time.
        prices: The file of prices, None = the shipped one.
        concurrency: Calls to one server at the same time.
        timeout: Seconds that a server may be silent.
        dry_run: Whether nothing is sent, and only counted.
        verbose: Whether each conversation is written to standard error.
        give_up: Whether a model that gave no answer after all retries is asked nothing more in this session.

    Raises:
        ValueError: If a number is out of range.
    """

    store: str
    run: str = DEFAULT_RUN
    max_calls: int | None = None
    max_cost: float | None = None
    prices: str | None = None
    concurrency: int = 8
    timeout: float = 600.0
    dry_run: bool = False
    verbose: bool = False
    give_up: bool = False

    def __post_init__(self) -> None:
        for name in ("max_calls", "max_cost"):
            limit = getattr(self, name)
            if limit is not None and not limit >= 0:
                raise ValueError(f"{name} must be at least 0, got {limit}.")
        if self.concurrency < 1 or not self.timeout > 0:
            raise ValueError("concurrency must be at least 1 and timeout positive.")


@dataclasses.dataclass(frozen=True)
class Planned:
    """What a dry run found missing in the store, for one model.

    Attributes:
        model: The model.
        calls: Calls, each once.
        input_tokens: Their tokens, estimated from the number of characters.
        output_tokens: The tokens of the replies: as many each as the stored replies of the model have on average,
            else 300, or 3000 of a model that reasons.
        cost: Dollars, None if the price is unknown.
    """

    model: str
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0


class Session:
    """Answers requests: from the store, else from a server within the limits.

    Args:
        options: The settings.

    Raises:
        ValueError: If the store or the prices cannot be read.
    """

    def __init__(self, options: SessionOptions) -> None:
        self.options = options
        self.prices: Prices = read_prices(options.prices)
        self.store = CallStore(options.store)
        self._clients: dict[tuple[str | None, str], Client] = {}
        self._planned: dict[str, tuple[str, int, int, float | None]] = {}
        self._lengths: dict[str, float | None] = {}
        self._silent: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def client(self, base_url: str | None = None, api: Literal["auto", "responses", "chat"] = "auto") -> Client:
        """Returns the session's one client of a server, so that its limit of calls holds for all models there."""
        with self._lock:
            key = (base_url, api)
            if key not in self._clients:
                options = self.options
                self._clients[key] = Client(base_url, api, options.timeout, concurrency=options.concurrency)
            return self._clients[key]

    async def answer(self, client: Client, request: Request, sample: str) -> Answer | None:
        """Returns the answer to a request, and None in a dry run if it is not stored.

        Args:
            client: Sends the request, if it is not stored.
            request: The request.
            sample: Tells repeated draws of the same request apart, see `Request.key`.

        Raises:
            BudgetReached: If the limits leave no room.
            LlmUnavailable: If the server gave no answer after all retries, or to an earlier call and is given up.
            LlmRefused: If the server refuses the request.
            ValueError: If there is a limit in dollars and the model has no price.
        """
        key, wait = request.key(sample), _FIRST_WAIT
        while True:
            stored = self.store.get(key)
            if stored is not None:
                return stored
            if self.options.dry_run:
                self._plan(key, request)
                return None
            if self._reserve(key, request):
                return await self._call(client, key, request)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LAST_WAIT)

    def planned(self) -> list[Planned]:
        """Returns what this dry run has counted so far, by model; what the answers will be, it cannot know."""
        plans: dict[str, Planned] = {}
        with self._lock:
            for model, input_tokens, output_tokens, cost in self._planned.values():
                plan = plans.setdefault(model, Planned(model))
                plans[model] = Planned(
                    model,
                    plan.calls + 1,
                    plan.input_tokens + input_tokens,
                    plan.output_tokens + output_tokens,
                    None if plan.cost is None or cost is None else plan.cost + cost,
                )
        return sorted(plans.values(), key=lambda plan: plan.model)

    def close(self) -> None:
        """Closes the connections and the store."""
        for client in self._clients.values():
            run_in_loop(client.close)
        self.store.close()

    def _reserve(self, key: str, request: Request) -> bool:
        cost = self._estimate(request)[2]
        if self.options.max_cost is not None and cost is None:
            raise ValueError(
                f"the price of {request.model} is unknown, so no limit in dollars can be kept; "
                "add it to a copy of the file of prices, or leave out the limit."
            )
        limits = (self.options.max_calls, self.options.max_cost)
        return self.store.reserve(key, self.options.run, request.model, cost, *limits)

    async def _call(self, client: Client, key: str, request: Request) -> Answer:
        try:
            if (client.host, request.model) in self._silent:
                raise LlmUnavailable(f"{request.model} at {client.host} gave no answer before, and is left for later.")
            answer = await client.complete(request)
            self.store.put(key, self.options.run, request, answer, self.prices.cost(request.model, answer))
        except BaseException as error:
            self.store.release(key)
            if self.options.give_up and isinstance(error, LlmUnavailable):
                self._silent.add((client.host, request.model))
            raise
        return answer

    def _plan(self, key: str, request: Request) -> None:
        with self._lock:
            self._planned[key] = (request.model, *self._estimate(request))

    def _estimate(self, request: Request) -> tuple[int, int, float | None]:
        """Returns the tokens of request and reply, and the cost, None if the price is unknown."""
        texts = [request.system, *(text for _, text in request.messages), str(request.schema or "")]
        input_tokens = round(sum(map(len, texts)) / CHARACTERS_PER_TOKEN)
        model, assumed = request.model, OUTPUT_TOKENS_OF_REASONING if request.reasoning else OUTPUT_TOKENS
        if model not in self._lengths:
            self._lengths[model] = self.store.mean_output_tokens(model)
        output_tokens = round(self._lengths[model] or assumed)
        if request.max_output_tokens is not None:
            output_tokens = min(output_tokens, request.max_output_tokens)
        return input_tokens, output_tokens, self.prices.of_tokens(model, input_tokens, output_tokens)


_current: ContextVar[Session | None] = ContextVar("session", default=None)
_open: list[Session] = []  # those of this process, for threads that were started without a context
_opening = threading.Lock()


@contextmanager
def session(options: SessionOptions) -> Iterator[Session]:
    """Makes a session the current one as long as the block runs, in this thread and in those that have none."""
    opened = Session(options)
    token = _current.set(opened)
    _open.append(opened)
    try:
        yield opened
    finally:
        _open.remove(opened)
        _current.reset(token)
        opened.close()


def current_session() -> Session:
    """Returns the session of this thread, else the latest open one of the process, else the default one.

    The default session has no limits and keeps the calls in llm_calls.sqlite in the user's cache folder.
    """
    found = _current.get()
    if found is not None:
        return found
    with _opening:
        if not _open:
            import platformdirs

            folder = Path(platformdirs.user_cache_dir("bargain"))
            _open.append(Session(SessionOptions(str(folder / "llm_calls.sqlite"))))
            atexit.register(_open[-1].store.close)
        return _open[-1]

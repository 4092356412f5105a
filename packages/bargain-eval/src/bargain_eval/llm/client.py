"""Calls a language model: one server, either API, retries, a limit of calls at the same time, and no secrets told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from bargain_eval.llm.request import Answer, Api, Request
from bargain_eval.llm.wire import Body, Sent, read_body, refused_fields, to_send
from bargain_eval.policy import PolicyFailed

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

DEFAULT_BASE_URL = "https://api.openai.com/v1"

_log = logging.getLogger(__name__)
_CONNECT_SECONDS = 10.0
_KEY = re.compile(r"\b(?:sk|sess|org|proj)-[\w*.-]+|(?<=Bearer )\S+")  # also as servers abbreviate them
_NETLOC = re.compile(r"(\[.*\]|[^:]+)(:[0-9]+)?")
_WORDS = 300  # characters of a server's own words in an error
_first_delay, _last_delay = 0.5, 8.0  # seconds between two attempts after an unreadable body, as the client's own


class LlmUnavailable(PolicyFailed):
    """The server gave no answer after all retries; the same call may succeed later."""


class LlmRefused(PolicyFailed):
    """The server refuses the call for good: a wrong key, an unknown model, a request that it does not understand."""


class Client:
    """A server of language models, for any number of models, threads and calls at the same time.

    OPENAI_API_KEY is read from the environment and sent to the server, whichever it is; OpenAI's own needs it. A
    parameter that a model does not support is left out of all its calls, which is logged once.

    Args:
        base_url: The server, e.g. "http://localhost:8000/v1"; None = OPENAI_BASE_URL, else OpenAI's own.
        api: "responses" or "chat"; "auto" = the Responses API at OpenAI, Chat Completions elsewhere.
        timeout: Seconds that the server may be silent.
        max_retries: Further attempts after a timeout, a broken connection, an unreadable body or the statuses 408,
            409, 429 and 5xx, after the delay that the server asks for or else one that doubles from half a second to 8.
        concurrency: Calls at the same time; further ones wait.
        http_client: An `openai.DefaultAsyncHttpxClient` with settings of its own.

    Attributes:
        host: The server's name and path, as `Request.host`.
        api: The API that is spoken.
        concurrency: As given.

    Raises:
        ValueError: If the address or another argument is out of range.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api: Literal["auto", "responses", "chat"] = "auto",
        timeout: float = 600.0,
        max_retries: int = 6,
        concurrency: int = 8,
        http_client: Any = None,
    ) -> None:
        if api not in ("auto", "responses", "chat"):
            raise ValueError(f"api must be auto, responses or chat, got {api!r}.")
        if timeout <= 0 or max_retries < 0 or concurrency < 1:
            raise ValueError("timeout must be positive, max_retries at least 0 and concurrency at least 1.")
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL
        self.host, self._is_openai = _read_address(self._base_url)
        self.api: Api = api if api != "auto" else "responses" if self._is_openai else "chat"
        self.concurrency = concurrency
        self._timeout, self._max_retries, self._http_client = timeout, max_retries, http_client
        self._free = asyncio.Semaphore(concurrency)
        self._openai: AsyncOpenAI | None = None
        self._unsupported: dict[str, set[str]] = {}
        self._told: set[tuple[str, str]] = set()

    @property
    def lacks_key(self) -> bool:
        """True if the server is OpenAI's own and OPENAI_API_KEY is not set, so that no call can succeed."""
        return self._is_openai and not os.environ.get("OPENAI_API_KEY")

    async def complete(self, request: Request) -> Answer:
        """Sends a request and returns the answer, whatever it says; to be awaited in one event loop only.

        Raises:
            LlmUnavailable: If there is none after all retries.
            LlmRefused: If the server refuses the request.
        """
        async with self._free:
            began, retries, unreadable = time.perf_counter(), 0, 0
            while True:
                response, sent = await self._send(request)
                retries += response.retries_taken
                body = _readable(request, response.http_response.content)
                if body is not None:
                    break
                if unreadable == self._max_retries:
                    raise LlmUnavailable(
                        f"{self.host} answers, but not as the {request.api} API does; check the address and the api."
                    )
                await asyncio.sleep(min(_first_delay * 2**unreadable, _last_delay))
                retries, unreadable = retries + 1, unreadable + 1
            return Answer(
                **body._asdict(),
                parameters=sent.parameters,
                dropped=sent.dropped,
                retries=retries,
                latency=time.perf_counter() - began,
                request_id=response.http_response.headers.get("x-request-id"),
                created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )

    async def close(self) -> None:
        """Closes the connections; to be awaited in the loop of the calls."""
        if self._openai is not None:
            await self._openai.close()
            self._openai = None

    async def _send(self, request: Request) -> tuple[Any, Sent]:
        """Returns the raw response and what was sent, after leaving out what the model does not support."""
        from openai import APIError

        api = self._connected()
        apis: dict[Api, Any] = {"chat": api.chat.completions, "responses": api.responses}
        create = apis[request.api].with_raw_response.create
        unsupported = self._unsupported.setdefault(request.model, set())
        while True:
            sent = to_send(request, unsupported)
            self._tell(request.model, sent.dropped)
            try:
                return await create(**sent.arguments), sent
            except APIError as error:
                unsupported |= _refused_fields(error, sent)
                failure = self._failure(error, request.model)
            if to_send(request, unsupported) == sent:
                raise failure  # outside of the handler, so that no traceback shows the client's own error

    def _connected(self) -> AsyncOpenAI:
        if self._openai is None:
            from openai import AsyncOpenAI, Timeout

            if self.lacks_key:
                raise LlmRefused("OPENAI_API_KEY is not set; set it, or name another server by OPENAI_BASE_URL.")
            self._openai = AsyncOpenAI(
                api_key=os.environ.get("OPENAI_API_KEY") or "none",
                base_url=self._base_url,
                timeout=Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS)),
                max_retries=self._max_retries,
                http_client=self._http_client,
            )
        return self._openai

    def _tell(self, model: str, dropped: list[str]) -> None:
        for name in dropped:
            if (model, name) not in self._told:
                self._told.add((model, name))
                _log.warning("%s at %s does not take %s, which is left out of all calls.", model, self.host, name)

    def _failure(self, error: APIError, model: str) -> Exception:
        """Returns the exception to raise for the client's own, in one sentence and without the key."""
        from openai import APIStatusError, APITimeoutError

        if not isinstance(error, APIStatusError):
            timeout = isinstance(error, APITimeoutError)
            what = f"did not answer within {self._timeout:g} s" if timeout else "cannot be reached"
            return LlmUnavailable(f"{self.host} {what}, after {self._max_retries} retries.")
        said = error.body.get("message") if isinstance(error.body, dict) else None
        status, words = error.status_code, self._without_key(str(said or error.message))
        if status == 401:
            return LlmRefused(f"{self.host} refuses the key (HTTP 401); set OPENAI_API_KEY to one that is valid.")
        if error.code == "insufficient_quota":
            return LlmRefused(f"the account at {self.host} has no credit left (HTTP {status}); add some, and go on.")
        if status in (408, 409, 429) or status >= 500:
            return LlmUnavailable(f"{self.host} failed with HTTP {status} after all retries: {words}.")
        return LlmRefused(f"{self.host} refuses a call of {model} with HTTP {status}: {words}.")

    def _without_key(self, words: str) -> str:
        key = os.environ.get("OPENAI_API_KEY")
        words = _KEY.sub("***", words.replace(key, "***") if key else words)
        return " ".join(words.split())[:_WORDS].rstrip(".")


def _refused_fields(error: APIError, sent: Sent) -> set[str]:
    status = getattr(error, "status_code", None)
    return refused_fields(sent, error.param, error.message) if status in (400, 422) else set()


def _readable(request: Request, content: bytes) -> Body | None:
    """Returns what a body says, None if it cannot be read."""
    try:
        return read_body(request, json.loads(content))
    except ValueError:
        return None


def _read_address(base_url: str) -> tuple[str, bool]:
    """Returns the host of an address, see `Request.host`, and whether it is OpenAI's.

    Raises:
        ValueError: If it is no address.
    """
    parts = urlsplit(base_url)
    if parts.username or parts.password or parts.query:
        raise ValueError("the address of the server is stored with results; put no secret into it, but OPENAI_API_KEY.")
    if parts.scheme not in ("http", "https") or not parts.hostname or not _NETLOC.fullmatch(parts.netloc):
        raise ValueError("the address of the server must be like http://localhost:8000/v1; set base_url so.")
    is_openai = parts.hostname == "api.openai.com" or parts.hostname.endswith(".api.openai.com")
    return f"{parts.netloc.lower()}{parts.path.rstrip('/')}", is_openai

"""A loopback server that speaks both APIs of OpenAI, with the faults that a real one has; for the tests alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

ACCEPT = '{"reasoning": "It is enough.", "action": "accept", "keep": null}'
WALK = '{"reasoning": "It is too little.", "action": "walk", "keep": null}'


class Seen(NamedTuple):
    """A request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def is_chat(self) -> bool:
        return self.path.endswith("/chat/completions")

    @property
    def system(self) -> str:
        return str(self.body["messages"][0]["content"] if self.is_chat else self.body["instructions"])

    @property
    def messages(self) -> list[tuple[str, str]]:
        messages = self.body["messages"][1:] if self.is_chat else self.body["input"]
        return [(message["role"], message["content"]) for message in messages]

    @property
    def text(self) -> str:
        """All that the model is told."""
        return "\n".join([self.system, *(text for _, text in self.messages)])


class LlmServer:
    """Answers every request by `reply`, unless `faults` has something else for it.

    A fault is a status ("429", "500", "401 WORDS"), "400 PARAMETER" for a parameter that is not supported, and

    - "slow": no answer as long as the client waits,
    - "broken": a body that ends before its announced length,
    - "garbage": a body that is no JSON,
    - "foreign": a body of another API,
    - "length", "refusal", "empty": an answer that is cut off, refused, or without a text,
    - "": none.

    Attributes:
        url: The address to give a client.
        reply: Makes the text of an answer.
        faults: One is taken for each request; none are left = no fault.
        seen: The requests that were answered by a text, or by its lack.
        attempts: All requests.
        delay: Seconds before an answer.
        most_at_once: The largest number of requests at the same time.
    """

    def __init__(self, reply: Callable[[Seen], str | None], faults: Iterable[str] = (), port: int = 0) -> None:
        self.reply = reply
        self.faults: Iterator[str] = iter(faults)
        self.seen: list[Seen] = []
        self.attempts: list[Seen] = []
        self.delay = 0.0
        self.most_at_once = self._at_once = 0
        self.usage = {"input": 100, "cached": 40, "output": 20, "reasoning": 5}
        self.thoughts = "It is enough."
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._http = _Http(("127.0.0.1", port), _handler(self))
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    @contextmanager
    def running(self) -> Iterator[LlmServer]:
        thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.closing.set()
            self._http.shutdown()
            thread.join()
            self._http.server_close()

    def take_fault(self, request: Seen) -> str:
        with self.lock:
            self.attempts.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            return next(self.faults, "")

    @property
    def is_idle(self) -> bool:
        """True if no request is being answered."""
        with self.lock:
            return self._at_once == 0

    def leave(self) -> None:
        with self.lock:
            self._at_once -= 1

    def body(self, request: Seen, fault: str) -> dict[str, Any]:
        text = None if fault in ("empty", "refusal") else self.reply(request)
        with self.lock:
            self.seen.append(request)
        return (self._chat if request.is_chat else self._response)(request, text, fault)

    def _chat(self, request: Seen, text: str | None, fault: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": "I will not." if fault == "refusal" else None}
        finish = "length" if fault == "length" else "stop"
        return {
            "id": "chat-1",
            "object": "chat.completion",
            "created": 1,
            "model": f"{request.body['model']}-2026-01-01",
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": {
                "prompt_tokens": self.usage["input"],
                "completion_tokens": self.usage["output"],
                "total_tokens": self.usage["input"] + self.usage["output"],
                "prompt_tokens_details": {"cached_tokens": self.usage["cached"]},
                "completion_tokens_details": {"reasoning_tokens": self.usage["reasoning"]},
            },
        }

    def _response(self, request: Seen, text: str | None, fault: str) -> dict[str, Any]:
        said: list[dict[str, Any]] = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
        if fault == "refusal":
            said = [{"type": "refusal", "refusal": "I will not."}]
        thoughts = [{"type": "summary_text", "text": self.thoughts}] if "reasoning" in request.body else []
        return {
            "id": "resp-1",
            "object": "response",
            "created_at": 1,
            "model": f"{request.body['model']}-2026-01-01",
            "status": "incomplete" if fault == "length" else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if fault == "length" else None,
            "output": [
                {"type": "reasoning", "id": "r-1", "summary": thoughts},
                {"type": "message", "id": "m-1", "role": "assistant", "status": "completed", "content": said},
            ],
            "usage": {
                "input_tokens": self.usage["input"],
                "output_tokens": self.usage["output"],
                "total_tokens": self.usage["input"] + self.usage["output"],
                "input_tokens_details": {"cached_tokens": self.usage["cached"]},
                "output_tokens_details": {"reasoning_tokens": self.usage["reasoning"]},
            },
        }


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: a client that went away is part of the tests."""


def _handler(server: LlmServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            request = Seen(self.path, {key.lower(): value for key, value in self.headers.items()}, body)
            fault = server.take_fault(request)
            try:
                self._answer(request, fault)
            finally:
                server.leave()

        def _answer(self, request: Seen, fault: str) -> None:
            time.sleep(server.delay)
            status, _, words = fault.partition(" ")
            if fault == "slow":
                server.closing.wait(10)
                self.close_connection = True
            elif status == "400" and words:
                sent = f"Unsupported parameter: '{words}' is not supported with this model."
                self._send(400, _error(sent, words, "unsupported_parameter"))
            elif status.isdigit():
                self._send(int(status), _error(words or "Something went wrong.", None, None))
            elif fault == "garbage":
                self._send(200, b"<html>Bad gateway</html>")
            elif fault == "foreign":
                self._send(200, b'{"generated_text": "ACCEPT"}')
            else:
                content = json.dumps(server.body(request, fault)).encode()
                self._send(200, content, length=len(content) + 10 * (fault == "broken"))
                self.close_connection = fault == "broken"

        def _send(self, status: int, content: bytes, length: int | None = None) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content) if length is None else length))
            self.send_header("x-request-id", f"req-{len(server.attempts)}")
            if status != 200:
                self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()

        def log_message(self, *words: Any) -> None:
            """Says nothing."""

    return Handler


def _error(message: str, parameter: str | None, code: str | None) -> bytes:
    error = {"message": message, "type": "invalid_request_error", "param": parameter, "code": code}
    return json.dumps({"error": error}).encode()


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Lets clients wait no longer than a moment between two attempts."""
    import openai._base_client
    from bargain_eval.llm import client

    patch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.001)
    patch.setattr(client, "_first_delay", 0.001)

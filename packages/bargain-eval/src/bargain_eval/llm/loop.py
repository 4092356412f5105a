"""One event loop for all calls of a process, in a thread of its own.

So the calls of several threads share connections and limits, and code that has an event loop already, such as a
notebook, can wait for them.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

_SECONDS_TO_END = 5.0  # that what is cancelled may take

_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: the thread does not survive a fork
_starting = threading.Lock()


def run_in_loop(function: Callable[..., Coroutine[Any, Any, Result]], *args: Any) -> Result:
    """Runs `await function(*args)` in the loop of this process, waits for it, and returns what it returns.

    An interruption of the wait, such as Ctrl-C, cancels it first. Must not be called from within the loop.
    """
    ended = threading.Event()

    async def run() -> Result:
        try:
            return await function(*args)
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(run(), _loop())
    try:
        return future.result()
    except BaseException:
        if future.cancel():
            ended.wait(_SECONDS_TO_END)
        raise


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="language-model-calls", daemon=True).start()
        return loop

"""What holds for every test: no network, the same number of threads, no GPU tests without a GPU."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1)

os.environ["OMP_NUM_THREADS"] = str(THREADS)  # read when numpy and torch load, in subprocesses too
os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
os.environ.pop("OPENAI_API_KEY", None)


HAS_TORCH = importlib.util.find_spec("torch") is not None

# Where bargain-eval is installed without its extra, no policy can be stored or read; the rest is tested all the same.
NEED_TORCH = ("checkpoint", "results", "results_cli", "results_crash", "results_store")
collect_ignore = [] if HAS_TORCH else [f"eval/test_{name}.py" for name in NEED_TORCH]

THEIR_WARNINGS = (
    "ignore:Creating .* which inherits from WeightUpdaterBase is deprecated:DeprecationWarning",  # importing torchrl
)


def pytest_configure(config: pytest.Config) -> None:
    """Excuses the warnings that libraries give about themselves; every other warning is an error."""
    for line in THEIR_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def pytest_report_header() -> str:
    """Says what is left out."""
    return f"without torch; left out: {', '.join(collect_ignore)}" if collect_ignore else "with torch"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests marked `gpu` where torch sees no CUDA device; torch is loaded only if there are any."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not _cuda_is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device and a CUDA build of torch"))


def _cuda_is_available() -> bool:
    if not HAS_TORCH:
        return False
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _same_threads() -> None:
    """Undoes what a training run in an earlier test asked of torch."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(THREADS)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Lets sockets connect to this machine only, so that no test depends on, or calls, a service."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
        yield


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise RuntimeError(f"a test tried to connect to {address}; tests run without network.")
        return connect(self, address)

    return guarded


def _is_local(host: str) -> bool:
    try:
        return host in ("", "localhost") or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False  # a name to look up

"""Cross-plays of language models on a small game, for the tests."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bargain_env.spec import GameSpec
from bargain_eval.cli import main
from bargain_eval.crossplay import read_crossplay
from llm_server import ACCEPT, WALK, LlmServer, Seen, hurry

MODELS = ("gpt-5.2-pro", "o3?effort=low", "gpt-4o?temperature=.5")
SPEC = GameSpec(item_quantities=(1, 1), max_rounds=2)
GAME = ("--quantities", "1", "1", "--rounds", "2")
BASELINES = ("--baselines", "random", "greedy", "fair_split")
SMALL = (*GAME, "--policies", *MODELS[1:], "--baselines", "random", "fair_split", "--num-games", "5", "--seed", "4")
SECRET = "sk-proj-THE5ECRET-0123456789"
OF_THE_MOMENT = ("latency", "retries", "request_id", "created")
"""The fields of a call that differ from one time to the next."""


def offer(*keep: int) -> str:
    return json.dumps({"reasoning": "More.", "action": "offer", "keep": dict(zip("AB", keep, strict=True))})


def reply(request: Seen) -> str:
    """Says anything, playable or not, and the same to the same request."""
    bits = hashlib.sha256(f"{request.body['model']}\n{request.text}".encode()).digest()
    said = (f"So:\n{ACCEPT}", ACCEPT, WALK, "Hm.")
    return said[bits[0] % 8] if bits[0] % 8 < len(said) else offer(bits[1] % 2, bits[2] % 2)


@contextmanager
def serving() -> Iterator[LlmServer]:
    """Yields a server that commands find, with a key that can be recognised."""
    with pytest.MonkeyPatch.context() as patch, LlmServer(reply).running() as running:
        hurry(patch)
        patch.setenv("OPENAI_BASE_URL", running.url)
        patch.setenv("OPENAI_API_KEY", SECRET)
        yield running


def forget(server: LlmServer) -> None:
    server.reply, server.faults, server.delay = reply, iter(()), 0.0
    server.seen.clear()
    server.attempts.clear()
    server.most_at_once = 0


def write_checkpoint(path: Path) -> str:
    torch = pytest.importorskip("torch")
    networks, policies = pytest.importorskip("bargain_train.networks"), pytest.importorskip("bargain_train.policies")
    from bargain_eval import checkpoint

    torch.manual_seed(0)
    network = networks.build_network({"network": "mlp", "hidden_dims": [8]}, SPEC)
    checkpoint.write_checkpoint(path, policies.policy_checkpoint("ppo", (network, network), step=0))
    return str(path)


def run(*flags: str) -> int:
    return main(["crossplay", "--output", "m.json", "--timeout", "5", *flags])


class Played:
    """A cross-play that nothing interrupted: its files, and the requests that it took."""

    def __init__(self, folder: Path, requests: list[Seen]) -> None:
        self.files = files(folder)
        self.lines = lines(folder)
        self.matrix = read_crossplay(folder / "m.json")
        self.requests = Counter(map(str, requests))


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("m.json", "m.rows.npz")}


def lines(folder: Path) -> list[dict[str, Any]]:
    """Returns X.calls.jsonl without what differs from one time to the next."""
    found = [json.loads(line) for line in (folder / "m.calls.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in found:
        for call in line["calls"]:
            for name in OF_THE_MOMENT:
                del call[name]
    return found


def played(server: LlmServer, folder: Path, flags: tuple[str, ...]) -> Played:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        server.reply, server.faults, server.delay = reply, iter(()), 0.0
        server.seen.clear()
        assert run(*flags) == 0
    return Played(folder, server.seen)

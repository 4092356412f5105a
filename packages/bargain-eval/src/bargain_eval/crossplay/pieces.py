"""The games of a cross-play, piece by piece: a piece is a job, a pure function of plain arguments.

Legend: `N` games of a piece.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.arena import play
from bargain_eval.crossplay.entries import fingerprint
from bargain_eval.llm.client import LlmRefused, LlmUnavailable
from bargain_eval.llm.session import SessionOptions, session
from bargain_eval.llm.store import BudgetReached
from bargain_eval.policy import Policy
from bargain_eval.registry import load_policy, resolve_device
from bargain_eval.versions import software_versions

BLOCK_SIZE = 4096
"""Games played at once; their views take 2 MB in the standard game. Smaller blocks were not faster."""

PIECE_GAMES = 16 * BLOCK_SIZE
"""Larger cells are cut into pieces of so many games, for the workers to share and for memory to stay bounded."""

DTYPES = {
    "game": np.int64,
    "values": np.int32,
    "outside": np.int32,
    "payoff": np.float64,
    "outcome": np.int8,
    "offer": np.int16,
    "decisions": np.int8,
    "illegal": np.int16,
    "actions": np.int16,
}

_sessions = ExitStack()
atexit.register(_sessions.close)  # in worker processes, where nothing else says the end

Outcome = dict[str, NDArray[Any]] | str
"""The arrays of a piece by name, or in one line what went wrong."""


class Piece(NamedTuple):
    """Games `first_game` .. `first_game + num_games - 1` of one pair of policies.

    Attributes:
        policies: The policy strings of seat 0 and seat 1.
        fingerprints: Their fingerprints; a policy that reads otherwise where the piece is played is an error.
        game: `GameSpec.to_dict`.
        seed: Key of the deals and of the policies' randomness.
        first_game: A multiple of `BLOCK_SIZE`.
        num_games: `N`.
        device: Where the games and the policies run.
        results_dir: The folder of stored runs.
        session: The setting of the calls of language models, None if there are none. No game depends on it.
    """

    policies: tuple[str, str]
    fingerprints: tuple[str, str]
    game: dict[str, Any]
    seed: int
    first_game: int
    num_games: int
    device: str
    results_dir: str
    session: SessionOptions | None = None

    @property
    def file_name(self) -> str:
        """The name of the file of its games: a hash of everything that they depend on."""
        content = {
            "fingerprints": self.fingerprints,
            "game": self.game,
            "seed": self.seed,
            "games": [self.first_game, self.num_games],
            "block_size": BLOCK_SIZE,
            "device": self.device.partition(":")[0],
            "versions": software_versions(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32] + ".npz"


def cut(whole: Piece) -> dict[str, Piece]:
    """Returns the pieces of a cell by the names of their files, in order of the games."""
    starts = range(0, whole.num_games, PIECE_GAMES)
    pieces = [whole._replace(first_game=n, num_games=min(PIECE_GAMES, whole.num_games - n)) for n in starts]
    return {piece.file_name: piece for piece in pieces}


def play_piece(piece: Piece) -> Outcome:
    """Plays a piece and returns its arrays `[N, ...]`, or in one line what went wrong, so that the others go on."""
    spec = GameSpec.from_dict(piece.game)
    try:
        if piece.session is not None:
            _open_session(piece.session)
        device = resolve_device(piece.device)
        policies = [
            _policy(seat, policy, mark, spec, piece.seed, device, piece.results_dir)
            for seat, (policy, mark) in enumerate(zip(piece.policies, piece.fingerprints, strict=True))
        ]
        with _one_torch_thread():
            rows = play(
                policies,
                piece.num_games,
                piece.seed,
                spec=spec,
                first_game=piece.first_game,
                device=device,
                block_size=BLOCK_SIZE,
            )
    except Exception as error:  # whatever a policy raises
        return one_line(error)
    return {name: getattr(rows, name).astype(dtype) for name, dtype in DTYPES.items()}


def one_line(error: BaseException) -> str:
    """Returns an exception with the place where it was raised; what can only be the world's fault, by its words."""
    if isinstance(error, BudgetReached | LlmRefused | LlmUnavailable):
        return str(error).rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".") + place


@lru_cache(maxsize=128)
def _policy(seat: int, policy: str, mark: str, spec: GameSpec, seed: int, device: str, results_dir: str) -> Policy:
    """Returns a policy for one seat, loaded once per process; the seats share no object, not even in self-play."""
    if fingerprint(policy, Path(results_dir)) != mark:
        raise ValueError(f"the file of {policy} is not the one that this cross-play began with.")
    return load_policy(policy, spec, seed, device, results_dir)


@lru_cache(maxsize=1)
def _open_session(options: SessionOptions) -> None:
    """Opens the session of all language models that this process plays, to its end or to `forget_policies`."""
    _sessions.enter_context(session(options))


def forget_policies() -> None:
    """Frees the policies that this process has loaded, and closes the session of their calls."""
    _policy.cache_clear()
    _open_session.cache_clear()
    _sessions.close()


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Lets torch, where it is loaded, compute with one thread: sums then round alike on any number of workers."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

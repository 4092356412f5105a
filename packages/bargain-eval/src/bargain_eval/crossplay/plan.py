"""What a cross-play is made of, before anything is played: who takes part, the cells and their pieces."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from bargain_env.spec import GameSpec

from bargain_eval.crossplay.entries import Entry, asks_language_model, make_entries
from bargain_eval.crossplay.matrix import FORMAT, FORMAT_VERSION, rows_path
from bargain_eval.crossplay.pieces import BLOCK_SIZE, Piece, cut
from bargain_eval.crossplay.writer import Cell
from bargain_eval.files import read_json
from bargain_eval.llm.policy import OpenAIPolicy
from bargain_eval.llm.session import SessionOptions
from bargain_eval.registry import load_policy, resolve_device
from bargain_eval.versions import software_versions


@dataclasses.dataclass(frozen=True)
class CallOptions:
    """What the calls of language models may cost, and where they are kept.

    Attributes:
        calls: The file of calls; None = llm_calls.sqlite in the folder of stored runs.
        max_calls: Limit of calls of this output file, over all resumes; None = none.
        max_cost: The same in dollars.
        prices: The file of prices; None = the shipped one.
        concurrency: Calls to one server at the same time, shared by the workers, each of which has at least one.
        timeout: Seconds that a server may be silent.

    Raises:
        ValueError: If a number is out of range.
    """

    calls: str | Path | None = None
    max_calls: int | None = None
    max_cost: float | None = None
    prices: str | Path | None = None
    concurrency: int = 8
    timeout: float = 600.0

    def __post_init__(self) -> None:
        self.session("", "")

    def session(self, store: str, run: str, workers: int = 1) -> SessionOptions:
        """Returns the setting of the calls of one of the workers."""
        return SessionOptions(
            store=store,
            run=run,
            max_calls=self.max_calls,
            max_cost=self.max_cost,
            prices=None if self.prices is None else str(self.prices),
            concurrency=self.concurrency if workers == 1 else max(1, self.concurrency // workers),
            timeout=self.timeout,
            give_up=True,
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """A cross-play to be played.

    Attributes:
        path: X.json.
        entries: Who takes part.
        spec: The game, of the standing observation.
        header: The entries of X.json that say what is played, in JSON's own types.
        cells: The pieces of each cell by the names of their files.
        models: The language models among the entries by their numbers.
        session: The setting of their calls, None if no policy is a language model or has one within it.
    """

    path: Path
    entries: tuple[Entry, ...]
    spec: GameSpec
    header: dict[str, Any]
    cells: Mapping[Cell, Mapping[str, Piece]]
    models: Mapping[int, OpenAIPolicy]
    session: SessionOptions | None

    def is_finished(self) -> bool:
        """Tells whether X.json is complete and of these very games.

        Raises:
            ValueError: If X.json is something else than a cross-play, which is not overwritten.
        """
        if not self.path.exists():
            return False
        stored = read_json(self.path)
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise ValueError(f"{self.path} exists and is no cross-play; it is not overwritten.")
        same = all(stored.get(key) == value for key, value in self.header.items())
        return same and stored["complete"] and rows_path(self.path).is_file()


def make_plan(
    policies: Sequence[str] = (),
    num_games: int = 500,
    seed: int = 0,
    *,
    output: str | Path,
    rl_checkpoints: Sequence[str] = (),
    baselines: Sequence[str] = (),
    spec: GameSpec | None = None,
    device: str = "cpu",
    results_dir: str | Path = "results",
    executor: str = "local",
    workers: int = 1,
    calls: CallOptions | None = None,
) -> Plan:
    """Returns the plan of a cross-play; the arguments are those of `crossplay`. Nothing is written.

    Raises:
        ValueError: If an argument does not fit, a policy string is refused, or language models are to be played
            elsewhere than on this machine.
    """
    path = Path(output)
    _check(path, num_games, seed)
    spec = (spec or GameSpec()).with_observation("standing")
    results_dir = Path(results_dir).absolute()
    device = resolve_device(device) if executor == "local" else device
    entries = make_entries(
        {"policies": policies, "rl_checkpoints": rl_checkpoints, "baselines": baselines}, results_dir
    )
    loaded = {  # what does not fit is refused now rather than in every cell
        policy: load_policy(policy, spec, seed, results_dir=results_dir)
        for policy in dict.fromkeys(entry.policy for entry in entries)
    }
    models = {k: policy for k, entry in enumerate(entries) if isinstance(policy := loaded[entry.policy], OpenAIPolicy)}
    session = _session(entries, path, results_dir, workers, calls or CallOptions())
    if session and executor != "local":
        raise ValueError(f"language models are played on this machine only, not by {executor}; leave out the executor.")

    whole = Piece(("", ""), ("", ""), spec.to_dict(), seed, 0, num_games, device, str(results_dir), session)
    cells = {
        (i, j): cut(whole._replace(policies=(a.policy, b.policy), fingerprints=(a.fingerprint, b.fingerprint)))
        for (i, a), (j, b) in product(enumerate(entries), repeat=2)
    }
    return Plan(path, entries, spec, _header(entries, spec, seed, num_games, device), cells, models, session)


def _session(
    entries: Iterable[Entry], path: Path, results_dir: Path, workers: int, options: CallOptions
) -> SessionOptions | None:
    """Returns the setting of all calls, None if there can be none."""
    if not any(asks_language_model(entry.policy) for entry in entries):
        return None
    store = Path(options.calls or results_dir / "llm_calls.sqlite").absolute()
    return options.session(str(store), f"crossplay {path.absolute()}", max(1, workers))


def _header(entries: Sequence[Entry], spec: GameSpec, seed: int, num_games: int, device: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "game": spec.to_dict(),
        "seed": seed,
        "num_games": num_games,
        "block_size": BLOCK_SIZE,
        "device": device.partition(":")[0],
        "policy_names": [entry.name for entry in entries],
        "policies": [dataclasses.asdict(entry) for entry in entries],
        "versions": software_versions(),
    }


def _check(path: Path, num_games: int, seed: int) -> None:
    if num_games < 1:
        raise ValueError(f"num_games must be at least 1, got {num_games}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie between 0 and 2**64 - 1, got {seed}.")
    if path.suffix != ".json":
        raise ValueError(f"output must be named *.json, got {path}.")

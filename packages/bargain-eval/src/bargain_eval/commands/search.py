"""`bargain-eval search`: what searching before every move adds to a policy."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlencode

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.table import Table

from bargain_eval.arena import play
from bargain_eval.commands.common import PlayOptions, console, progress
from bargain_eval.files import dump_json, write_json
from bargain_eval.game_rows import GameRows, standard_error
from bargain_eval.policy import Policy
from bargain_eval.registry import load_policy, resolve_device

_NORMAL_95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class SearchCommandOptions(PlayOptions):
    """Play a policy with and without search on the same deals, one seat at a time.

    The policy takes each seat against each opponent twice, once as it is and once searching before every move, on the
    same deals; the opponent never searches. The gain is the mean difference of its payoff (a share of the own total),
    for each seat and for the mean of both, with the 95% interval of paired differences. Needs bargain-train, which
    brings the search.

    The search has a model of its opponent: by default the policy itself, without search; with --model another policy;
    with --know-opponent the one it meets. The result is written to OUTPUT as JSON, with what the searches were like:
    simulations a second, how many hands the belief still spreads over, and what the searcher expected and earned.

    For instance
        bargain-eval search --checkpoint checkpoints/ppo/best.pt --num-simulations 100 --use-gumbel --c-puct 1.5
        bargain-eval search --checkpoint run:RUN_ID --opponents random greedy fair_split tioli --know-opponent
        bargain-eval search --checkpoint random --opponents greedy --model greedy --num-games 200 --json
    """

    checkpoint: str
    """A checkpoint file, or any policy string NAME[:ARGUMENT][?key=value], of the policy to improve."""
    opponents: tuple[str, ...] = ()
    """Policy strings of whom it meets; the policy itself if left out."""
    model: str | None = None
    """Policy string of whom the search takes its opponent for (default: the policy itself, without search)."""
    know_opponent: bool = False
    """Search against the very opponent that is met."""
    num_games: Annotated[int, Field(ge=1)] = 1000
    """Deals; each is played with and without search for each seat and opponent."""
    num_simulations: Annotated[int, Field(ge=1)] = 100
    """Simulations before each move."""
    use_gumbel: bool = False
    """Choose at the root by Gumbel noise and sequential halving instead of PUCT."""
    considered: Annotated[int, Field(ge=1)] = 16
    """Offers that the Gumbel root considers."""
    c_puct: Annotated[float, Field(ge=0)] = 1.5
    """Weight of exploration against payoffs in PUCT."""
    evaluation: Literal["rollout", "values"] = "rollout"
    """What a new node is worth: rollout plays on by the policy, values asks its value network."""
    output: Path = Path("results/search.json")
    """The JSON file to write."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.know_opponent and self.model is not None:
            raise ValueError("--know-opponent and --model exclude each other.")


def search(options: SearchCommandOptions) -> int:
    """Plays what `options` names, writes and prints the result; returns the exit code 0.

    Raises:
        ValueError: If a policy string does not fit, bargain-train is missing, or the file cannot be written.
    """
    device = resolve_device(options.device)
    named = options.game is not None or options.spec() != GameSpec()

    def load(policy: str, spec: GameSpec | None) -> Policy:
        return load_policy(policy, spec, seed=options.seed, device=device, results_dir=options.results_dir)

    policy = load(options.checkpoint, options.spec() if named else None)
    spec: GameSpec = options.spec() if named else getattr(policy, "spec", GameSpec())
    opponents = options.opponents or (options.checkpoint,)
    _check_writable(options.output)
    cells: dict[str, dict[str, Any]] = {name: {} for name in opponents}
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in opponents}
    for name, seat in progress([(name, seat) for name in opponents for seat in range(2)], "Searching"):
        opponent = load(name, spec)
        searching = load(_search_string(options, name), spec)
        games = [_play(own, opponent, seat, options, spec, device) for own in (searching, policy)]
        pair = np.stack([rows.payoff[:, [seat, 1 - seat]] for rows in games])
        log = cast("Any", searching).log.to_dict()
        cells[name][f"seat_{seat}"] = _compared(*pair) | {"search": log | _promised(log, games[0], seat)}
        found[name].append(pair)
    for name, (first, second) in found.items():
        cells[name]["both_seats"] = _compared(*((first + second) / 2))
    outcome = {
        "policy": options.checkpoint,
        "search": {name: _search_string(options, name) for name in opponents},
        "game": spec.with_observation("standing").to_dict(),
        "seed": options.seed,
        "num_games": options.num_games,
        "opponents": cells,
    }
    write_json(options.output, outcome)
    if options.json:
        sys.stdout.write(dump_json(outcome | {"file": options.output}) + "\n")
    else:
        console().print(_table(outcome))
        console().print(f"Written: {options.output}")
    return 0


def _check_writable(path: Path) -> None:
    """Raises ValueError if `path` cannot be written, before anything is played; makes its folder."""
    if path.suffix != ".json":
        raise ValueError(f"--output must be named *.json, got {path}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error.strerror}.") from error
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: its folder is read-only.")


def _search_string(options: SearchCommandOptions, opponent: str) -> str:
    settings: dict[str, Any] = {
        "num_simulations": options.num_simulations,
        "c_puct": options.c_puct,
        "evaluation": options.evaluation,
    }
    if options.use_gumbel:
        settings |= {"gumbel": "true", "considered": options.considered}
    if (model := opponent if options.know_opponent else options.model) is not None:
        settings["opponent"] = model
    return f"search:{options.checkpoint}?{urlencode(settings)}"


def _play(
    own: Policy, opponent: Policy, seat: int, options: SearchCommandOptions, spec: GameSpec, device: str
) -> GameRows:
    policies = (own, opponent) if seat == 0 else (opponent, own)
    return play(policies, options.num_games, options.seed, spec=spec, device=device)


def _promised(log: dict[str, Any], rows: GameRows, seat: int) -> dict[str, float]:
    """Returns what the searcher expected at its first move, and what it then earned in those games."""
    moved = rows.decisions > seat
    if seat not in log["decisions"]:
        return {}
    return {"expected": log["decisions"][seat]["root_value"], "earned": float(rows.payoff[moved, seat].mean())}


def _compared(with_search: NDArray[np.float64], without: NDArray[np.float64]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    columns = {
        "with_search": with_search[:, 0],
        "without_search": without[:, 0],
        "gain": with_search[:, 0] - without[:, 0],
        "opponent_with_search": with_search[:, 1],
        "opponent_without_search": without[:, 1],
    }
    for name, column in columns.items():
        found[name], found[f"{name}_se"] = float(column.mean()), standard_error(column)
    if (error := found["gain_se"]) is not None:
        found["gain_interval"] = [found["gain"] - _NORMAL_95 * error, found["gain"] + _NORMAL_95 * error]
    return found


def _table(outcome: dict[str, Any]) -> Table:
    title = f"payoff of {outcome['policy']}; {outcome['num_games']} deals, seed {outcome['seed']}"
    table = Table("opponent", "seat", "without search", "with search", "gain", "95% interval", title=title)
    for name, seats in outcome["opponents"].items():
        for seat, cell in seats.items():
            shown = (f"{cell[key]:.4f}{_error(cell[f'{key}_se'])}" for key in ("without_search", "with_search", "gain"))
            interval = " to ".join(f"{end:+.4f}" for end in cell.get("gain_interval", ()))
            table.add_row(name, seat.removeprefix("seat_").removesuffix("_seats"), *shown, interval)
    return table


def _error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.4f}"

"""Stored runs as leaderboards: runs that differ in nothing but the seed stand together, and a seed counts once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bargain_eval.files import dump_json
from bargain_eval.report.content import Cell, Table, count, filled, number, seconds, text
from bargain_eval.results.layout import Metadata
from bargain_eval.results.views import flatten, game_name, nash_conv_text, opponent_and_seat

_NOT_A_SETTING = {
    "seed", "game", "results_dir", "checkpoint_dir", "checkpoint_interval", "device", "cuda_device", "threads",
    "resume", "log_interval", "wandb", "wandb_project", "wandb_name", "wandb_tags", "tensorboard", "eval_nash_conv",
    "eval_interval",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Group:
    """The runs of one algorithm and one set of settings.

    Attributes:
        label: The algorithm, with the settings in which it differs from the other groups of its contest.
        runs: The runs, by run id.
    """

    label: str
    runs: tuple[Metadata, ...]

    @property
    def seeds(self) -> tuple[Metadata, ...]:
        """One run for each seed: the newest that was finished, else the newest."""
        rising = sorted(self.runs, key=lambda run: (_final(run, "pool_payoff") is not None, run["timestamp"]))
        return tuple({run["seed"]: run for run in rising}.values())


@dataclasses.dataclass(frozen=True)
class Contest:
    """The runs whose payoffs may be compared: one game and, in runs against a fixed opponent, one opponent and seat.

    Attributes:
        name: The game, and the opponent and seat if there are.
        groups: Its groups, by label.
    """

    name: str
    groups: tuple[Group, ...]

    @property
    def runs(self) -> tuple[Metadata, ...]:
        """All its runs."""
        return tuple(run for group in self.groups for run in group.runs)


def contests(runs: Iterable[Metadata]) -> list[Contest]:
    """Sorts runs into contests and groups; the standard game comes first, then the games by name."""
    by_name: dict[tuple[Any, ...], list[Metadata]] = {}
    for run in runs:
        game = game_name(run)
        opponent, seat = opponent_and_seat(run)
        key = (game != "default", game, opponent or "", -1 if seat is None else seat)
        by_name.setdefault(key, []).append(run)
    return [Contest(_contest_name(*key[1:]), _groups(members)) for key, members in sorted(by_name.items())]


def _contest_name(game: str, opponent: str, seat: int) -> str:
    name = f"game {game}"
    if opponent:
        name += f", against {opponent}"
    return name if seat < 0 else f"{name}, learner in seat {seat}"


def _groups(runs: Sequence[Metadata]) -> tuple[Group, ...]:
    settings = {run["run_id"]: _settings(run) for run in runs}
    by_settings: dict[tuple[str, str], list[Metadata]] = {}
    for run in runs:
        by_settings.setdefault((run["algorithm"], dump_json(settings[run["run_id"]])), []).append(run)
    groups = []
    for (algorithm, _), members in by_settings.items():
        peers = [settings[run["run_id"]] for run in runs if run["algorithm"] == algorithm]
        own = settings[members[0]["run_id"]]
        differing = sorted({name for peer in peers for name in peer.keys() | own if peer.get(name) != own.get(name)})
        label = " ".join([algorithm, *(f"{name}={_shown(own.get(name))}" for name in differing)])
        groups.append(Group(label, tuple(members)))
    return tuple(sorted(groups, key=lambda group: group.label))


def _settings(run: Metadata) -> dict[str, Any]:
    """Returns what decides how a run learns: its settings without the seed and without where and how it is logged."""
    flat = flatten(run["hyperparameters"])
    return dict(sorted((name, value) for name, value in flat.items() if name not in _NOT_A_SETTING))


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "×".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def leaderboards(contest: Contest) -> tuple[Table, Table]:
    """Returns the table of the groups and the table of the runs, each from the best down."""
    return _group_table(contest), _run_table(contest)


def _group_table(contest: Contest) -> Table:
    rows = []
    for group in contest.groups:
        done = [run for run in group.seeds if _final(run, "pool_payoff") is not None]
        if not done:
            continue
        payoffs = np.array([_final(run, "pool_payoff") for run in done], dtype=np.float64)
        several = len(done) > 1
        error = float(np.std(payoffs, ddof=1) / math.sqrt(len(done))) if several else _final(done[0], "pool_payoff_se")
        row = (
            text(group.label),
            count(len(done)),
            number(float(payoffs.mean()), error),
            number(float(payoffs.max())),
            _nash_conv(done),
            *(number(_mean(done, name)) for name in ("payoff_0", "payoff_1", "total", "agreement_rate")),
            count(round(np.mean([run["actual_timesteps"] for run in done]))),
            seconds(float(np.mean([run["training_time_seconds"] for run in done]))),
        )
        rows.append(row)
    headers = ("settings", "seeds", "payoff ± se", "best seed", "NashConv", *_SELF_PLAY, "steps", "time")
    return filled(Table(headers, _best_first(rows, 2), f"By settings: {contest.name}"))


_SELF_PLAY = ("seat 0", "seat 1", "total", "agreement")


def _run_table(contest: Contest) -> Table:
    rows = [
        (
            text(run["run_id"]),
            count(run["seed"]),
            text(run["status"]),
            number(_final(run, "pool_payoff"), _final(run, "pool_payoff_se")),
            _nash_conv([run]),
            *(number(_final(run, name)) for name in ("payoff_0", "payoff_1", "total", "agreement_rate")),
            number(_final(run, "mean_decisions"), digits=2),
            count(run["actual_timesteps"]),
            seconds(run["training_time_seconds"]),
        )
        for run in contest.runs
    ]
    headers = ("run", "seed", "status", "payoff ± se", "NashConv", *_SELF_PLAY, "decisions", "steps", "time")
    return filled(Table(headers, _best_first(rows, 3), f"Runs: {contest.name}"))


def _nash_conv(runs: Sequence[Metadata]) -> Cell:
    """Returns the mean NashConv of the runs that know it, else the mean of the bounds that each of them has."""
    names = ("nash_conv", "nash_conv_lower", "nash_conv_upper")
    known = {name: [value for run in runs if (value := _final(run, name)) is not None] for name in names}
    exact, lower, upper = known.values()
    if exact:
        error = float(np.std(exact, ddof=1) / math.sqrt(len(exact))) if len(exact) > 1 else None
        return number(float(np.mean(exact)), error)
    if not lower:
        return text("-")
    bounds = {"nash_conv_lower": float(np.mean(lower))}
    if len(upper) == len(lower):
        bounds["nash_conv_upper"] = float(np.mean(upper))
    return Cell(nash_conv_text(bounds), max(bounds.values()))


def _best_first(rows: list[tuple[Cell, ...]], column: int) -> list[tuple[Cell, ...]]:
    def order(row: tuple[Cell, ...]) -> float:
        key = row[column].key
        return math.inf if key is None else -key

    return sorted(rows, key=order)


def _final(run: Metadata, name: str) -> float | None:
    value = run["final_metrics"].get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _mean(runs: Sequence[Metadata], name: str) -> float | None:
    known = [value for run in runs if (value := _final(run, name)) is not None]
    return float(np.mean(known)) if known else None

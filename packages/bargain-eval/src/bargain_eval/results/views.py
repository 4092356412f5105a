"""What stored runs say together: the best one, the leaderboard, comparison and table. Functions on metadata alone."""

import csv
import io
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bargain_env.spec import GAMES, GameSpec

from bargain_eval.files import dump_json
from bargain_eval.results.layout import Metadata

DEFAULT_METRIC = "final_metrics.pool_payoff"
"""Mean payoff over both seats against the fixed pool, on held-out deals; in one-seat runs, against their opponent."""

LOWER_BOUND_WARNING = "A small lower bound does not make NashConv small: rank by final_metrics.nash_conv_upper."
"""What a reader of a ranking by the smallest `final_metrics.nash_conv_lower` has to know."""


@dataclass(frozen=True)
class Leaderboard:
    """The best completed runs, each list from the best down.

    Attributes:
        metric: the dotted name of the metric that ranks.
        game: the game that all of them play, as `game_name` calls it.
        both_seats: the best run of each algorithm.
        one_seat: the best run of each algorithm, opponent and seat; their payoffs compare within one opponent and seat.
        left_off: how many runs of the game lack the metric.
    """

    metric: str
    game: str
    both_seats: list[Metadata]
    one_seat: list[Metadata]
    left_off: int


def metric_value(metadata: Mapping[str, Any], metric: str) -> float | None:
    """The number at the dotted name `metric`, such as `final_metrics.pool_payoff`; None if there is none."""
    value: Any = flatten(metadata).get(metric)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def final_metric_names(runs: Iterable[Metadata]) -> list[str]:
    """The dotted names of the final metrics that any of `runs` has as a number, sorted."""
    named = ((run, f"final_metrics.{name}") for run in runs for name in flatten(run["final_metrics"]))
    return sorted({name for run, name in named if metric_value(run, name) is not None})


def nash_conv_text(metrics: Mapping[str, Any], prefix: str = "", digits: int = 4) -> str:
    """What `metrics` know of NashConv: `0.0123` (exact), `0.0282-0.0358` (an interval), `>=0.0282`, or "" for nothing.

    Args:
        metrics: with `nash_conv`, or `nash_conv_lower` and perhaps `nash_conv_upper`.
        prefix: what stands before these names.
        digits: decimals.
    """
    exact, lower, upper = (metrics.get(f"{prefix}nash_conv{end}") for end in ("", "_lower", "_upper"))
    if exact is not None:
        return f"{exact:.{digits}f}"
    if lower is None:
        return ""
    return f">={lower:.{digits}f}" if upper is None else f"{lower:.{digits}f}-{upper:.{digits}f}"


def opponent_and_seat(metadata: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """The fixed opponent and the seat of a one-seat run; (None, None) for a run that learned both seats."""
    return metadata["hyperparameters"].get("opponent"), metadata["final_metrics"].get("seat")


def game_name(metadata: Mapping[str, Any]) -> str:
    """What the run's game is called: `default`, `mini-a`, ..., or its numbers, such as `2x1 values 1-3 rounds 2`.

    The kind of observation does not count. A run that does not say what it plays counts as `default`.
    """
    spec = GameSpec.from_dict(metadata.get("env_config") or {}).with_observation("standing")
    for name, known in GAMES.items():
        if spec == known:
            return name
    items = "x".join(map(str, spec.item_quantities))
    text = f"{items} values {spec.min_value}-{spec.max_value} rounds {spec.max_rounds}"
    if spec.discount != 1.0:
        text += f" discount {spec.discount:g}"
    low, high = spec.outside_range
    return text if (low, high) == (0.0, 1.0) else f"{text} outside {low:g}-{high:g}"


def is_one_seat(metadata: Mapping[str, Any]) -> bool:
    """Whether the run learned against a fixed opponent, or in one seat."""
    return opponent_and_seat(metadata) != (None, None)


def best_first(runs: Iterable[Metadata], metric: str, minimize: bool = False) -> list[Metadata]:
    """The runs that have the metric, best first; of equals, the earlier run."""
    ranked = [(value, run) for run in runs if (value := metric_value(run, metric)) is not None]
    sign = 1.0 if minimize else -1.0
    return [run for _, run in sorted(ranked, key=lambda pair: (sign * pair[0], pair[1]["timestamp"]))]


def leaderboard(
    runs: Iterable[Metadata], metric: str = DEFAULT_METRIC, game: str = "default", minimize: bool = False
) -> Leaderboard:
    """Ranks those of `runs`, completed ones, that play `game` by `metric`: the larger the better, or the smaller."""
    listed = [run for run in runs if game_name(run) == game]
    ranked = best_first(listed, metric, minimize)
    both_seats = [run for run in ranked if not is_one_seat(run)]
    one_seat = [run for run in ranked if is_one_seat(run)]
    return Leaderboard(
        metric,
        game,
        both_seats=_first_of_each(both_seats, lambda run: run["algorithm"]),
        one_seat=_first_of_each(one_seat, lambda run: (run["algorithm"], *map(str, opponent_and_seat(run)))),
        left_off=len(listed) - len(ranked),
    )


def compare(runs: Iterable[Metadata]) -> dict[str, Any]:
    """The runs side by side.

    Returns:
        `{"runs": {id: summary}, "hyperparameters": {name: {id: value}}, "final_metrics": {name: {id: value}}}`, where
        `hyperparameters` names those that differ; an id is absent where its run lacks the name.
    """
    listed = list(runs)
    summary = ("algorithm", "seed", "status", "actual_timesteps", "training_time_seconds")
    hyperparameters = _by_name(listed, "hyperparameters")
    differing = {
        name: values
        for name, values in hyperparameters.items()
        if len(values) < len(listed) or len({dump_json(value) for value in values.values()}) > 1
    }
    return {
        "runs": {run["run_id"]: {name: run.get(name) for name in summary} for run in listed},
        "hyperparameters": differing,
        "final_metrics": _by_name(listed, "final_metrics"),
    }


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names; lists stay values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def csv_text(runs: Iterable[Metadata]) -> str:
    """One row a run, one column a dotted name, columns sorted; lists are written as JSON, missing values as nothing."""
    rows = [
        {name: dump_json(value) if isinstance(value, list) else value for name, value in flatten(run).items()}
        for run in runs
    ]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=sorted({name for row in rows for name in row}))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _first_of_each(runs: Iterable[Metadata], group: Callable[[Metadata], Hashable]) -> list[Metadata]:
    first: dict[Hashable, Metadata] = {}
    for run in runs:
        first.setdefault(group(run), run)
    return list(first.values())


def _by_name(runs: Iterable[Metadata], field: str) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for run in runs:
        for name, value in flatten(run[field]).items():
            table.setdefault(name, {})[run["run_id"]] = value
    return dict(sorted(table.items()))

"""What `bargain-eval metagame` reads: a cross-play with its games, or a plain table of payoffs.

Legend: `N` policies, `G` deals (or blocks of deals), `K` columns of measures.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.files import read_json
from bargain_eval.game_rows import GameRows
from bargain_eval.measures import Measure, game_measures, study_deals, walk_value
from bargain_eval.metagame.payoffs import PayoffTable
from bargain_eval.metagame.study import COUNTED, MetaGame
from bargain_eval.mistakes import count_mistakes

MAX_BLOCKS = 4096
"""More deals than these are resampled in blocks of consecutive deals, which are as independent as the deals are."""

_SAMPLED = ("utilitarian", "nash", "egalitarian", "nash_plus", "agreement", "pareto", "missed", "ef1", "ef1_plus")
_SHARES_OF_DEALS = ("ef1", "ef1_plus", "rational", "irrational_accept")

Loop = Callable[[Iterable[tuple[int, int]], str], Iterable[tuple[int, int]]]


@dataclasses.dataclass(frozen=True)
class Input:
    """A meta-game and what the games behind it tell beyond its cells.

    Attributes:
        game: The cells.
        spec: The game that was played; None for a plain table.
        num_games: Games in each cell; None for a plain table.
        bounds: `walk` and `first_best` of both seats together, normalised and under `NAME_points`, and `feasible`, the
            share of deals with a split at least as good for both as walking; empty for a plain table.
        mistakes: Rates `[2]` by policy and mistake: in seat 0 and in seat 1, over its games against all policies.
    """

    game: MetaGame
    spec: GameSpec | None
    num_games: int | None
    bounds: dict[str, float]
    mistakes: dict[str, dict[str, NDArray[np.float64]]]


def read_input(path: Path, *, with_samples: bool, groups: tuple[str, ...], loop: Loop) -> Input:
    """Reads a cross-play file, or a plain JSON or CSV table.

    Args:
        path: X.json of `bargain-eval crossplay`; JSON with `policy_names` and `payoff_matrix [N][N][2]`; or CSV with
            the columns row, column, payoff_0, payoff_1, one line a cell.
        with_samples: Keep the games one by one, for the bootstrap.
        groups: `NAME=PATTERN`, each making the policies whose names match one algorithm.
        loop: Shows progress.

    Raises:
        ValueError: If there is no such file, it is none of these, a cell is missing, or a group does not fit.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}.")
    if path.suffix.lower() == ".csv":
        return _plain(_read_csv(path), groups)
    content = read_json(path)
    if not isinstance(content, Mapping) or not {"policy_names", "payoff_matrix"} <= content.keys():
        raise ValueError(f"{path} holds no payoff table: policy_names and payoff_matrix are needed.")
    if content.get("format") != "bargain-crossplay" or not content.get("rows"):
        return _plain(_read_plain(content, path), groups)
    from bargain_eval.crossplay import read_crossplay

    crossplay = read_crossplay(path)
    crossplay.table.complete()
    return _played(crossplay.names, crossplay.spec, crossplay.cell, with_samples, groups, loop)


def _read_plain(content: Mapping[str, Any], path: Path) -> PayoffTable:
    names = content["policy_names"]
    try:
        mean = np.array(content["payoff_matrix"], dtype=np.float64)
        return PayoffTable.of_means(mean, names, names)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no payoff table: {error}") from error


def _read_csv(path: Path) -> PayoffTable:
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    needed = ("row", "column", "payoff_0", "payoff_1")
    if not lines or not set(needed) <= lines[0].keys():
        raise ValueError(f"{path} holds no payoff table: the columns {', '.join(needed)} are needed.")
    names = list(dict.fromkeys(line["row"] for line in lines))
    columns = set[str](line["column"] for line in lines)
    if columns != set(names):
        raise ValueError(f"{path} must have the same policies in both seats; {sorted(columns ^ set(names))} are not.")
    mean = np.full((len(names), len(names), 2), np.nan)
    for line in lines:
        cell = names.index(line["row"]), names.index(line["column"])
        if not np.isnan(mean[cell]).all():
            raise ValueError(f"{path} has two lines for {line['row']} against {line['column']}.")
        try:
            mean[cell] = float(line["payoff_0"]), float(line["payoff_1"])
        except (TypeError, ValueError):
            raise ValueError(f"{path} has no two payoffs for {line['row']} against {line['column']}.") from None
    return PayoffTable.of_means(mean, names, names)


def _plain(table: PayoffTable, groups: tuple[str, ...]) -> Input:
    payoffs = table.complete()
    means = np.concatenate([payoffs, payoffs.sum(axis=2, keepdims=True)], axis=2)
    game = MetaGame(table.rows, ("payoff_0", "payoff_1", "utilitarian"), means, None, _grouped(table.rows, groups))
    return Input(game, None, None, {}, {})


def _played(
    names: tuple[str, ...],
    spec: GameSpec,
    cell: Callable[[int, int], GameRows],
    with_samples: bool,
    groups: tuple[str, ...],
    loop: Loop,
) -> Input:
    size = len(names)
    first = cell(0, 0)
    facts = study_deals(first.values, first.outside, spec)
    sampled = _columns(game_measures(first, spec, facts), _SAMPLED)
    rest = [name for name in _columns(game_measures(first, spec, facts), None) if name not in sampled]
    columns = ("payoff_0", "payoff_1", *sampled, *rest)
    step = -(-len(first) // MAX_BLOCKS)
    blocks = len(first) // step
    means = np.empty((size, size, len(columns)))
    samples = np.empty((blocks, size, size, 2 + len(sampled))) if with_samples and len(first) > 1 else None
    made = {name: np.zeros((size, 2, 2), dtype=np.int64) for name in count_mistakes(first, spec)}
    for i, j in loop([(i, j) for i in range(size) for j in range(size)], "Measuring"):
        rows = cell(i, j)
        numbers = _columns(game_measures(rows, spec, facts), None)
        table = np.column_stack([rows.payoff, *(numbers[name] for name in columns[2:])])
        means[i, j] = table.mean(axis=0)
        if samples is not None:
            kept = table[: blocks * step, : samples.shape[3]]
            samples[:, i, j] = kept.reshape(blocks, step, -1).mean(axis=1)
        for name, count in count_mistakes(rows, spec).items():
            for seat, policy in enumerate((i, j)):
                made[name][policy, seat] += count.made[:, seat].sum(), count.chances[:, seat].sum()
    walk, walk_points = walk_value(spec)
    bounds = {
        "walk": 2 * walk,
        "walk_points": 2 * walk_points,
        "first_best": float(facts.first_best.mean()),
        "first_best_points": float(facts.first_best_points.mean()),
        "feasible": float(facts.feasible.mean()),
    }
    game = MetaGame(names, columns, means, samples, _grouped(names, groups))
    return Input(game, spec, len(first), bounds, _rates(game, made))


def _columns(measures: Mapping[str, Measure], chosen: tuple[str, ...] | None) -> dict[str, NDArray[np.float64]]:
    """Returns the numbers `[G]` of each measure, and of its denominator where that is not every game."""
    result: dict[str, NDArray[np.float64]] = {}
    for name, measure in measures.items():
        if chosen is None or name in chosen:
            result[name] = measure.amount
            if name in _SHARES_OF_DEALS:
                result[name + COUNTED] = measure.counted.astype(np.float64)
    return result


def _rates(game: MetaGame, made: Mapping[str, NDArray[np.int64]]) -> dict[str, dict[str, NDArray[np.float64]]]:
    rates: dict[str, dict[str, NDArray[np.float64]]] = {}
    for index, name in enumerate(game.algorithms):
        sums = {mistake: counts[game.algorithm_of == index].sum(axis=0) for mistake, counts in made.items()}
        rates[name] = {
            mistake: np.divide(each[:, 0], each[:, 1], out=np.full(2, np.nan), where=each[:, 1] > 0)
            for mistake, each in sums.items()
        }
    return rates


def _grouped(names: tuple[str, ...], groups: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the algorithm of each policy by the patterns of `--groups`; none if there are no groups."""
    if not groups:
        return ()
    result = list(names)
    for text in groups:
        group, equals, pattern = text.partition("=")
        if not (group and equals and pattern):
            raise ValueError(f"--groups needs NAME=PATTERN, got {text!r}.")
        members = [k for k, name in enumerate(names) if fnmatchcase(name, pattern)]
        if not members:
            raise ValueError(f"--groups {text} matches none of {', '.join(names)}.")
        for k in members:
            if result[k] != names[k]:
                raise ValueError(f"--groups puts {names[k]} into both {result[k]} and {group}.")
            result[k] = group
    return tuple(result)

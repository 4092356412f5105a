"""The sections about one cross-play: payoffs, language models, fairness, equilibria, endings, games to read.

Legend: `n` policies, `D` most decisions of a game.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from bargain_env.spec import GameSpec
from numpy.typing import NDArray

from bargain_eval.crossplay import Crossplay
from bargain_eval.measures import DealFacts, efficiency, study_deals, walk_value
from bargain_eval.report import drawings
from bargain_eval.report.cell_sums import CellSums, cell_sums
from bargain_eval.report.content import Figure, Section, Table, count, number, text
from bargain_eval.report.ending_drawings import endings
from bargain_eval.report.game_points import GamePoints, game_points
from bargain_eval.report.heatmap import Names, heatmap
from bargain_eval.report.metagame_section import Loop, metagame_section
from bargain_eval.report.model_section import model_section
from bargain_eval.report.transcripts import sample_games
from bargain_eval.results.views import game_name

EQUILIBRIUM_BOUND = 1.3095
"""No Nash equilibrium of the standard game has a larger mean total payoff."""
_SHOWN = ("nash", "nash_plus", "pareto", "missed", "ef1")


class Choices(NamedTuple):
    """What the reader chose: games to read of each pair, and the arguments of `metagame_section`."""

    games: int = 20
    solvers: Sequence[str] = ()
    loop: Loop = lambda solvers, title: solvers


def crossplay_sections(prefix: str, file: str, suffix: str, matrix: Crossplay, choices: Choices) -> Iterator[Section]:
    """Yields the sections about the matrix of `file`.

    Args:
        prefix: Starts their anchors, unique on the page.
        file: The name of the file.
        suffix: Ends their headings, to tell several matrices apart.
        matrix: The matrix.
        choices: See there.
    """
    introduction = _introduction(matrix)
    played = np.argwhere(matrix.table.count > 0).tolist()
    if not played:
        yield Section(prefix, f"Cross-play: {file}", introduction)
        return
    spec, first = matrix.spec, matrix.cell(*played[0])
    facts, points = study_deals(first.values, first.outside, spec), game_points(first.values, first.outside, spec)
    sums = cell_sums(matrix, facts)
    heatmaps = (*(_payoff_figure(prefix, matrix, seat) for seat in range(2)), _agreement_figure(prefix, matrix, sums))
    yield Section(prefix, f"Cross-play: {file}", introduction, figures=heatmaps)
    if matrix.llm is not None:
        yield model_section(f"{prefix}-models", f"Language models{suffix}", matrix.llm)
    yield Section(
        f"{prefix}-welfare",
        f"Welfare and fairness{suffix}",
        figures=(_welfare_figure(prefix, matrix, sums, points, facts),),
    )
    yield metagame_section(f"{prefix}-metagame", f"Meta-game{suffix}", matrix.table, choices.solvers, choices.loop)
    yield Section(f"{prefix}-length", f"How games end{suffix}", figures=(_endings_figure(prefix, matrix, sums),))
    yield Section(
        f"{prefix}-games",
        f"Games to read{suffix}",
        _reading(matrix),
        games=sample_games(matrix, choices.games),
    )


def _introduction(matrix: Crossplay) -> tuple[str, ...]:
    game = game_name({"env_config": matrix.spec.to_dict()})
    words = (
        f"{len(matrix.names)} policies, every ordered pair on the same {matrix.num_games:,} deals (seed {matrix.seed}) "
        f"of game {game}. Rows take seat 0, which moves first; columns take seat 1. Payoffs are shares of the own "
        "total. Click a cell to read its games."
    )
    return (words,) if matrix.complete else (words, "This matrix is not complete: empty cells were not played yet.")


def _reading(matrix: Crossplay) -> tuple[str, ...]:
    words = "The first games of every pair, the same deals for all; the buttons and the arrow keys turn the page."
    if matrix.llm is None:
        return (words,)
    if not (matrix.path.parent / matrix.llm["calls"]).is_file():
        return (words, f"The replies of language models are not shown: {matrix.llm['calls']} is not beside the matrix.")
    return (words, "Under a move of a language model stands what it said for itself; the other player never saw it.")


def _payoff_figure(prefix: str, matrix: Crossplay, seat: int) -> Figure:
    mean, error = matrix.table.mean[:, :, seat], matrix.table.standard_error[:, :, seat]
    limits = float(np.nanmin(matrix.table.mean)), float(np.nanmax(matrix.table.mean))
    name = f"{prefix}-payoff-{seat}"
    best = np.unravel_index(np.nanargmax(mean), mean.shape)
    alt = (
        f"Heatmap of the mean payoff of seat {seat} for every pair of policies; the largest is {mean[best]:.3f}, "
        f"{matrix.names[best[0]]} in seat 0 against {matrix.names[best[1]]} in seat 1."
    )
    names = Names(matrix.table.rows, matrix.table.columns)
    picture = heatmap(name, alt, names, mean, error, limits, "viridis", f"payoff of seat {seat}")
    caption = (
        f"Mean over the games. Its standard error is at most {np.nanmax(error):.4f}; it stands in the cell or under "
        "the pointer. One colour scale for both seats."
    )
    return Figure(name, f"Payoff of seat {seat}", caption, alt, picture, _matrix_table(matrix, mean, error))


def _agreement_figure(prefix: str, matrix: Crossplay, sums: CellSums) -> Figure:
    name, alt = f"{prefix}-agreement", "Heatmap of the share of games that end in a deal, for every pair of policies."
    names = Names(matrix.table.rows, matrix.table.columns)
    mean, error = sums.mean["agreement"], sums.error["agreement"]
    picture = heatmap(name, alt, names, mean, error, (0.0, 1.0), "cividis", "agreement rate")
    table = _matrix_table(matrix, mean, error)
    return Figure(name, "Agreement rate", "Share of games that end in a deal.", alt, picture, table)


def _matrix_table(matrix: Crossplay, mean: NDArray[np.float64], error: NDArray[np.float64]) -> Table:
    rows = [
        (text(policy), *(number(mean[i, j], error[i, j]) for j in range(mean.shape[1])))
        for i, policy in enumerate(matrix.table.rows)
    ]
    return Table(("seat 0 \\ seat 1", *matrix.table.columns), rows)


def _welfare_figure(prefix: str, matrix: Crossplay, sums: CellSums, points: GamePoints, facts: DealFacts) -> Figure:
    welfare = matrix.table.mean.sum(axis=2)
    place = np.stack([welfare, sums.mean["egalitarian"]], axis=-1)
    spread = np.stack([sums.error["utilitarian"], sums.error["egalitarian"]], axis=-1)
    diagonal = np.arange(len(matrix.names))
    pairs = {(i, j): place[i, j] for i, j in np.argwhere(matrix.table.count > 0).tolist() if i != j}
    bound = EQUILIBRIUM_BOUND if matrix.spec.same_game(GameSpec()) else None
    name = f"{prefix}-welfare-fairness"
    alt = (
        "Scatter of welfare (mean total payoff) against fairness (mean of the smaller payoff) of every pair of "
        f"policies, with the Pareto frontier; the first-best is at {points.first_best[0]:.3f}, "
        f"{points.first_best[1]:.3f} and Nash bargaining at {points.nash_bargaining[0]:.3f}, "
        f"{points.nash_bargaining[1]:.3f}."
    )
    marks = {
        "first-best (full information)": points.first_best,
        "Nash bargaining (full information)": points.nash_bargaining,
        "both walk at once": points.walk,
    }
    picture = drawings.welfare_fairness(
        name,
        alt,
        matrix.names,
        drawings.Points(place[diagonal, diagonal], spread[diagonal, diagonal]),
        pairs,
        points.frontier,
        marks,
        bound,
    )
    caption = (
        "Large marks: each policy against itself, with standard errors; small dots: all other pairs. The frontier, the "
        f"first-best and the Nash-bargaining point are what somebody who sees both hands could reach on the first "
        f"{points.deals:,} of these deals. Both axes are per game, then averaged."
    )
    table = _welfare_table(matrix, sums, points, facts)
    return Figure(name, "", caption, alt, picture, table)


def _welfare_table(matrix: Crossplay, sums: CellSums, points: GamePoints, facts: DealFacts) -> Table:
    walk, first_best = 2 * walk_value(matrix.spec)[0], float(facts.first_best.mean())
    rows = []
    for i, j in np.argwhere(matrix.table.count > 0).tolist():
        total = float(matrix.table.mean[i, j].sum())
        rows.append(
            (
                text(matrix.names[i]),
                text(matrix.names[j]),
                number(total, sums.error["utilitarian"][i, j]),
                number(sums.mean["egalitarian"][i, j], sums.error["egalitarian"][i, j]),
                number(efficiency(total, first_best, walk), digits=3),
                *(number(sums.mean[name][i, j], digits=3) for name in _SHOWN),
            )
        )
    for label, point in (("first-best", points.first_best), ("Nash bargaining", points.nash_bargaining)):
        rows.append((text(label), text(None), number(point[0]), number(point[1]), *[text(None)] * (1 + len(_SHOWN))))
    headers = ("seat 0", "seat 1", "welfare", "fairness", "efficiency", "Nash", "NW+", "Pareto", "missed", "EF1")
    note = (
        "Efficiency: 0 for walking at once, 1 for the first-best. Nash: mean root of the product of the payoffs; "
        "NW+: the same of the gains over the outside offers. Pareto: share of games whose outcome no split or walk "
        "improves. Missed: walks although a split was better for both. EF1: share of deals that are envy-free up to "
        "one unit."
    )
    return Table(headers, rows, note=note)


def _endings_figure(prefix: str, matrix: Crossplay, sums: CellSums) -> Figure:
    size = len(matrix.names)
    by_seat = np.stack([sums.endings.sum(axis=1), sums.endings.sum(axis=0)], axis=1)  # [n, seat, kind, D]
    games = by_seat.sum(axis=(2, 3))
    agreement = np.divide(by_seat[:, :, 0].sum(axis=2), games, out=np.full((size, 2), np.nan), where=games > 0)
    lengths = by_seat.sum(axis=(1, 2)) / np.maximum(1, games.sum(axis=1, keepdims=True))
    histogram = sums.endings.sum(axis=(0, 1))
    name = f"{prefix}-endings"
    deals, walks = histogram.sum(axis=1).tolist()
    alt = (
        f"Agreement rates and game lengths: of {deals + walks:,} games {deals:,} end in a deal and {walks:,} in a walk."
    )
    picture = endings(name, alt, matrix.names, agreement, lengths, histogram)
    caption = "Over all partners. One decision is one move of one seat."
    bins = range(lengths.shape[1])
    rows = [
        (
            text(policy),
            *(number(agreement[k, seat]) for seat in range(2)),
            *(number(lengths[k, decision], digits=3) for decision in bins),
            count(int(games[k].sum())),
        )
        for k, policy in enumerate(matrix.names)
    ]
    headers = ("policy", "deals in seat 0", "deals in seat 1", *(f"length {k + 1}" for k in bins), "games")
    return Figure(name, "", caption, alt, picture, Table(headers, rows))

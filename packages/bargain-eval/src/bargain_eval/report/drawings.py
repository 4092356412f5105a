"""The figures of a meta-game: welfare against fairness, and the mixtures of the solvers.

Legend: `n` policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray

from bargain_eval.report import svg


class Points(NamedTuple):
    """Points of the welfare and fairness plane with their standard errors: `[n, 2]` each."""

    mean: NDArray[np.float64]
    error: NDArray[np.float64]


def welfare_fairness(
    name: str,
    alt: str,
    names: Sequence[str],
    self_play: Points,
    pairs: Mapping[tuple[int, int], NDArray[np.float64]],
    frontier: NDArray[np.float64],
    marks: Mapping[str, NDArray[np.float64]],
    bound: float | None,
) -> str:
    """Returns the scatter of welfare (across) and fairness (up).

    Args:
        name: Unique on the page.
        alt: The picture in words.
        names: The policies, whose self-play is drawn large.
        self_play: Where each policy lands against itself.
        pairs: Where the other pairs land, `[2]` by (row, column), drawn small.
        frontier: `[F, 2]` corners of the frontier.
        marks: Benchmarks by name, `[2]` each.
        bound: The largest welfare of any Nash equilibrium, if it is known.
    """
    with svg.style():
        figure = svg.canvas(560, 420)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlabel("welfare: mean total payoff")
        axes.set_ylabel("fairness: mean of the smaller payoff")
        axes.plot(*frontier.T, color=svg.MUTED, linewidth=1.4, label="Pareto frontier (full information)")
        if bound is not None:
            axes.axvline(bound, color=svg.MUTED, linewidth=1.2, linestyle=":", label="bound on every Nash equilibrium")
        for (label, point), marker in zip(marks.items(), ("*", "d", "s"), strict=True):
            look: dict[str, Any] = {"fillstyle": "none", "markersize": 15} if marker == "s" else {"markersize": 10}
            axes.plot(*point, marker, color=svg.INK, label=label, zorder=4, **look)
        tips: list[str] = []
        cells: dict[int, tuple[int, int]] = {}
        for (i, j), point in pairs.items():
            cells[len(tips)] = i, j
            axes.plot(*point, ".", color=svg.MUTED, markersize=6, alpha=0.6, gid=svg.tip(len(tips)), zorder=2)
            tips.append(f"{names[i]} (seat 0) – {names[j]} (seat 1): {point[0]:.4f}, {point[1]:.4f}")
        for index, policy in enumerate(names):
            if not np.isfinite(self_play.mean[index]).all():
                continue
            colour, marker = svg.SERIES[index % len(svg.SERIES)], svg.MARKERS[index % len(svg.MARKERS)]
            x, y = self_play.mean[index]
            dx, dy = np.nan_to_num(self_play.error[index])
            axes.errorbar(x, y, dy, dx, ecolor=colour, elinewidth=1, fmt="none", zorder=3)
            cells[len(tips)] = index, index
            drawn: dict[str, Any] = {"markeredgecolor": svg.PAPER, "markeredgewidth": 0.8, "markersize": 9, "zorder": 5}
            axes.plot(x, y, marker, color=colour, gid=svg.tip(len(tips)), label=svg.label(policy), **drawn)
            tips.append(f"{policy} against itself: {svg.with_error(x, dx)}, {svg.with_error(y, dy)}")
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), borderaxespad=0, fontsize=11, labelspacing=0.55)
        return svg.render(figure, name, alt, tips, cells)


def mixtures(
    name: str, alt: str, names: Sequence[str], solutions: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> str:
    """Returns bars of what each solver plays: `solutions[solver]` is the mixture `[n]` of seat 0 and that of seat 1.

    One small plot a solver, five in a line, with a line for each of the policies `names`.
    """
    per_line, width, gap, line = 5, 128, 22, 24
    size = len(names)
    lines = -(-len(solutions) // per_line)
    plot_height, between = line * size, 56
    height = lines * plot_height + (lines - 1) * between
    across = min(per_line, len(solutions))
    total = across * width + (across - 1) * gap
    with svg.style():
        figure = svg.canvas(total, height)
        tips: list[str] = []
        for index, (solver, both) in enumerate(solutions.items()):
            left, top = index % per_line * (width + gap), index // per_line * (plot_height + between)
            box = left / total, 1 - (top + plot_height) / height, width / total, plot_height / height
            axes = figure.add_axes(box)
            axes.set_title(solver.replace("_", " "), loc="left", pad=6)
            axes.set_xlim(0, 1.0)
            axes.set_ylim(size - 0.5, -0.5)
            labels = [svg.label(policy) for policy in names] if index % per_line == 0 else []
            axes.set_yticks(range(size), labels or [""] * size)
            axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
            for seat, mixture in enumerate(both):
                for policy in np.flatnonzero(mixture).tolist():
                    share = float(mixture[policy])
                    bar = axes.barh(policy + (seat - 0.5) * 0.36, share, 0.34, color=svg.SERIES[seat])
                    bar[0].set_gid(svg.tip(len(tips)))
                    tips.append(f"{solver}: seat {seat} plays {names[policy]} with probability {share:.4f}")
        handles = [matplotlib.patches.Patch(color=svg.SERIES[seat], label=f"seat {seat}") for seat in range(2)]
        corner = (0, 1 + 30 / height)
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=corner, ncols=2, borderaxespad=0)
        return svg.render(figure, name, alt, tips)

"""The figure of a payoff table: a cell for every pair of policies, coloured by its mean.

Legend: `M` policies of seat 0 (rows), `N` policies of seat 1 (columns).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray

from bargain_eval.report import svg

_LIGHT, _DARK = "#ffffff", "#111111"  # upon the cells of a heatmap, which are the same in both themes


class Names(NamedTuple):
    """The names of the policies of seat 0 and of seat 1."""

    rows: Sequence[str]
    columns: Sequence[str]


def heatmap(
    name: str,
    alt: str,
    names: Names,
    mean: NDArray[np.float64],
    error: NDArray[np.float64],
    limits: tuple[float, float],
    colours: str,
    unit: str,
) -> str:
    """Returns a table of cells coloured by `mean [M, N]`, with `error [M, N]` in the cell or under the pointer.

    Args:
        name: Unique on the page.
        alt: The picture in words.
        names: The policies.
        mean: What each cell shows; NaN leaves the cell empty.
        error: Its standard errors.
        limits: The values at the ends of the colour scale.
        colours: A colour map of matplotlib that any colour vision can read.
        unit: What the numbers are, for the colour scale.
    """
    size = max(mean.shape)
    width, height = (74, 44) if size <= 6 else (56, 36) if size <= 12 else (36, 24)
    low, high = limits if limits[1] > limits[0] else (limits[0] - 0.5, limits[1] + 0.5)
    colour_map = matplotlib.colormaps[colours]
    tips: list[str] = []
    cells: dict[int, tuple[int, int]] = {}
    with svg.style():
        figure = svg.canvas(width * mean.shape[1], height * mean.shape[0])
        axes = figure.add_axes((0, 0, 1, 1))
        _label_cells(axes, names, mean.shape)
        for i, j in np.argwhere(np.isfinite(mean)).tolist():
            value, spread = float(mean[i, j]), float(error[i, j])
            colour = colour_map((value - low) / (high - low))
            look: dict[str, Any] = {"facecolor": colour, "edgecolor": svg.PAPER, "linewidth": 1, "clip_on": False}
            axes.add_patch(matplotlib.patches.Rectangle((j, i), 1, 1, gid=svg.tip(len(tips)), **look))
            _write(axes, i, j, value, spread if size <= 12 else math.nan, colour)
            cells[len(tips)] = i, j
            tips.append(f"{names.rows[i]} (seat 0) – {names.columns[j]} (seat 1): {svg.with_error(value, spread)}")
        _colour_scale(figure, colour_map, low, high, unit)
        return svg.render(figure, name, alt, tips, cells)


def _write(axes: Any, i: int, j: int, value: float, error: float, colour: tuple[float, ...]) -> None:
    """Writes a cell's value, and its error if it is known, in the ink that can be read upon `colour`."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": _DARK if _luminance(colour) > 0.18 else _LIGHT}
    if math.isfinite(error):
        axes.text(j + 0.5, i + 0.36, f"{value:.3f}", fontsize=12, **look)
        axes.text(j + 0.5, i + 0.72, f"±{error:.3f}", fontsize=9, **look)
    else:
        axes.text(j + 0.5, i + 0.52, f"{value:.2f}".removeprefix("0"), fontsize=10, **look)


def _label_cells(axes: Any, names: Names, shape: tuple[int, ...]) -> None:
    axes.set_xlim(0, shape[1])
    axes.set_ylim(shape[0], 0)
    axes.grid(visible=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(np.arange(shape[1]) + 0.5, [svg.label(name) for name in names.columns])
    axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=40, ha="left", rotation_mode="anchor")
    axes.set_yticks(np.arange(shape[0]) + 0.5, [svg.label(name) for name in names.rows])
    axes.tick_params(length=0, pad=5)
    axes.annotate(
        "seat 0 ↓ · seat 1 →", (0, 1), xycoords="axes fraction", xytext=(-8, 10), textcoords="offset points",
        ha="right", color=svg.MUTED, annotation_clip=False,
    )  # fmt: skip
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour_scale(figure: Any, colour_map: Any, low: float, high: float, unit: str) -> None:
    width, height = figure.get_size_inches() * svg.DPI
    length = min(220, max(width, 120))
    scale = figure.add_axes((0, -34 / height, length / width, 10 / height))
    steps = 48
    for step in range(steps):
        colour = colour_map((step + 0.5) / steps)
        scale.add_patch(matplotlib.patches.Rectangle((step, 0), 1.05, 1, facecolor=colour, linewidth=0, clip_on=False))
    scale.set_xlim(0, steps)
    scale.set_ylim(0, 1)
    scale.set_yticks([])
    scale.grid(visible=False)
    scale.set_xticks(np.linspace(0, steps, 3), [f"{value:.2f}" for value in np.linspace(low, high, 3)])
    scale.tick_params(length=3)
    for spine in scale.spines.values():
        spine.set_visible(False)
    scale.text(steps + 1.5, 0.5, unit, va="center", fontsize=11, color=svg.MUTED)


def _luminance(colour: tuple[float, ...]) -> float:
    """Returns the relative luminance of an sRGB colour, 0 to 1."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

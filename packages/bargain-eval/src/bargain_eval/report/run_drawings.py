"""The figures of stored runs: learning curves with their bands, and populations over time.

Legend: `G` points of a curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from bargain_eval.report import svg
from bargain_eval.report.curves import CURVES, LOGARITHMIC, Curve

_PANEL = 280, 185
_GAP = 100, 70
_PER_LINE = 3
_LOGARITHMIC_TICKS: dict[float, tuple[float, ...]] = {
    5: (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    100: (1, 2, 5),
    1000: (1, 3),
    math.inf: (1,),
}
"""The digits that ticks have, for the first ratio of the largest to the smallest value that is not reached."""


def learning_curves(
    name: str, alt: str, groups: Mapping[str, Mapping[str, Curve]], levels: Mapping[str, Mapping[str, float]]
) -> str:
    """Returns one plot a metric: for each group the mean over its seeds, and the band from smallest to largest.

    Args:
        name: Unique on the page.
        alt: The picture in words.
        groups: Curves by metric, by the group's label.
        levels: Benchmarks to draw as dotted lines: values by name, by metric.
    """
    metrics = [metric for metric in CURVES if any(metric in curves for curves in groups.values())]
    lines = -(-len(metrics) // _PER_LINE)
    across = min(_PER_LINE, len(metrics))
    width = across * _PANEL[0] + (across - 1) * _GAP[0]
    height = lines * _PANEL[1] + (lines - 1) * _GAP[1]
    with svg.style():
        figure = svg.canvas(width, height)
        for index, metric in enumerate(metrics):
            left = index % _PER_LINE * (_PANEL[0] + _GAP[0])
            top = index // _PER_LINE * (_PANEL[1] + _GAP[1])
            box = left / width, 1 - (top + _PANEL[1]) / height, _PANEL[0] / width, _PANEL[1] / height
            axes = figure.add_axes(box)
            axes.set_title(CURVES[metric], loc="left")
            axes.set_xlabel("environment steps")
            _curves(axes, [curves.get(metric) for curves in groups.values()])
            if metric in LOGARITHMIC:
                _logarithmic(axes)
            _levels(axes, levels.get(metric, {}))
        handles = [legend_line(index, label) for index, label in enumerate(groups)]
        corner = (0, 1 + 34 / height)
        columns = max(1, min(3, int(width // (60 + 7 * max(len(handle.get_label()) for handle in handles)))))
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=corner, ncols=columns, borderaxespad=0)
        return svg.render(figure, name, alt)


def _curves(axes: Any, curves: Sequence[Curve | None]) -> None:
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda step, _: steps_text(step)))
    for index, curve in enumerate(curves):
        if curve is None:
            continue
        colour, dashes = look_of(index)
        low, high = curve.band()
        if len(curve.seeds) > 1:
            axes.fill_between(curve.steps, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(curve.steps, curve.mean(), color=colour, linestyle=dashes)
    axes.margins(x=0.02, y=0.08)


def _logarithmic(axes: Any) -> None:
    low, high = axes.dataLim.intervaly
    margin = max(1.05, (high / low) ** 0.08)
    axes.set_ylim(low / margin, high * margin)
    axes.set_yscale("log")
    digits = next(digits for ratio, digits in _LOGARITHMIC_TICKS.items() if high < ratio * low)
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=digits))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_decimal))
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _decimal(value: float, _: object) -> str:
    return np.format_float_positional(value, precision=7, trim="-")


def _levels(axes: Any, levels: Mapping[str, float]) -> None:
    """Draws the benchmarks that lie within or near what was reached, so that they do not flatten the curves."""
    low, high = axes.get_ylim()
    reach = 0.35 * (high - low)
    for label, level in levels.items():
        if low - reach <= level <= high + reach:
            axes.axhline(level, color=svg.MUTED, linewidth=1.1, linestyle=":")
            axes.annotate(
                label, (1.01, level), xycoords=("axes fraction", "data"), ha="left", va="center", fontsize=10,
                color=svg.MUTED, annotation_clip=False,
            )  # fmt: skip


def look_of(index: int) -> tuple[str, str]:
    """Returns the colour and the dashes of the group with this place among those of its contest."""
    count = len(svg.SERIES)
    return svg.SERIES[index % count], svg.DASHES[index // count % len(svg.DASHES)]


def legend_line(index: int, label: str) -> Any:
    """Returns the line that stands for such a group in a legend, with its label."""
    colour, dashes = look_of(index)
    return matplotlib.lines.Line2D([], [], color=colour, linestyle=dashes, label=svg.label(label, 70))


def steps_text(step: float) -> str:
    """Returns a number of steps as axes write it, e.g. `1.5 M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(step) >= size:
            return f"{step / size:g} {unit}"
    return f"{step:g}"


def population(
    name: str, alt: str, timelines: Mapping[str, tuple[Sequence[int], Sequence[str], NDArray[np.float64]]]
) -> str:
    """Returns one plot a seat: the share of each member over time, the oldest member at the bottom.

    Args:
        name: Unique on the page.
        alt: The picture in words.
        timelines: By the plot's title: steps, members in order of entry, shares `[members, steps]`.
    """
    width, height = 460, 230
    total = len(timelines) * width + (len(timelines) - 1) * 70
    with svg.style():
        figure = svg.canvas(total, height)
        tips: list[str] = []
        for index, (title, (steps, members, shares)) in enumerate(timelines.items()):
            axes = figure.add_axes((index * (width + 70) / total, 0, width / total, 1))
            axes.set_title(title, loc="left")
            axes.set_xlabel("environment steps")
            axes.set_ylabel("share in the mixture" if index == 0 else "")
            axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda step, _: steps_text(step)))
            edges = [*steps, steps[-1] + max(1, (steps[-1] - steps[0]) // max(1, len(steps) - 1))]  # the last one lasts
            drawn = np.hstack([shares, shares[:, -1:]])
            top = np.cumsum(drawn, axis=0)
            colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.95, len(members)))
            for k, member in enumerate(members):
                area = axes.fill_between(
                    edges, top[k] - drawn[k], top[k], step="post", facecolor=colours[k], edgecolor=svg.PAPER,
                    linewidth=0.6,
                )  # fmt: skip
                area.set_gid(svg.tip(len(tips)))
                entered = steps[int(np.argmax(shares[k] > 0))]
                tips.append(f"{member}: entered at step {entered:,}, last share {shares[k, -1]:.4f}")
            axes.set_ylim(0, 1)
            axes.margins(x=0)
        return svg.render(figure, name, alt, tips)

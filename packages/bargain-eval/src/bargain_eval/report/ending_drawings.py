"""The figure of how games end: agreement rates, lengths by policy, and the lengths of all games.

Legend: `n` policies, `D` bins of game length: 1, 2, ... decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from bargain_eval.report import svg
from bargain_eval.report.cell_sums import MAX_BINS

_LINE, _HISTOGRAM = 26, (230, 345)
_KINDS = {"deals": svg.SERIES[2], "walks": svg.SERIES[4]}


def endings(
    name: str,
    alt: str,
    names: Sequence[str],
    agreement: NDArray[np.float64],
    lengths: NDArray[np.float64],
    histogram: NDArray[np.int64],
) -> str:
    """Returns three plots: agreement rates, game lengths by policy, and the lengths of all games.

    Args:
        name: Unique on the page.
        alt: The picture in words.
        names: The `n` policies.
        agreement: `[n, 2]` share of deals of each policy in seat 0 and in seat 1, over all partners; NaN if unknown.
        lengths: `[n, D]` share of its games (in either seat) that end after 1, 2, ... decisions.
        histogram: `[2, D]` number of all deals and walks by decisions.
    """
    height = _LINE * len(names)
    tips: list[str] = []
    with svg.style():
        figure = svg.canvas(1000, height)
        rates, parts = figure.add_axes((0, 0, 0.24, 1)), figure.add_axes((0.29, 0, 0.36, 1))
        tall = min(max(height, _HISTOGRAM[0]), _HISTOGRAM[1])
        everything = figure.add_axes((0.73, 1 - tall / height, 0.27, tall / height))
        for axes in (rates, parts):
            axes.set_xlim(0, 1)
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        _rates(rates, names, agreement, tips)
        _lengths(parts, names, lengths, tips)
        _histogram(everything, histogram, tips)
        return svg.render(figure, name, alt, tips)


def _rates(axes: Any, names: Sequence[str], agreement: NDArray[np.float64], tips: list[str]) -> None:
    axes.set_title("agreement rate", loc="left")
    axes.set_yticks(range(len(names)), [svg.label(policy) for policy in names])
    for policy, seat in np.argwhere(np.isfinite(agreement)).tolist():
        rate = agreement[policy, seat]
        bar = axes.barh(policy + (seat - 0.5) * 0.36, rate, 0.34, color=svg.SERIES[seat])
        _add_tip(bar, tips, f"{names[policy]} in seat {seat}: {rate:.4f} of the games are deals")
    _legend(axes, {f"in seat {seat}": svg.SERIES[seat] for seat in range(2)})


def _lengths(axes: Any, names: Sequence[str], lengths: NDArray[np.float64], tips: list[str]) -> None:
    bins = lengths.shape[1]
    axes.set_title("decisions in a game", loc="left")
    axes.set_yticks(range(len(names)), [""] * len(names))
    colours = matplotlib.colormaps["cividis"](np.linspace(0.05, 0.98, bins))
    left = np.cumsum(lengths, axis=1) - lengths
    for policy, k in np.argwhere(lengths > 0).tolist():
        bar = axes.barh(policy, lengths[policy, k], 0.7, left=left[policy, k], color=colours[k])
        _add_tip(bar, tips, f"{names[policy]}: {lengths[policy, k]:.4f} of the games end after {_decisions(k, bins)}")
    _legend(axes, {_bin(k, bins): colours[k] for k in _shown(bins)})


def _histogram(axes: Any, histogram: NDArray[np.int64], tips: list[str]) -> None:
    bins = histogram.shape[1]
    axes.set_title("all games", loc="left")
    share = histogram / max(1, histogram.sum())
    base = np.zeros(bins)
    for kind, (word, colour) in enumerate(_KINDS.items()):
        for k in np.flatnonzero(histogram[kind]).tolist():
            bar = axes.bar(k, share[kind, k], 0.8, bottom=base[k], color=colour)
            _add_tip(bar, tips, f"{histogram[kind, k]:,} {word} after {_decisions(k, bins)}")
        base += share[kind]
    axes.set_xticks(_shown(bins), [_bin(k, bins) for k in _shown(bins)])
    axes.set_xlim(-0.6, bins - 0.4)
    axes.set_ylim(0, 1.22 * base.max())  # room for the legend
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("decisions")
    axes.set_ylabel("share of all games")
    axes.legend(handles=_patches(_KINDS), loc="upper left", ncols=2, fontsize=11, handlelength=1.2, borderaxespad=0.2)


def _legend(axes: Any, colours: Mapping[str, Any]) -> None:
    """Places the legend of a plot below its axis."""
    axes.legend(
        handles=_patches(colours), loc="upper left", bbox_to_anchor=(0, 0), ncols=len(colours), borderaxespad=2.6,
        fontsize=11, handlelength=1.2, columnspacing=1.2, borderpad=0,
    )  # fmt: skip


def _patches(colours: Mapping[str, Any]) -> list[Any]:
    return [matplotlib.patches.Patch(color=colour, label=label) for label, colour in colours.items()]


def _add_tip(bars: Any, tips: list[str], words: str) -> None:
    bars[0].set_gid(svg.tip(len(tips)))
    tips.append(words)


def _shown(bins: int) -> list[int]:
    """Returns the bins that are named: all, or about every sixth part and the last."""
    step = max(1, -(-bins // 6))
    return [*range(0, bins - step, step), bins - 1]


def _bin(index: int, bins: int) -> str:
    return f"{index + 1}+" if bins == MAX_BINS and index == bins - 1 else str(index + 1)


def _decisions(index: int, bins: int) -> str:
    return "1 decision" if index == 0 else f"{_bin(index, bins)} decisions"

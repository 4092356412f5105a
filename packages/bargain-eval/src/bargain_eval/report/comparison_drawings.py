"""The figures of a comparison: final values with intervals, and learning curves with bands.

Legend: `S` seeds of one group.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib

from bargain_eval.comparison.stored import Contender
from bargain_eval.report import svg
from bargain_eval.report.comparison_tables import interval_text
from bargain_eval.report.run_drawings import legend_line, look_of, steps_text

_ROW = 34
_CURVES = 560, 280


def final_values(name: str, alt: str, contenders: Sequence[Contender], unit: str) -> str:
    """Returns a line for each group: a dot for each of its seeds, a diamond at the IQM, a bar over its interval.

    Args:
        name: Unique on the page.
        alt: The picture in words.
        contenders: The groups from the top down, each with a score.
        unit: What the values are.
    """
    with svg.style():
        figure = svg.canvas(420, _ROW * len(contenders))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_ylim(len(contenders) - 0.5, -0.5)
        axes.set_yticks(range(len(contenders)), [svg.label(contender.label, 46) for contender in contenders])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        tips: list[str] = []
        for row, contender in enumerate(contenders):
            if contender.score is None:
                continue
            colour, _ = look_of(contender.place)
            for run, value in zip(contender.runs, contender.final.tolist(), strict=True):
                axes.plot(value, row + 0.24, "o", color=colour, markersize=4, alpha=0.55, gid=svg.tip(len(tips)))
                tips.append(f"{contender.label}, seed {run['seed']}: {value:.4f}")
            if contender.score.interval is not None:
                axes.plot(contender.score.interval, (row, row), color=colour, linewidth=5, alpha=0.4)
            axes.plot(
                contender.score.value, row, "D", color=colour, markersize=8, markeredgecolor=svg.PAPER,
                markeredgewidth=0.8, gid=svg.tip(len(tips)), zorder=4,
            )  # fmt: skip
            tips.append(f"{contender.label}: IQM {interval_text(contender.score)}")
        axes.margins(x=0.05)
        return svg.render(figure, name, alt, tips)


def compared_curves(name: str, alt: str, contenders: Sequence[Contender], unit: str, threshold: float | None) -> str:
    """Returns the curves of the groups that have one: the IQM over the seeds, and the band of its interval.

    Args:
        name: Unique on the page.
        alt: The picture in words.
        contenders: The groups; those without a curve of two points or more are left out.
        unit: What the values are.
        threshold: A level to draw as a dotted line, if it is known.
    """
    with svg.style():
        figure = svg.canvas(*_CURVES)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlabel("environment steps")
        axes.set_ylabel(unit)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda step, _: steps_text(step)))
        handles = []
        for contender in sorted(contenders, key=lambda contender: contender.place):
            curve = contender.curve
            if curve is None or len(curve.steps) < 2:
                continue
            colour, dashes = look_of(contender.place)
            if curve.low is not None and curve.high is not None:
                axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(curve.steps, curve.iqm, color=colour, linestyle=dashes)
            seeds = sum(bool(log.values.size) for log in contender.logs)
            handles.append(
                legend_line(contender.place, f"{contender.label} ({seeds} {'seed' if seeds == 1 else 'seeds'})")
            )
        axes.margins(x=0.02, y=0.08)
        if threshold is not None:
            axes.axhline(threshold, color=svg.MUTED, linewidth=1.1, linestyle=":")
            axes.annotate(
                f"threshold {threshold:.4f}", (1.01, threshold), xycoords=("axes fraction", "data"), ha="left",
                va="center", fontsize=10, color=svg.MUTED, annotation_clip=False,
            )  # fmt: skip
        figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1 + 10 / _CURVES[1]), borderaxespad=0)
        return svg.render(figure, name, alt)

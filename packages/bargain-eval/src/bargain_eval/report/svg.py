"""Figures as inline SVG: the same bytes every time, text as text, and colours that follow the page's theme.

matplotlib draws with stand-in colours; `render` replaces them by CSS variables that the style sheet sets for light and
dark. Sizes are in CSS pixels: at 72 dots per inch a point is one pixel.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas

from bargain_eval.report.content import short

INK, MUTED, GRID, PAPER = "#010203", "#040506", "#070809", "#0a0b0c"
SERIES = tuple(f"#0{digit}0{digit}f{digit}" for digit in range(7))
"""Seven colours that readers with any colour vision can tell apart, with `MARKERS` and `DASHES` to help them."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES = ("-", "--", "-.", ":")
DPI = 72

_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{index}" for index, colour in enumerate(SERIES)
}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # wider than what browsers use, so that nothing overlaps there
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.labelsize": 12,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "lines.linewidth": 1.8,
}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_FONT_FAMILY = re.compile(r" ?font-family: [^;]*;?")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def canvas(width: float, height: float) -> Canvas:
    """Returns an empty matplotlib figure of `width` by `height` pixels; what is drawn outside is kept by `render`."""
    return Canvas(figsize=(width / DPI, height / DPI), dpi=DPI)


def style() -> Any:
    """Returns the context in which all figures are drawn and rendered."""
    return matplotlib.rc_context(_STYLE)


def plain_text(name: str) -> str:
    """Returns `name` with the characters that no SVG can hold, such as NUL, replaced by U+FFFD."""
    return _NOT_XML.sub("\ufffd", name)


def label(name: str, length: int = 30) -> str:
    """Returns `name` as figures write it: short, and without what no SVG can hold."""
    return short(plain_text(name), length)


def with_error(value: float, error: float) -> str:
    """Returns `value ± error`, without the error if it is not known."""
    return f"{value:.4f} ± {error:.4f}" if math.isfinite(error) else f"{value:.4f}"


def tip(index: int) -> str:
    """Returns the matplotlib `gid` of the artist that shows `tips[index]` under the pointer."""
    return f"tip-{index}"


def render(
    figure: Canvas, name: str, alt: str, tips: Sequence[str] = (), cells: Mapping[int, tuple[int, int]] | None = None
) -> str:
    """Returns `figure` as SVG markup to stand in an HTML page, cut to what is drawn.

    Args:
        figure: Drawn with the colours of this module, within `style()`.
        name: Unique on the page; it makes the ids within the picture unique.
        alt: The picture in words.
        tips: Texts under the pointer; the artist with the gid `tip(k)` shows the k-th.
        cells: For some of the tips, the pair of policies (row, column) whose games a click shows.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")  # the reader's browser has other fonts
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=4 / DPI, metadata=_METADATA)
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        _drop_styles(parent)
    for element in list(root.iter()):
        _clean(element)
        _add_tip(element, tips, cells or {})
    for side in ("width", "height"):
        root.set(side, str(round(float(root.get(side, "0").removesuffix("pt")))))
    root.set("role", "img")
    root.set("aria-label", plain_text(alt))
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _drop_styles(parent: ElementTree.Element) -> None:
    """Removes style sheets, which would hold for the whole page; the page's own has their one rule."""
    for child in list(parent):
        if child.tag == f"{{{_SVG}}}style":
            parent.remove(child)


def _clean(element: ElementTree.Element) -> None:
    element.tail = None
    if element.tag != f"{{{_SVG}}}text":
        element.text = None
    for name, value in list(element.attrib.items()):
        if name == "style":
            value = _COLOUR.sub(_themed, _FONT_FAMILY.sub("", value))
        if name in ("d", "transform", "x", "y", "points"):
            value = " ".join(_LONG_NUMBER.sub(lambda match: f"{float(match[0]):.2f}", value).split())
        element.set(name, value)
    if (element.get("transform") or "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.tag == f"{{{_SVG}}}g" and not (element.get("id") or "").startswith("tip-"):
        element.attrib.pop("id", None)


def _themed(match: re.Match[str]) -> str:
    return f"var({_VARIABLES[match[0]]})" if match[0] in _VARIABLES else match[0]


def _add_tip(element: ElementTree.Element, tips: Sequence[str], cells: Mapping[int, tuple[int, int]]) -> None:
    identifier = element.attrib.get("id", "")
    if element.tag != f"{{{_SVG}}}g" or not identifier.startswith("tip-"):
        return
    del element.attrib["id"]
    index = int(identifier.removeprefix("tip-"))
    title = ElementTree.Element(f"{{{_SVG}}}title")
    title.text = plain_text(tips[index])
    element.insert(0, title)
    element.set("class", "tip")
    if index in cells:
        element.set("data-cell", ",".join(map(str, cells[index])))

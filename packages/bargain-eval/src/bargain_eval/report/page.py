"""The page: every section of a report put into one HTML file without any reference to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2
import matplotlib

from bargain_eval.report.comparison_section import comparison_sections
from bargain_eval.report.content import Section
from bargain_eval.report.crossplay_sections import Choices, crossplay_sections
from bargain_eval.report.data import Source
from bargain_eval.report.run_sections import run_sections
from bargain_eval.versions import software_versions

_TEMPLATES = Path(__file__).parent / "templates"


def report_page(source: Source, *, title: str, command: str, choices: Choices, threshold: float | None = None) -> str:
    """Returns the HTML page about `source`; the same source gives the same text.

    Args:
        source: The runs and matrices.
        title: The heading of the page.
        command: The command line that makes it, for the footer.
        choices: What is shown of the matrices.
        threshold: The payoff whose cost is compared; None is where the middle group of runs ends.

    Raises:
        ValueError: If a solver is unknown, or the games of a matrix are missing or damaged.
    """
    sections = [*run_sections(source.runs), *comparison_sections(source.runs, threshold)]
    for index, (file, matrix) in enumerate(source.crossplays, 1):
        suffix = f": {file}" if len(source.crossplays) > 1 else ""
        sections += crossplay_sections(f"crossplay-{index}", file, suffix, matrix, choices)
    return render_page(sections, title=title, command=command, config_hash=source.config_hash)


def render_page(sections: list[Section], *, title: str, command: str, config_hash: str) -> str:
    """Returns the sections as an HTML page; every text is escaped, only the pictures are markup."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = _embedded
    versions = software_versions() | {"matplotlib": matplotlib.__version__, "jinja2": jinja2.__version__}
    return environment.get_template("report.html.j2").render(
        title=title,
        sections=sections,
        footer={
            "command": command,
            "config hash": config_hash,
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        },
        style=_part("style.css"),
        script=_part("report.js"),
    )


def _part(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    """Returns `value` as JSON that may stand in a script element: nothing in it can end the element."""
    dumped = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

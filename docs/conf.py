"""Sphinx settings: `nox -s docs` builds the pages."""

project = "Bargain"
author = "The Bargain developers"
extensions = ["myst_parser"]
html_theme = "furo"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

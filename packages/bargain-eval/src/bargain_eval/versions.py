"""The versions of the software at work, for records and checkpoints."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_DISTRIBUTIONS = {"bargain": "bargain-eval", "numpy": "numpy", "torch": "torch"}


def software_versions() -> dict[str, str]:
    """Versions of python, bargain, numpy and torch, each if installed; nothing is imported."""
    return {"python": platform.python_version(), **_installed_versions()}


@cache
def _installed_versions() -> dict[str, str]:
    found = {}
    for name, distribution in _DISTRIBUTIONS.items():
        try:
            found[name] = version(distribution)
        except PackageNotFoundError:
            continue
    return found

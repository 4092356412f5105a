"""Policy strings: `NAME[:ARGUMENT][?key=value&flag]` names any policy, over the entry points of `bargain.policies`.

An entry point's value is a callable that takes one `PolicyRequest` and returns a `Policy`.
"""

from __future__ import annotations

import difflib
import re
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast
from urllib.parse import parse_qsl

from bargain_env.spec import GameSpec

from bargain_eval.policy import Policy, PolicyRequest

GROUP = "bargain.policies"

_OPENAI_MODEL = re.compile(r"(?:gpt-|chatgpt-|o[1-9](?:-|$)).*")
_BROUGHT_BY = {"checkpoint": "bargain-train", "run": "bargain-train", "search": "bargain-train"}


def load_policy(
    policy: str,
    spec: GameSpec | None = None,
    seed: int = 0,
    device: str = "cpu",
    results_dir: str | Path = "results",
) -> Policy:
    """Builds the policy that a policy string names.

    Args:
        policy: `NAME[:ARGUMENT][?key=value&flag]`, e.g. "random", "fair_split?accept_threshold=.3", "run:RUN_ID". The
            last "?" starts the options. A bare path (an existing file, or a name in .pt or .pth) means
            `checkpoint:PATH`, and the bare name of a model of OpenAI, such as gpt-4o or o3, means `openai:NAME`.
        spec: The game to play; None = the policy's own, which is the standard game unless it was made for another.
        seed: Seed of the policy's own generator.
        device: Where the policy computes; see `resolve_device`.
        results_dir: The folder of stored runs.

    Raises:
        ValueError: If the name is unknown, an option or the argument does not fit, the policy is of another game, or
            the device cannot be used.
        UnsupportedGame: (a ValueError) if the policy does not exist on this game.
    """
    name, argument, options = parse_policy_string(policy)
    request = PolicyRequest(name, argument, options, spec, seed, resolve_device(device), Path(results_dir))
    loaded = cast("Policy", _find(name).load()(request))
    own = getattr(loaded, "spec", None)
    if spec is not None and isinstance(own, GameSpec) and not own.same_game(spec):
        raise ValueError(f"policy {policy!r} was made for another game: {own}, not {spec}.")
    return loaded


def resolve_device(device: str) -> str:
    """Returns "cpu" or "cuda:k"; "auto" is "cuda:0" where the engine can play on a GPU, else "cpu".

    Anything but "cpu" loads torch, where it is installed.

    Raises:
        ValueError: If `device` is none of "auto", "cpu", "cuda" and "cuda:k", or cannot be used; says what is missing.
    """
    if device == "cpu":
        return device
    from bargain_env.cuda_device import find_cuda_device, has_cuda_device

    if device == "auto":
        return "cuda:0" if has_cuda_device() else "cpu"
    try:
        return f"cuda:{find_cuda_device(device)}"
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def policy_names() -> list[str]:
    """Returns the names that installed distributions register, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def parse_policy_string(policy: str) -> tuple[str, str, dict[str, str]]:
    """Returns (name, argument, options) of a policy string; a flag without a value reads "true".

    Raises:
        ValueError: If an option is given twice, or the string is empty.
    """
    head, _, tail = policy.rpartition("?") if "?" in policy else (policy, "", "")
    pairs = parse_qsl(tail, keep_blank_values=True)
    options = {key: value or "true" for key, value in pairs}
    if len(options) < len(pairs):
        raise ValueError(f"policy string {policy!r} gives an option twice.")
    name, _, argument = head.partition(":")
    if not name:
        raise ValueError("a policy string starts with a name, e.g. random or checkpoint:policy.pt.")
    bare = "checkpoint" if _is_path(head) else "openai" if _OPENAI_MODEL.fullmatch(head) else None
    if bare is not None and name not in policy_names() and name not in _BROUGHT_BY:
        return bare, head, options
    return name, argument, options


def _is_path(text: str) -> bool:
    return text.endswith((".pt", ".pth")) or Path(text).is_file()


def _find(name: str) -> EntryPoint:
    points = entry_points(group=GROUP, name=name)
    if points:
        return next(iter(points))
    if name in _BROUGHT_BY:
        raise ValueError(f"policy {name!r} comes with another distribution; pip install {_BROUGHT_BY[name]}.")
    names = policy_names()
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise ValueError(f"unknown policy {name!r}{hint} Known names: {', '.join(names)}.")

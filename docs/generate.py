"""Writes the generated tables of the documentation: `python docs/generate.py [--check]`.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`. With --check nothing is written, and the exit code
is 1 if a page is out of date.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from bargain_env import GAMES, GameSpec
from bargain_eval.cli_tools import range_text
from bargain_train.algorithms import ALGORITHMS
from bargain_train.algorithms.ex2psro import Ex2PSROConfig
from bargain_train.algorithms.fcp import FCPConfig
from bargain_train.algorithms.mappo import MAPPOConfig
from bargain_train.algorithms.nfsp import NFSPConfig
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.algorithms.psro import PSROConfig
from bargain_train.algorithms.sampled_cfr import SampledCFRConfig
from bargain_train.config import RunConfig

DOCS = Path(__file__).parent


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def sizes() -> str:
    names = ("item_quantities", "max_value", "max_rounds", "num_offers", "num_actions", "max_turns", "observation_dim")
    rows: list[list[object]] = [[name, *(getattr(spec, name) for spec in GAMES.values())] for name in names]
    histories = [spec.with_observation("history").observation_dim for spec in GAMES.values()]
    rows.append(['observation_dim with "history"', *histories])
    return table(["", *GAMES], rows)


def parameters() -> str:
    text = inspect.getdoc(GameSpec) or ""
    described = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text.partition("Attributes:")[2], re.M)
    words = {name: " ".join(description.split()) for name, description in described}
    rows = [[f"`{field.name}`", f"`{field.default!r}`", words[field.name]] for field in dataclasses.fields(GameSpec)]
    return table(["parameter", "default", "meaning"], rows)


def actions() -> str:
    spec = GameSpec()
    both = 'the PettingZoo parallel view, `BargainEnv(view="agents")` and `Engine.seat_views`'
    rows = [
        [f"0 .. {spec.num_offers - 1}", "offer: the bundle that seat 1 receives"],
        [spec.accept_action, "accept the standing offer"],
        [spec.walk_action, "walk away"],
        [spec.noop_action, f"noop: the waiting seat's only legal action, where both seats act at once ({both})"],
    ]
    return table(["action", "meaning"], rows)


def observation() -> str:
    spec = GameSpec(observation="history")
    contents = {
        "values": "own values / the largest value of the spec",
        "outside": "own outside offer / own total",
        "offer": "the standing offer: the fraction of each type the observer would receive; -1 each if there is none",
        "state": "1 if an offer stands; round / (rounds - 1), 0 for a one-round game; the observer's seat",
        "mask": "the legality of each action, 1 = legal",
        "history": "only with history: for each earlier decision its offer, as `offer` shows it, else -1",
    }
    rows = [[f"{part.start}:{part.stop}", name, contents[name]] for name, part in spec.slices.items()]
    return table(["slice", "name", "content"], rows)


def settings(config: type[RunConfig]) -> str:
    rows: dict[str, list[str]] = {}
    hints = get_type_hints(config, include_extras=True)
    for cls in reversed(config.__mro__[:-1]):
        if not dataclasses.is_dataclass(cls):
            continue
        (body,) = ast.parse(inspect.cleandoc(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                name = ast.unparse(field.target)
                default = getattr(config(), name, "")
                shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
                limits = range_text(hints[name])
                meaning = " ".join(str(text.value.value).split())
                rows[name] = [f"`--{name.replace('_', '-')}`", f"{shown}", limits, meaning]
    known = {field.name for field in dataclasses.fields(config)}
    return table(["flag", "default", "range", "meaning"], [row for name, row in rows.items() if name in known])


def spaces() -> str:
    rows = []
    for name, algorithm in ALGORITHMS.items():
        parts = [f"`{key}` {_searched(part)}" for key, part in algorithm.space.items()]
        rows.append([f"`{name}`", "; ".join(parts)])
    return table(["algorithm", "settings"], rows)


def _searched(part: Mapping[str, Any]) -> str:
    if "values" in part:
        return ", ".join(str(value).strip("[]").replace(",", "") for value in part["values"])
    return f"{part['min']} to {part['max']}" + (" (by factors)" if part["distribution"].startswith("log") else "")


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "game.md": {"sizes": sizes, "parameters": parameters, "actions": actions, "observation": observation},
    "ppo.md": {"ppo settings": partial(settings, PPOConfig)},
    "mappo.md": {"mappo settings": partial(settings, MAPPOConfig)},
    "nfsp.md": {"nfsp settings": partial(settings, NFSPConfig)},
    "psro.md": {"psro settings": partial(settings, PSROConfig)},
    "ex2psro.md": {"ex2psro settings": partial(settings, Ex2PSROConfig)},
    "fcp.md": {"fcp settings": partial(settings, FCPConfig)},
    "sweeps.md": {"search spaces": spaces},
    "sampled_cfr.md": {"sampled-cfr settings": partial(settings, SampledCFRConfig)},
}


def generate(page: str) -> str:
    """Returns the text of `page` with its tables written anew."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for name, make in PAGES[page].items():
        pattern = rf"(<!-- generated: {name} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda match, make=make: f"{match[1]}{make()}\n{match[2]}", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"{page} needs exactly one place for the table {name!r}, found {count}.")
    return text


def main() -> int:
    outdated = [page for page in PAGES if generate(page) != (DOCS / page).read_text(encoding="utf-8")]
    if "--check" not in sys.argv:
        for page in outdated:
            (DOCS / page).write_text(generate(page), encoding="utf-8")
    print(f"{len(outdated)} of {len(PAGES)} pages out of date: {', '.join(outdated) or 'none'}")
    return int("--check" in sys.argv and bool(outdated))


if __name__ == "__main__":
    sys.exit(main())

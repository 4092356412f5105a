"""What a language model is told: the rules and the reply format, the state before a move, and why a reply was no move.

The words stand in template files (jinja2), one per variant, with four blocks: `rules`, `reply`, `state` and `retry`.
A template is told the game and the player's view and nothing else, so no prompt can hold what the player does not know,
and the same position has the same text. Templates run in jinja2's sandbox.

Legend: `I` item types.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bargain_env.spec import OUTSIDE_UNITS, GameSpec

from bargain_eval.llm.view import PlayerView, bundle_text, item_names

if TYPE_CHECKING:
    import jinja2
    from jinja2 import nodes

PROMPTS = ("baseline", "compact", "minimal")
"""The variants that come with the package."""

_FOLDER = Path(__file__).parent / "prompts"


class _Item(NamedTuple):
    """An item type in a template; the value is the player's, None before its hand is known."""

    name: str
    quantity: int
    value: int | None


class _Offer(NamedTuple):
    """An offer in a template: its move from 1, who made it, and the units `[I]` for the player and the other one."""

    number: int
    mine: bool
    kept: tuple[int, ...]
    rest: tuple[int, ...]
    worth: int


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The words of one variant; `load_prompt` reads it from a file.

    Attributes:
        name: Name of the variant: that of the file without its ending.
        sha256: Hash of the file's bytes, in hexadecimal, which says which words were used.
        text: The template.
    """

    name: str
    sha256: str
    text: str = dataclasses.field(repr=False)

    def rules(self, spec: GameSpec, seat: int) -> str:
        """Returns the rules of the game for the player in `seat`."""
        return self._render("rules", _game_facts(spec, seat))

    def system(self, spec: GameSpec, seat: int) -> str:
        """Returns what the player in `seat` is told once: the rules, and the form of its replies."""
        return f"{self.rules(spec, seat)}\n\n{self._render('reply', _game_facts(spec, seat))}"

    def state(self, view: PlayerView) -> str:
        """Returns what the player is told before each of its moves: its hand, all offers so far, and the moves left.

        Raises:
            ValueError: If the player is not to move.
        """
        if not view.my_turn:
            raise ValueError(f"the state is told to the player to move, which seat {view.seat} is not.")
        return _state_text(self, view)

    def retry(self, problem: str) -> str:
        """Returns what the player is told after a reply that is no move, with the reason, which is a sentence."""
        return self._render("retry", {"problem": problem})

    def _render(self, block: str, facts: dict[str, Any]) -> str:
        template = _compiled(self.text)
        try:
            return "".join(template.blocks[block](template.new_context(facts))).strip()
        except Exception as error:  # a template can raise anything
            raise ValueError(f"Prompt {self.name!r} fails in its block {block!r}: {_reason(error)}.") from error


@functools.lru_cache(maxsize=2**14)  # models in a cross-play meet many positions in common
def _state_text(prompt: Prompt, view: PlayerView) -> str:
    return prompt._render("state", _state_facts(view))


def prompt_file(name_or_path: str) -> Path:
    """Returns the template file of a variant that comes with the package, or of a path.

    Raises:
        ValueError: If there is no such file.
    """
    path = _FOLDER / f"{name_or_path}.txt" if name_or_path in PROMPTS else Path(name_or_path)
    if not path.is_file():
        known = f"{', '.join(PROMPTS[:-1])} or {PROMPTS[-1]}"
        raise ValueError(f"There is no prompt {name_or_path!r}: say {known}, or the path of a template file.")
    return path


def load_prompt(name_or_path: str = "baseline") -> Prompt:
    """Returns the prompt of that name, or of the template file at that path, tried on a game of each kind.

    Raises:
        ValueError: If there is no such file, or it is no template of the four blocks.
    """
    path = prompt_file(name_or_path)
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"Prompt {name_or_path!r} is no text in UTF-8: {error.reason}.") from error
    _check_blocks(name_or_path, text)
    prompt = Prompt(path.stem, hashlib.sha256(data).hexdigest(), text)
    _try_out(prompt)
    return prompt


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    environment.globals.update(count=_count, joint=_joint)
    return environment


@functools.lru_cache(maxsize=32)
def _compiled(text: str) -> jinja2.Template:
    return _environment().from_string(text)


def _game_facts(spec: GameSpec, seat: int, values: Sequence[int] | None = None) -> dict[str, Any]:
    """Returns what the blocks `rules` and `reply` are told; `state` is told more."""
    names = item_names(spec)
    known: Sequence[int | None] = values or (None,) * len(names)
    low, high = (100 * units / OUTSIDE_UNITS for units in spec.outside_units)
    return {
        "spec": spec,
        "seat": seat,
        "items": [_Item(*row) for row in zip(names, spec.item_quantities, known, strict=True)],
        "quantities": spec.item_quantities,
        "outside_low": low,
        "outside_high": high,
        "bundle": functools.partial(bundle_text, spec),
        "counts": functools.partial(_counts, names),
    }


def _state_facts(view: PlayerView) -> dict[str, Any]:
    spec, moves = view.spec, len(view.offers)
    bundles = [view.bundle(offer) for offer in view.offers]
    offers = [
        _Offer(number, (number - 1) % 2 == view.seat, bundle, view.rest(bundle), view.worth(bundle))
        for number, bundle in enumerate(bundles, 1)
    ]
    return _game_facts(spec, view.seat, view.values) | {
        "view": view,
        "move": moves + 1,
        "round": moves // 2 + 1,
        "offers": offers,
        "moves_left": len(range(moves, spec.max_turns, 2)),
        "other_moves_left": len(range(moves + 1, spec.max_turns, 2)),
        "factor": spec.discount ** (moves // 2),
        "share": lambda points: f"{points / view.total:.0%}",
    }


def _examples() -> list[PlayerView]:
    """Returns the views that a template is tried on: first, middle and last moves, with and without a discount."""
    delayed = GameSpec(item_quantities=(2,), max_rounds=2, discount=0.9, outside_range=(0.2, 0.5))
    return [
        PlayerView(spec, moves % 2, (2,) * spec.num_items, 1, (0,) * moves)
        for spec in (GameSpec(), delayed)
        for moves in range(spec.max_turns)
    ]


def _known_names() -> dict[str, set[str]]:
    """Returns the variables that each block is told."""
    view = _examples()[0]
    game = {*_game_facts(view.spec, view.seat), *_environment().globals}
    state = {*_state_facts(view), *_environment().globals}
    return {"rules": game, "reply": game, "state": state, "retry": {"problem", *_environment().globals}}


def _check_blocks(name: str, text: str) -> None:
    """Raises ValueError unless the template has the four blocks, nothing beside them, and no unknown variable."""
    import jinja2
    from jinja2 import meta, nodes

    try:
        parts = _environment().parse(text).body
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"Prompt {name!r} is no template: line {error.lineno}: {_reason(error)}.") from error
    known = _known_names()
    blocks = {part.name: part for part in parts if isinstance(part, nodes.Block)}
    for missing in (block for block in known if block not in blocks):
        raise ValueError(f"Prompt {name!r} has no block {missing!r}: it needs the blocks {', '.join(known)}.")
    for part in parts:
        if (part.name not in known) if isinstance(part, nodes.Block) else not _is_blank(part):
            raise ValueError(f"Prompt {name!r}, line {part.lineno}: all text must be in the blocks {', '.join(known)}.")
    for block, names in known.items():
        template = nodes.Template(blocks[block].body, lineno=1)
        template.set_environment(_environment())
        for unknown in sorted(meta.find_undeclared_variables(template) - names):
            told = ", ".join(sorted(names))
            raise ValueError(f"Prompt {name!r}, block {block!r}: {unknown!r} is unknown there; it knows {told}.")


def _is_blank(part: nodes.Node) -> bool:
    from jinja2 import nodes

    return isinstance(part, nodes.Output) and all(
        isinstance(node, nodes.TemplateData) and not node.data.strip() for node in part.nodes
    )


def _try_out(prompt: Prompt) -> None:
    prompt.retry("It is a question.")
    for view in _examples():
        prompt.system(view.spec, view.seat)
        prompt.state(view)


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _counts(names: Sequence[str], bundle: Sequence[int]) -> str:
    return ", ".join(f"{count} {name}" for count, name in zip(bundle, names, strict=True))


def _joint(loop: Any) -> str:
    """Returns what follows the present part of a list in words: a comma, "and", or nothing at its end."""
    return "" if loop.last else " and " if loop.revindex == 2 else ", "

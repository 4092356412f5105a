"""One negotiation as text or as a picture, seen with full information: both seats' values and outside offers.

The adapters call `check_render_mode(render_mode)` when they are built and `render_row(engine, render_mode)` when they
are asked to render; `render` takes the game itself. A spec alone decides the size of the picture, so frames of one game
make a video.

Legend: `I` item types, `D` decisions, `H`, `W` the picture's height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bargain_env.checks import check_integer
from bargain_env.engine import Engine
from bargain_env.reference import DEAL, ReferenceGame
from bargain_env.spec import GameSpec

RENDER_MODES = ("human", "ansi", "rgb_array")
"""What `render_mode` may be besides None: text that is printed, text that is returned, and a picture."""

Rendering = str | NDArray[np.uint8] | None


def check_render_mode(render_mode: str | None) -> None:
    """Checks a `render_mode` argument, and that Pillow is there if it asks for pictures.

    Raises:
        ValueError: If it is neither None nor one of `RENDER_MODES`.
        ModuleNotFoundError: If it is "rgb_array" and Pillow is not installed.
    """
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode must be one of {', '.join(RENDER_MODES)} or None, got {render_mode!r}.")
    if render_mode == "rgb_array":
        _drawing()


def render_row(engine: Engine, render_mode: str | None, row: int = 0) -> Rendering:
    """Renders the game that stands in `row` of `engine`; copies the engine's state, so it is not for large batches.

    With automatic resets a game that has just ended is no longer there, and its successor is shown.

    Returns:
        What `render` returns.

    Raises:
        RuntimeError: If the mode is None, that of an environment built without one.
        ValueError: If the mode is unknown, or there is no such row.
    """
    if render_mode is None:
        raise RuntimeError("render needs an environment that was built with a render_mode.")
    row = check_integer("row", row, 0, engine.num_envs - 1)
    state = engine.get_state()
    values, outside, moves = (np.asarray(_host(state[name][row])) for name in ("values", "outside", "actions"))
    return render(engine.spec, values, outside, moves, render_mode)


def render(spec: GameSpec, values: ArrayLike, outside: ArrayLike, moves: ArrayLike, render_mode: str) -> Rendering:
    """Renders a game after `moves`.

    Args:
        spec: The game.
        values: `[2, I]` integers, both seats' values in points.
        outside: `[2]` integers, both seats' outside offers in points.
        moves: `[D]` integers, the actions as executed; -1 (the engine's padding) is left out.
        render_mode: "ansi" returns the text, "human" prints it and returns None, and "rgb_array" returns the picture,
            uint8 `[H, W, 3]`, which takes about 10 ms.

    Raises:
        ValueError: If the mode is unknown, or the deal has the wrong shape.
        ModuleNotFoundError: If it is "rgb_array" and Pillow is not installed.
    """
    check_render_mode(render_mode)
    for name, part, shape in (("values", values, (2, spec.num_items)), ("outside", outside, (2,))):
        if np.shape(part) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {np.shape(part)}.")
    played = [int(action) for action in np.asarray(moves).ravel() if action >= 0]
    game = ReferenceGame(spec, values=np.asarray(values).tolist(), outside=np.asarray(outside).tolist())
    for action in played:
        game.play(action)
    if render_mode == "rgb_array":
        picture: NDArray[np.uint8] = _drawing().draw(game, status(game))
        return picture
    text = game_text(game)
    if render_mode == "ansi":
        return text
    print(text)
    return None


def game_text(game: ReferenceGame) -> str:
    """Returns the game as text: the deal, every decision in words, and whose move it is or how it ended."""
    lines = [*_table(_deal(game), "<>"), ""]
    if game.moves:
        lines += [*_table([("#", "round", "seat", "action", "what"), *_decisions(game)], ">>>><"), ""]
    return "\n".join(line.rstrip() for line in [*lines, status(game)])


def status(game: ReferenceGame) -> str:
    """Returns whose move it is, or how the game ended and what both seats earn, as one sentence."""
    if not game.finished:
        chances = f"round {game.round + 1} of {game.spec.max_rounds}"
        return f"Seat {game.mover} is to move in {chances}; {_on_the_table(game)}."
    how = f"Deal: seat {game.mover} accepts" if game.outcome == DEAL else f"No deal: seat {game.mover} walks away"
    first, second = game.rewards
    factor = game.spec.discount**game.round
    discounted = f", discounted by {factor:.4f}" if factor < 1 else ""
    return f"{how}; seat 0 earns {first:.2f} and seat 1 earns {second:.2f} of its own total{discounted}."


def shares(game: ReferenceGame, offer: int) -> tuple[float, float]:
    """Returns what `offer` is worth to each seat as a fraction of its own total, before any discount."""
    first, second = (game.bundle_value(seat, offer) / game.totals[seat] for seat in (0, 1))
    return first, second


def _on_the_table(game: ReferenceGame) -> str:
    if game.offer < 0:
        return "no offer is on the table"
    first, second = shares(game, game.offer)
    return f"the offer on the table is worth {first:.2f} to seat 0 and {second:.2f} to seat 1"


def _deal(game: ReferenceGame) -> list[list[str]]:
    items = [f"item {item + 1}" for item in range(game.spec.num_items)]
    rows = [["", *items, "own total", "outside offer", ""]]
    rows.append(["units", *map(str, game.spec.item_quantities), "", "", ""])
    for seat in (0, 1):
        total, outside = game.totals[seat], game.outside[seat]
        part = f"= {outside / total:.2f} of it"
        rows.append([f"value to seat {seat}", *map(str, game.values[seat]), str(total), str(outside), part])
    return rows


def _decisions(game: ReferenceGame) -> Iterator[tuple[str, ...]]:
    spec = game.spec
    for turn, action in enumerate(game.moves):
        seat, other = turn % 2, 1 - turn % 2
        if action < spec.num_offers:
            worth = shares(game, action)
            bundle = ", ".join(map(str, game.bundle(other, action)))
            what = f"offers seat {other} ({bundle}): seat {seat} keeps {worth[seat]:.2f}, seat {other} gets "
            what += f"{worth[other]:.2f} of its own total"
        else:
            what = "accepts" if action == spec.accept_action else "walks away"
        yield str(turn + 1), str(turn // 2 + 1), str(seat), str(action), what


def _table(rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """Returns the rows as lines; `align` holds < or > by column, its last sign holds for the columns after."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    signs = align + align[-1] * len(widths)
    return ["  ".join(f"{cell:{s}{w}}" for cell, s, w in zip(row, signs, widths, strict=False)) for row in rows]


def _host(array: Any) -> Any:
    return array if isinstance(array, np.ndarray) else array.cpu()


def _drawing() -> ModuleType:
    try:
        from bargain_env import drawing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "PIL":
            raise
        raise ModuleNotFoundError(
            'pictures need Pillow, which the extra "render" brings: pip install "bargain-env[render]".', name="PIL"
        ) from None
    return drawing

"""The picture of one negotiation, drawn with Pillow (the extra `render`).

A row is a decision. Its bars show, for each item type, how the units would be split, and what that is worth to each
seat as a share of its own total; a mark on each share bar is that seat's outside offer. The last row of a finished game
shows what was earned.

Legend: `H`, `W` the picture's height and width in pixels.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from bargain_env.reference import DEAL, WALK, ReferenceGame
from bargain_env.spec import GameSpec

WIDTH = 1280
MAX_ROWS = 10
"""Decisions shown; of a longer game the latest ones."""

SEATS = ((0, 114, 178), (213, 94, 0))
"""The seats' colours, a pair that colour-blind readers tell apart (Okabe and Ito)."""

INK, GREY, PALE, FAINT, PAPER = (32, 32, 32), (110, 110, 110), (175, 175, 175), (226, 226, 226), (255, 255, 255)
HIGHLIGHT, DEAL_PAPER, WALK_PAPER = (255, 248, 220), (228, 243, 228), (240, 236, 240)

_TOP, _ROW, _BOTTOM = 258, 66, 60
_LABELS, _NAMES, _SHARES, _RIGHT = 40, 96, 850, 1240
_ITEMS = (276, 806)
_AXIS = (_SHARES, 1172)


class Split(NamedTuple):
    """What a row shows: who gets how many units (None for a walk), and the share of the own total each seat gets."""

    units: tuple[list[int], list[int]] | None
    shares: tuple[float, float]


def picture_size(spec: GameSpec) -> tuple[int, int]:
    """Returns `(H, W)`, which depend on the spec alone."""
    return _TOP + _ROW * min(spec.max_turns, MAX_ROWS) + _BOTTOM, WIDTH


def draw(game: ReferenceGame, headline: str) -> NDArray[np.uint8]:
    """Returns the picture of `game` under `headline`, uint8 `[H, W, 3]`."""
    height, width = picture_size(game.spec)
    image = Image.new("RGB", (width, height), PAPER)
    pen = _Pen(image)
    pen.text((_LABELS, 42), "Bargain", 30, INK)
    pen.text((_LABELS, 84), headline, 21, INK, room=_RIGHT - _LABELS)
    _draw_deal(pen, game)
    rows = min(game.spec.max_turns, MAX_ROWS)
    first = max(0, min(len(game.moves) + (not game.finished), game.spec.max_turns) - rows)
    _draw_header(pen, game, first)
    for row in range(rows):
        _draw_decision(pen, game, first + row, _TOP + row * _ROW)
    _draw_key(pen, game, height - 28)
    return np.array(image, dtype=np.uint8)


class _Pen:
    """Draws text that never leaves the room it is given, and rectangles given by their edges."""

    def __init__(self, image: Any) -> None:
        self._draw = ImageDraw.Draw(image)

    def text(
        self,
        at: tuple[float, float],
        text: str,
        size: int,
        colour: tuple[int, int, int],
        *,
        anchor: str = "lm",
        room: float = WIDTH,
    ) -> None:
        while size > 7 and self._draw.textlength(text, font=_font(size)) > room:
            size -= 1
        self._draw.text(at, text, font=_font(size), fill=colour, anchor=anchor)

    def box(self, left: float, top: float, right: float, bottom: float, colour: tuple[int, int, int]) -> None:
        edges = round(left), round(top), round(right) - 1, round(bottom) - 1
        if edges[2] >= edges[0]:
            self._draw.rectangle(edges, fill=colour)


@functools.cache
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _columns(spec: GameSpec) -> list[tuple[float, float]]:
    """Returns the left and right edge of each item type's column."""
    left, right = _ITEMS
    width = (right - left) / spec.num_items
    gap = min(24.0, width / 6)
    return [(left + k * width + gap / 2, left + (k + 1) * width - gap / 2) for k in range(spec.num_items)]


def _draw_deal(pen: _Pen, game: ReferenceGame) -> None:
    for item, (left, right) in enumerate(_columns(game.spec)):
        quantity = game.spec.item_quantities[item]
        title = f"item {item + 1}: {quantity} unit{'s' if quantity > 1 else ''}"
        if game.spec.num_items > 4:
            title = f"{quantity} unit{'s' if quantity > 1 else ''}"
        pen.text(((left + right) / 2, 128), title, 17, GREY, anchor="mm", room=right - left)
        for seat, colour in enumerate(SEATS):
            value = str(game.values[seat][item])
            pen.text(((left + right) / 2, 160 + 30 * seat), value, 20, colour, anchor="mm", room=right - left)
    pen.text((_LABELS, 128), "points per unit", 17, GREY)
    edges = (_SHARES + 130, _RIGHT)
    for edge, title in zip(edges, ("own total", "outside offer"), strict=True):
        pen.text((edge, 128), title, 17, GREY, anchor="rm")
    for seat, colour in enumerate(SEATS):
        y, outside, total = 160 + 30 * seat, game.outside[seat], game.totals[seat]
        pen.box(_LABELS, y - 8, _LABELS + 16, y + 8, colour)
        pen.text((_LABELS + 26, y), f"value to seat {seat}", 19, INK)
        pen.text((edges[0], y), str(total), 20, colour, anchor="rm", room=130)
        pen.text((edges[1], y), f"{outside} = {outside / total:.2f} of it", 20, colour, anchor="rm", room=240)


def _draw_header(pen: _Pen, game: ReferenceGame, first: int) -> None:
    y = _TOP - 20
    last = min(first + MAX_ROWS, game.spec.max_turns)
    pen.text((_LABELS, y), "decision" if first == 0 else f"decisions {first + 1} to {last}", 17, GREY)
    pen.text((_ITEMS[0], y), "who gets the units", 17, GREY)
    pen.text((_SHARES, y), "share of the own total", 17, GREY)


def _draw_decision(pen: _Pen, game: ReferenceGame, turn: int, top: float) -> None:
    played, seat = turn < len(game.moves), turn % 2
    last, next_up = played and turn == len(game.moves) - 1, not game.finished and turn == len(game.moves)
    if next_up:
        pen.box(0, top, WIDTH, top + _ROW, HIGHLIGHT)
    elif last and game.finished:
        pen.box(0, top, WIDTH, top + _ROW, DEAL_PAPER if game.outcome == DEAL else WALK_PAPER)
    pen.box(_LABELS, top, _RIGHT, top + 1, GREY if seat == 0 else FAINT)
    dark, middle = (INK, GREY) if played or next_up else (PALE, PALE)
    pen.text((_NAMES - 22, top + 24), f"{turn + 1}", 19, dark, anchor="rm")
    pen.box(_NAMES - 14, top + 12, _NAMES - 9, top + _ROW - 10, SEATS[seat] if played or next_up else FAINT)
    pen.text((_NAMES, top + 24), f"seat {seat} {_verb(game, turn)}".rstrip(), 19, dark)
    pen.text((_NAMES, top + 47), f"round {turn // 2 + 1}", 15, middle)
    if played:
        split = _split(game, turn)
        _draw_units(pen, game.spec, split, top)
        _draw_shares(pen, game, split, top)


def _verb(game: ReferenceGame, turn: int) -> str:
    if turn >= len(game.moves):
        return "to move" if turn == len(game.moves) and not game.finished else ""
    action = game.moves[turn]
    if action < game.spec.num_offers:
        return "offers"
    return "accepts" if action == game.spec.accept_action else "walks away"


def _split(game: ReferenceGame, turn: int) -> Split:
    ended = game.finished and turn == len(game.moves) - 1
    if ended and game.outcome == WALK:
        return Split(None, (float(game.rewards[0]), float(game.rewards[1])))
    offer = game.offer if ended else game.moves[turn]
    first, second = (game.bundle_value(seat, offer) / game.totals[seat] for seat in (0, 1))
    shares = (float(game.rewards[0]), float(game.rewards[1])) if ended else (first, second)
    return Split((game.bundle(0, offer), game.bundle(1, offer)), shares)


def _draw_units(pen: _Pen, spec: GameSpec, split: Split, top: float) -> None:
    if split.units is None:
        middle = (_ITEMS[0] + _ITEMS[1]) / 2
        pen.text((middle, top + _ROW / 2), "no deal: each seat gets its outside offer", 18, GREY, anchor="mm")
        return
    for (left, right), quantity, mine, theirs in zip(_columns(spec), spec.item_quantities, *split.units, strict=True):
        unit = (right - left) / quantity
        border = left + mine * unit
        pen.box(left, top + 14, border, top + 34, SEATS[0])
        pen.box(border, top + 14, right, top + 34, SEATS[1])
        if unit >= 6:
            for k in range(1, quantity):
                pen.box(left + k * unit - 1, top + 14, left + k * unit + 1, top + 34, PAPER)
        room = (right - left) / 2
        pen.text((left, top + 48), str(mine), 17, SEATS[0] if mine else PALE, room=room)
        pen.text((right, top + 48), str(theirs), 17, SEATS[1] if theirs else PALE, anchor="rm", room=room)


def _draw_shares(pen: _Pen, game: ReferenceGame, split: Split, top: float) -> None:
    left, right = _AXIS
    for seat, share in enumerate(split.shares):
        upper = top + 12 + 23 * seat
        pen.box(left, upper, right, upper + 16, FAINT)
        pen.box(left, upper, left + share * (right - left), upper + 16, SEATS[seat])
        mark = round(left + game.outside[seat] / game.totals[seat] * (right - left))
        pen.box(mark - 3, upper - 3, mark + 4, upper + 19, PAPER)
        pen.box(mark - 1, upper - 3, mark + 2, upper + 19, INK)
        pen.text((_RIGHT, upper + 8), f"{share:.2f}", 19, SEATS[seat], anchor="rm")


def _draw_key(pen: _Pen, game: ReferenceGame, y: float) -> None:
    x = float(_LABELS)
    pen.box(_LABELS, y - 26, _RIGHT, y - 25, GREY)
    for seat, colour in enumerate(SEATS):
        pen.box(x, y - 8, x + 16, y + 8, colour)
        pen.text((x + 24, y), f"seat {seat}", 17, INK)
        x += 110
    pen.box(x + 1, y - 11, x + 4, y + 11, INK)
    pen.text((x + 14, y), "outside offer", 17, INK)
    if game.spec.discount < 1:
        note = f"shares before the discount of {game.spec.discount:g} a round; the last row of a finished game after it"
        pen.text((_RIGHT, y), note, 15, GREY, anchor="rm")

"""What is rendered: the text word for word, and of the picture what can be measured."""

from __future__ import annotations

import functools
import itertools
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env import GAMES, GameSpec, env, make_engine, parallel_env, raw_env
from bargain_env.reference import ReferenceGame
from bargain_env.rendering import RENDER_MODES, render, render_row
from numpy.typing import NDArray
from pettingzoo.test import render_test
from pettingzoo.utils.conversions import parallel_to_aec

DOCS = Path(__file__).parents[2] / "docs"
SPEC = GameSpec()
ACCEPT, WALK = SPEC.accept_action, SPEC.walk_action
DEAL: dict[str, Any] = {"values": [[10, 20, 30], [40, 50, 60]], "outside": [72, 8]}
EIGHT_TYPES = GameSpec(item_quantities=(1,) * 8, max_rounds=5, discount=0.98)
LARGE_NUMBERS = GameSpec(item_quantities=(120, 5, 3), max_rounds=20, max_value=100_000)

OPENING = """\
                 item 1  item 2  item 3  own total  outside offer
units                 7       4       1
value to seat 0      10      20      30        180             72  = 0.40 of it
value to seat 1      40      50      60        540              8  = 0.01 of it

Seat 0 is to move in round 1 of 3; no offer is on the table."""

DEAL_IN_ROUND_2 = """\
                 item 1  item 2  item 3  own total  outside offer
units                 7       4       1
value to seat 0      10      20      30        180             72  = 0.40 of it
value to seat 1      40      50      60        540              8  = 0.01 of it

#  round  seat  action  what
1      1     0      29  offers seat 1 (2, 4, 1): seat 0 keeps 0.28, seat 1 gets 0.63 of its own total
2      1     1      60  offers seat 0 (1, 4, 1): seat 1 keeps 0.44, seat 0 gets 0.67 of its own total
3      2     0      80  accepts

Deal: seat 0 accepts; seat 0 earns 0.67 and seat 1 earns 0.44 of its own total."""

GAMES_SHOWN: dict[str, tuple[GameSpec, list[int]]] = {
    "fresh": (SPEC, []),
    "mid-game": (SPEC, [25, 60, 33]),
    "deal": (SPEC, [25, 60, 33, ACCEPT]),
    "walk": (SPEC, [25, 60, 33, 70, 10, WALK]),
    "walk at once": (SPEC, [WALK]),
    "mini-a": (GAMES["mini-a"], [1]),
    "eight types, five rounds": (EIGHT_TYPES, [7, 9, 200, 14, 33, 90, 101, 77, 54, EIGHT_TYPES.accept_action]),
    "twenty rounds": (LARGE_NUMBERS, [700 + k for k in range(39)]),
    "one type": (GameSpec(item_quantities=(32_000,)), [31_999, 0]),
    "126 decisions": (GameSpec(max_rounds=63, max_value=1_000_000), [5] * 125),
    "largest points": (GameSpec(item_quantities=(1,) * 8, max_value=2_000_000), [0]),
}
Texts = list[tuple[str, tuple[float, ...]]]
each_game = pytest.mark.parametrize("name", GAMES_SHOWN)


def _render(spec: GameSpec, moves: list[int], render_mode: str, seed: int = 3) -> Any:
    game = ReferenceGame(spec, seed)
    return render(spec, game.values, game.outside, moves, render_mode)


def _picture(spec: GameSpec, moves: list[int], seed: int = 3) -> NDArray[np.uint8]:
    pytest.importorskip("PIL")
    picture: NDArray[np.uint8] = _render(spec, moves, "rgb_array", seed)
    return picture


def test_the_text_word_for_word() -> None:
    assert render(SPEC, DEAL["values"], DEAL["outside"], [], "ansi") == OPENING
    # bundles of seat 1: action 29 is (2, 4, 1), and 60 is (6, 0, 0)
    assert render(SPEC, DEAL["values"], DEAL["outside"], [29, 60, ACCEPT, -1, -1, -1], "ansi") == DEAL_IN_ROUND_2
    standing = str(render(SPEC, DEAL["values"], DEAL["outside"], [29], "ansi")).splitlines()[-1]
    assert standing == (
        "Seat 1 is to move in round 1 of 3; the offer on the table is worth 0.28 to seat 0 and 0.63 to seat 1."
    )
    walked = str(render(SPEC, DEAL["values"], DEAL["outside"], [29, WALK], "ansi")).splitlines()
    assert walked[-3:] == [
        "2      1     1      81  walks away",
        "",
        "No deal: seat 1 walks away; seat 0 earns 0.40 and seat 1 earns 0.01 of its own total.",
    ]


def test_the_text_tells_discounted_payoffs() -> None:
    spec = GameSpec(discount=0.5)
    last = str(render(spec, DEAL["values"], DEAL["outside"], [29, 60, ACCEPT], "ansi")).splitlines()[-1]
    assert (
        last == "Deal: seat 0 accepts; seat 0 earns 0.33 and seat 1 earns 0.22 of its own total, discounted by 0.5000."
    )


def test_human_prints_what_ansi_returns(capsys: pytest.CaptureFixture[str]) -> None:
    assert _render(SPEC, [25], "human") is None
    assert capsys.readouterr().out == f"{_render(SPEC, [25], 'ansi')}\n"


@each_game
def test_every_game_has_a_text(name: str) -> None:
    spec, moves = GAMES_SHOWN[name]
    lines = _render(spec, moves, "ansi").splitlines()
    assert len(lines) == 6 + (len(moves) + 2 if moves else 0)
    assert max(map(len, lines)) <= 125


# The picture ----------------------------------------------------------------------------------


@each_game
def test_the_picture_fits_its_spec_alone(name: str) -> None:
    spec, moves = GAMES_SHOWN[name]
    picture = _picture(spec, moves)
    assert picture.dtype == np.uint8
    assert picture.flags.carray
    assert picture.shape == _picture(spec, []).shape == (picture.shape[0], 1280, 3)
    assert all(size % 2 == 0 for size in picture.shape[:2])  # what video codecs ask for
    assert picture.shape[0] <= 978
    assert np.array_equal(picture, _picture(spec, moves))


def test_every_change_of_the_game_changes_the_picture() -> None:
    spec = GameSpec(discount=0.98)
    moves = [25, 60, 33, ACCEPT]
    pictures = [_picture(spec, moves[:turn]) for turn in range(5)]
    pictures += [_picture(spec, moves, seed=4), _picture(SPEC, moves), _picture(spec, [*moves[:3], WALK])]
    pictures += [_picture(spec, [25, 61, 33, ACCEPT])]
    game = ReferenceGame(spec, 3)
    for outside in ([game.outside[0] + 40, game.outside[1]], [game.outside[0], game.outside[1] + 40]):
        pictures.append(np.asarray(render(spec, game.values, outside, moves, "rgb_array")))
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Texts:
    """The texts that are drawn during the test, each with the edges of its box: left, top, right, bottom."""
    image_draw = pytest.importorskip("PIL.ImageDraw")
    texts: Texts = []
    write = image_draw.ImageDraw.text

    def recorded(self: Any, at: Any, text: str, **options: Any) -> None:
        texts.append((text, self.textbbox(at, text, font=options["font"], anchor=options["anchor"])))
        write(self, at, text, **options)

    monkeypatch.setattr(image_draw.ImageDraw, "text", recorded)
    return texts


@each_game
def test_no_text_leaves_the_picture_or_meets_another(name: str, texts: Texts) -> None:
    picture = _picture(*GAMES_SHOWN[name])
    assert len(texts) > 20
    for text, (left, top, right, bottom) in texts:
        assert left >= 30, text
        assert right <= 1280 - 30, text
        assert top >= 0, text
        assert bottom <= picture.shape[0], text
    for (text, box), (other, place) in itertools.combinations(texts, 2):
        apart = box[2] <= place[0] or place[2] <= box[0] or box[3] <= place[1] or place[3] <= box[1]
        assert apart, f"{text!r} meets {other!r}"


def test_the_picture_says_what_the_text_says(texts: Texts) -> None:
    render(GameSpec(discount=0.5), DEAL["values"], DEAL["outside"], [29, 60, ACCEPT], "rgb_array")
    written = [text for text, _ in texts]
    assert (
        "Deal: seat 0 accepts; seat 0 earns 0.33 and seat 1 earns 0.22 of its own total, discounted by 0.5000."
        in written
    )
    assert [text for text in written if text.startswith("seat") and len(text) > 6] == [
        *("seat 0 offers", "seat 1 offers", "seat 0 accepts")
    ]
    shares = [text for text in written if text.startswith("0.")]
    assert shares == ["0.28", "0.63", "0.67", "0.44", "0.33", "0.22"]
    assert {"72 = 0.40 of it", "8 = 0.01 of it", "180", "540", "10", "60"} <= set(written)


def test_of_a_long_game_the_latest_decisions_are_shown(texts: Texts) -> None:
    spec = GameSpec(max_rounds=20)
    for played, shown in ((0, range(1, 11)), (9, range(1, 11)), (10, range(2, 12)), (39, range(31, 41))):
        texts.clear()
        _picture(spec, [5] * played)
        left = [int(text) for text, box in texts if text.isdecimal() and box[2] < 100]
        assert left == list(shown)
        assert ("decision" if shown[0] == 1 else f"decisions {shown[0]} to {shown[-1]}") in [text for text, _ in texts]


@pytest.mark.parametrize("last", [None, ACCEPT, WALK])
def test_bars_are_as_long_as_what_they_show(last: int | None) -> None:
    """The scan line through each bar holds as many coloured pixels as the share or the units that it stands for."""
    pytest.importorskip("PIL")
    from bargain_env import drawing

    moves = [29, 60] + ([] if last is None else [last])
    picture = np.asarray(render(SPEC, DEAL["values"], DEAL["outside"], moves, "rgb_array"))
    game = ReferenceGame(SPEC, **DEAL)
    for action in moves:
        game.play(action)
    row = len(moves) - 1
    top = drawing._TOP + row * drawing._ROW
    shares = (50 / 180, 340 / 540) if row == 0 else (120 / 180, 240 / 540)
    if last == WALK:
        shares = (72 / 180, 8 / 540)
    for seat, share in enumerate(shares):
        line = picture[top + 20 + 23 * seat, drawing._AXIS[0] : drawing._AXIS[1]]
        dark = np.flatnonzero(np.all(line == drawing.INK, axis=1))
        assert dark.mean() == pytest.approx(DEAL["outside"][seat] / (180, 540)[seat] * len(line), abs=1)
        coloured = int(np.all(line == drawing.SEATS[seat], axis=1).sum())
        assert share * len(line) - 8 <= coloured <= share * len(line) + 1  # the mark of the outside offer covers seven
    units = picture[top + 24, drawing._ITEMS[0] : drawing._ITEMS[1]]
    parts = [int(np.all(units == colour, axis=1).sum()) for colour in drawing.SEATS]
    if last == WALK:
        assert parts == [0, 0]
    else:  # seat 1 asks for 6 of the first 7 units; the three types have columns of one width
        assert parts[0] / sum(parts) == pytest.approx((1 / 7 + 1 + 1) / 3, abs=0.02)


def test_the_picture_of_the_documentation_is_up_to_date() -> None:
    """Up to the shapes of letters, which depend on the version of Pillow."""
    image = pytest.importorskip("PIL.Image")
    pictures = runpy.run_path(str(DOCS / "pictures.py"))["PICTURES"]
    for name, draw in pictures.items():
        stored = np.asarray(image.open(DOCS / name).convert("RGB")).astype(int)
        drawn = draw().astype(int)
        assert stored.shape == drawn.shape
        assert np.abs(stored - drawn).mean() < 1.0, "run python docs/pictures.py"


def test_pictures_without_pillow_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "bargain_env.drawing", raising=False)
    monkeypatch.delattr("bargain_env.drawing", raising=False)
    wanted = r'^pictures need Pillow, which the extra "render" brings: pip install "bargain-env\[render\]"\.$'
    for call in (raw_env, env, parallel_env, functools.partial(_render, SPEC, [])):
        with pytest.raises(ModuleNotFoundError, match=wanted):
            call(render_mode="rgb_array")
        call(render_mode="ansi")


# In the environments --------------------------------------------------------------------------

FORMS: dict[str, Callable[..., Any]] = {
    "raw_env": raw_env,
    "env": env,
    "from_parallel": lambda **options: parallel_to_aec(parallel_env(**options)),
}


@pytest.mark.parametrize("form", FORMS)
def test_pettingzoo_suite(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("PIL")
    render_test(FORMS[form])
    assert FORMS[form]().metadata["render_modes"] == list(RENDER_MODES)


def test_the_environments_render_the_game_they_play() -> None:
    engine = make_engine(seed=5, autoreset=False)
    turn_based, parallel = raw_env(seed=5, render_mode="ansi"), parallel_env(seed=5, render_mode="ansi")
    turn_based.reset()
    parallel.reset()
    moves: list[int] = []
    for action in [None, 14, 23, 200]:
        if action is not None:
            engine.step(np.array([action]))
            turn_based.step(action)
            parallel.step(dict.fromkeys(parallel.agents, action))
            moves.append(min(action, WALK))
        expected = _render(SPEC, moves, "ansi", seed=5)
        assert turn_based.render() == parallel.render() == render_row(engine, "ansi") == expected
    assert expected.endswith("seat 1 earns 0.07 of its own total.")


def test_any_row_of_an_engine_can_be_shown() -> None:
    engine = make_engine(num_envs=4, seed=8)
    engine.step(np.array([1, 2, 3, WALK]))
    for row, moves in enumerate(([1], [2], [3], [])):
        game = ReferenceGame(SPEC, 8, row, int(row == 3))
        assert render_row(engine, "ansi", row) == render(SPEC, game.values, game.outside, moves, "ansi")


@pytest.mark.parametrize("make", [raw_env, parallel_env])
def test_human_shows_every_move_by_itself(make: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    game = make(seed=5, render_mode="human")
    game.reset()
    assert "Seat 0 is to move" in capsys.readouterr().out
    game.step(14 if make is raw_env else dict.fromkeys(game.agents, 14))
    assert "Seat 1 is to move" in capsys.readouterr().out
    assert game.render() is None
    assert "Seat 1 is to move" in capsys.readouterr().out


def test_bad_calls_are_one_sentence() -> None:
    for make in (raw_env, env, parallel_env):
        with pytest.raises(
            ValueError, match=r"^render_mode must be one of human, ansi, rgb_array or None, got 'text'\.$"
        ):
            make(render_mode="text")
    with pytest.raises(ValueError, match=r"^render_mode needs the scalar form: leave num_envs out\.$"):
        parallel_env(num_envs=1, render_mode="ansi")
    for plain in (raw_env(), parallel_env()):
        plain.reset()
        with pytest.raises(RuntimeError, match=r"^render needs an environment that was built with a render_mode\.$"):
            plain.render()
    with pytest.raises(ValueError, match="render_mode must be one of human, ansi"):
        _render(SPEC, [], "svg")
    engine = make_engine(num_envs=4)
    for row in (-1, 4, 7):
        with pytest.raises(ValueError, match=rf"^row must lie between 0 and 3, got {row}\.$"):
            render_row(engine, "ansi", row)
    with pytest.raises(ValueError, match=r"^values must have shape \(2, 3\), got \(2, 2\)\.$"):
        render(SPEC, [[1, 2], [3, 4]], [1, 2], [], "ansi")
    with pytest.raises(ValueError, match=r"^outside must have shape \(2,\), got \(1,\)\.$"):
        render(SPEC, DEAL["values"], [1], [], "ansi")

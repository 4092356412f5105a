"""`bargain-eval play`: negotiate against any policy in the terminal, in the words that language models are told."""

from __future__ import annotations

import math
import secrets
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TextIO

import numpy as np
from bargain_env.reference import DEAL, ReferenceGame
from bargain_env.spec import GameSpec
from pydantic import Field
from pydantic.dataclasses import dataclass

from bargain_eval.commands.common import PIPE_WIDTH
from bargain_eval.files import dump_json
from bargain_eval.game_options import GameOptions
from bargain_eval.llm.prompt import load_prompt
from bargain_eval.llm.reply import read_reply
from bargain_eval.llm.view import PlayerView, bundle_text, item_names, listed
from bargain_eval.measures import study_deals
from bargain_eval.policy import HasMemory, Policy, to_numpy
from bargain_eval.registry import load_policy, resolve_device


class _Left(Exception):
    """The person closed the input."""


@dataclass(frozen=True, kw_only=True)
class PlayGameOptions(GameOptions):
    """Negotiate against a policy in the terminal.

    You see your own values and your outside offer, and say OFFER 5 3 1 (what you keep; the other player gets the rest),
    ACCEPT or WALK. `help` shows the rules, `quit` or Ctrl-D leaves the table. Both hands are shown at the end of a
    game, with what each player got and what would have been best for both together. The rules and the state are
    told in the words that language models are told; only their replies have another form.

    For instance
        bargain-eval play --against pretrained
        bargain-eval play --against tioli --seat 1 --seed 7
        bargain-eval play --against run:RUN_ID --games 5
        bargain-eval play --against aspiration?beta=.2 --quantities 3 2 --max-value 10 --rounds 2
        bargain-eval play --against pretrained --json > my_games.json
    """

    against: str
    """The other player: a policy string NAME[:ARGUMENT][?key=value], e.g. pretrained, tioli, run:RUN_ID."""
    seat: Literal[0, 1] = 0
    """Your seat: 0 moves first, 1 makes the last move."""
    games: Annotated[int, Field(ge=1)] | None = None
    """Play so many games, one after the other; without it you are asked after each."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Seed of the deals and of the other player's randomness; without it one is drawn, and shown."""
    device: str = "cpu"
    """Where the other player computes: cpu, cuda, cuda:k or auto."""
    results_dir: str = "results"
    """The folder of stored runs, for policies named run:RUN_ID."""
    json: bool = False
    """Print one JSON object with the finished games to stdout at the end, and the conversation to stderr."""


def play_game(options: PlayGameOptions) -> int:
    """Plays games on stdin and returns the exit code: 0 when the person is done, 130 after Ctrl-C.

    Raises:
        ValueError: If the policy string does not fit.
    """
    spec = options.spec().with_observation("history")
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    device = resolve_device(options.device)
    opponent = load_policy(options.against, options.spec(), seed, device, options.results_dir)
    out = sys.stderr if options.json else sys.stdout
    finished: list[ReferenceGame] = []
    code = 0
    _say(out, load_prompt().rules(spec, options.seat), "", reply_format(spec), "", "Or say help or quit.")
    try:
        for index in _game_numbers(options.games, out):
            _say(out, "", f"=== Game {index + 1}, seed {seed}, against {options.against} ===", "")
            finished.append(_play_one(ReferenceGame(spec, seed, index), options.seat, opponent, seed, index, out))
            _say(out, *_ending(finished[-1], options.seat))
    except _Left:
        _say(out, "", "You leave the table.")
    except KeyboardInterrupt:
        _say(out, "", "You leave the table.")
        code = 130
    if finished:
        _say(out, "", _tally(finished, options.seat))
    if options.json:
        record = {"game": options.spec().to_dict(), "against": options.against, "seat": options.seat, "seed": seed}
        sys.stdout.write(dump_json(record | {"games": [_record(n, game) for n, game in enumerate(finished)]}) + "\n")
    return code


def reply_format(spec: GameSpec) -> str:
    """Returns how a person says a move; `read_reply` understands it."""
    kept = [math.ceil(0.7 * quantity) for quantity in spec.item_quantities]
    counts = " ".join(map(str, kept))
    named = listed([f"{count} of item {name}" for count, name in zip(kept, item_names(spec), strict=True)])
    return (
        "Say your move on a line of its own, as the last line of your reply. It is one of:\n"
        f"OFFER {counts}\n"
        "ACCEPT\n"
        "WALK\n"
        f"The numbers of an offer are the units that YOU keep, in the order {' '.join(item_names(spec))}, "
        f"here {named}. "
        "The other player gets the rest."
    )


def _game_numbers(games: int | None, out: TextIO) -> Iterator[int]:
    index = 0
    while games is None or index < games:
        yield index
        index += 1
        if games is None and not _agrees("Another game? [Y/n] ", out):
            return


def _agrees(question: str, out: TextIO) -> bool:
    while True:
        answer = _ask(question, out).lower()
        if answer in ("", "y", "yes", "n", "no", "q", "quit"):
            return answer in ("", "y", "yes")
        question = "Please say yes or no: "


def _play_one(game: ReferenceGame, seat: int, opponent: Policy, seed: int, index: int, out: TextIO) -> ReferenceGame:
    """Plays `game` to its end; a person has `seat`."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1 - seat, index)))
    if isinstance(opponent, HasMemory):
        opponent.begin(np.array([index]), 1 - seat, rng)
    while not game.finished:
        if game.mover == seat:
            game.play(_ask_move(PlayerView.from_observation(game.spec, game.observation()), out))
        elif game.play(_move_of(opponent, game, rng, index)):
            _say(out, "The other player made an illegal move, which counts as WALK.")
    return game


def _ask_move(view: PlayerView, out: TextIO) -> int:
    """Returns the person's move; what cannot be played is asked again, with the reason."""
    prompt = load_prompt()
    _say(out, prompt.state(view))
    while True:
        line = _ask("> ", out)
        if line.lower() in ("quit", "exit", "q"):
            raise _Left
        if line.lower() in ("help", "h", "?"):
            _say(out, "", prompt.rules(view.spec, view.seat), "", reply_format(view.spec), "", prompt.state(view))
            continue
        reply = read_reply(view, line)
        if reply.action is not None:
            _say(out, "")
            return reply.action
        _say(out, reply.problem)


def _move_of(policy: Policy, game: ReferenceGame, rng: np.random.Generator, index: int) -> int:
    width = game.spec.observation_dim if policy.observation == "history" else game.spec.standing_dim
    rows = game.observation()[None, :width], game.action_mask()[None]
    return int(to_numpy(policy.get_action(*rows, rng, np.array([index])))[0])


def _ask(question: str, out: TextIO) -> str:
    out.write(question)
    out.flush()
    line = sys.stdin.readline()
    if not line:
        raise _Left
    return line.strip()


def _say(out: TextIO, *texts: str) -> None:
    """Writes texts, their lines wrapped to the terminal's width and indented as they begin."""
    width = max(40, min(shutil.get_terminal_size((PIPE_WIDTH, 0)).columns, PIPE_WIDTH))
    for line in "\n".join(texts).split("\n"):
        indent = " " * (len(line) - len(line.lstrip()))
        out.write(textwrap.fill(line, width, subsequent_indent=indent, drop_whitespace=True) + "\n")


def _ending(game: ReferenceGame, seat: int) -> list[str]:
    """Returns how a game ended, both hands, and what would have been best, in the words of `seat`."""
    spec, other = game.spec, 1 - seat
    who = "You" if game.mover == seat else "The other player"
    if game.outcome == DEAL:
        how = f"{who} accepted the offer of move {game.turn - 1}: {_split_text(game, seat, game.offer)}."
    else:
        how = f"{who} walked away: both get their outside offers."
    names = " ".join(item_names(spec))
    rows = [
        ("", "you", "other player"),
        (f"value of each {names}", *(" ".join(map(str, game.values[player])) for player in (seat, other))),
        ("outside offer", *(str(game.outside[player]) for player in (seat, other))),
        ("points", *(f"{_points(game)[player]:g}" for player in (seat, other))),
        ("worth of the whole pool", *(str(game.totals[player]) for player in (seat, other))),
        ("score", *(f"{_payoffs(game)[player]:.3f}" for player in (seat, other))),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = [f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in rows]
    return [how, "", *table, "", *_what_was_possible(game, seat)]


def _what_was_possible(game: ReferenceGame, seat: int) -> list[str]:
    spec, totals = game.spec, game.totals
    worth = np.array([[game.bundle_value(player, offer) for offer in range(spec.num_offers)] for player in (0, 1)])
    welfare = worth[0] * totals[1] + worth[1] * totals[0]  # the sum of scores, in units of 1 / (total * total)
    best, walking = int(welfare.argmax()), game.outside[0] * totals[1] + game.outside[1] * totals[0]
    if welfare[best] >= walking:
        lines = [f"Best for both together: {_split_text(game, seat, best)}, at once."]
    else:
        lines = ["Best for both together: to walk away at once, since no split has as large a sum of scores."]
    bargained = study_deals(np.array([game.values]), np.array([game.outside]), spec).nash_bargaining[0]
    if bargained == spec.num_offers:
        return [*lines, "No split was worth the outside offers to both."]
    return [*lines, f"Nash bargaining, where neither would rather walk: {_split_text(game, seat, int(bargained))}."]


def _split_text(game: ReferenceGame, seat: int, offer: int) -> str:
    """Returns a split in words, with the scores that it gives at once."""
    shares = [game.bundle_value(player, offer) / game.totals[player] for player in (0, 1)]
    bundles = [bundle_text(game.spec, game.bundle(player, offer)) for player in (0, 1)]
    you, other = (f"{bundles[player]} ({shares[player]:.3f})" for player in (seat, 1 - seat))
    return f"{you} for you and {other} for the other player"


def _points(game: ReferenceGame) -> list[float]:
    """Returns the points of both seats: whole numbers without a discount."""
    points = [game.bundle_value(seat, game.offer) for seat in (0, 1)] if game.outcome == DEAL else game.outside
    factor = game.spec.discount**game.round if game.spec.discount < 1 else 1
    return [factor * part for part in points]


def _payoffs(game: ReferenceGame) -> list[float]:
    return [points / total for points, total in zip(_points(game), game.totals, strict=True)]


def _tally(games: list[ReferenceGame], seat: int) -> str:
    scores = np.array([_payoffs(game) for game in games]).mean(axis=0)
    deals = sum(game.outcome == DEAL for game in games)
    played = "1 game" if len(games) == 1 else f"{len(games)} games"
    return f"{played}, {deals} with a deal; mean score {scores[seat]:.3f}, the other player's {scores[1 - seat]:.3f}."


def _record(index: int, game: ReferenceGame) -> dict[str, Any]:
    """Returns a finished game as JSON-ready, with the keys of `GameRows.to_rows` except the counts of illegal moves."""
    points, payoffs = _points(game), _payoffs(game)
    record: dict[str, Any] = {
        "game": index,
        "outcome": "deal" if game.outcome == DEAL else "walk",
        "offer": game.offer if game.outcome == DEAL else None,
        "decisions": game.turn,
        "rounds": (game.turn + 1) // 2,
        "actions": game.moves,
    }
    for seat in (0, 1):
        record |= {
            f"payoff_{seat}": payoffs[seat],
            f"points_{seat}": points[seat],
            f"values_{seat}": game.values[seat],
            f"outside_{seat}": game.outside[seat],
            f"total_{seat}": game.totals[seat],
        }
    return record

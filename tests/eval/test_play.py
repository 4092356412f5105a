import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.arena import play
from bargain_eval.cli import main
from bargain_eval.commands import play as play_command
from bargain_eval.commands.play import PlayGameOptions, play_game, reply_format
from bargain_eval.llm.prompt import load_prompt
from bargain_eval.llm.reply import read_reply
from bargain_eval.llm.view import PlayerView
from bargain_eval.mixture import Mixture
from bargain_eval.policy import Policy
from bargain_eval.registry import load_policy


def words(spec: GameSpec, seat: int, rows: list[dict[str, Any]]) -> str:
    """What the player of `seat` says in these games, a line for each of its moves."""
    lines = []
    for row in rows:
        for action in row["actions"][seat::2]:
            if action >= spec.num_offers:
                lines.append("ACCEPT" if action == spec.accept_action else "WALK")
            else:
                view = PlayerView(spec, seat, row[f"values_{seat}"], row[f"outside_{seat}"])
                lines.append(f"OFFER {' '.join(map(str, view.bundle(action)))}")
    return "\n".join(lines) + "\n"


def run(monkeypatch: pytest.MonkeyPatch, said: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(said))
    return main(["play", *arguments])


@pytest.mark.parametrize("seat", [0, 1])
@pytest.mark.parametrize(
    ("person", "opponent", "game"),
    [
        ("fair_split", "aspiration", ()),
        ("aspiration", "tioli", ()),
        ("random", "soft", ()),
        ("random", "fair_split", ("--quantities", "2", "1", "2", "--rounds", "4", "--discount", "0.9")),
        ("tough", "myopic", ("--game", "mini-a")),
    ],
)
def test_a_person_plays_exactly_what_the_arena_plays(
    seat: int,
    person: str,
    opponent: str,
    game: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = GAMES["mini-a"] if "mini-a" in game else GameSpec()
    if "--quantities" in game:
        spec = GameSpec(item_quantities=(2, 1, 2), max_rounds=4, discount=0.9)
    pair = (load_policy(person, spec), load_policy(opponent, spec))
    expected = play(pair if seat == 0 else pair[::-1], 12, 7, spec=spec).to_rows()
    options = ("--against", opponent, "--seat", str(seat), "--seed", "7", "--games", "12", "--json")
    assert run(monkeypatch, words(spec, seat, expected), *options, *game) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["against"] == opponent
    assert (record["seat"], record["seed"]) == (seat, 7)
    assert GameSpec.from_dict(record["game"]) == spec
    for row in expected:
        del row["illegal_0"], row["illegal_1"]
    assert record["games"] == expected


def test_the_words_are_those_of_the_prompt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    said = "offer 5 3\noffer 8 0 0\noffer 5 3 1\nhelp\naccept\n"
    assert run(monkeypatch, said, "--against", "tough", "--seed", "3", "--games", "1") == 0
    out = " ".join(capsys.readouterr().out.split())

    def count(text: str) -> int:
        return out.count(" ".join(text.split()))

    spec = GameSpec(observation="history")
    game = ReferenceGame(spec, 3)
    start = PlayerView.from_observation(spec, game.observation())
    game.play(start.offer_keeping((5, 3, 1)))
    game.play(int(load_policy("tough").get_action(game.observation(), game.action_mask())))
    answered = PlayerView.from_observation(spec, game.observation())
    prompt = load_prompt()
    assert count(prompt.rules(spec, 0)) == count(reply_format(spec)) == 2  # at the start, and after "help"
    assert count(prompt.state(start)) == 1
    assert count(prompt.state(answered)) == 2
    assert count("An offer needs 3 numbers") == count("You cannot keep 8 of item A: there are 7.") == 1
    assert count("You accepted the offer of move 2") == 1
    for seat in (0, 1):
        assert count(" ".join(map(str, game.values[seat]))) == 1  # both hands, at the end only
        assert count(f"{game.bundle_value(seat, game.offer) / game.totals[seat]:.3f}") >= 1


@pytest.mark.parametrize("spec", [GameSpec(), GAMES["mini-a"], GameSpec(item_quantities=(3,)), GameSpec((1, 2, 1, 2))])
def test_the_example_of_the_reply_format_is_a_legal_offer(spec: GameSpec) -> None:
    view = PlayerView(spec, 0, (1,) * spec.num_items, 1)
    example = next(line for line in reply_format(spec).splitlines() if line.startswith("OFFER"))
    action = read_reply(view, example).action
    assert action is not None
    assert list(view.bundle(action)) == [int(count) for count in example.split()[1:]]
    assert f"{view.bundle(action)[0]} of item A" in reply_format(spec)


def ending(values: list[list[int]], outside: list[int], moves: list[int], seat: int = 0) -> str:
    game = ReferenceGame(GameSpec(), values=values, outside=outside)
    for move in moves:
        game.play(move)
    return "\n".join(play_command._ending(game, seat))


def test_the_ending_shows_the_best_split() -> None:
    # Seat 0 wants A and B only, seat 1 wants C: all of both are had at once.
    values = [[50, 50, 1], [1, 1, 100]]
    best = int(GameSpec().encode_offer([0, 0, 1]))
    text = ending(values, [100, 50], [best, 80])
    assert "The other player accepted the offer of move 1" in text
    assert "Best for both together: 7 A and 4 B (0.998) for you and 1 C (0.901) for the other player" in text
    assert "Nash bargaining, where neither would rather walk: 7 A and 4 B (0.998) for you" in text
    assert "Best for both together: 1 C (0.901) for you and 7 A and 4 B (0.998) for" in ending(values, [9, 9], [81], 1)


def test_the_ending_says_when_walking_was_best() -> None:
    values = [[50, 50, 50], [50, 50, 50]]
    text = ending(values, [600, 590], [81])
    assert "You walked away: both get their outside offers." in text
    assert "Best for both together: to walk away at once" in text
    assert "No split was worth the outside offers to both." in text
    tied = ending(values, [300, 300], [0, 81])  # splits are as good together as walking, so a split is named
    assert "The other player walked away" in tied
    assert "Best for both together: everything (1.000) for you" in tied


def test_games_go_on_until_the_person_says_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "walk\n\nwalk\nwhat\nyes\nwalk\nn\nwalk\n", "--against", "tioli", "--seed", "1") == 0
    out = capsys.readouterr().out
    assert [f"=== Game {number}" in out for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert out.count("Another game? [Y/n]") == 3
    assert out.count("Please say yes or no") == 1
    assert "3 games, 0 with a deal; mean score" in out


@pytest.mark.parametrize("said", ["", "offer 5 3 1\n", "quit\n", "offer 5 3 1\nq\n"])
def test_leaving_the_table_is_no_error(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, said, "--against", "aspiration", "--seed", "1", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["games"] == []
    assert captured.err.endswith("You leave the table.\n")


def test_ctrl_c_leaves_with_the_finished_games(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def __init__(self, *lines: str) -> None:
            self.lines = list(lines)

        def readline(self) -> str:
            if not self.lines:
                raise KeyboardInterrupt
            return self.lines.pop(0)

    monkeypatch.setattr(sys, "stdin", Interrupted("walk\n", "y\n"))
    assert main(["play", "--against", "tioli", "--seed", "1", "--json"]) == 130
    captured = capsys.readouterr()
    assert [game["actions"] for game in json.loads(captured.out)["games"]] == [[81]]
    assert "You leave the table." in captured.err


def test_without_a_seed_one_is_drawn_and_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = []
    for _ in range(2):
        assert run(monkeypatch, "walk\n", "--against", "soft", "--games", "1", "--json") == 0
        captured = capsys.readouterr()
        seeds.append(json.loads(captured.out)["seed"])
        assert f"=== Game 1, seed {seeds[-1]}, against soft ===" in captured.err
    assert seeds[0] != seeds[1]


def test_a_policy_with_memory_begins_each_game(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = []

    class Remembering(Mixture):
        observation: Any = "history"

        def begin(self, game_ids: Any, seat: int, rng: np.random.Generator | None = None) -> None:
            begun.append((game_ids.tolist(), seat))
            super().begin(game_ids, seat, rng)

    def load(*_: Any, **__: Any) -> Policy:
        return Remembering([load_policy("tough"), load_policy("soft")], [0.5, 0.5])

    monkeypatch.setattr(play_command, "load_policy", load)
    monkeypatch.setattr(sys, "stdin", io.StringIO("offer 7 4 1\nwalk\n" * 8))
    assert play_game(PlayGameOptions(against="mixed", games=8, seed=0)) == 0
    assert begun == [([game], 1) for game in range(8)]
    out = capsys.readouterr().out
    accepted = out.count("The other player accepted")
    assert 0 < accepted < 8  # the soft member accepts nothing at all, the tough one counters


def test_an_illegal_move_of_the_policy_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Illegal:
        observation = "standing"
        device = "cpu"

        def get_action(self, obs: Any, action_mask: Any, rng: Any = None, game_ids: Any = None) -> Any:
            return np.array([80])

    monkeypatch.setattr(play_command, "load_policy", lambda *_, **__: Illegal())
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert play_game(PlayGameOptions(against="x", seat=1, games=1)) == 0
    assert "The other player made an illegal move, which counts as WALK." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "nobody"], "unknown policy 'nobody'"),
        (["--against", "tioli", "--seat", "2"], "'--seat'"),
        (["--against", "tioli", "--games", "0"], "--games"),
        (["--against", "tioli-second", "--rounds", "1"], "max_rounds 2 or more"),
        ([], "--against"),
    ],
)
def test_bad_options_are_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["play", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_real_process_reads_its_input() -> None:
    command = [sys.executable, "-m", "bargain_eval.cli", "play", "--against", "soft", "--seed", "1", "--games", "1"]
    done = subprocess.run(command, input="offer 7 4 1\n", capture_output=True, text=True, check=True)
    assert "The other player accepted the offer of move 1: everything (1.000) for you" in done.stdout
    assert done.stderr == ""

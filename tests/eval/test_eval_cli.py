import dataclasses
import json
import os
import subprocess
import sys
from typing import Annotated, Any, Literal, get_args, get_type_hints

import pytest
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.arena import play
from bargain_eval.baselines import FairSplitPolicy, RandomPolicy
from bargain_eval.cli import main
from bargain_eval.cli_tools import normalise_arguments, run_cli
from bargain_eval.game_options import GameOptions
from pydantic import Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Options:
    """Do something.

    At length.
    """

    count: Annotated[int, Field(ge=1)] = 1
    """A number."""
    verbose_output: bool = False
    """A switch."""
    on: bool = True
    """A switch that is on."""
    sizes: tuple[int, ...] = ()
    """Several numbers."""
    names: list[str] | None = None
    """Several names."""
    text: str = ""
    """Some text."""
    maybe: bool | None = None
    """Neither nor."""
    kind: Literal["a", "b"] = "a"
    """A choice."""
    game: GameOptions = dataclasses.field(default_factory=GameOptions)


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Numbers."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A share."""
    sizes: tuple[Annotated[int, Field(ge=1, lt=9)], ...] = (2, 3)
    """Several sizes."""
    maybe: Annotated[int, Field(ge=2)] | None = None
    """A number or nothing."""
    free: float = 1.5
    """Any number."""


def parse(*argv: str) -> Options:
    seen: list[Options] = []

    def keep(options: Options) -> int:
        seen.append(options)
        return 0

    assert run_cli("prog", "About.", {"do": (Options, keep)}, ["do", *argv]) == 0
    return seen[0]


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--verbose-output"], "verbose_output", True),
        (["--verbose_output=True"], "verbose_output", True),
        (["--verbose-output=False"], "verbose_output", False),
        (["--on=False"], "on", False),
        (["--on=1"], "on", True),
        (["--no-on"], "on", False),
        (["--sizes=[1, 2]"], "sizes", (1, 2)),
        (["--sizes", "[1, 2]"], "sizes", (1, 2)),
        (["--sizes", "3", "4"], "sizes", (3, 4)),
        (["--sizes=[]"], "sizes", ()),
        (["--names=['x', 'y z']"], "names", ["x", "y z"]),
        (["--text=[1, 2]"], "text", "[1, 2]"),
        (["--text=True"], "text", "True"),
        (["--maybe=True"], "maybe", True),
        (["--count=7"], "count", 7),
        (["--outside-range", ".1", ".5"], "game", GameOptions(outside_range=(0.1, 0.5))),
        (["--quantities=[2, 1]", "--max_value", "3"], "game", GameOptions(quantities=(2, 1), max_value=3)),
    ],
)
def test_arguments_as_people_and_sweep_agents_write_them(argv: list[str], field: str, value: Any) -> None:
    assert getattr(parse(*argv), field) == value


def test_normalising_leaves_the_rest_alone() -> None:
    argv = ["x", "--text", "[1]", "--unknown=True", "--on=perhaps", "--sizes=[1", "--count", "3"]
    assert normalise_arguments(argv, Options) == argv


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["do", "--count", "0"], "prog do: --count: Input should be greater than or equal to 1, got 0."),
        (["do", "--count", "x"], "prog do: Error parsing --count: invalid literal for int() with base 10: 'x'."),
        (["do", "--cuont", "1"], "prog do: Unrecognized options: --cuont, 1; perhaps you meant --count."),
        (["do", "--kind", "c"], "prog do: invalid choice 'c' for argument '--kind'. Expected one of ('"),
        (["do", "--rounds", "0"], "prog do: max_rounds must lie between 1 and 63, got 0."),
        (["do"], "prog do: no good."),
        (["xyz"], "prog: unknown command 'xyz'; choose one of do."),
        (["doo"], "prog: unknown command 'doo'; did you mean do?"),
        ([], "prog: a command is missing; choose one of do."),
        (["--wrong"], "prog: Unrecognized options: --wrong."),
    ],
)
def test_a_bad_value_is_one_sentence_and_exit_code_2(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: Options) -> int:
        raise ValueError("no\n good")

    assert run_cli("prog", "About.", {"do": (Options, fail)}, argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1
    assert err.rstrip().endswith((".", "?"))
    assert "pydantic" not in err
    assert "│" not in err


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_the_process_fails_with_one_sentence_on_any_terminal(encoding: str) -> None:
    command = [sys.executable, "-m", "bargain_eval.cli", "baselines", "--nun-games", "3"]
    environment = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "40"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stdout == ""
    assert (
        process.stderr
        == "bargain-eval baselines: Unrecognized options: --nun-games, 3; perhaps you meant --num-games.\n"
    )


def test_an_interrupt_is_130_and_the_exit_code_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(options: Options) -> int:
        raise KeyboardInterrupt

    assert run_cli("prog", "About.", {"do": (Options, interrupt)}, ["do"]) == 130
    assert capsys.readouterr().err == "prog do: interrupted.\n"
    assert run_cli("prog", "About.", {"do": (Options, lambda _: 5)}, ["do"]) == 5


def test_help_is_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert "baselines" in overview
    assert "results" in overview
    assert main(["baselines", "--help"]) == 0
    page = capsys.readouterr().out
    for flag in ("--num-games", "--policies", "--quantities", "--json", "--threads", "--seed", "--device"):
        assert flag in page
    assert "fair_split?accept_threshold=.5" in page


def test_baselines_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["baselines", "--policies", "random", "fair_split", "--num-games", "200", "--seed", "3", "--json=True"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert list(result["cells"]) == ["random", "fair_split"]
    assert result["cells"]["random"]["fair_split"] == play((RandomPolicy(), FairSplitPolicy()), 200, 3).summary()
    assert GameSpec.from_dict(result["game"]) == GameSpec()
    assert main([*argv, "--threads", "2"]) == 0
    assert capsys.readouterr().out == out


def test_baselines_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baselines", "--num-games", "50", "--game", "mini-c"]) == 0
    out = capsys.readouterr().out
    assert "50 games a cell, game mini-c" in out
    for name in ("random", "greedy", "always_walk", "fair_split"):
        assert out.count(name) == 2
    assert main(["baselines", "--num-games", "1", "--policies", "greedy", "--rounds", "1"]) == 0
    assert "game custom" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--policies", "nobody"], "unknown policy 'nobody'"),
        (["--policies", "greedy", "greedy"], "names a policy twice"),
        (["--game", "mini-a", "--rounds", "2"], "--game names a whole game"),
        (["--policies", "tioli", "--discount", ".9"], "tioli needs discount 1"),
        (["--seed", str(2**63)], "--seed: Input should be less than 9223372036854775808"),
        (["--device", "abacus"], "device"),
    ],
)
def test_baselines_refuses_bad_values(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baselines", "--num-games", "5", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


def test_the_results_command_is_there(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "--list=True", "--json", "--results-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == []


def test_game_options_describe_games() -> None:
    assert GameOptions().spec() == GameSpec()
    names = get_args(get_args(get_type_hints(GameOptions)["game"])[0])
    assert set(names) == set(GAMES)
    assert GameOptions(game="mini-b").spec() == GAMES["mini-b"]
    small = GameOptions(quantities=(2, 1), max_value=3, rounds=2, min_value=1)
    assert small.spec() == GAMES["mini-c"]
    assert GameOptions(outside_range=(0.1, 0.5)).spec() == GameSpec(outside_range=(0.1, 0.5))
    assert GameOptions(rounds=5, discount=0.98).spec() == GameSpec(max_rounds=5, discount=0.98)


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys; from bargain_eval.cli import main; code = main(['baselines', '--help'])\n"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_help_names_the_range_of_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("prog", "About.", {"do": (Ranges, lambda _: 0)}, ["do", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in (
        "A share. (>0, <=1; default: 0.5)",
        "Several sizes. (>=1, <9; default: 2 3)",
        "A number or nothing. (>=2; default: None)",
        "Any number. (default: 1.5)",
    ):
        assert text in shown

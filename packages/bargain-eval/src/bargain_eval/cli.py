"""The command line `bargain-eval`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bargain_eval.cli_tools import Command, run_cli

_DESCRIPTION = """Measures policies of the bargaining game, and looks at stored runs.

Each command explains itself, e.g. `bargain-eval baselines --help`; with --json it prints one JSON object and nothing
else. A bad value is answered by one sentence and exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `bargain-eval` with `argv` (the arguments of the process if None) and returns the exit code."""
    from bargain_eval.commands.baselines import BaselinesOptions, baselines
    from bargain_eval.commands.best_response import BestResponseOptions, best_response
    from bargain_eval.commands.compare import CompareOptions, compare
    from bargain_eval.commands.crossplay import CrossplayOptions, crossplay
    from bargain_eval.commands.exact import ExactOptions, exact
    from bargain_eval.commands.metagame import MetagameOptions, metagame
    from bargain_eval.commands.play import PlayGameOptions, play_game
    from bargain_eval.commands.report import ReportOptions, report
    from bargain_eval.commands.results import ResultsOptions, results
    from bargain_eval.commands.search import SearchCommandOptions, search

    commands: dict[str, Command] = {
        "baselines": (BaselinesOptions, baselines),
        "best-response": (BestResponseOptions, best_response),
        "compare": (CompareOptions, compare),
        "crossplay": (CrossplayOptions, crossplay),
        "exact": (ExactOptions, exact),
        "metagame": (MetagameOptions, metagame),
        "play": (PlayGameOptions, play_game),
        "report": (ReportOptions, report),
        "results": (ResultsOptions, results),
        "search": (SearchCommandOptions, search),
    }
    return run_cli("bargain-eval", _DESCRIPTION, commands, argv)


if __name__ == "__main__":
    sys.exit(main())

"""`bargain-eval results`: list, show, compare, rank, export, load and clean up stored runs."""

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from bargain_eval.files import dump_json, read_json
from bargain_eval.results import DEFAULT_METRIC, ResultsManager, metric_value, nash_conv_text
from bargain_eval.results.layout import FINAL_EVAL, Metadata, stored_policies
from bargain_eval.results.metadata import Status
from bargain_eval.results.metrics import read_metrics
from bargain_eval.results.store import ExportFormat
from bargain_eval.results.views import (
    LOWER_BOUND_WARNING,
    Leaderboard,
    final_metric_names,
    flatten,
    game_name,
    opponent_and_seat,
)

Outcome = dict[str, Any]
"""What an action found, in JSON's types once made plain."""

REPORT = "report.html"
"""The page that `--leaderboard` links to, in the folder of the runs."""

_PIPE_WIDTH = 200
_QUALITY = ("NashConv", "total", "agreement")
_NONE = "-"
_OPTION_OF = {"algorithm": "list", "status": "list", "format": "export", "evaluate": "load", "delete": "cleanup"}


@dataclass(frozen=True, kw_only=True)
class ResultsOptions:
    """Look at stored training runs.

    Give exactly one action: --list, --show, --compare, --best, --leaderboard, --export, --load or --cleanup.
    """

    list: bool = False
    """List the runs, newest first; narrow with --algorithm and --status."""
    show: str | None = None
    """Show everything recorded of the run with this id."""
    compare: tuple[str, ...] = ()
    """Show two or more runs side by side: the hyperparameters that differ and the final metrics."""
    best: str | None = None
    """Show the best completed run of this algorithm by --metric."""
    leaderboard: bool = False
    """Rank the best completed run of every algorithm by --metric; runs against one fixed opponent stand apart, and runs
    without the metric are left off and counted."""
    export: Path | None = None
    """Write all completed runs to this file, .csv or .json."""
    load: str | None = None
    """Load the stored policy of the run with this id and say what it holds."""
    cleanup: bool = False
    """Mark the runs of this machine as abandoned whose process ended without closing them."""
    evaluate: bool = False
    """With --load: also play the policy against the fixed pool of opponents."""
    delete: bool = False
    """With --cleanup: also remove all failed and abandoned runs, with their weights."""
    algorithm: str | None = None
    """With --list: only this algorithm."""
    status: Status | None = None
    """With --list: only this status."""
    metric: str = DEFAULT_METRIC
    """The dotted name of the metric to rank and list by; larger is better, unless --minimize."""
    minimize: bool = False
    """With --best and --leaderboard: the smaller the better, as of final_metrics.nash_conv on small games and
    final_metrics.nash_conv_upper on large ones; a small lower bound says nothing."""
    game: str | None = None
    """With --best and --leaderboard: the game, as --list shows it (default: the standard game, `default`)."""
    results_dir: Path = Path("results")
    """The folder of the runs."""
    device: str = "auto"
    """With --evaluate: where to compute: cpu or auto, which are the same in this version."""
    eval_games: int = 1000
    """With --evaluate: the number of games."""
    format: ExportFormat | None = None
    """With --export: the format, if the file's ending does not say it."""
    json: bool = False
    """Print one JSON object instead of tables."""


def results(options: ResultsOptions) -> int:
    """Does the one action that `options` asks for and prints its outcome to stdout.

    Returns:
        The exit code, 0.

    Raises:
        ValueError: not exactly one action, an option of another action, an unknown run, or nothing to show.
        ModuleNotFoundError: `--load` without torch.
    """
    do, show = _ACTIONS[_chosen_action(options)]
    outcome = do(ResultsManager(options.results_dir), options)
    if options.json:
        sys.stdout.write(dump_json(outcome) + "\n")
    else:
        width = None if sys.stdout.isatty() else _PIPE_WIDTH
        show(Console(width=width, markup=False, emoji=False, highlight=False), outcome)
    return 0


def _chosen_action(options: ResultsOptions) -> str:
    chosen = [name for name in _ACTIONS if getattr(options, name)]
    if len(chosen) != 1:
        flags = ", ".join(f"--{name}" for name in _ACTIONS)
        given = " and ".join(f"--{name}" for name in chosen) or "none"
        raise ValueError(f"give exactly one of {flags} (given: {given})")
    for option, action in _OPTION_OF.items():
        if getattr(options, option) and action != chosen[0]:
            raise ValueError(f"--{option} belongs to --{action} and says nothing to --{chosen[0]}")
    for option in ("game", "minimize"):
        if getattr(options, option) and chosen[0] not in ("best", "leaderboard"):
            raise ValueError(f"--{option} belongs to --best and --leaderboard and says nothing to --{chosen[0]}")
    return chosen[0]


def _list(manager: ResultsManager, options: ResultsOptions) -> Outcome:
    runs = manager.list_runs(options.algorithm, options.status)
    return {"metric": options.metric, "runs": runs}


def _show(manager: ResultsManager, options: ResultsOptions) -> Outcome:
    run = manager.get_run(str(options.show))
    folder = Path(run["path"])
    evaluation = folder / FINAL_EVAL
    return {
        "run": run,
        "final_eval": read_json(evaluation) if evaluation.exists() else None,
        "last_metrics": next(reversed(read_metrics(folder)), None),
        "checkpoints": stored_policies(folder),
    }


def _compare(manager: ResultsManager, options: ResultsOptions) -> Outcome:
    return manager.compare_runs(options.compare)


def _best(manager: ResultsManager, options: ResultsOptions) -> Outcome:
    game = options.game or "default"
    run = manager.get_best_run(options.best, options.metric, options.minimize, game=game)
    if run is None:
        raise ValueError(
            f"no completed run of {options.best} on game {game!r} has the metric {options.metric} in {manager.root}"
        )
    return {"metric": options.metric, "run": run}


def _leaderboard(manager: ResultsManager, options: ResultsOptions) -> Outcome:
    report = manager.root / REPORT
    game = options.game or "default"
    board = manager.leaderboard(options.metric, game, options.minimize)
    if board.left_off and not board.both_seats + board.one_seat:
        runs = [run for run in manager.list_runs(status="completed") if game_name(run) == game]
        known = ", ".join(final_metric_names(runs)) or "no final metrics"
        lacking = f"no completed run on game {game!r} has the metric {options.metric} in {manager.root}"
        raise ValueError(f"{lacking}; those there have {known}")
    outcome = {"notes": _notes(board, options), "report": report if report.is_file() else None}
    return asdict(board) | outcome | {"results_dir": options.results_dir}


def _notes(board: Leaderboard, options: ResultsOptions) -> list[str]:
    """Returns what a reader of the ranking has to know."""
    notes = []
    if board.left_off:
        runs, are = ("runs", "are") if board.left_off > 1 else ("run", "is")
        notes.append(f"{board.left_off} completed {runs} without {board.metric} {are} left off.")
    if options.minimize and board.metric == "final_metrics.nash_conv_lower":
        notes.append(LOWER_BOUND_WARNING)
    return notes


def _export(manager: ResultsManager, options: ResultsOptions) -> Outcome:
    path = Path(str(options.export))
    return {"exported_runs": manager.export_results(path, options.format), "path": str(path.resolve())}


def _load(manager: ResultsManager, options: ResultsOptions) -> Outcome:
    identifier = str(options.load)
    path = manager.policy_path(identifier)
    policy = manager.load_policy(identifier)
    outcome = {
        "run_id": identifier,
        "path": str(path),
        "bytes": path.stat().st_size,
        **{name: policy[name] for name in ("algorithm", "step", "spec", "versions", "seats")},
        "networks": [_network_summary(network) for network in policy["networks"]],
    }
    if options.evaluate:
        from bargain_eval.evaluate import evaluate_policy

        outcome["evaluation"] = evaluate_policy(
            f"run:{identifier}", num_games=options.eval_games, results_dir=options.results_dir, device=options.device
        )
    return outcome


def _cleanup(manager: ResultsManager, options: ResultsOptions) -> Outcome:
    return {"removed" if options.delete else "abandoned": manager.cleanup_failed_runs(options.delete)}


def _network_summary(network: Mapping[str, Any]) -> Outcome:
    tensors = network["policy_state_dict"]
    return {
        "config": network["config"],
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "tensors": {name: tuple(tensor.shape) for name, tensor in tensors.items()},
    }


def _print_list(console: Console, outcome: Outcome) -> None:
    _print_runs(console, outcome["runs"], outcome["metric"], "Runs")


def _print_leaderboard(console: Console, outcome: Outcome) -> None:
    _print_runs(console, outcome["both_seats"], outcome["metric"], f"Leaderboard of game {outcome['game']}")
    if outcome["one_seat"]:
        _print_runs(console, outcome["one_seat"], outcome["metric"], "Against one fixed opponent")
    for note in outcome["notes"]:
        console.print(note)
    if outcome["report"] or outcome["both_seats"] or outcome["one_seat"]:
        console.print(_report_line(outcome), soft_wrap=True)


def _report_line(outcome: Outcome) -> Text:
    """Returns where the report is, as a link where the terminal has links, or the command that makes it."""
    report: Path | None = outcome["report"]
    if report is not None:
        anchor = "#leaderboard"
        return Text.assemble("Report: ", (f"{report}{anchor}", Style(link=f"{report.as_uri()}{anchor}")))
    folder: Path = outcome["results_dir"]
    command = ["bargain-eval", "report", str(folder / REPORT), "--results-dir", str(folder)]
    return Text(f"Make a page to look at: {shlex.join(command)}")


def _print_compare(console: Console, outcome: Outcome) -> None:
    run_ids = list(outcome["runs"])
    table = Table("", *run_ids)
    summary = {name: {run: outcome["runs"][run][name] for run in run_ids} for name in outcome["runs"][run_ids[0]]}
    finals = {run: {name: found.get(run) for name, found in outcome["final_metrics"].items()} for run in run_ids}
    summary["NashConv"] = {run: nash_conv_text(final) or _NONE for run, final in finals.items()}
    for rows in (summary, outcome["hyperparameters"], outcome["final_metrics"]):
        for name, values in rows.items():
            table.add_row(name, *(_cell(values.get(run)) for run in run_ids))
        table.add_section()
    console.print(table)


def _print_fields(console: Console, outcome: Outcome) -> None:
    table = Table("field", "value")
    for name, value in flatten(outcome).items():
        table.add_row(name, _cell(value))
    console.print(table)


def _print_show(console: Console, outcome: Outcome) -> None:
    run = outcome["run"]
    _print_fields(console, {"pool_payoff": metric_value(run, DEFAULT_METRIC), **_quality(run), **outcome})


def _print_load(console: Console, outcome: Outcome) -> None:
    _print_fields(console, {name: value for name, value in outcome.items() if name != "networks"})
    for index, network in enumerate(outcome["networks"]):
        console.print(f"Network {index}: {network['parameters']} parameters")
        table = Table("tensor", "shape")
        for name, value in network["config"].items():
            table.add_row(f"config.{name}", _cell(value))
        table.add_section()
        for name, shape in network["tensors"].items():
            table.add_row(name, " × ".join(map(str, shape)) or "scalar")
        console.print(table)


def _print_runs(console: Console, runs: Iterable[Metadata], metric: str, title: str) -> None:
    console.print(title)
    table = Table()
    table.add_column("run", no_wrap=True)
    ranked_by = metric.removeprefix("final_metrics.")
    for heading in ("game", "status", "steps", "seconds", ranked_by, *_QUALITY, "opponent", "tags"):
        table.add_column(heading)
    for run in runs:
        opponent, seat = opponent_and_seat(run)
        faced = " ".join(str(part) for part in (opponent, None if seat is None else f"(seat {seat})") if part)
        numbers = (run["actual_timesteps"], run["training_time_seconds"], metric_value(run, metric))
        cells = (*map(_cell, numbers), *_quality(run).values(), faced, " ".join(run["tags"]))
        table.add_row(run["run_id"], game_name(run), run["status"], *cells)
    console.print(table)


def _quality(run: Metadata) -> dict[str, str]:
    """Returns how near an equilibrium a run's policy is, and how good a one; a dash for what was not measured."""
    final = run["final_metrics"]
    total, agreement = (final.get(name) for name in ("total", "agreement_rate"))
    found = nash_conv_text(final), *("" if value is None else f"{value:.4f}" for value in (total, agreement))
    return dict(zip(_QUALITY, (text or _NONE for text in found), strict=True))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


_ACTIONS: dict[str, tuple[Callable[[ResultsManager, ResultsOptions], Outcome], Callable[[Console, Outcome], None]]] = {
    "list": (_list, _print_list),
    "show": (_show, _print_show),
    "compare": (_compare, _print_compare),
    "best": (_best, _print_fields),
    "leaderboard": (_leaderboard, _print_leaderboard),
    "export": (_export, _print_fields),
    "load": (_load, _print_load),
    "cleanup": (_cleanup, _print_fields),
}

import csv
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import tyro
from bargain_eval.checkpoint import make_checkpoint
from bargain_eval.cli import main
from bargain_eval.commands.results import ResultsOptions, results
from bargain_eval.results import ResultsManager


class TouchFile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.trace}",)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def runs(root: Path) -> dict[str, str]:
    """One completed run of ppo and of mappo, one against a fixed opponent, and one that was lost."""
    manager = ResultsManager(root)
    found = {}
    for name, algorithm, payoff, opponent in (
        ("ppo", "ppo", 0.25, None),
        ("mappo", "mappo", 0.5, None),
        ("one_seat", "ppo", 0.75, "tioli"),
    ):
        run = manager.create_run(algorithm, 1, {"lr": payoff, "opponent": opponent, "sizes": [7, 4]}, tags=["[tag]"])
        run.log_metrics(64, {"loss": 0.125})
        weights = {"weight": torch.zeros(4, 3), "bias": torch.zeros(4)}
        run.save_final_policy(
            make_checkpoint(
                algorithm=algorithm,
                spec={"max_rounds": 3},
                networks=[{"config": {"kind": "mlp"}, "policy_state_dict": weights}],
                seats=[[(0, 1.0)], [(0, 1.0)]],
                step=64,
            )
        )
        run.save_final_eval({"walk_rate": 0.0625})
        run.set_final_metrics({"pool_payoff": payoff})
        run.complete()
        found[name] = run.run_id
    found["lost"] = manager.create_run("fcp", 1, {}).run_id
    return found


def call(root: Path, *arguments: str) -> int:
    return results(tyro.cli(ResultsOptions, args=[*arguments, "--results-dir", str(root)]))


@pytest.fixture
def text(root: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> str:
        assert call(root, *arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def data(text: Any) -> Any:
    def run(*arguments: str) -> Any:
        return json.loads(text(*arguments, "--json"))

    return run


def test_list(runs: dict[str, str], text: Any, data: Any) -> None:
    shown = text("--list")
    assert all(run_id in shown for run_id in runs.values())
    assert "[tag]" in shown
    assert "0.75" in shown
    assert [run["run_id"] for run in data("--list")["runs"]] == list(runs.values())[::-1]
    assert [run["run_id"] for run in data("--list", "--algorithm", "mappo")["runs"]] == [runs["mappo"]]
    assert [run["run_id"] for run in data("--list", "--status", "running")["runs"]] == [runs["lost"]]
    assert "hyperparameters.lr" in text("--list", "--metric", "hyperparameters.lr")


def test_an_empty_folder_is_listed_and_not_made(root: Path, data: Any, text: Any) -> None:
    assert data("--list")["runs"] == []
    assert "Leaderboard" in text("--leaderboard")
    assert not root.exists()


def test_show(runs: dict[str, str], text: Any, data: Any) -> None:
    shown = data("--show", runs["ppo"])
    assert shown["run"]["run_id"] == runs["ppo"]
    assert shown["final_eval"] == {"walk_rate": 0.0625}
    assert shown["last_metrics"]["loss"] == 0.125
    assert shown["checkpoints"] == ["policy"]
    printed = text("--show", runs["ppo"])
    assert "final_metrics.pool_payoff" in printed
    assert "[7, 4]" in printed
    assert data("--show", runs["lost"])["final_eval"] is None


def test_compare(runs: dict[str, str], text: Any, data: Any) -> None:
    compared = data("--compare", runs["ppo"], runs["mappo"])
    assert compared["hyperparameters"] == {"lr": {runs["ppo"]: 0.25, runs["mappo"]: 0.5}}
    printed = text("--compare", runs["ppo"], runs["mappo"])
    assert "pool_payoff" in printed
    assert runs["mappo"] in printed


def test_best(runs: dict[str, str], text: Any, data: Any) -> None:
    assert data("--best", "ppo")["run"]["run_id"] == runs["ppo"]
    assert runs["mappo"] in text("--best", "mappo")


def test_leaderboard(runs: dict[str, str], text: Any, data: Any) -> None:
    board = data("--leaderboard")
    assert [run["run_id"] for run in board["both_seats"]] == [runs["mappo"], runs["ppo"]]
    assert [run["run_id"] for run in board["one_seat"]] == [runs["one_seat"]]
    printed = text("--leaderboard")
    assert printed.index(runs["mappo"]) < printed.index(runs["ppo"]) < printed.index("Against one fixed opponent")
    assert "tioli" in printed


def test_nash_conv_stands_beside_what_ranks(root: Path, text: Any, data: Any) -> None:
    manager, found = ResultsManager(root), {}
    finals: dict[str, dict[str, Any]] = {
        "ppo": {"nash_conv": 0.0123},
        "mappo": {"nash_conv": 0.5},
        "nfsp": {"nash_conv_lower": 0.0282, "nash_conv_upper": 0.0358},
        "fcp": {"nash_conv_lower": 0.0444, "nash_conv_upper": None},
        "psro": {},
    }
    for algorithm, final in finals.items():
        run = manager.create_run(algorithm, 1, {})
        run.set_final_metrics({"pool_payoff": 0.5, "total": 1.25, "agreement_rate": 0.375} | final)
        run.complete()
        found[algorithm] = run.run_id
    shown = {"ppo": "0.0123", "mappo": "0.5000", "nfsp": "0.0282-0.0358", "fcp": ">=0.0444", "psro": "-"}
    board = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text("--leaderboard").splitlines()]
    rows = {row[0]: row for row in board if row and row[0] in found.values()}
    for algorithm, run_id in found.items():
        assert rows[run_id][5:9] == ["0.5", shown[algorithm], "1.2500", "0.3750"]
        lines = [line.split("│")[1:-1] for line in text("--show", run_id).splitlines()]
        fields = {row[0].strip(): row[1].strip() for row in lines if len(row) == 2}
        quality = [fields[name] for name in ("pool_payoff", "NashConv", "total", "agreement")]
        assert quality == ["0.5", shown[algorithm], "1.2500", "0.3750"]
    compared = text("--compare", *found.values())
    assert all(number in compared for number in ("0.0123", "0.0282-0.0358", ">=0.0444"))

    smallest = ("--metric", "final_metrics.nash_conv", "--minimize")
    ranked = data("--leaderboard", *smallest)["both_seats"]
    assert [run["run_id"] for run in ranked] == [found["ppo"], found["mappo"]]
    assert data("--best", "ppo", *smallest)["run"]["run_id"] == found["ppo"]


def test_a_leaderboard_without_any_run_names_the_metrics_that_there_are(
    runs: dict[str, str], root: Path, text: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["results", "--leaderboard", "--metric", "nash_conv", "--results-dir", str(root)]) == 2
    output, error = capsys.readouterr()
    assert output == ""
    assert "no completed run on game 'default' has the metric nash_conv in " in error
    assert error.endswith("; those there have final_metrics.pool_payoff.\n")
    assert "Leaderboard of game mini-b" in text("--leaderboard", "--game", "mini-b")


def test_a_leaderboard_counts_the_runs_without_its_metric(root: Path, text: Any, data: Any) -> None:
    bounds: list[dict[str, Any]] = [{"nash_conv_upper": 0.04}, {"nash_conv_upper": None}, {}]
    for seed, final in enumerate(bounds):
        run = ResultsManager(root).create_run("ppo", seed, {})
        run.set_final_metrics({"pool_payoff": 0.5, "nash_conv_lower": 0.01 * (3 - seed)} | final)
        run.complete()
    upper, lower = (("--metric", f"final_metrics.nash_conv_{end}", "--minimize") for end in ("upper", "lower"))
    assert "2 completed runs without final_metrics.nash_conv_upper are left off." in text("--leaderboard", *upper)
    assert data("--leaderboard", *upper)["left_off"] == 2
    advice = "A small lower bound does not make NashConv small: rank by final_metrics.nash_conv_upper."
    assert data("--leaderboard", *lower)["notes"] == [advice]
    assert data("--leaderboard")["notes"] == []
    ResultsManager(root).create_run("nfsp", 1, {}).complete()
    assert "1 completed run without final_metrics.pool_payoff is left off." in text("--leaderboard")


def test_best_takes_the_smallest_if_asked(root: Path, data: Any) -> None:
    ids = []
    for number in (0.25, 0.125, 0.5):
        run = ResultsManager(root).create_run("ppo", 1, {})
        run.set_final_metrics({"nash_conv": number})
        run.complete()
        ids.append(run.run_id)
    metric = ("--metric", "final_metrics.nash_conv")
    assert data("--best", "ppo", *metric, "--minimize")["run"]["run_id"] == ids[1]
    assert data("--best", "ppo", *metric)["run"]["run_id"] == ids[2]


def test_export(runs: dict[str, str], data: Any, text: Any, tmp_path: Path) -> None:
    assert data("--export", str(tmp_path / "out.csv"))["exported_runs"] == 3
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        assert {row["run_id"] for row in csv.DictReader(file)} == set(runs.values()) - {runs["lost"]}
    assert "3" in text("--export", str(tmp_path / "out"), "--format", "json")
    assert len(json.loads((tmp_path / "out").read_text(encoding="utf-8"))) == 3


def test_load(runs: dict[str, str], text: Any, data: Any) -> None:
    loaded = data("--load", runs["mappo"])
    assert loaded["algorithm"] == "mappo"
    assert loaded["spec"] == {"max_rounds": 3}
    assert loaded["networks"] == [
        {"config": {"kind": "mlp"}, "parameters": 16, "tensors": {"weight": [4, 3], "bias": [4]}}
    ]
    assert loaded["bytes"] == Path(loaded["path"]).stat().st_size
    assert "evaluation" not in loaded
    printed = text("--load", runs["mappo"])
    assert "4 × 3" in printed
    assert "16 parameters" in printed


def test_load_and_evaluate(
    runs: dict[str, str], text: Any, data: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def evaluate_policy(policy_spec: str, **options: Any) -> dict[str, Any]:
        asked.append((policy_spec, options))
        return {"pool_payoff": torch.tensor(0.375), "rows": [1, float("nan")]}

    module = ModuleType("bargain_eval.evaluate")
    module.evaluate_policy = evaluate_policy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bargain_eval.evaluate", module)

    loaded = data("--load", runs["ppo"], "--evaluate", "--eval-games", "12", "--device", "cpu")

    assert loaded["evaluation"] == {"pool_payoff": 0.375, "rows": [1, None]}
    assert asked == [(f"run:{runs['ppo']}", {"num_games": 12, "results_dir": root, "device": "cpu"})]
    assert "0.375" in text("--load", runs["ppo"], "--evaluate")


def test_cleanup(runs: dict[str, str], root: Path, data: Any, text: Any) -> None:
    assert data("--cleanup") == {"abandoned": [runs["lost"]]}
    assert data("--cleanup") == {"abandoned": []}
    assert runs["lost"] in text("--cleanup", "--delete")
    assert {run["run_id"] for run in ResultsManager(root).list_runs()} == set(runs.values()) - {runs["lost"]}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], r"give exactly one of --list, --show, .*--cleanup \(given: none\)"),
        (["--list", "--leaderboard"], r"\(given: --list and --leaderboard\)"),
        (["--evaluate", "--list"], "--evaluate belongs to --load"),
        (["--delete", "--list"], "--delete belongs to --cleanup"),
        (["--list", "--minimize"], "--minimize belongs to --best and --leaderboard"),
        (["--leaderboard", "--algorithm", "ppo"], "--algorithm belongs to --list"),
        (["--list", "--format", "csv"], "--format belongs to --export"),
        (["--show", "nobody"], "there is no run 'nobody'"),
        (["--load", "nobody"], "there is no run 'nobody'"),
        (["--compare", "nobody", "else"], "there is no run 'nobody'"),
        (["--best", "nothing"], r"no completed run of nothing on game 'default' has the metric final_metrics\."),
        (["--export", "results"], "csv or json"),
    ],
)
def test_a_bad_request_is_one_sentence(
    root: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=complaint) as refusal:
        call(root, *arguments, "--json")
    assert "\n" not in str(refusal.value)
    assert capsys.readouterr().out == ""


def test_a_malicious_policy_is_not_run(runs: dict[str, str], root: Path, tmp_path: Path) -> None:
    path = ResultsManager(root).policy_path(runs["ppo"])
    torch.save({"format": "bargain-checkpoint", "evil": TouchFile(tmp_path / "trace")}, path)
    with pytest.raises(ValueError, match="refused"):
        call(root, "--load", runs["ppo"])
    assert not (tmp_path / "trace").exists()

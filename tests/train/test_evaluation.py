"""What runs measure of their policies: the metrics, when NashConv is among them, and that measuring leaves no trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_eval import load_policy
from bargain_eval.evaluate import FINAL_EVAL_SEED, VALIDATION_SEED, evaluate_policy
from bargain_eval.exact import evaluate, policy_profile, tabular_game
from bargain_train import evaluation as evaluation_module
from bargain_train.config import StepConfig
from bargain_train.evaluation import Evaluator, conduct, evaluation_metrics
from bargain_train.nash_conv import FINAL, ROUTINE
from bargain_train.networks import build_network
from bargain_train.policies import NetworkPolicy
from bargain_train.run import Run
from bargain_train.summary import nash_conv_sentence

if TYPE_CHECKING:
    from tests.train.conftest import Train


def a_run(tmp_path: Path, **settings: Any) -> Run:
    folders = {"results_dir": str(tmp_path / "results"), "checkpoint_dir": str(tmp_path / "mirror")}
    base: dict[str, Any] = {"game": "mini-b", "threads": 1, "eval_games": 50, "total_timesteps": 40}
    return Run("ppo", StepConfig(**(base | folders | settings)), console=False)


def a_policy(spec: GameSpec = GAMES["mini-b"]) -> NetworkPolicy:
    torch.manual_seed(5)
    network = build_network({"network": "mlp", "hidden_dims": [8]}, spec)
    return NetworkPolicy((network, network))


def test_an_evaluation_is_the_pool_and_the_exact_nash_conv(tmp_path: Path) -> None:
    policy = a_policy()
    found = Evaluator(a_run(tmp_path))(policy, VALIDATION_SEED)
    game = tabular_game(GAMES["mini-b"])
    exact = evaluate(game, policy_profile(game, policy))
    measured = found.pop("nash_conv")
    assert measured == {"nash_conv": exact.nash_conv, "gain_0": exact.gains[0], "gain_1": exact.gains[1]}
    assert found == evaluate_policy(policy, num_games=50, seed=VALIDATION_SEED, spec=GAMES["mini-b"])
    metrics = evaluation_metrics(found | {"nash_conv": measured})
    assert metrics["eval/nash_conv"] == exact.nash_conv
    assert metrics["eval/agreement_rate"] == found["self_play"]["agreement_rate"]
    assert json.loads(json.dumps(measured)) == measured


def test_one_seat_and_unwanted_measurements_have_none(tmp_path: Path) -> None:
    policy = a_policy()
    one_seat = Evaluator(a_run(tmp_path), seats=(1,), opponents=("random",))(policy, 1)
    assert one_seat["nash_conv"] == {}
    assert set(evaluation_metrics(one_seat)) == {"eval/pool_payoff"}
    assert Evaluator(a_run(tmp_path, eval_nash_conv=False))(policy, 1)["nash_conv"] == {}


def test_bounds_that_do_not_exist_are_no_metrics() -> None:
    bounds = {"nash_conv_lower": 0.25, "nash_conv_upper": None}
    metrics = evaluation_metrics({"pool_payoff": 0.5, "self_play": None, "nash_conv": bounds})
    assert metrics == {"eval/pool_payoff": 0.5, "eval/nash_conv_lower": 0.25}


def test_evaluating_changes_neither_generators_nor_threads(tmp_path: Path) -> None:
    policy = a_policy()
    evaluator, threads = Evaluator(a_run(tmp_path)), torch.get_num_threads()
    states = torch.get_rng_state(), policy._rng.bit_generator.state
    assert evaluator(policy, 1) == evaluator(policy, 1)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert policy._rng.bit_generator.state == states[1]
    assert torch.get_num_threads() == threads


def test_a_run_is_evaluated_when_due_and_better_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, Any]] = []

    def measure(policy: Any, spec: GameSpec, seed: int, *, budget: Any, **options: Any) -> dict[str, float | None]:
        del policy, spec, options
        asked.append((run.step, seed, budget))
        return {"nash_conv_lower": 0.125, "nash_conv_upper": None}

    def updates() -> Any:
        while not run.should_stop():
            run.advance(10)
            yield {"loss": 1.0}

    monkeypatch.setattr(evaluation_module, "measure_nash_conv", measure)
    with a_run(tmp_path, eval_interval=20) as run:
        networks = a_policy().networks
        conduct(run, updates(), lambda: (networks[0], networks[1]), dict, Evaluator(run))
    assert asked == [(20, VALIDATION_SEED, ROUTINE), (40, VALIDATION_SEED, ROUTINE), (40, FINAL_EVAL_SEED, FINAL)]
    lines = [json.loads(line) for line in (run.record.path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("eval/nash_conv_lower") for line in lines] == [None, 0.125, None, 0.125]
    final = run.record.metadata["final_metrics"]
    assert final["nash_conv_lower"] == 0.125
    assert final["nash_conv_upper"] is None


def test_a_run_with_its_nash_conv_says_so(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = train()
    number = run.metadata["final_metrics"]["nash_conv"]
    assert f"NashConv {number:.4f} (exact)." in capsys.readouterr().out
    policy = load_policy(f"run:{run.run_id}")
    game = tabular_game(GAMES["mini-b"])
    assert number == pytest.approx(evaluate(game, policy_profile(game, policy)).nash_conv, abs=1e-12)
    without = train("--no-eval-nash-conv", "--eval-interval", "512")
    assert "NashConv" not in capsys.readouterr().out
    assert not [name for line in without.metrics for name in line if "nash_conv" in name or "gain" in name]
    assert not [name for name in without.metadata["final_metrics"] if "nash_conv" in name or "gain" in name]
    without.assert_same_weights(run)  # measuring does not change what is learned


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"nash_conv": 0.01234}, "NashConv 0.0123 (exact)."),
        ({"nash_conv_lower": 0.0282, "nash_conv_upper": 0.0358}, "NashConv between 0.0282 and 0.0358 (95 %)."),
        ({"nash_conv_lower": 0.0282, "nash_conv_upper": None}, "NashConv at least 0.0282 (95 %)."),
        ({}, ""),
    ],
)
def test_the_summary_says_what_was_measured(found: dict[str, float | None], sentence: str) -> None:
    assert nash_conv_sentence(found) == sentence

"""PPO learns: best responses against their exact values, and self-play that beats walking, on games small enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bargain_train.algorithms import ALGORITHMS
from bargain_train.algorithms.ppo import PPOConfig
from bargain_train.run import Run

UNIFORM_VALUE = 0.60625
"""Each seat's payoff in mini-a between two uniformly random players, by enumeration of all deals and moves."""
BEST_RESPONSE_GAIN = (0.23229167, 0.15277778)
"""What an exact best response adds to it, by seat."""
WALK_TOTAL = 2 * 0.67708333
"""Both payoffs in mini-b if seat 0 walks at once: twice E[outside / total]."""


def _train(tmp_path: Path, **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the final evaluation and the metric lines."""
    config = PPOConfig(
        **settings,
        threads=1,
        hidden_dims=(32,),
        num_envs=128,
        rollout_steps=16,
        lr=3e-3,
        eval_games=20_000,
        results_dir=str(tmp_path / "results"),
        checkpoint_dir=str(tmp_path / "mirror"),
    )
    with Run("ppo", config, console=False) as run:
        ALGORITHMS["ppo"].train(config, run)
    assert run.evaluation is not None
    lines = (run.record.path / "metrics.jsonl").read_text().splitlines()
    return run.evaluation, [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("seat", [0, 1])
def test_a_best_response_reaches_the_exact_value(tmp_path: Path, seat: int) -> None:
    evaluation, _ = _train(tmp_path, game="mini-a", opponent="random", seat=seat, total_timesteps=200_000)
    exact = UNIFORM_VALUE + BEST_RESPONSE_GAIN[seat]
    error = 3 * evaluation["pool_payoff_se"]
    assert 0.97 * exact <= evaluation["pool_payoff"] <= exact + error


@pytest.mark.slow
def test_self_play_raises_the_total_above_walking(tmp_path: Path) -> None:
    """With less entropy some seeds end in the equilibrium in which nobody makes a serious offer, worth just walking."""
    evaluation, lines = _train(
        tmp_path, game="mini-b", total_timesteps=400_000, entropy_coef=0.2, entropy_coef_final=0.02
    )
    play = evaluation["self_play"]
    assert play["total"] > WALK_TOTAL + 3 * play["total_se"]
    assert min(play["payoff_0"], play["payoff_1"]) > 0.67
    assert lines[0]["entropy_coef"] == pytest.approx(0.2)
    assert lines[-1]["entropy_coef"] == pytest.approx(0.02, abs=2e-3)
    assert lines[-1]["lr"] < 0.2 * lines[0]["lr"]
    assert lines[-1]["entropy"] < lines[0]["entropy"]
    assert lines[-1]["explained_variance"] > 0.3 > lines[0]["explained_variance"]

"""Trains PPO on a small game, loads the stored policy and plays it against a baseline on common deals."""

from __future__ import annotations

import tempfile

from bargain_env import GAMES
from bargain_eval import ResultsManager, load_policy, play_paired
from bargain_train.cli import main as bargain_train


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bargain_train(
            [
                *("ppo", "--game", "mini-b", "--total-timesteps", "50000", "--num-envs", "64", "--eval-games", "500"),
                *("--results-dir", folder, "--checkpoint-dir", f"{folder}/checkpoints"),
            ]
        )
        run = ResultsManager(folder).get_best_run("ppo", game="mini-b")
        if run is None:
            raise SystemExit("the run was not stored")
        game = GAMES["mini-b"]
        policy = load_policy(f"run:{run['run_id']}", game, results_dir=folder)
        rival = load_policy("fair_split", game)
        summary = play_paired(policy, rival, 2_000, 0, spec=game).summary()
    print(f"ours {summary['payoff_a']:.3f}, fair_split {summary['payoff_b']:.3f} ± {summary['difference_se']:.3f}")


if __name__ == "__main__":
    main()

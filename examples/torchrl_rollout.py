"""Collects games with TorchRL in both views and credits each decision with its own seat's payoff."""

from __future__ import annotations

from bargain_env import BargainEnv, GameSpec
from bargain_train.advantage import seat_rewards


def main() -> None:
    env = BargainEnv(GameSpec(), num_envs=256, seed=0)
    rollout = env.rollout(50, auto_reset=True, break_when_any_done=False).permute(1, 0)
    done = rollout["next", "done"].squeeze(-1)
    credit = seat_rewards(rollout["player"], rollout["next", "reward"], done)
    print(f"{int(done.sum())} games ended; a decision earned {float(credit.mean()):.3f} before the seat's next one")

    env = BargainEnv(GameSpec(), num_envs=256, seed=0, view="agents")  # for MAPPOLoss, IPPOLoss and MultiAgentGAE
    agents = env.rollout(50, auto_reset=True, break_when_any_done=False)
    earned = agents["next", "agents", "reward"].sum((0, 1, 3)) / agents["next", "done"].sum()
    acting = agents["agents", "turn"].float().mean()
    print(f"mean payoff of seat 0 and 1: {earned.tolist()}; a seat acts in {float(acting):.0%} of the rows")


if __name__ == "__main__":
    main()

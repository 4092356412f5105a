"""Collects games with TorchRL and credits each decision with its own seat's payoff."""

from __future__ import annotations

from bargain_env import BargainEnv, GameSpec
from bargain_train.advantage import seat_rewards


def main() -> None:
    env = BargainEnv(GameSpec(), num_envs=256, seed=0)
    rollout = env.rollout(50, auto_reset=True, break_when_any_done=False).permute(1, 0)
    done = rollout["next", "done"].squeeze(-1)
    credit = seat_rewards(rollout["player"], rollout["next", "reward"], done)
    print(f"{int(done.sum())} games ended; a decision earned {float(credit.mean()):.3f} before the seat's next one")


if __name__ == "__main__":
    main()

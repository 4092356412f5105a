"""Credit per seat on the interleaved stream of a game in which seats alternate strictly.

Legend: `T` decisions of a rollout, `N` games, seats 0 and 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Credit(NamedTuple):
    """What each decision of a rollout earned its mover; all `[T, N]`.

    Attributes:
        advantage: GAE of the mover.
        value_target: advantage + value.
        valid: False where the mover's next decision lies beyond the rollout, so nothing is known yet.
    """

    advantage: torch.Tensor
    value_target: torch.Tensor
    valid: torch.Tensor


def seat_rewards(player: torch.Tensor, reward: torch.Tensor, done: torch.Tensor) -> torch.Tensor:
    """Returns `[T, N]`: what the mover p of t receives before its next decision, `r_p[t] + (not done[t]) r_p[t+1]`."""
    own = reward.gather(-1, player.unsqueeze(-1)).squeeze(-1)
    reply = torch.zeros_like(own)
    reply[:-1] = reward[1:].gather(-1, player[:-1].unsqueeze(-1)).squeeze(-1) * ~done[:-1]
    return own + reply


def seat_gae(
    player: torch.Tensor,
    reward: torch.Tensor,
    done: torch.Tensor,
    value: torch.Tensor,
    head_value: torch.Tensor,
    *,
    gamma: float = 1.0,
    lmbda: float = 0.95,
) -> Credit:
    """Generalised advantage estimation with stride two (Schulman et al. 2016, eq. 16, along each seat's decisions).

    With `over = done[t] | done[t+1]` the mover's game ends before its next decision, which is t + 2 otherwise:
    `delta = r_p[t] + (not done[t]) r_p[t+1] + gamma (not over) V(s[t+2]) - V(s[t])`.

    Args:
        player: `[T, N]` int64, the mover.
        reward: `[T, N, 2]` float32, both seats.
        done: `[T, N]` bool, the game ended with this decision.
        value: `[T, N]` float32, the mover's value before its decision.
        head_value: `[N]` float32, the value of the state after the rollout.
        gamma: Discount per own decision.
        lmbda: GAE's lambda.

    Returns:
        The credit. Decision T - 1 is not valid unless its game ended with it: the reply is unknown. `T` passes over
        `[N]`.

    Raises:
        ValueError: If the rollout is shorter than two decisions.
    """
    length = len(player)
    if length < 2:
        raise ValueError(f"a rollout needs at least two decisions to credit, got {length}.")
    over = done.clone()
    over[:-1] |= done[1:]
    after = torch.zeros_like(value)
    after[:-2] = value[2:]
    after[-2] = head_value
    gain = seat_rewards(player, reward, done)
    valid = torch.ones_like(done)
    valid[-1] = done[-1]
    delta = (gain + gamma * after * ~over - value) * valid
    advantage = delta.clone()
    for t in range(length - 3, -1, -1):
        advantage[t] += gamma * lmbda * advantage[t + 2] * ~over[t]
    return Credit(advantage, advantage + value, valid)

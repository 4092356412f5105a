"""Updates: functions that take rows of experience, change a network and return metrics.

Legend: `R` rows, `A` actions, `O` features.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import nn
from torchrl.objectives import ClipPPOLoss

from bargain_train.actors import ppo_modules
from bargain_train.config import PpoOptions
from bargain_train.networks import Network


class Learner:
    """A network, the seats it plays, and what trains it with PPO.

    Args:
        network: The network; its parameters are changed in place.
        seats: The seats that it plays, (0,), (1,) or (0, 1).
        options: The numbers of its updates.
    """

    def __init__(self, network: Network, seats: tuple[int, ...], options: PpoOptions) -> None:
        self.network = network
        self.seats = seats
        self.options = options
        actor, critic = ppo_modules(network)
        self.loss = ClipPPOLoss(
            actor,
            critic,
            clip_epsilon=options.clip_eps,
            entropy_coeff=options.entropy_coef,
            critic_coeff=options.value_coef,
            loss_critic_type="l2",
            normalize_advantage=False,
            functional=False,
            log_explained_variance=False,
        )
        self.optimizer = torch.optim.Adam(network.parameters(), lr=options.lr, eps=1e-5, fused=True)

    def anneal(self, progress: float) -> dict[str, float]:
        """Sets learning rate and entropy weight for `progress` (0 to 1) and returns them."""
        rate, entropy_coef = self.options.at(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.loss.entropy_coeff.fill_(entropy_coef)
        return {"lr": rate, "entropy_coef": entropy_coef}

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the learner has learned: the network's parameters and the optimiser's state."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


@torch.no_grad()
def read_rows(network: Network, rows: TensorDictBase) -> TensorDictBase:
    """Returns `rows` with the network's `features` `[R, F]` in place of `observation` `[R, O]`."""
    return rows.exclude("observation").set("features", network.reader(rows["observation"]))


def ppo_update(learner: Learner, rows: TensorDictBase, generator: torch.Generator) -> dict[str, float]:
    """Improves the learner's network on `rows` by clipped PPO (Schulman et al. 2017, eq. 7).

    Args:
        learner: Who learns.
        rows: `[R]` with `observation`, `action_mask`, `action`, `action_log_prob`, `advantage` `[R, 1]` and
            `value_target` `[R, 1]`.
        generator: Shuffles the rows in every epoch.

    Returns:
        Means over the gradient steps: loss, policy_loss, value_loss, entropy, approx_kl, clip_fraction, grad_norm; and
        first_ratio_error, by how much the largest probability ratio exceeds 1 before the first step: rounding alone.
        Nothing if there are no rows, which happens to few games and short rollouts.

    Raises:
        FloatingPointError: If the loss is not finite; the network has not taken that step.
    """
    options, size = learner.options, len(rows)
    if not size:
        return {}
    rows = read_rows(learner.network, rows)
    count = -(-size // options.minibatch_size)
    totals: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(()))
    first_ratio_error = 0.0
    for epoch in range(options.ppo_epochs):
        order = torch.randperm(size, generator=generator, device=rows.device)
        for part, index in enumerate(torch.tensor_split(order, count)):
            output = learner.loss(rows[index])
            if epoch == part == 0:
                first_ratio_error = float(output["max_ratio"]) - 1.0
            loss = output["loss_objective"] + output["loss_critic"] + output["loss_entropy"]
            if not bool(loss.isfinite()):
                raise FloatingPointError("the PPO loss is not finite; try a smaller --lr.")
            learner.optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(learner.network.parameters(), options.max_grad_norm)
            learner.optimizer.step()
            for name, value in (
                ("loss", loss),
                ("policy_loss", output["loss_objective"]),
                ("value_loss", output["loss_critic"]),
                ("entropy", output["entropy"]),
                ("approx_kl", output["kl_approx"]),
                ("clip_fraction", output["clip_fraction"]),
                ("grad_norm", norm),
            ):
                totals[name] = totals[name] + value.detach()
    metrics = {name: float(total) / (count * options.ppo_epochs) for name, total in totals.items()}
    return metrics | {"first_ratio_error": first_ratio_error}

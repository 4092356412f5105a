"""Behaviour cloning: a network learns to play what was played.

Legend: `R` decisions, `O` features, `A` actions.
"""

from __future__ import annotations

import torch

from bargain_train.actors import MaskedCategorical
from bargain_train.networks import Network


def clone(
    network: Network,
    observation: torch.Tensor,
    mask: torch.Tensor,
    action: torch.Tensor,
    weight: torch.Tensor,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """Fits the network's policy to decisions by weighted cross-entropy over the legal actions, with Adam.

    The values are not trained. Costs `epochs` passes of all rows forward and backward.

    Args:
        network: Who learns; its parameters are changed in place.
        observation: `[R, O]` float32; this and the following on the network's device.
        mask: `[R, A]` bool, True = legal.
        action: `[R]` int64.
        weight: `[R]`, of each decision up to a factor.
        epochs: Passes over the rows.
        batch_size: Rows of a gradient step; each pass is split into equal batches of at most this size.
        lr: Learning rate.
        generator: Shuffles the rows in every pass; on the network's device.

    Returns:
        first_loss, first_accuracy, last_loss, last_accuracy, of the first and the last pass while it was made: the
        weighted mean cross-entropy in nats, and the weighted share of decisions that had the highest probability.

    Raises:
        ValueError: If there are no rows.
        FloatingPointError: If the loss is not finite; the network has not taken that step.
    """
    size = len(observation)
    if not size:
        raise ValueError("there is no decision to imitate.")
    features = network.reader(observation)
    share = (weight / weight.mean()).to(features.dtype)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    metrics: dict[str, float] = {}
    for epoch in range(epochs):
        totals = torch.zeros(2, device=features.device)
        order = torch.randperm(size, generator=generator, device=features.device)
        for index in torch.tensor_split(order, -(-size // batch_size)):
            distribution = MaskedCategorical(network.outputs(features[index])[0], mask[index])
            losses = -share[index] * distribution.log_prob(action[index])
            loss = losses.mean()
            if not bool(loss.isfinite()):
                raise FloatingPointError("the loss of the imitation is not finite; try a smaller --imitation-lr.")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right = share[index] * (distribution.mode == action[index])
            totals += torch.stack([losses.detach().sum(), right.sum()])
        name = "first" if epoch == 0 else "last"
        metrics[f"{name}_loss"], metrics[f"{name}_accuracy"] = (totals / size).tolist()
    return {f"last_{name}": metrics[f"first_{name}"] for name in ("loss", "accuracy")} | metrics

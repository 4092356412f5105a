"""Updates: functions that take rows of experience, change a network and return metrics.

Legend: `R` rows, `A` actions, `O` features.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from tensordict.nn import ProbabilisticTensorDictSequential
from torch import nn
from torch.autograd.function import once_differentiable
from torchrl.objectives import ClipPPOLoss

from bargain_train.actors import MaskedCategorical, ppo_modules
from bargain_train.config import MAGNET_INTERVAL, PpoOptions
from bargain_train.distributed import ALONE, Team
from bargain_train.guide import Guide
from bargain_train.networks import Network


class Actor(ProbabilisticTensorDictSequential):
    """An actor that remembers the distribution of its last pass, which a loss does not hand on.

    Attributes:
        distribution: Of the last `get_dist`, with gradient.
    """

    distribution: MaskedCategorical

    def get_dist(self, *arguments: Any, **options: Any) -> MaskedCategorical:
        """Returns the distribution of the rows of a tensordict."""
        self.distribution = super().get_dist(*arguments, **options)
        return self.distribution


class Learner:
    """A network, the seats it plays, and what trains it with PPO.

    Args:
        network: The network; its parameters are changed in place.
        seats: The seats that it plays, (0,), (1,) or (0, 1).
        options: The numbers of its updates.
        guide: What its policy is held close to beside the `references`; None = nothing.

    Attributes:
        magnet: The frozen copy of the network that the policy is held close to; None without `kl_magnet_coef`.
        updates: Updates made.
    """

    def __init__(
        self, network: Network, seats: tuple[int, ...], options: PpoOptions, guide: Guide | None = None
    ) -> None:
        self.network = network
        self.seats = seats
        self.options = options
        self.guide = guide
        self.magnet = copy.deepcopy(network).requires_grad_(False) if "magnet" in options.kl_terms else None
        self.updates = 0
        actor, critic = ppo_modules(network)
        self.actor = Actor(*actor.module)
        self.loss = ClipPPOLoss(
            self.actor,
            critic,
            clip_epsilon=options.clip_eps,
            entropy_coeff=options.entropy_coef,
            critic_coeff=options.value_coef,
            loss_critic_type="l2",
            normalize_advantage=False,
            functional=False,
            log_explained_variance=False,
            device=next(network.parameters()).device,
        )
        self.optimizer = torch.optim.Adam(network.parameters(), lr=options.lr, eps=1e-5, fused=True)
        self.anneal(0.0)

    def anneal(self, progress: float) -> dict[str, float]:
        """Sets learning rate and weights for `progress` (0 to 1) and returns them."""
        self.weights = self.options.at(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.weights["lr"]
        self.loss.entropy_coeff.fill_(self.weights["entropy_coef"])
        return self.weights

    def refresh(self) -> None:
        """Counts an update that begins; copies the network into the magnet if that is due."""
        interval = self.options.magnet_interval or MAGNET_INTERVAL
        if self.magnet is not None and self.updates % interval == 0:
            self.magnet.load_state_dict(self.network.state_dict())
        self.updates += 1

    def references(self) -> dict[str, Network]:
        """Returns the networks whose policies the policy is held close to, by the name of the KL to them."""
        networks = {"rollout": self.network, "magnet": self.magnet}
        return {f"kl_{name}": network for name in self.options.kl_terms if (network := networks[name]) is not None}

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the learner has learned: parameters, optimiser's state, magnet, guide's coefficient."""
        state: dict[str, Any] = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.magnet is not None:
            state |= {"magnet": self.magnet.state_dict(), "updates": self.updates}
        if self.guide is not None:
            state["guide"] = self.guide.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.magnet is not None:
            self.magnet.load_state_dict(state["magnet"])
            self.updates = state["updates"]
        if self.guide is not None:
            self.guide.load_state_dict(state["guide"])


class _KullbackLeibler(torch.autograd.Function):
    """KL(p || q) of each row; its gradient in the logits of p is p (log p - log q - KL)."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, log_probs: torch.Tensor, probs: torch.Tensor, others: torch.Tensor
    ) -> torch.Tensor:
        difference = log_probs - others
        kl = torch.linalg.vecdot(probs, difference)
        ctx.save_for_backward(difference, probs, kl)
        return kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        difference, probs, kl = ctx.saved_tensors
        return (difference - kl.unsqueeze(-1)).mul_(probs).mul_(grad.unsqueeze(-1)), None, None, None


def kl_divergence(distribution: MaskedCategorical, log_probs: torch.Tensor) -> torch.Tensor:
    """Returns KL(distribution || other) `[R]` in nats, with gradient in the logits of the first.

    Args:
        distribution: Of `R` rows.
        log_probs: `[R, A]` of the other distribution, finite and with the same legal actions.
    """
    kl: torch.Tensor = _KullbackLeibler.apply(
        distribution.logits, distribution.log_probs, distribution.probs, log_probs
    )
    return kl


class _ForwardKullbackLeibler(torch.autograd.Function):
    """KL(q || p) of each row; its gradient in the logits of p is p - q."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, log_probs: torch.Tensor, probs: torch.Tensor, others: torch.Tensor
    ) -> torch.Tensor:
        weights = others.exp()
        ctx.save_for_backward(probs, weights)
        return torch.linalg.vecdot(weights, others - log_probs).clamp_min_(0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        probs, weights = ctx.saved_tensors
        return (probs - weights).mul_(grad.unsqueeze(-1)), None, None, None


def forward_kl_divergence(log_probs: torch.Tensor, distribution: MaskedCategorical) -> torch.Tensor:
    """Returns KL(other || distribution) `[R]` in nats, at least 0, with gradient in the logits of the second.

    Args:
        log_probs: `[R, A]` of the other distribution, finite and with the same legal actions.
        distribution: Of `R` rows.
    """
    kl: torch.Tensor = _ForwardKullbackLeibler.apply(
        distribution.logits, distribution.log_probs, distribution.probs, log_probs
    )
    return kl


@torch.no_grad()
def policy_log_probs(network: Network, rows: TensorDictBase, chunk: int) -> torch.Tensor:
    """Returns the network's log-probabilities `[R, A]` at `rows` with `features` and `action_mask`, by chunks."""
    parts = rows.split(chunk)
    outputs = ((network.outputs(part["features"])[0], part["action_mask"]) for part in parts)
    return torch.cat([MaskedCategorical(logits, mask).log_probs for logits, mask in outputs])


@torch.no_grad()
def read_rows(network: Network, rows: TensorDictBase) -> TensorDictBase:
    """Returns `rows` with the network's `features` `[R, F]` in place of `observation` `[R, O]`."""
    return rows.exclude("observation").set("features", network.reader(rows["observation"]))


def ppo_update(
    learner: Learner, rows: TensorDictBase, generator: torch.Generator, team: Team = ALONE
) -> dict[str, float]:
    """Improves the learner's network on `rows` by clipped PPO (Schulman et al. 2017, eq. 7).

    A weight of the KL divergence from the rollout's policy makes it magnetic mirror descent (Sokota et al. 2023), one
    of that from a magnet NashPG (arXiv 2510.18183), with the clipped surrogate in place of the expected payoff. Each
    costs one forward pass of all rows, and gathering `[R, A]` in every epoch. So does a guide (Nguyen et al. 2025), but
    its KL is that of the guide from the policy, which is low only where the policy does all that the guide does.

    In several processes a minibatch is made of the same share of every process's rows, and its loss is the mean over
    all of them.

    Args:
        learner: Who learns.
        rows: `[R]` with `observation`, `action_mask`, `action`, `action_log_prob`, `advantage` `[R, 1]` and
            `value_target` `[R, 1]`.
        generator: Shuffles the rows in every epoch.
        team: The processes that make this update together.

    Returns:
        Means over the gradient steps: loss, policy_loss, value_loss, entropy, approx_kl, clip_fraction, grad_norm; and
        first_ratio_error, by how much the largest probability ratio exceeds 1 before the first step: rounding alone;
        kl_rollout and kl_magnet, in nats, if they have a weight; and with a guide kl_guide, in nats, and kl_coef, its
        coefficient in this update.
        Nothing if a process has no rows, which happens to few games and short rollouts.

    Raises:
        FloatingPointError: If the loss is not finite; the network has not taken that step.
    """
    options, size = learner.options, len(rows)
    learner.refresh()
    sizes = team.counts(size)
    if not min(sizes):
        return {}
    shown, rows = rows, read_rows(learner.network, rows)
    rows["value_target"] = learner.network.value_targets(rows["features"], rows["value_target"])
    references = learner.references()
    for name, network in references.items():
        rows[name] = policy_log_probs(network, rows, options.minibatch_size)
    if (guide := learner.guide) is not None:
        rows["kl_guide"] = policy_log_probs(guide.network, read_rows(guide.network, shown), options.minibatch_size)
    count = min(-(-sum(sizes) // options.minibatch_size), *sizes)
    totals: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(()))
    first_ratio_error = 0.0
    for epoch in range(options.ppo_epochs):
        order = torch.randperm(size, generator=generator, device=rows.device)
        for part, index in enumerate(torch.tensor_split(order, count)):
            batch = rows[index]
            share = len(batch) / sum(number // count + (part < number % count) for number in sizes)
            output = learner.loss(batch)
            if epoch == part == 0:
                first_ratio_error = float(output["max_ratio"]) - 1.0
            loss = output["loss_objective"] + output["loss_critic"] + output["loss_entropy"]
            kls = {name: kl_divergence(learner.actor.distribution, batch[name]).mean() for name in references}
            for name, kl in kls.items():
                loss = loss + learner.weights[f"{name}_coef"] * kl
            if guide is not None:
                kls["kl_guide"] = forward_kl_divergence(batch["kl_guide"], learner.actor.distribution).mean()
                loss = loss + guide.weight * kls["kl_guide"]
            learner.optimizer.zero_grad()
            (loss * share).backward()
            if not bool(team.sum_gradients(learner.network.parameters(), loss.detach()).isfinite()):
                raise FloatingPointError("the PPO loss is not finite; try a smaller --lr.")
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
                *kls.items(),
            ):
                totals[name] = totals[name] + value.detach() * share
    metrics = {name: total / (count * options.ppo_epochs) for name, total in team.totals(totals).items()}
    if guide is not None:
        metrics["kl_coef"] = guide.coef
        guide.adapt(metrics["kl_guide"])
    return metrics | {"first_ratio_error": team.largest(first_ratio_error)}

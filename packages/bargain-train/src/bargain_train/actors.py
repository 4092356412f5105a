"""The tensordict keys of a network: the masked policy head for acting and the modules of a PPO loss.

Legend: `B` rows, `A` actions, `O` features.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import torch
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
)
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution, constraints

from bargain_train.networks import Network

ILLEGAL_LOGIT = -1.0e9


class MaskedCategorical(Distribution):
    """Categorical over the legal actions: log-probabilities, entropy and samples in few passes over `[B, A]`.

    `log_prob` and `entropy` carry gradients, in closed form; `log_probs` and `probs` are plain numbers. Sampling
    inverts the cumulative distribution with one uniform a row, a third of the cost of `torch.multinomial`, and never
    returns an illegal action.

    Args:
        logits: `[B, A]` float32.
        mask: `[B, A]` bool, True = legal, at least one in every row.

    Attributes:
        log_probs: `[B, A]`, without gradient.
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 (as torch declares it)
    has_rsample = False

    def __init__(self, logits: torch.Tensor, mask: torch.Tensor) -> None:
        self.logits, self.mask = logits, mask
        self.log_probs = torch.log_softmax(logits.detach().masked_fill(~mask, ILLEGAL_LOGIT), -1)
        super().__init__(logits.shape[:-1], validate_args=False)

    @cached_property
    def probs(self) -> torch.Tensor:
        """`[B, A]`, without gradient; exactly 0 for illegal actions."""
        return self.log_probs.exp()

    @property
    def mode(self) -> torch.Tensor:
        """`[B]` int64, the most probable action."""
        return self.log_probs.argmax(-1)

    deterministic_sample = mode

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Returns `[B]` log-probabilities of the actions `[B]`."""
        log_prob: torch.Tensor = _LogProb.apply(self.logits, self.log_probs, self.probs, value)
        return log_prob

    def entropy(self) -> torch.Tensor:
        """Returns `[B]` entropies in nats.

        Raises:
            FloatingPointError: If the logits are not finite; TorchRL would go on with an estimate from samples.
        """
        entropy: torch.Tensor = _Entropy.apply(self.logits, self.log_probs, self.probs)
        if not bool(entropy.isfinite().all()):
            raise FloatingPointError("the policy's logits are not finite; try a smaller --lr.")
        return entropy

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = (), generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Returns `[B]` int64 legal actions; one draw a row, so `sample_shape` must be empty."""
        if sample_shape:
            raise ValueError("MaskedCategorical draws one action a row.")
        return sample_cdf(self.probs, generator)


class _LogProb(torch.autograd.Function):
    """The log-probability of one action a row; its gradient in the logits is one-hot minus probabilities."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, log_probs: torch.Tensor, probs: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        chosen = action.unsqueeze(-1)
        ctx.save_for_backward(probs, chosen)
        return log_probs.gather(-1, chosen).squeeze(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        probs, chosen = ctx.saved_tensors
        column = grad.unsqueeze(-1)
        return (probs * -column).scatter_add_(-1, chosen, column), None, None, None


class _Entropy(torch.autograd.Function):
    """The entropy H of each row; its gradient in the logits is -p (log p + H)."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, log_probs: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
        entropy = -torch.linalg.vecdot(probs, log_probs)
        ctx.save_for_backward(log_probs, probs, entropy)
        return entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        log_probs, probs, entropy = ctx.saved_tensors
        return (log_probs + entropy.unsqueeze(-1)).mul_(probs).mul_(-grad.unsqueeze(-1)), None, None


def sample_cdf(probs: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Returns one action a row, `[B]` int64, drawn from `probs` `[B, A]`; see `draw_cdf`."""
    return draw_cdf(probs, 1, generator).squeeze(-1)


def draw_cdf(probs: torch.Tensor, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Returns `count` independent draws a row, `[B, count]` int64, from `probs` (nonnegative, any positive sum).

    An action of probability 0 is never drawn: the uniform lies in [0, sum), and an action is drawn where the
    cumulative sum first exceeds it. A row that is not finite draws the last action; the loss on it will say so.

    Args:
        probs: `[B, A]` float32.
        count: Draws.
        generator: Source of `B * count` uniforms; torch's global one if None.
    """
    uniform = torch.rand(len(probs), count, generator=generator, device=probs.device, dtype=probs.dtype)
    return invert_cdf(probs, uniform)


def invert_cdf(probs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Returns the draws `[B, count]` int64 from `probs` `[B, A]` that `uniform` `[B, count]` stands for; `draw_cdf`."""
    cumulative = probs.cumsum(-1)
    total = cumulative[:, -1:]
    # The product may round up to the total; the last action with mass then stands.
    point = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, point, right=True).clamp_max_(probs.shape[-1] - 1)


def regret_matching(advantages: torch.Tensor, mask: torch.Tensor, fallback: str = "argmax") -> torch.Tensor:
    """Returns probabilities `[B, A]` proportional to the positive advantages of the legal actions.

    Where no legal action has a positive one: all mass on the greatest (`fallback` "argmax", Brown et al. 2019), or the
    same on each ("uniform", Zinkevich et al. 2007).

    Args:
        advantages: `[B, A]` float32.
        mask: `[B, A]` bool, True = legal, at least one in every row.
        fallback: "argmax" or "uniform".
    """
    positive = advantages.clamp_min(0.0) * mask
    total = positive.sum(-1, keepdim=True)
    if fallback == "argmax":
        best = advantages.masked_fill(~mask, -torch.inf).argmax(-1, keepdim=True)
        otherwise = torch.zeros_like(positive).scatter_(-1, best, 1.0)
    else:
        otherwise = mask / mask.sum(-1, keepdim=True)
    return torch.where(total > 0, positive / total.clamp_min(torch.finfo(total.dtype).tiny), otherwise)


def action_probs(network: Network, logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Returns the probabilities `[B, A]` that `network` plays with at its `logits` `[B, A]`, without gradient."""
    if network.play == "softmax":
        return MaskedCategorical(logits, mask).probs
    return regret_matching(logits.detach(), mask, network.play.removeprefix("regret-"))


def ppo_modules(network: Network) -> tuple[ProbabilisticTensorDictSequential, TensorDictModule]:
    """Returns the actor and critic for TorchRL's PPO losses.

    The actor maps `features` (what `network.reader` returns) and `action_mask` to `logits`, `values` and the
    distribution of `action`; the critic takes up the `values`, so trunk and heads run once a minibatch and both losses'
    gradients reach them.
    """
    outputs = TensorDictModule(network.outputs, in_keys=["features"], out_keys=["logits", "values"])
    head = ProbabilisticTensorDictModule(
        in_keys={"logits": "logits", "mask": "action_mask"},
        out_keys=["action"],
        distribution_class=MaskedCategorical,
        return_log_prob=True,
    )
    column = partial(torch.unsqueeze, dim=-1)
    critic = TensorDictModule(column, in_keys=["values"], out_keys=["state_value"])
    return ProbabilisticTensorDictSequential(outputs, head), critic

"""The tensordict keys of a network: the masked policy head for acting and the modules of a PPO loss.

Legend: `B` rows, `A` actions, `O` features.
"""

from __future__ import annotations

from functools import cached_property

import torch
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
)
from torch.distributions import Distribution, constraints

from bargain_train.networks import Network

ILLEGAL_LOGIT = -1.0e9


class MaskedCategorical(Distribution):
    """Categorical over the legal actions: log-probabilities, entropy and samples in few passes over `[B, A]`.

    Sampling inverts the cumulative distribution with one uniform a row, which costs a third of `torch.multinomial` and
    never returns an illegal action.

    Args:
        logits: `[B, A]` float32.
        mask: `[B, A]` bool, True = legal, at least one in every row.
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 (as torch declares it)
    has_rsample = False

    def __init__(self, logits: torch.Tensor, mask: torch.Tensor) -> None:
        self.mask = mask
        self.log_probs = torch.log_softmax(logits.masked_fill(~mask, ILLEGAL_LOGIT), -1)
        super().__init__(logits.shape[:-1], validate_args=False)

    @cached_property
    def probs(self) -> torch.Tensor:
        """`[B, A]`; exactly 0 for illegal actions."""
        return self.log_probs.exp()

    @property
    def mode(self) -> torch.Tensor:
        """`[B]` int64, the most probable action."""
        return self.log_probs.argmax(-1)

    deterministic_sample = mode

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Returns `[B]` log-probabilities of the actions `[B]`."""
        return self.log_probs.gather(-1, value.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> torch.Tensor:
        """Returns `[B]` entropies in nats.

        Raises:
            FloatingPointError: If the logits are not finite; TorchRL would go on with an estimate from samples.
        """
        entropy = -(self.probs * self.log_probs).sum(-1)
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


def sample_cdf(probs: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Returns one action a row, `[B]` int64, drawn from `probs` `[B, A]` (nonnegative, any positive sum).

    An action of probability 0 is never drawn: the uniform lies in [0, sum), and an action is drawn where the
    cumulative sum first exceeds it.
    """
    cumulative = probs.cumsum(-1)
    total = cumulative[:, -1:]
    uniform = torch.rand(len(probs), 1, generator=generator, device=probs.device, dtype=probs.dtype)
    # The product may round up to the total; the last action with mass then stands.
    point = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, point, right=True).squeeze(-1)


def ppo_modules(network: Network) -> tuple[ProbabilisticTensorDictSequential, TensorDictModule]:
    """Returns the actor and critic for TorchRL's PPO losses.

    The actor maps `observation`, `action_mask` to `hidden`, `logits` and the distribution of `action`; the critic is
    the value head over `hidden`, so the trunk runs once a minibatch and both losses' gradients reach it.
    """
    trunk = TensorDictModule(network.trunk, in_keys=["observation"], out_keys=["hidden"])
    logits = TensorDictModule(network.policy_head, in_keys=["hidden"], out_keys=["logits"])
    head = ProbabilisticTensorDictModule(
        in_keys={"logits": "logits", "mask": "action_mask"},
        out_keys=["action"],
        distribution_class=MaskedCategorical,
        return_log_prob=True,
    )
    critic = TensorDictModule(network.value_head, in_keys=["hidden"], out_keys=["state_value"])
    return ProbabilisticTensorDictSequential(trunk, logits, head), critic

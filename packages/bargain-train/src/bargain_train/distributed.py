"""One learner in several processes, which torchrun starts: each plays its share of the games, all take the same steps.

What the processes compute together is what one process would compute of all rows, up to rounding. Whatever a step
depends on is a sum over the processes, of which all get the same copy, so all hold the same weights, to the bit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn

PATIENCE = timedelta(hours=1)
"""How long a process waits for the others, say while the first evaluates."""


class TeamError(RuntimeError):
    """The processes can no longer train together; one sentence."""


class Team:
    """The processes that train together, as one of them sees it; on its own by default, where nothing is exchanged.

    All processes must call the same methods in the same order. Each call costs one or two messages, of as many numbers
    as the result has.

    Args:
        rank: The number of this process, from 0.
        size: How many there are.
        local_rank: The number of this process on its machine.
        local_size: How many there are on its machine.

    Raises:
        TeamError: By every method that exchanges something, if another process has ended.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.local_rank, self.local_size = local_rank, local_size

    @property
    def leads(self) -> bool:
        """True in the process that evaluates and writes."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """True if there are no others."""
        return self.size == 1

    def share(self, number: int) -> int:
        """Returns how many of `number` games each process plays; process k plays the k-th so many.

        Raises:
            ValueError: If the processes cannot have equally many.
        """
        if number % self.size:
            raise ValueError(f"--num-envs must be a multiple of the {self.size} processes, got {number}.")
        return number // self.size

    def part(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns this process's share of `rows` of all games, a view."""
        return rows.chunk(self.size)[self.rank]

    def stream(self, name: str) -> str:
        """Returns the name of this process's own stream of random numbers; the first has the one of a lone process."""
        return name if self.leads else f"{name} of process {self.rank}"

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """Returns the sum over the processes, written into `tensor`."""
        if not self.alone:
            _exchange(distributed.all_reduce, tensor)
        return tensor

    def largest(self, number: float) -> float:
        """Returns the largest of the processes' numbers."""
        if self.alone:
            return number
        value = torch.tensor(number, dtype=torch.float64)
        _exchange(distributed.all_reduce, value, distributed.ReduceOp.MAX)
        return float(value)

    def counts(self, number: int) -> list[int]:
        """Returns the processes' numbers, by rank."""
        own = torch.zeros(self.size, dtype=torch.int64)
        own[self.rank] = number
        return [int(count) for count in self.total(own)]

    def totals(self, values: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
        """Returns the sums of single numbers over the processes, by the same names."""
        if self.alone:
            return {name: float(value) for name, value in values.items()}
        stacked = torch.tensor([float(value) for value in values.values()], dtype=torch.float64)
        return dict(zip(values, self.total(stacked).tolist(), strict=True))

    def mean_and_std(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns mean and standard deviation of the processes' samples `[R]` together; 0 if there are no rows."""
        if self.alone and len(sample):
            return sample.mean(), sample.std(correction=0)
        mean, variance = self._moments(sample)
        return mean.to(sample.dtype), variance.sqrt().to(sample.dtype)

    def variance(self, sample: torch.Tensor) -> float:
        """Returns the variance of the processes' samples `[R]` together; 0 if there are no rows."""
        if self.alone and len(sample):
            return float(sample.var(correction=0))
        return float(self._moments(sample)[1])

    def _moments(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        exact = sample.double()
        sums = self.total(torch.stack([exact.new_tensor(len(exact)), exact.sum()]))
        count = sums[0].clamp_min(1.0)
        mean = sums[1] / count
        return mean, self.total((exact - mean).square().sum()) / count

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Sums the gradients over the processes, in place, and returns the sum of `loss`, in one message."""
        if self.alone:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.total(torch.cat([loss.reshape(1), *(gradient.flatten() for gradient in gradients)]))
        for gradient, summed in zip(gradients, flat[1:].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))
        return flat[0]

    def hand_out(self, modules: Iterable[nn.Module]) -> None:
        """Gives every process the tensors of the first one's modules."""
        if self.alone:
            return
        for module in modules:
            for tensor in module.state_dict().values():
                _exchange(distributed.broadcast, tensor, 0)

    def gather(self, own: Any) -> list[Any]:
        """Returns to the first process what each one hands in, by rank, and nothing to the others; by pickle."""
        if self.alone:
            return [own]
        everyone = [None] * self.size if self.leads else None
        _exchange(distributed.gather_object, own, everyone)
        return everyone or []

    def check_alike(self, settings: object) -> None:
        """Raises ValueError, in every process, if the processes were started with different settings."""
        digest = int.from_bytes(hashlib.sha256(repr(settings).encode()).digest()[:7], "big")
        if len(set(self.counts(digest))) > 1:
            raise ValueError("the processes have different settings or kinds of device; start all with one command.")

    def wait(self) -> None:
        """Returns when every process has called it."""
        if not self.alone:
            _exchange(distributed.barrier)


ALONE = Team()


@contextmanager
def join() -> Iterator[Team]:
    """Yields the team of the processes that torchrun started together; of one process if it did not.

    Tensors on GPUs are exchanged by NCCL, one GPU a process, all others by Gloo.
    """
    if not distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    gpus = torch.cuda.is_available() and distributed.is_nccl_available()
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    yield Team(*(int(os.environ[name]) for name in names))
    distributed.destroy_process_group()


def checksum(modules: Iterable[nn.Module]) -> str:
    """Returns what is the same for modules of the same tensors, and for no others. Costs a copy to the CPU."""
    digest = hashlib.sha256()
    for module in modules:
        for tensor in module.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _exchange(call: Callable[..., Any], *arguments: Any) -> None:
    try:
        call(*arguments)
    except RuntimeError as error:
        raise TeamError("another process of this training has ended, or did not answer; see what it says.") from error

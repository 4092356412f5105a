"""What a seat learns in deep CFR: its advantages, by regression, and the average of all that it played.

Brown, Lerer, Gross, Sandholm 2019 (deep CFR); Steinberger 2019 (SD-CFR).

Legend: `R` rows, `n` states, `J` actions of a row, `A` actions, `O` features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from bargain_env import GameSpec
from tensordict import TensorDictBase
from torch import nn

from bargain_train.actors import action_probs
from bargain_train.buffers import Memory, unpack_observation
from bargain_train.config import RegretOptions
from bargain_train.networks import Network, build_network
from bargain_train.seeds import derive_seed
from bargain_train.traversal import Strategy

_ROWS = 16_384  # rows of one forward pass
_JUDGED = 4096  # rows that a network is judged by

Loss = Callable[[Network, torch.Tensor, torch.Tensor, TensorDictBase], torch.Tensor]
"""Network, observations `[R, O]`, masks `[R, A]` and the rows of a memory to losses `[R]`."""


class RegretLearner:
    """One seat of deep CFR: memories, the advantage networks of all iterations, and what they play.

    Args:
        seat: The seat.
        options: The numbers of its regressions.
        network: The network's config, as `build_network` takes it.
        spec: The game and the kind of observation.
        seed: Key of new networks and of every row drawn.
        device: Where memories and networks live.

    Attributes:
        strategy: What the seat plays in the next traversal: uniform at first, then by the last advantage network.
        networks: The advantage networks that are kept, the last one last; with the readout "network" that one alone.
        weights: Their weights in the average.

    Raises:
        ValueError: If the network's config does not fit.
    """

    def __init__(
        self,
        seat: int,
        options: RegretOptions,
        network: Mapping[str, Any],
        spec: GameSpec,
        *,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.seat, self.options, self.spec, self.device = seat, options, spec, device
        self.strategy: Strategy = uniform_strategy
        self.networks: list[Network] = []
        self.weights: list[float] = []
        self._config, self._seed = dict(network), seed
        self._generator = torch.Generator(device=device).manual_seed(derive_seed(seed, f"memory {seat}"))
        reservoir = options.memory == "reservoir"
        self._advantages = Memory(options.advantage_memory_size, self._generator, reservoir=reservoir)
        self._strategies = Memory(options.strategy_memory_size, self._generator, reservoir=reservoir)
        self._average: tuple[int, Network] | None = None
        self._iterations = 0
        self._new_network("softmax", "check")  # a config that does not fit shows itself before the run is stored

    def keep_advantages(self, rows: TensorDictBase, iteration: int) -> dict[str, float]:
        """Adds the `Traversal.advantages` of an iteration (from 1) to the memory; they weigh in proportion to it.

        Returns how well the last network foretells the rows, which it has not seen; see `foretold`.
        """
        self._advantages.extend(_weighted(rows, iteration))
        return foretold(self.networks[-1], rows, self.spec) if self.networks else {}

    def keep_strategies(self, rows: TensorDictBase, iteration: int) -> None:
        """Adds the `Traversal.strategies` of an iteration to the memory, if a strategy network will be fitted."""
        if self.options.readout == "network":
            self._strategies.extend(_weighted(rows, iteration))

    def improve(self, iteration: int) -> dict[str, float]:
        """Fits the advantage network of an iteration, which is played from now on; returns metrics."""
        options = self.options
        if options.reinitialise or not self.networks:
            network = self._new_network(f"regret-{options.fallback}", f"advantages {iteration}")
        else:
            network = copy.deepcopy(self.networks[-1])
        loss = self._fit(network, "advantage", self._advantages, advantage_loss, f"fit {iteration}")
        self._keep_network(network, iteration + 1.0)  # the network of iteration t is played in t + 1
        self.strategy, self._iterations = network_strategy(network), iteration
        return {"adv_loss": loss, "adv_memory_size": float(len(self._advantages))}

    def average(self) -> list[tuple[Network, float]]:
        """Returns networks with weights, which play the average over the iterations if one is drawn for each game.

        With the readout "network" this fits a strategy network, once for each iteration.
        """
        if not self.networks:
            return [(self._new_network(f"regret-{self.options.fallback}", "advantages 0"), 1.0)]
        if self.options.readout == "sd-cfr":
            return list(zip(self.networks, self.weights, strict=True))
        if self._average is None or self._average[0] != self._iterations:
            network = self._new_network("softmax", f"strategy {self._iterations}")
            self._fit(network, "strategy", self._strategies, strategy_loss, f"strategy fit {self._iterations}")
            self._average = self._iterations, network
        return [(self._average[1], 1.0)]

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the seat has learned."""
        return {
            "iterations": self._iterations,
            "networks": [network.state_dict() for network in self.networks],
            "weights": list(self.weights),
            "advantages": self._advantages.state_dict(),
            "strategies": self._strategies.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self._iterations = state["iterations"]
        self._advantages.load_state_dict(state["advantages"])
        self._strategies.load_state_dict(state["strategies"])
        self.networks, self.weights = [], list(state["weights"])
        for stored in state["networks"]:
            self.networks.append(self._new_network(f"regret-{self.options.fallback}", "stored"))
            self.networks[-1].load_state_dict(stored)
        if self.networks:
            self.strategy = network_strategy(self.networks[-1])

    def _keep_network(self, network: Network, weight: float) -> None:
        if self.options.readout == "network":
            self.networks, self.weights = [network], [weight]
            return
        self.networks, self.weights = [*self.networks, network], [*self.weights, weight]
        if len(self.networks) > self.options.stored_networks:
            first = (len(self.networks) - 1) % 2  # so that the last one stays
            earlier = [0.0, *self.weights]
            self.weights = [w + earlier[i] for i, w in enumerate(self.weights)][first::2]
            self.networks = self.networks[first::2]

    def _new_network(self, play: str, stream: str) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self._seed, f"{stream} {self.seat}"))
            return build_network(self._config | {"play": play, "values": False}, self.spec).to(self.device)

    def _fit(self, network: Network, kind: str, memory: Memory, loss: Loss, stream: str) -> float:
        options = self.options
        generator = torch.Generator(device=self.device).manual_seed(derive_seed(self._seed, f"{stream} {self.seat}"))
        return fit(
            network,
            memory.rows,
            loss,
            self.spec,
            generator,
            steps=getattr(options, f"{kind}_train_steps"),
            batch_size=getattr(options, f"{kind}_batch_size"),
            lr=options.lr,
            max_grad_norm=options.max_grad_norm,
        )


@torch.no_grad()
def foretold(network: Network, rows: TensorDictBase, spec: GameSpec) -> dict[str, float]:
    """Returns how an advantage network does on `Traversal.advantages` `[R]`, judged by about 4,096 of them.

    r2: 1 - squared error / squared size of the sampled advantages, weighted as in the regression. A sample is one deal
    of many, so that even the exact advantages reach little; below 0 the network knows nothing. positive_regret: the
    mean greatest advantage, where it is positive, which falls to 0 as play approaches a coarse correlated equilibrium.
    fallback: share of the rows in which none is positive.
    """
    rows = rows[:: max(1, len(rows) // _JUDGED)]
    observation, mask = unpack_observation(spec, rows["observation"])
    advantages = network(observation)[0]
    weight = rows["importance"] * rows["weight"].unsqueeze(-1)
    error = (weight * (advantages.gather(-1, rows["action"].long()) - rows["advantage"]).square()).sum()
    size = (weight * rows["advantage"].square()).sum().clamp_min(1e-12)
    greatest = advantages.masked_fill(~mask, -torch.inf).amax(-1)
    found = torch.stack([1 - error / size, greatest.clamp_min(0).mean(), (greatest <= 0).float().mean()]).tolist()
    return dict(zip(("adv_r2", "positive_regret", "fallback"), found, strict=True))


def advantage_loss(
    network: Network, observation: torch.Tensor, mask: torch.Tensor, rows: TensorDictBase
) -> torch.Tensor:
    """Returns `[R]`: the squared errors of the advantages that were sampled, each times its importance."""
    del mask
    predicted = network(observation)[0].gather(-1, rows["action"].long())
    return (rows["importance"] * (predicted - rows["advantage"]).square()).sum(-1)


def strategy_loss(
    network: Network, observation: torch.Tensor, mask: torch.Tensor, rows: TensorDictBase
) -> torch.Tensor:
    """Returns `[R]`: the cross-entropy of the network's distribution under the one that was played."""
    logits, _ = network(observation)
    log_probs = torch.log_softmax(logits.masked_fill(~mask, -torch.inf), -1)
    return -(rows["probs"] * log_probs.masked_fill(~mask, 0.0)).sum(-1)


def fit(
    network: Network,
    rows: TensorDictBase,
    loss: Loss,
    spec: GameSpec,
    generator: torch.Generator,
    *,
    steps: int,
    batch_size: int,
    lr: float,
    max_grad_norm: float,
) -> float:
    """Fits a network to `rows` `[R]` by `steps` of Adam on batches drawn uniformly; a row's loss counts `weight` times.

    The learning rate falls linearly to 0. The weights are scaled to mean 1, unless all are 0.

    Returns:
        The mean loss over the last tenth of the steps.

    Raises:
        FloatingPointError: If the loss is not finite.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 - step / steps)
    scale = 1.0 / rows["weight"].mean().clamp_min(1e-12)
    tail, total = max(1, steps // 10), torch.zeros((), device=scale.device)
    for step in range(steps):
        batch = rows[torch.randint(len(rows), (batch_size,), generator=generator, device=scale.device)]
        losses = loss(network, *unpack_observation(spec, batch["observation"]), batch)
        value = (losses * batch["weight"]).mean() * scale
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
        optimizer.step()
        schedule.step()
        if step >= steps - tail:
            total += value.detach()
    if not bool(total.isfinite()):
        raise FloatingPointError("the loss is not finite; try a smaller --lr.")
    return float(total) / tail


def uniform_strategy(observation: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Plays every legal action alike; a `Strategy`."""
    del observation
    return mask / mask.sum(-1, keepdim=True)


def network_strategy(network: Network) -> Strategy:
    """Returns what a network plays, as a `Strategy`; passes of at most 16,384 rows, without gradient."""

    @torch.no_grad()
    def strategy(observation: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        parts = zip(observation.split(_ROWS), mask.split(_ROWS), strict=True)
        return torch.cat([action_probs(network, network(rows)[0], legal) for rows, legal in parts])

    return strategy


def _weighted(rows: TensorDictBase, iteration: int) -> TensorDictBase:
    return rows.copy().set("weight", rows["weight"] * iteration)

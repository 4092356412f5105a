"""What a seat learns in NFSP: a best response by double DQN, and the average of its best responses by imitation.

Mnih et al. 2015 (DQN), van Hasselt et al. 2016 (double), Wang et al. 2016 (dueling), Heinrich & Silver 2016 (NFSP).

Legend: `R` rows, `A` actions, `O` features of an observation, `C` of a packed one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from bargain_env.spec import GameSpec
from tensordict import TensorDictBase

from bargain_train.buffers import Memory, unpack_observation
from bargain_train.config import FictitiousOptions
from bargain_train.networks import Network, build_network
from bargain_train.seeds import derive_seed


class FictitiousLearner:
    """One seat of NFSP: its Q network with a target, its average network, and the memories that train them.

    Args:
        seat: The seat.
        options: The numbers of its updates.
        network: The networks' config, as `build_network` takes it.
        spec: The game and the kind of observation.
        seed: Key of the rows drawn; first weights come from torch's global generator.
        device: Where networks and memories live.

    Attributes:
        response: The Q network.
        average: The average network.
        replay: Transitions of all its decisions, the latest.
        reservoir: What it played in best response mode.
    """

    def __init__(
        self,
        seat: int,
        options: FictitiousOptions,
        network: Mapping[str, Any],
        spec: GameSpec,
        *,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.seat, self.options, self.spec = seat, options, spec
        self.response = build_network(network, spec).to(device)
        self.average = build_network({**network, "values": False}, spec).to(device)
        self._target = copy.deepcopy(self.response)
        self._steps = 0
        generator = torch.Generator(device=device).manual_seed(derive_seed(seed, f"memory {seat}"))
        self.replay = Memory(options.br_buffer_size, generator, reservoir=False)
        self.reservoir = Memory(options.avg_buffer_size, generator, reservoir=options.avg_memory == "reservoir")
        self._response_optimizer = torch.optim.Adam(self.response.parameters(), lr=options.br_lr, fused=True)
        self._average_optimizer = torch.optim.Adam(self.average.parameters(), lr=options.avg_lr, fused=True)

    def keep(self, transitions: TensorDictBase) -> None:
        """Adds the seat's rows of `transitions`: all to the replay, those of best response mode to the reservoir."""
        own: TensorDictBase = transitions[transitions["player"] == self.seat]
        self.replay.extend(own.exclude("player", "best_response"))
        self.reservoir.extend(own.select("observation", "action")[own["best_response"]])

    def anneal(self, progress: float) -> None:
        """Sets the learning rates for `progress` (0 to 1)."""
        options = self.options
        left = options.lr_final + (1.0 - options.lr_final) * (1.0 - min(progress, 1.0))
        self._response_optimizer.param_groups[0]["lr"] = options.br_lr * left
        self._average_optimizer.param_groups[0]["lr"] = options.avg_lr * left

    def improve_response(self, steps: int) -> dict[str, float]:
        """Makes gradient steps on the Q network; returns the mean loss and Q values, nothing without rows.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        if not steps or not len(self.replay):
            return {}
        options, totals = self.options, torch.zeros(3, device=self._device)
        for _ in range(steps):
            rows = self.replay.sample(options.br_batch_size)
            loss, statistics = q_loss(self.response, self._target, self.spec, rows, gamma=options.gamma)
            _descend(loss, self._response_optimizer)
            totals += torch.cat([loss.detach()[None], statistics])
            self._steps += 1
            if self._steps % options.br_target_update_freq == 0:
                self._target.load_state_dict(self.response.state_dict())
        loss_mean, played, best = (totals / steps).tolist()
        return {"br_loss": _finite(loss_mean, "--br-lr"), "q_played": played, "q_best": best}

    def improve_average(self, steps: int) -> dict[str, float]:
        """Makes gradient steps on the average network; returns the mean loss, nothing without rows.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        if not steps or not len(self.reservoir):
            return {}
        total = torch.zeros((), device=self._device)
        for _ in range(steps):
            rows = self.reservoir.sample(self.options.avg_batch_size)
            loss = imitation_loss(self.average, self.spec, rows)
            _descend(loss, self._average_optimizer)
            total += loss.detach()
        return {"avg_loss": _finite(float(total) / steps, "--avg-lr")}

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the seat has learned and remembers."""
        return {
            "response": self.response.state_dict(),
            "target": self._target.state_dict(),
            "average": self.average.state_dict(),
            "response_optimizer": self._response_optimizer.state_dict(),
            "average_optimizer": self._average_optimizer.state_dict(),
            "steps": self._steps,
            "replay": self.replay.state_dict(),
            "reservoir": self.reservoir.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up what `state_dict` returned."""
        self.response.load_state_dict(state["response"])
        self._target.load_state_dict(state["target"])
        self.average.load_state_dict(state["average"])
        self._response_optimizer.load_state_dict(state["response_optimizer"])
        self._average_optimizer.load_state_dict(state["average_optimizer"])
        self._steps = state["steps"]
        self.replay.load_state_dict(state["replay"])
        self.reservoir.load_state_dict(state["reservoir"])

    @property
    def _device(self) -> torch.device:
        return next(self.response.parameters()).device


def q_values(network: Network, observation: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Returns `[R, A]`: the dueling `value + logit - mean logit of the legal actions`; -inf for illegal actions."""
    logits, value = network(observation)
    mean = (logits * mask).sum(-1) / mask.sum(-1)
    return (logits + (value - mean).unsqueeze(-1)).masked_fill(~mask, -torch.inf)


def q_loss(
    network: Network, target: Network, spec: GameSpec, rows: TensorDictBase, *, gamma: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the mean squared error of masked double DQN, and the mean Q of the played and of the best actions, `[2]`.

    `y = reward + gamma (not over) Q_target(successor, argmax_a Q(successor, a))`, over the actions legal there. It is
    TorchRL's `DQNLoss(double_dqn=True)`, without its passes over rows whose game is over.

    Args:
        network: The Q network.
        target: Its target.
        spec: The game and the kind of observation.
        rows: `[R]` with `observation` and `successor` `[R, C]`, packed, `action`, `reward` and `over`.
        gamma: Discount per own decision.
    """
    goes_on = (~rows["over"]).nonzero().squeeze(-1)
    value = rows["reward"]
    with torch.no_grad():
        following = unpack_observation(spec, rows["successor"][goes_on])
        best = q_values(network, *following).argmax(-1, keepdim=True)
        value = value.index_add(0, goes_on, q_values(target, *following).gather(-1, best).squeeze(-1), alpha=gamma)
    q = q_values(network, *unpack_observation(spec, rows["observation"]))
    played = q.gather(-1, rows["action"].long().unsqueeze(-1)).squeeze(-1)
    statistics = torch.stack([played.detach().mean(), q.detach().amax(-1).mean()])
    return (played - value).square().mean(), statistics


def imitation_loss(network: Network, spec: GameSpec, rows: TensorDictBase) -> torch.Tensor:
    """Returns the mean cross-entropy of the network's policy over legal actions under the `action` of `rows` `[R]`."""
    observation, mask = unpack_observation(spec, rows["observation"])
    logits, _ = network(observation)
    return torch.nn.functional.cross_entropy(logits.masked_fill(~mask, -torch.inf), rows["action"].long())


def _descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _finite(loss: float, flag: str) -> float:
    if loss - loss != 0:
        raise FloatingPointError(f"the loss is not finite; try a smaller {flag}.")
    return loss

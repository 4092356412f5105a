"""Networks as policies, and the entry points that load them from checkpoints and runs.

Legend: `B` rows, `A` actions, `O` features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from bargain_env.spec import GameSpec, ObservationKind
from bargain_eval.by_seat import BySeat
from bargain_eval.checkpoint import make_checkpoint, read_checkpoint
from bargain_eval.mixture import Mixture
from bargain_eval.policy import Policy, PolicyRequest, check_shapes, is_tensor, read_bool, sample_actions
from bargain_eval.results import ResultsManager
from numpy.typing import NDArray

from bargain_train.actors import action_probs
from bargain_train.networks import Network, build_network


class ActorPolicy:
    """Plays each seat with a network: draws from its distribution, or takes the most probable action.

    A call costs one forward pass of the rows on `device`, two if the seats have different networks.

    Args:
        networks: The networks of seat 0 and seat 1; one network may play both.
        device: Where they compute; they are moved there.
        seed: Seed of the generator used when `get_action` is called without one.
        greedy: Take the most probable action, lowest index on ties.

    Attributes:
        spec: The game; its observation is "history" if a network reads it.
    """

    def __init__(
        self, networks: tuple[Network, Network], *, device: str = "cpu", seed: int = 0, greedy: bool = False
    ) -> None:
        history = any(network.observation == "history" for network in networks)
        self.observation: ObservationKind = "history" if history else "standing"
        self.spec: GameSpec = networks[0].spec_of_game.with_observation(self.observation)
        self.device = device
        self.networks = tuple(network.to(device) for network in networks)
        self._greedy = greedy
        self._rng = np.random.default_rng(seed)

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        """See `bargain_eval.Policy.get_action`."""
        probs = np.atleast_2d(self._probs(obs, action_mask).cpu().numpy())
        actions: NDArray[np.int64] = (
            probs.argmax(1) if self._greedy else sample_actions(probs, self._rng if rng is None else rng)
        )
        chosen = actions if len(obs.shape) == 2 else actions[0]
        return torch.as_tensor(chosen, device=obs.device) if is_tensor(obs) else chosen

    def action_probs(self, obs: Any, action_mask: Any) -> Any:
        """Returns `[B, A]` float32, of the greedy choice if the policy is greedy."""
        probs = self._probs(obs, action_mask)
        if self._greedy:
            probs = torch.nn.functional.one_hot(probs.argmax(-1), probs.shape[-1]).float()
        return _like(obs, probs)

    def _probs(self, obs: Any, action_mask: Any) -> torch.Tensor:
        check_shapes(self.spec, self.observation, obs, action_mask)
        rows = self._rows(obs)
        mask = torch.atleast_2d(torch.as_tensor(action_mask, device=self.device)).bool()
        with torch.no_grad():
            probs = self._by_seat(
                lambda network, part, legal: action_probs(network, network(part)[0], legal), rows, mask
            )
        return probs if len(obs.shape) == 2 else probs[0]

    def _rows(self, obs: Any) -> torch.Tensor:
        return torch.atleast_2d(torch.as_tensor(obs, dtype=torch.float32, device=self.device))

    def _by_seat(self, compute: Callable[..., torch.Tensor], rows: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        """Returns `compute(network, rows, *others)`, of each row by the network of its seat."""
        first, second = self.networks
        if first is second:
            return compute(first, rows, *others)
        seat_one, columns = rows[:, self.spec.slices["state"]][:, 2] > 0.5, (rows, *others)
        parts = (
            compute(first, *(column[~seat_one] for column in columns)),
            compute(second, *(column[seat_one] for column in columns)),
        )
        result = torch.empty((len(rows), *parts[0].shape[1:]), dtype=parts[0].dtype, device=rows.device)
        result[~seat_one], result[seat_one] = parts
        return result


class NetworkPolicy(ActorPolicy):
    """An `ActorPolicy` that also tells what its networks expect to earn."""

    def values(self, obs: Any) -> Any:
        """Returns `[B]` float32: the movers' expected payoff / own total, as the networks estimate it.

        Raises:
            ValueError: If a network has no values; `networks_policy` makes an `ActorPolicy` of such.
        """
        if not all(network.has_values for network in self.networks):
            raise ValueError("nobody trained this policy's values: its networks are actors alone, or advantages.")
        rows = self._rows(obs)
        with torch.no_grad():
            value = self._by_seat(Network.values, rows)
        return _like(obs, value if len(obs.shape) == 2 else value[0])


def _like(reference: Any, tensor: torch.Tensor) -> Any:
    return tensor.to(reference.device) if is_tensor(reference) else tensor.cpu().numpy()


Members = Sequence[tuple[Network, float]]
"""The networks of a seat, and their probabilities up to a factor; one is drawn a game."""

SeatNetworks = tuple[Network | Members, Network | Members]
"""Who plays seat 0 and seat 1."""


def _members(seat: Network | Members) -> Members:
    return [(seat, 1.0)] if isinstance(seat, Network) else seat


def stored_network(network: Network) -> dict[str, Any]:
    """Returns a network as plain values and tensors, which are not copied; `read_network` is the inverse."""
    return {"config": network.config | {"observation": network.observation}, "policy_state_dict": network.state_dict()}


def read_network(stored: Mapping[str, Any], spec: GameSpec) -> Network:
    """Builds the network that `stored_network` returned, of the game `spec`.

    Raises:
        ValueError: If it cannot be built from its config and weights.
    """
    config = dict(stored["config"])
    network = build_network(config, spec.with_observation(config.pop("observation", spec.observation)), draw=False)
    try:
        network.load_state_dict(stored["policy_state_dict"])
    except RuntimeError as error:
        raise ValueError(f"the stored weights do not fit their network: {error}") from error
    return network


def policy_checkpoint(
    algorithm: str,
    networks: SeatNetworks,
    step: int,
    resume: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the checkpoint of a policy that plays seat k with `networks[k]`; a shared network is stored once."""
    seats = [_members(seat) for seat in networks]
    distinct = list({id(network): network for seat in seats for network, _ in seat}.values())
    numbers = {id(network): number for number, network in enumerate(distinct)}
    spec = distinct[0].spec_of_game
    if any(network.observation == "history" for network in distinct):
        spec = spec.with_observation("history")
    return make_checkpoint(
        algorithm=algorithm,
        spec=spec.to_dict(),
        networks=[stored_network(network) for network in distinct],
        seats=[[(numbers[id(network)], weight) for network, weight in seat] for seat in seats],
        step=step,
        resume=resume,
    )


def networks_policy(
    networks: SeatNetworks, *, device: str, seed: int = 0, greedy: bool = False
) -> ActorPolicy | BySeat:
    """Returns the policy that plays seat k with `networks[k]`: a mixture for each seat if one has several.

    Networks that have values are played by a `NetworkPolicy`, others by an `ActorPolicy`.
    """
    options: dict[str, Any] = {"device": device, "seed": seed, "greedy": greedy}
    members = [_members(seat) for seat in networks]
    if all(len(seat) == 1 for seat in members):
        return _pair_policy(members[0][0][0], members[1][0][0], **options)
    spec = members[0][0][0].spec_of_game
    first, second = (
        Mixture([_pair_policy(network, network, **options) for network, _ in seat], _shares(seat), spec, seed)
        for seat in members
    )
    history = "history" in (first.observation, second.observation)
    return BySeat((first, second), spec.with_observation("history" if history else "standing"))


def _pair_policy(first: Network, second: Network, **options: Any) -> ActorPolicy:
    kind = NetworkPolicy if first.has_values and second.has_values else ActorPolicy
    return kind((first, second), **options)


def _shares(seat: Members) -> list[float]:
    total = sum(weight for _, weight in seat)
    return [weight / total for _, weight in seat]


def build_policy(
    checkpoint: Mapping[str, Any], *, device: str, seed: int = 0, greedy: bool = False
) -> ActorPolicy | BySeat:
    """Builds the policy stored in a checkpoint: a mixture for each seat if one has several networks.

    Raises:
        ValueError: If a network cannot be built from its config and weights.
    """
    spec = GameSpec.from_dict(checkpoint["spec"])
    networks = [read_network(stored, spec) for stored in checkpoint["networks"]]
    first, second = ([(networks[index], weight) for index, weight in seat] for seat in checkpoint["seats"])
    return networks_policy((first, second), device=device, seed=seed, greedy=greedy)


def load_checkpoint(request: PolicyRequest) -> Policy:
    """Loads `checkpoint:PATH[?greedy]`.

    Raises:
        ValueError: If the file is missing, unsafe or damaged.
    """
    options = request.read_options(greedy=read_bool)
    if not request.argument:
        raise ValueError("a checkpoint policy needs a path: checkpoint:PATH.")
    return build_policy(read_checkpoint(request.argument), device=request.device, seed=request.seed, **options)


def load_run(request: PolicyRequest) -> Policy:
    """Loads `run:RUN_ID[?checkpoint=best&greedy]`: the final policy of a stored run, or one of its checkpoints.

    Raises:
        ValueError: If the run or checkpoint does not exist.
    """
    options = request.read_options(greedy=read_bool, checkpoint=str)
    if not request.argument:
        raise ValueError("a run policy needs an id: run:RUN_ID.")
    stored = ResultsManager(request.results_dir).load_policy(request.argument, options.pop("checkpoint", None))
    return build_policy(stored, device=request.device, seed=request.seed, **options)

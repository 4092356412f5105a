"""Networks as policies, and the entry points that load them from checkpoints and runs.

Legend: `B` rows, `A` actions, `O` features.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from bargain_env.spec import GameSpec, ObservationKind
from bargain_eval.checkpoint import make_checkpoint, read_checkpoint
from bargain_eval.mixture import Mixture
from bargain_eval.policy import Policy, PolicyRequest, check_shapes, is_tensor, read_bool, sample_actions
from bargain_eval.results import ResultsManager
from numpy.typing import NDArray

from bargain_train.actors import MaskedCategorical
from bargain_train.networks import Network, build_network


class NetworkPolicy:
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

    def values(self, obs: Any) -> Any:
        """Returns `[B]` float32: the movers' expected payoff / own total, as the networks estimate it."""
        rows = self._rows(obs)
        with torch.no_grad():
            value = self._by_seat(rows, lambda network, part: network.values(part))
        return _like(obs, value if len(obs.shape) == 2 else value[0])

    def _probs(self, obs: Any, action_mask: Any) -> torch.Tensor:
        check_shapes(self.spec, self.observation, obs, action_mask)
        rows = self._rows(obs)
        mask = torch.atleast_2d(torch.as_tensor(action_mask, device=self.device)).bool()
        with torch.no_grad():
            logits = self._by_seat(rows, lambda network, part: network(part)[0])
            probs = MaskedCategorical(logits, mask).probs
        return probs if len(obs.shape) == 2 else probs[0]

    def _rows(self, obs: Any) -> torch.Tensor:
        return torch.atleast_2d(torch.as_tensor(obs, dtype=torch.float32, device=self.device))

    def _by_seat(self, rows: torch.Tensor, compute: Any) -> torch.Tensor:
        first, second = self.networks
        if first is second:
            result: torch.Tensor = compute(first, rows)
            return result
        seat_one = rows[:, self.spec.slices["state"]][:, 2] > 0.5
        parts = compute(first, rows[~seat_one]), compute(second, rows[seat_one])
        result = torch.empty((len(rows), *parts[0].shape[1:]), dtype=parts[0].dtype, device=rows.device)
        result[~seat_one], result[seat_one] = parts
        return result


def _like(reference: Any, tensor: torch.Tensor) -> Any:
    return tensor.to(reference.device) if is_tensor(reference) else tensor.cpu().numpy()


def policy_checkpoint(
    algorithm: str,
    networks: tuple[Network, Network],
    step: int,
    resume: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the checkpoint of a policy that plays seat k with `networks[k]`; a shared network is stored once."""
    distinct = list({id(network): network for network in networks}.values())
    spec = networks[0].spec_of_game
    if any(network.observation == "history" for network in networks):
        spec = spec.with_observation("history")
    return make_checkpoint(
        algorithm=algorithm,
        spec=spec.to_dict(),
        networks=[
            {
                "config": network.config | {"observation": network.observation},
                "policy_state_dict": network.state_dict(),
            }
            for network in distinct
        ],
        seats=[[(next(i for i, n in enumerate(distinct) if n is network), 1.0)] for network in networks],
        step=step,
        resume=resume,
    )


def build_policy(
    checkpoint: Mapping[str, Any], *, device: str, seed: int = 0, greedy: bool = False
) -> NetworkPolicy | Mixture:
    """Builds the policy stored in a checkpoint: a mixture over pairs of networks if a seat has several.

    Raises:
        ValueError: If a network cannot be built from its config and weights.
    """
    spec = GameSpec.from_dict(checkpoint["spec"])
    networks = []
    for stored in checkpoint["networks"]:
        config = dict(stored["config"])
        network = build_network(config, spec.with_observation(config.pop("observation", spec.observation)))
        try:
            network.load_state_dict(stored["policy_state_dict"])
        except RuntimeError as error:
            raise ValueError(f"the stored weights do not fit their network: {error}") from error
        networks.append(network)
    options: dict[str, Any] = {"device": device, "seed": seed, "greedy": greedy}
    pairs = [
        (NetworkPolicy((networks[first], networks[second]), **options), weight * other)
        for first, weight in checkpoint["seats"][0]
        for second, other in checkpoint["seats"][1]
    ]
    if len(pairs) == 1:
        return pairs[0][0]
    total = sum(weight for _, weight in pairs)
    return Mixture([policy for policy, _ in pairs], [weight / total for _, weight in pairs], spec, seed)


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

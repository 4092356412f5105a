"""A small network that ships with the distribution, computed in numpy: an opponent at once, without torch.

`export_network` turns a checkpoint of `bargain-train ppo` (an MLP that plays both seats) into one file of plain arrays,
and `PretrainedPolicy` plays such a file. What the network reads and how it computes is that of
`bargain_train.networks`; the weights over the legality mask are summed into one row for each of its four patterns, as
they are there. All products are in float64, from weights that were trained in float32: rounding then decides no draw,
so that the same seed gives the same games whatever the batches and the BLAS.

Legend: `B` rows, `A` actions, `O` features of an observation, `F` of what the first layer reads, `H` hidden features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from zipfile import BadZipFile

import numpy as np
from bargain_env.spec import GameSpec
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from bargain_eval.policy import NumpyPolicy, PolicyRequest, UnsupportedGame, like, read_bool, to_numpy

FILE = "pretrained.npz"
"""The shipped network, beside this module."""

FloatArray = NDArray[np.float64]


class NumpyNetwork(NamedTuple):
    """An MLP with one head for logits and value.

    Attributes:
        spec: The game it was trained on, of the standing observation.
        about: Where it comes from: algorithm, steps, configuration and software versions.
        layers: Weights `[F, H]`, `[H, H']`, ... and biases `[H]` of the hidden layers, each followed by ReLU.
        head: The weight `[H, A + 1]` and bias `[A + 1]` of the logits and, in the last column, the value.
    """

    spec: GameSpec
    about: Mapping[str, Any]
    layers: tuple[tuple[FloatArray, FloatArray], ...]
    head: tuple[FloatArray, FloatArray]

    def forward(self, observation: FloatArray) -> FloatArray:
        """Returns logits (unmasked) and the value, `[B, A + 1]`, of observations `[B, O]` or longer."""
        hidden = read_features(self.spec, observation)
        for weight, bias in self.layers:
            hidden = np.maximum(hidden @ weight + bias, 0)
        return hidden @ self.head[0] + self.head[1]


def read_features(spec: GameSpec, observation: FloatArray) -> FloatArray:
    """Returns what the first layer reads, `[B, F]`, of standing observations `[B, O]` or longer.

    All features before the mask, with the flag "an offer stands" replaced by what that offer is worth to the observer
    as a share of its own total (0 without an offer), and then a one-hot of what is legal: walk, offers and walk, accept
    and walk, all.
    """
    slices = spec.slices
    mask, flag = slices["mask"], slices["state"].start
    everything = observation[:, slices["values"]] * np.asarray(spec.item_quantities)
    worth = (everything * observation[:, slices["offer"]]).sum(axis=1)
    offers, accept = observation[:, mask.start], observation[:, mask.start + spec.accept_action]
    features = np.empty((len(observation), mask.start + 4))
    features[:, : mask.start] = observation[:, : mask.start]
    features[:, flag] *= worth / np.maximum(everything.sum(axis=1), 1e-12)
    patterns = (1 - offers) * (1 - accept), offers * (1 - accept), (1 - offers) * accept, offers * accept
    features[:, mask.start :] = np.stack(patterns, axis=1)
    return features


class PretrainedPolicy(NumpyPolicy):
    """Plays the shipped network: draws from its distribution over the legal actions, or takes the most probable one.

    The network was trained by PPO self-play on the standard game, with one network for both seats;
    `docs/policies.md` has the command and what it earns. About 15 ms for 4,096 rows.

    Args:
        spec: The game; the network's own if None.
        seed: Seed of the generator used when `get_action` is called without one.
        greedy: Take the most probable action, the lowest index on ties.
        network: Another network than the shipped one, e.g. `read_network(path)`.

    Raises:
        UnsupportedGame: (a ValueError) if the network was trained on another game.
    """

    def __init__(
        self,
        spec: GameSpec | None = None,
        seed: int = 0,
        greedy: bool = False,
        network: NumpyNetwork | None = None,
    ) -> None:
        self.network = network or shipped_network()
        if spec is not None and not spec.same_game(self.network.spec):
            raise UnsupportedGame(f"pretrained plays {self.network.spec} only, not {spec}.")
        super().__init__(self.network.spec, seed)
        self.greedy = greedy

    @classmethod
    def from_request(cls, request: PolicyRequest) -> Self:
        """Builds the policy of `pretrained` or `pretrained?greedy`."""
        request.refuse_argument()
        return cls(request.spec, request.seed, **request.read_options(greedy=read_bool))

    def values(self, obs: Any) -> Any:
        """Returns `[B]` float64 (or a scalar): the movers' expected payoff / own total, as the network estimates it."""
        value = self.network.forward(_rows(obs))[:, -1]
        return like(obs, value if len(obs.shape) == 2 else value[0])

    def _decide(self, obs: NDArray[Any], action_mask: NDArray[np.bool_]) -> NDArray[Any]:
        logits = np.where(action_mask, self.network.forward(_rows(obs))[:, :-1], -np.inf)
        if self.greedy:
            best: NDArray[np.int64] = logits.argmax(axis=1)
            return best
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probs: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        return probs


def _rows(obs: Any) -> FloatArray:
    return np.atleast_2d(to_numpy(obs)).astype(np.float64)


@lru_cache
def shipped_network() -> NumpyNetwork:
    """Returns the network that ships with the distribution; read once."""
    return read_network(files("bargain_eval").joinpath(FILE))


def read_network(file: str | Path | Traversable) -> NumpyNetwork:
    """Returns the network that `export_network` wrote; no code of the file is ever run.

    Raises:
        ValueError: If the file is no such network.
    """
    content = BytesIO((Path(file) if isinstance(file, str) else file).read_bytes())
    try:
        arrays = np.load(content, allow_pickle=False)
    except BadZipFile as error:
        raise ValueError(f"{file} is damaged: {error}.") from error
    if not isinstance(arrays, NpzFile) or "head_weight" not in arrays:
        raise ValueError(f"{file} is no network written by export_network.")
    with arrays:
        about = json.loads(str(arrays["about"]))
        numbers = {name: array.astype(np.float64) for name, array in arrays.items() if name != "about"}
    depth = len(about["config"]["hidden_dims"])
    layers = tuple((numbers[f"weight_{n}"], numbers[f"bias_{n}"]) for n in range(depth))
    return NumpyNetwork(
        GameSpec.from_dict(about["spec"]), about, layers, (numbers["head_weight"], numbers["head_bias"])
    )


def export_network(checkpoint: str | Path, path: str | Path) -> None:
    """Writes the network of a checkpoint as an `.npz` file of plain arrays, atomically; needs torch.

    Args:
        checkpoint: A file written by `bargain-train ppo`: one MLP of the standing observation for both seats.
        path: The file to write.

    Raises:
        ValueError: If the checkpoint cannot be read, or holds anything else.
    """
    from bargain_eval.checkpoint import read_checkpoint
    from bargain_eval.files import replace_file

    stored = read_checkpoint(checkpoint)
    networks, spec = stored["networks"], GameSpec.from_dict(stored["spec"])
    config = networks[0]["config"]
    if len(networks) != 1 or config.get("network") != "mlp" or spec.observation != "standing":
        raise ValueError("export_network takes one mlp of the standing observation that plays both seats.")
    state = {name: to_numpy(tensor) for name, tensor in networks[0]["policy_state_dict"].items()}
    about = {key: stored[key] for key in ("algorithm", "spec", "step", "versions")} | {"config": dict(config)}
    arrays = {
        "about": np.array(json.dumps(about)),
        "head_weight": np.concatenate([state["policy_head.weight"], state["value_head.weight"]]).T,
        "head_bias": np.concatenate([state["policy_head.bias"], state["value_head.bias"]]),
    }
    for n in range(len(config["hidden_dims"])):
        arrays[f"weight_{n}"], arrays[f"bias_{n}"] = (
            state[f"trunk.layers.{n}.weight"].T,
            state[f"trunk.layers.{n}.bias"],
        )
    arrays["weight_0"] = _fold_mask(spec, arrays["weight_0"].astype(np.float64))
    with replace_file(Path(path)) as file:
        np.savez_compressed(file, **cast("dict[str, Any]", arrays))


def _fold_mask(spec: GameSpec, weight: FloatArray) -> FloatArray:
    """Returns the first layer's weight `[F, H]` of its weight `[O, H]`: the rows of the mask are summed by pattern."""
    mask = spec.slices["mask"]
    rows = weight[mask]
    offers, accept, walk = rows[: spec.num_offers].sum(axis=0), rows[spec.accept_action], rows[spec.walk_action]
    patterns = np.stack([np.zeros_like(walk), offers + walk, accept + walk, offers + accept + walk])
    return np.concatenate([weight[: mask.start], patterns])

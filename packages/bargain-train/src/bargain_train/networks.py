"""Networks: a trunk that reads observations, a policy head and a value head.

Legend: `B` rows, `A` actions, `O` features of an observation, `F` of what a trunk reads, `H` hidden features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from bargain_env import GameSpec
from torch import nn


class Network(nn.Module):
    """`reader [B, O] -> [B, F]`, `trunk [B, F] -> [B, H]`, and heads: `[B, A]` logits (unmasked) and values `[B]`.

    The value is the mover's expected payoff / own total. Nothing in it is random: the same rows give the same numbers
    while sampling and while updating.

    Attributes:
        config: What `build_network` needs to build it again.
        observation: The kind of observation that it reads.
        play: How its logits become probabilities, one of `PLAYS`.
        has_values: False if nobody has trained its values: they are NaN, or those of a network of advantages.
        reads_hands: True if it also reads the hand of the seat that waits, in columns after the history.
        reader: Has no parameters, so the features of a row are computed once for all updates on it.
    """

    reads_hands = False

    def __init__(
        self,
        config: dict[str, Any],
        spec: GameSpec,
        reader: nn.Module,
        trunk: nn.Module,
        heads: tuple[nn.Module, nn.Module],
        play: str = "softmax",
    ):
        super().__init__()
        self.config = config
        self.spec_of_game = spec
        self.observation = spec.observation
        self.play = play
        self.has_values = config.get("values", True) and play == "softmax"
        self.reader, self.trunk = reader, trunk
        self.policy_head, self.value_head = heads

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the logits `[B, A]` and values `[B]`; a standing network reads the prefix of history rows."""
        return self.outputs(self.reader(observation))

    def outputs(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the logits `[B, A]` of `features` `[B, F]`, and what is to be fitted to `value_targets`, `[B]`."""
        return self.heads(self.trunk(features))

    def value_targets(self, features: torch.Tensor, payoff: torch.Tensor) -> torch.Tensor:
        """Returns what an update fits the values of `features` `[R, F]` to, `[R, 1]`: the `payoff` `[R, 1]` itself."""
        del features
        return payoff

    def heads(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the logits `[B, A]` and values `[B]` of `hidden` `[B, H]`: one product where both are linear."""
        policy, value = self.policy_head, self.value_head
        if not isinstance(policy, nn.Linear) or not isinstance(value, nn.Linear):
            return policy(hidden), value(hidden).squeeze(-1)
        weight, bias = torch.cat([policy.weight, value.weight]), torch.cat([policy.bias, value.bias])
        logits, values = nn.functional.linear(hidden, weight, bias).split([policy.out_features, 1], -1)
        return logits, values.squeeze(-1)

    def values(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns the values `[B]` of `observation` `[B, O]`."""
        values: torch.Tensor = self.value_head(self.trunk(self.reader(observation))).squeeze(-1)
        return values


class NoValue(nn.Module):
    """The value head of a network that has none."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns NaN, `[B, 1]`."""
        return hidden.new_full((len(hidden), 1), torch.nan)


class Reader(nn.Module):
    """Turns an observation into what a trunk reads, which has the same size.

    The flag "an offer stands" is replaced by what that offer is worth to the observer, as a share of its own total (0
    without an offer). The flag says no more than the legality of accepting, which is there too; the worth is a sum of
    products, which a network learns slowly and every decision turns on. A standing network reads the prefix of history
    rows.
    """

    quantities: torch.Tensor

    def __init__(self, spec: GameSpec) -> None:
        super().__init__()
        self.size = spec.observation_dim
        self.values, self.offer = spec.slices["values"], spec.slices["offer"]
        self.flag = spec.slices["state"].start
        self.register_buffer("quantities", torch.tensor(spec.item_quantities, dtype=torch.float32), persistent=False)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns `[B, O]` for observations `[B, O]` or longer."""
        everything = observation[:, self.values] * self.quantities
        worth = (everything * observation[:, self.offer]).sum(-1, keepdim=True)
        share = worth / everything.sum(-1, keepdim=True).clamp_min(1e-12)
        flag = observation[:, self.flag : self.flag + 1]
        return torch.cat([observation[:, : self.flag], flag * share, observation[:, self.flag + 1 : self.size]], -1)


class PatternReader(nn.Module):
    """A `Reader` that gives the mask slice as a one-hot of which of its four patterns it is.

    Offers are legal all together or not at all, accept likewise, and walk is legal in every game that goes on.
    """

    def __init__(self, spec: GameSpec) -> None:
        super().__init__()
        self.reader = Reader(spec)
        self.mask, self.accept = spec.slices["mask"], spec.slices["mask"].start + spec.accept_action
        self.size = spec.observation_dim - spec.num_actions + 4

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Returns `[B, F]` for observations `[B, O]` or longer: all but the mask slice, then the pattern."""
        features = self.reader(observation)
        offers, accept = (features[:, index : index + 1] for index in (self.mask.start, self.accept))
        pattern = [(1 - offers) * (1 - accept), offers * (1 - accept), (1 - offers) * accept, offers * accept]
        return torch.cat([features[:, : self.mask.start], features[:, self.mask.stop :], *pattern], -1)


class MlpTrunk(nn.Module):
    """Linear layers with ReLU over the observation; the last hidden layer `[B, H]` is the output.

    It reads what `PatternReader` returns. The first layer's weights over the mask slice are summed into a table of one
    row a pattern, bias included, which saves six sevenths of its products in the standard game.
    """

    patterns: torch.Tensor

    def __init__(self, spec: GameSpec, hidden_dims: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (spec.observation_dim, *hidden_dims)
        self.layers = nn.ModuleList(nn.Linear(m, n) for m, n in itertools.pairwise(sizes))
        self.mask = spec.slices["mask"]
        offers, accept, walk = torch.zeros(3, spec.num_actions)
        offers[: spec.num_offers], accept[spec.accept_action], walk[spec.walk_action] = 1.0, 1.0, 1.0
        rows = [torch.zeros_like(walk), offers + walk, accept + walk, offers + accept + walk]
        self.register_buffer("patterns", torch.stack(rows), persistent=False)

    def forward(self, features: torch.Tensor, more: torch.Tensor | None = None) -> torch.Tensor:
        """Returns hidden features `[B, H]` of `[B, F]`; `more` `[B, H0]` is added before the first ReLU."""
        first, *later = cast(list[nn.Linear], list(self.layers))
        weight = first.weight
        table = (self.patterns @ weight[:, self.mask].T + first.bias).T
        columns = torch.cat([weight[:, : self.mask.start], weight[:, self.mask.stop :], table], -1)
        hidden = features @ columns.T
        hidden = (hidden if more is None else hidden + more).relu_()
        for layer in later:
            hidden = layer(hidden).relu_()
        return hidden


class TransformerTrunk(nn.Module):
    """One token per group of features (values, outside, offer, state, mask, and history if there is one), mean-pooled.

    Post-norm encoder layers without dropout; learned positions.
    """

    def __init__(self, spec: GameSpec, d_model: int, nhead: int, num_layers: int) -> None:
        super().__init__()
        self.groups = [group for group in spec.slices.values() if group.stop > group.start]
        self.embeddings = nn.ModuleList(nn.Linear(group.stop - group.start, d_model) for group in self.groups)
        self.positions = nn.Parameter(torch.randn(len(self.groups), d_model) * 0.02)
        layer = nn.TransformerEncoderLayer(d_model, nhead, 2 * d_model, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns hidden features `[B, H]` of what `Reader` returns, `[B, O]`."""
        tokens = [embed(features[:, group]) for group, embed in zip(self.groups, self.embeddings, strict=True)]
        pooled: torch.Tensor = self.encoder(torch.stack(tokens, 1) + self.positions).mean(1)
        return pooled


Parts = tuple[nn.Module, nn.Module, tuple[nn.Module, nn.Module]]
"""Reader, trunk, and the heads of policy and value."""


def _mlp(spec: GameSpec, hidden_dims: list[int]) -> Parts:
    if not hidden_dims or min(hidden_dims) < 1:
        raise ValueError(f"--hidden-dims needs at least one positive size, got {hidden_dims}.")
    heads = nn.Linear(hidden_dims[-1], spec.num_actions), nn.Linear(hidden_dims[-1], 1)
    return PatternReader(spec), MlpTrunk(spec, tuple(hidden_dims)), heads


def _transformer(spec: GameSpec, d_model: int, nhead: int, num_layers: int) -> Parts:
    if d_model < 1 or nhead < 1 or num_layers < 1 or d_model % nhead:
        raise ValueError(f"--d-model must be a multiple of --nhead, got {d_model} and {nhead}.")
    policy, value = (
        nn.Sequential(nn.Linear(d_model, 2 * d_model), nn.ReLU(), nn.Linear(2 * d_model, size))
        for size in (spec.num_actions, 1)
    )
    return Reader(spec), TransformerTrunk(spec, d_model, nhead, num_layers), (policy, value)


def _table(spec: GameSpec) -> Parts:
    from bargain_train.table_network import table

    return table(spec)


NETWORKS: dict[str, Callable[..., Parts]] = {
    "mlp": _mlp,
    "transformer": _transformer,
    "table": _table,
}
"""Builders by name: `(spec, **options) -> (reader, trunk, (policy head, value head))`."""


PLAYS = ("softmax", "regret-argmax", "regret-uniform")
"""softmax: logits as such; regret-...: regret matching on logits that are advantages, and what if none is positive."""


def build_network(config: Mapping[str, Any], spec: GameSpec, *, draw: bool = True) -> Network:
    """Builds an initialised network; parameters are drawn from torch's global generator.

    Args:
        config: `{"network": "mlp", "hidden_dims": [...]}`, `{"network": "transformer", "d_model": ..., "nhead": ...,
            "num_layers": ...}` or `{"network": "table"}`; optionally with `"play"`, one of `PLAYS`, and
            with `"values": False` for a network without a value head.
        spec: The game and kind of observation.
        draw: Draw orthogonal weights; not worth its time where stored ones will follow.

    Raises:
        ValueError: If the name or an option is unknown or out of range.
    """
    options = dict(config)
    name, play, values = options.pop("network", None), options.pop("play", "softmax"), options.pop("values", True)
    if play not in PLAYS:
        raise ValueError(f"a network plays by one of {', '.join(PLAYS)}, got {play!r}.")
    if name not in NETWORKS:
        raise ValueError(f"--network must be one of {', '.join(NETWORKS)}, got {name!r}.")
    try:
        reader, trunk, (policy, value) = NETWORKS[name](spec, **options)
    except TypeError as error:
        raise ValueError(f"bad options for network {name!r}: {error}.") from error
    network = Network(dict(config), spec, reader, trunk, (policy, value if values else NoValue()), play)
    if draw:
        initialise(network, (network.policy_head, 0.01), (network.value_head, 0.1))
    return network


def build_pair(config: Mapping[str, Any], spec: GameSpec, device: str) -> tuple[Network, Network]:
    """Returns a new network for each seat; see `build_network`."""
    first, second = (build_network(config, spec).to(device) for _ in range(2))
    return first, second


def initialise(network: nn.Module, *heads: tuple[nn.Module, float]) -> None:
    """Draws orthogonal weights for all linear layers, and scales the last one of each head by the number beside it.

    0.01 makes the first policy nearly uniform, 0.1 the first value nearly constant. A table stays as it is.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, math.sqrt(2))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for head, gain in heads:
        for last in [module for module in head.modules() if isinstance(module, nn.Linear)][-1:]:
            nn.init.orthogonal_(last.weight, gain)

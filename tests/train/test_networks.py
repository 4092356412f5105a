"""Networks: sizes, the shortcut over the mask slice, other games, bad options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.spec import ObservationKind
from bargain_train.networks import MlpTrunk, PatternReader, Reader, build_network
from torch import nn

MLP: dict[str, Any] = {"network": "mlp", "hidden_dims": [256, 256]}
SMALL_MLP: dict[str, Any] = {"network": "mlp", "hidden_dims": [16]}
TRANSFORMER: dict[str, Any] = {"network": "transformer", "d_model": 128, "nhead": 4, "num_layers": 2}
SMALL_TRANSFORMER: dict[str, Any] = {"network": "transformer", "d_model": 16, "nhead": 2, "num_layers": 1}

SPECS = {
    "default": GameSpec(),
    "history": GameSpec(observation="history"),
    "mini-a": GAMES["mini-a"],
    "eight types": GameSpec(item_quantities=(1,) * 8, max_rounds=5, observation="history"),
}


def _mask_patterns(spec: GameSpec) -> torch.Tensor:
    """Nothing (a finished game's zero row), offers and walk, accept and walk, everything."""
    patterns = torch.zeros(4, spec.num_actions)
    patterns[1, : spec.num_offers] = patterns[3, : spec.num_offers] = 1
    patterns[2:, spec.accept_action] = 1
    patterns[1:, spec.walk_action] = 1
    return patterns


def _observations(spec: GameSpec, rows_per_pattern: int = 5) -> torch.Tensor:
    patterns = _mask_patterns(spec).repeat_interleave(rows_per_pattern, 0)
    observation = torch.rand(len(patterns), spec.observation_dim) * 2 - 1
    observation[:, spec.slices["mask"]] = patterns
    observation[:, spec.slices["values"]].clamp_(0.1)
    observation[0] = 0
    return observation


@pytest.mark.parametrize(("config", "count"), [(MLP, 110_931), (TRANSFORMER, 365_395)])
def test_parameter_counts_of_the_standard_game(config: dict[str, Any], count: int) -> None:
    assert sum(p.numel() for p in build_network(config, GameSpec()).parameters()) == count


@pytest.mark.parametrize("observation", ["standing", "history"])
def test_the_mlp_equals_the_plain_product_over_all_inputs(observation: ObservationKind) -> None:
    spec = GameSpec(observation=observation)
    trunk = MlpTrunk(spec, (256, 256))
    rows = _observations(spec)
    assert rows.shape[1] == {"standing": 92, "history": 107}[observation]
    hidden = Reader(spec)(rows)
    for layer in trunk.layers:
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.bias)
        hidden = torch.relu(hidden @ layer.weight.T + layer.bias)
    torch.testing.assert_close(trunk(PatternReader(spec)(rows)), hidden, atol=1e-5, rtol=1e-5)


def test_the_flag_of_an_offer_becomes_the_offers_worth() -> None:
    spec = GameSpec()
    engine = make_engine(spec, 500, seed=3)
    for _ in range(7):
        engine.step(engine.random_actions())
    seen = spec.read_observation(engine.observation)
    read = Reader(spec)(torch.tensor(engine.observation))
    flag = spec.slices["state"].start
    worth = (seen.values * seen.offer).sum(1) / seen.total
    assert 0 < seen.has_offer.mean() < 1
    torch.testing.assert_close(read[:, flag].double(), torch.from_numpy(worth), atol=1e-6, rtol=0)
    others = [column for column in range(spec.observation_dim) if column != flag]
    assert torch.equal(read[:, others], torch.tensor(engine.observation)[:, others])
    assert torch.equal(Reader(spec)(torch.zeros(1, spec.observation_dim)), torch.zeros(1, spec.observation_dim))


def test_the_mlps_gradient_equals_the_plain_products() -> None:
    spec = GameSpec()
    trunk, rows = MlpTrunk(spec, (32,)), _observations(spec)
    first = trunk.layers[0]
    assert isinstance(first, nn.Linear)
    trunk(PatternReader(spec)(rows)).square().sum().backward()
    fast = [first.weight.grad, first.bias.grad]
    first.weight.grad = first.bias.grad = None
    torch.relu(first(Reader(spec)(rows))).square().sum().backward()
    for shortcut, plain in zip(fast, (first.weight.grad, first.bias.grad), strict=True):
        torch.testing.assert_close(shortcut, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("config", [SMALL_MLP, SMALL_TRANSFORMER], ids=["mlp", "transformer"])
def test_networks_adapt_to_the_game(config: dict[str, Any], name: str) -> None:
    spec = SPECS[name]
    network = build_network(config, spec)
    logits, value = network(_observations(spec))
    assert logits.shape == (20, spec.num_actions)
    assert value.shape == (20,)
    assert logits.isfinite().all()
    assert network.observation == spec.observation


@pytest.mark.parametrize("config", [SMALL_MLP, SMALL_TRANSFORMER], ids=["mlp", "transformer"])
def test_nothing_is_random_and_values_equal_forward(config: dict[str, Any]) -> None:
    network = build_network(config, GameSpec())
    rows = _observations(GameSpec())
    (logits, value), (again, _) = network(rows), network(rows)
    assert torch.equal(logits, again)
    with torch.no_grad():
        sampling, _ = network(rows)
    torch.testing.assert_close(sampling, logits, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(network.values(rows), value)


@pytest.mark.parametrize("config", [SMALL_MLP, SMALL_TRANSFORMER], ids=["mlp", "transformer"])
def test_a_standing_network_reads_the_prefix_of_history_rows(config: dict[str, Any]) -> None:
    history = GameSpec(observation="history")
    network = build_network(config, GameSpec())
    rows = _observations(history)
    logits, value = network(rows)
    prefix_logits, prefix_value = network(rows[:, : history.standing_dim])
    assert torch.equal(logits, prefix_logits)
    assert torch.equal(value, prefix_value)


def test_every_feature_of_the_history_reaches_the_transformer() -> None:
    spec = GameSpec(observation="history")
    rows = _observations(spec).requires_grad_()
    build_network(SMALL_TRANSFORMER, spec)(rows)[1].sum().backward()
    assert rows.grad is not None
    assert rows.grad.abs().sum(0).min() > 0


def test_the_first_policy_is_nearly_uniform() -> None:
    logits, _ = build_network(MLP, GameSpec())(_observations(GameSpec()))
    assert logits.abs().max() < 0.2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"network": "lstm"}, r"--network must be one of mlp, transformer, table, got 'lstm'\."),
        ({}, "--network must be one of"),
        ({"network": "mlp", "hidden_dims": []}, "--hidden-dims needs at least one positive size"),
        ({"network": "mlp", "hidden_dims": [8, 0]}, "--hidden-dims needs at least one positive size"),
        ({"network": "mlp", "d_model": 3}, "bad options for network 'mlp'"),
        ({"network": "transformer", "d_model": 10, "nhead": 4, "num_layers": 1}, "--d-model must be a multiple"),
    ],
)
def test_bad_options_are_one_sentence(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build_network(config, GameSpec())
    assert "\n" not in str(error.value)

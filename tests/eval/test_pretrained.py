import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bargain_env.reference import ReferenceGame
from bargain_env.spec import GAMES, GameSpec
from bargain_eval.arena import play
from bargain_eval.evaluate import evaluate_policy
from bargain_eval.policy import HasProbabilities, HasValues, UnsupportedGame
from bargain_eval.pretrained import PretrainedPolicy, export_network, read_network, shipped_network
from bargain_eval.registry import load_policy
from numpy.typing import NDArray

PAGE = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
SPEC = GameSpec()
Rows = tuple[NDArray[np.float32], NDArray[np.bool_]]


def rows(count: int, spec: GameSpec = SPEC) -> Rows:
    rng = np.random.default_rng(0)
    games = [ReferenceGame(spec, 5, game) for game in range(count)]
    for index, game in enumerate(games):
        for _ in range(index % spec.max_turns):
            game.play(int(rng.integers(spec.num_offers)))
    return np.stack([game.observation() for game in games]), np.stack([game.action_mask() for game in games])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Any:
    """A checkpoint of an untrained network with large random weights, and the network."""
    torch = pytest.importorskip("torch")
    networks = pytest.importorskip("bargain_train.networks")
    from bargain_eval.checkpoint import write_checkpoint
    from bargain_train.policies import policy_checkpoint

    def write(spec: GameSpec = SPEC, **config: Any) -> tuple[Path, Any]:
        torch.manual_seed(3)
        network = networks.build_network({"network": "mlp", "hidden_dims": [20, 12]} | config, spec)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter += torch.randn_like(parameter) * 0.3
        write_checkpoint(tmp_path / "policy.pt", policy_checkpoint("ppo", (network, network), 17))
        return tmp_path / "policy.pt", network

    return write


@pytest.mark.parametrize("spec", [SPEC, GAMES["mini-c"], GameSpec(item_quantities=(3,), max_rounds=5)])
@pytest.mark.parametrize("hidden_dims", [[20, 12], [8], [8, 9, 10]])
def test_an_exported_network_is_the_torch_network(
    spec: GameSpec, hidden_dims: list[int], checkpoint: Any, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    from bargain_train.actors import MaskedCategorical

    path, network = checkpoint(spec, hidden_dims=hidden_dims)
    export_network(path, tmp_path / "network.npz")
    policy = PretrainedPolicy(network=read_network(tmp_path / "network.npz"))
    obs, mask = rows(300, spec)
    trained = load_policy(f"checkpoint:{path}")
    assert isinstance(trained, HasProbabilities)
    probs = policy.action_probs(obs, mask)
    np.testing.assert_allclose(probs, trained.action_probs(obs, mask), rtol=0, atol=1e-5)  # torch's float32
    network.double()
    network.reader.double()
    with torch.no_grad():
        logits, values = network(torch.from_numpy(obs).double())
        exact = MaskedCategorical(logits, torch.from_numpy(mask)).probs.numpy()
    assert exact.max(axis=1).mean() < 0.99
    np.testing.assert_allclose(probs, exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(policy.values(obs), values.numpy(), rtol=0, atol=1e-12)
    greedy = PretrainedPolicy(network=policy.network, greedy=True)
    assert greedy.get_action(obs, mask).tolist() == exact.argmax(axis=1).tolist()


def test_where_a_network_comes_from_is_told(checkpoint: Any, tmp_path: Path) -> None:
    path, _ = checkpoint()
    export_network(path, tmp_path / "network.npz")
    network = read_network(tmp_path / "network.npz")
    assert network.spec == SPEC
    assert network.about["algorithm"] == "ppo"
    assert network.about["step"] == 17
    assert network.about["config"]["hidden_dims"] == [20, 12]
    first = (tmp_path / "network.npz").read_bytes()
    export_network(path, tmp_path / "network.npz")
    assert (tmp_path / "network.npz").read_bytes() == first


@pytest.mark.parametrize("what", ["history", "transformer", "two networks"])
def test_what_cannot_be_exported_is_refused(what: str, checkpoint: Any, tmp_path: Path) -> None:
    if what == "history":
        path, _ = checkpoint(SPEC.with_observation("history"))
    else:
        path, network = checkpoint()
        from bargain_eval.checkpoint import write_checkpoint
        from bargain_train.networks import build_network
        from bargain_train.policies import policy_checkpoint

        other = build_network({"network": "mlp", "hidden_dims": [4]}, SPEC)
        if what == "transformer":
            network = other = build_network({"network": "transformer", "d_model": 8, "nhead": 2, "num_layers": 1}, SPEC)
        write_checkpoint(path, policy_checkpoint("ppo", (network, other), 1))
    with pytest.raises(ValueError, match="one mlp of the standing observation"):
        export_network(path, tmp_path / "network.npz")
    assert not (tmp_path / "network.npz").exists()


def test_files_that_are_no_network_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "pickle.npz").write_bytes(b"\x80\x04K\x01.")
    np.savez(tmp_path / "objects.npz", about=np.array({"a": 1}, dtype=object), head_weight=np.zeros(1))
    for name in ("other.npz", "array.npy", "broken.npz", "pickle.npz", "objects.npz"):
        with pytest.raises(ValueError, match=r"no network|damaged|pickle"):
            read_network(tmp_path / name)


# What follows is about the shipped network.


def test_the_file_is_small_and_says_how_it_was_trained() -> None:
    from bargain_eval import pretrained

    file = Path(pretrained.__file__).with_name(pretrained.FILE).read_bytes()
    assert len(file) < 100_000
    assert f"| SHA-256 | {hashlib.sha256(file).hexdigest()} |" in PAGE
    about = shipped_network().about
    assert about["algorithm"] == "ppo"
    assert f"| environment steps | {about['step']:,} |" in PAGE
    assert json.loads(json.dumps(about)) == about


def test_it_follows_the_contract_of_policies() -> None:
    obs, mask = rows(600)
    policy = PretrainedPolicy(seed=1)
    assert isinstance(policy, HasValues)
    probs = policy.action_probs(obs, mask)
    assert not probs[~mask].any()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)
    assert (probs.max(axis=1) < 0.999).mean() > 0.1  # it plays mixed
    actions = policy.get_action(obs, mask)
    assert mask[np.arange(600), actions].all()
    assert PretrainedPolicy(seed=1).get_action(obs, mask).tolist() == actions.tolist()
    given = [policy.get_action(obs, mask, np.random.default_rng(2)).tolist() for _ in range(2)]
    assert given[0] == given[1]
    assert policy.values(obs).shape == (600,)
    assert np.ndim(policy.values(obs[0])) == 0
    assert policy.get_action(obs[0], mask[0]).dtype == np.int64
    history = np.pad(obs, ((0, 0), (0, 15)))
    np.testing.assert_array_equal(policy.action_probs(history, mask), probs)
    np.testing.assert_array_equal(policy.values(history), policy.values(obs))


def test_the_answer_does_not_depend_on_the_batch() -> None:
    obs, mask = rows(600)
    policy = PretrainedPolicy()
    together = policy.action_probs(obs, mask)
    apart = np.concatenate([policy.action_probs(obs[n : n + 7], mask[n : n + 7]) for n in range(0, 600, 7)])
    np.testing.assert_allclose(together, apart, rtol=0, atol=1e-12)


def test_tensors_are_answered_by_tensors() -> None:
    torch = pytest.importorskip("torch")
    obs, mask = rows(12)
    policy = PretrainedPolicy()
    value = policy.values(torch.from_numpy(obs))
    assert isinstance(value, torch.Tensor)
    np.testing.assert_array_equal(value.numpy(), policy.values(obs))
    probs = policy.action_probs(torch.from_numpy(obs), torch.from_numpy(mask))
    np.testing.assert_array_equal(probs.numpy(), policy.action_probs(obs, mask))


def test_greedy_takes_the_most_probable_action() -> None:
    obs, mask = rows(600)
    greedy = load_policy("pretrained?greedy")
    mixed = PretrainedPolicy().action_probs(obs, mask)
    assert greedy.get_action(obs, mask).tolist() == mixed.argmax(axis=1).tolist()


def printed(row: str) -> float:
    """The number that docs/policies.md prints in this row."""
    found = re.search(rf"^\| {re.escape(row)} \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert found
    return float(found[1])


def test_it_earns_what_the_page_says() -> None:
    result = evaluate_policy("pretrained", num_games=10_000, seed=11)
    pool = "mean payoff over the pool (random, greedy, fair_split, tioli; both seats)"
    assert abs(result["pool_payoff"] - printed(pool)) < 4 * result["pool_payoff_se"]
    alone = result["self_play"]
    rows = {"payoff_0": "seat 0", "payoff_1": "seat 1", "total": "total", "agreement_rate": "deals"}
    for name, row in rows.items():
        assert abs(alone[name] - printed(f"self-play, {row}")) < 4 * alone[f"{name}_se"], name
    assert alone["total"] > 1.2217 + 2 * alone["total_se"]  # more than the take-it-or-leave-it equilibrium
    greedy = load_policy("pretrained?greedy")
    summary = play((greedy, greedy), 10_000, 11).summary()
    assert summary["total"] is not None
    assert abs(summary["total"] - printed("self-play of `pretrained?greedy`, total")) < 4 * float(
        summary["total_se"] or 0
    )


def test_its_values_are_what_it_earns() -> None:
    policy = PretrainedPolicy()
    games = [ReferenceGame(SPEC, 9, game) for game in range(5000)]
    expected = policy.values(np.stack([game.observation() for game in games]))
    earned = play((policy, policy), 5000, 9).payoff[:, 0]
    assert abs(expected.mean() - earned.mean()) < 0.03
    assert np.corrcoef(expected, earned)[0, 1] > 0.6


def test_other_games_are_refused() -> None:
    for spec in (GAMES["mini-b"], GameSpec(discount=0.9)):
        with pytest.raises(UnsupportedGame, match="pretrained plays"):
            load_policy("pretrained", spec)
    assert load_policy("pretrained", SPEC.with_observation("history")).observation == "standing"


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="its options are greedy"):
        load_policy("pretrained?temperature=2")
    with pytest.raises(ValueError, match="takes no argument"):
        load_policy("pretrained:x")


def test_it_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from bargain_eval import load_policy, play\n"
        "play((load_policy('pretrained'), load_policy('pretrained?greedy')), 50, 0)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

import sys
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from bargain_env import cuda_device
from bargain_env.spec import GAMES, GameSpec
from bargain_eval import registry
from bargain_eval.baselines import AlwaysWalkPolicy, FairSplitPolicy, GreedyPolicy, RandomPolicy
from bargain_eval.equilibria import TioliPolicy
from bargain_eval.policy import PolicyRequest, UnsupportedGame
from bargain_eval.registry import load_policy, parse_policy_string, policy_names, resolve_device

BASELINES = {
    "random": RandomPolicy,
    "greedy": GreedyPolicy,
    "always_walk": AlwaysWalkPolicy,
    "fair_split": FairSplitPolicy,
    "tioli": TioliPolicy,
}


@pytest.fixture
def only_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if bargain-eval alone were installed."""
    own = [point for point in entry_points(group=registry.GROUP) if point.name in BASELINES]
    _install(monkeypatch, own)


def _install(monkeypatch: pytest.MonkeyPatch, points: list[EntryPoint]) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda **query: EntryPoints(points).select(**query))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[PolicyRequest]:
    """Registers a policy `spy` and a policy `checkpoint`, and returns the requests that reach them."""
    seen: list[PolicyRequest] = []

    def build(request: PolicyRequest) -> GreedyPolicy:
        seen.append(request)
        return GreedyPolicy(GAMES["mini-a"])

    module = ModuleType("spy_policies")
    module.build = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spy_policies", module)
    points = [EntryPoint(name, "spy_policies:build", registry.GROUP) for name in ("spy", "checkpoint")]
    _install(monkeypatch, points)
    return seen


def test_the_baselines_are_registered() -> None:
    assert set(BASELINES) <= set(policy_names())
    for name, kind in BASELINES.items():
        policy = load_policy(name)
        assert type(policy) is kind
        assert policy.spec == GameSpec()
    mini = load_policy("tioli", GAMES["mini-b"])
    assert isinstance(mini, TioliPolicy)
    assert mini.spec == GAMES["mini-b"]


def test_options_reach_the_policy() -> None:
    policy = load_policy("fair_split?accept_threshold=.25")
    assert isinstance(policy, FairSplitPolicy)
    assert policy.accept_threshold == 0.25


def test_the_seed_reaches_the_policy() -> None:
    obs, mask = np.zeros((30, 92), np.float32), np.ones((30, 82), bool)
    expected = RandomPolicy(seed=4).get_action(obs, mask).tolist()
    assert load_policy("random", seed=4).get_action(obs, mask).tolist() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("random", ("random", "", {})),
        ("run:abc_seed1", ("run", "abc_seed1", {})),
        ("openai:llama3:8b?temperature=0&verbose", ("openai", "llama3:8b", {"temperature": "0", "verbose": "true"})),
        ("search:fair_split?accept_threshold=.3?depth=2", ("search", "fair_split?accept_threshold=.3", {"depth": "2"})),
        ("checkpoint:a/b.pt", ("checkpoint", "a/b.pt", {})),
        ("a/b.pt", ("checkpoint", "a/b.pt", {})),
        ("best.pth?seat=1", ("checkpoint", "best.pth", {"seat": "1"})),
    ],
)
def test_policy_strings_are_read(text: str, expected: tuple[str, str, dict[str, str]]) -> None:
    assert parse_policy_string(text) == expected


def test_an_existing_file_is_a_checkpoint_unless_a_policy_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").touch()
    Path("random").touch()
    assert parse_policy_string("weights") == ("checkpoint", "weights", {})
    assert parse_policy_string("random") == ("random", "", {})


def test_a_factory_receives_the_whole_request(
    requests: list[PolicyRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_device, "find_cuda_device", lambda device: 1)
    load_policy("spy:x?k=v&flag", GAMES["mini-a"], 7, "cuda:1", tmp_path)
    load_policy("net.pt")
    assert requests == [
        PolicyRequest("spy", "x", {"k": "v", "flag": "true"}, GAMES["mini-a"], 7, "cuda:1", tmp_path),
        PolicyRequest("checkpoint", "net.pt", {}, None, 0, "cpu", Path("results")),
    ]


def test_a_policy_of_another_game_is_refused(requests: list[PolicyRequest]) -> None:
    with pytest.raises(ValueError, match="made for another game"):
        load_policy("spy", GameSpec())
    load_policy("spy", GAMES["mini-a"].with_observation("history"))
    assert len(requests) == 2


@pytest.mark.usefixtures("only_baselines")
def test_unknown_names_are_answered_with_help() -> None:
    with pytest.raises(ValueError, match=r"unknown policy 'gredy'; did you mean 'greedy'\?.*always_walk, fair_split"):
        load_policy("gredy")
    with pytest.raises(ValueError, match=r"unknown policy 'zzz'. Known names"):
        load_policy("zzz")


@pytest.mark.usefixtures("only_baselines")
@pytest.mark.parametrize("text", ["checkpoint:x.pt", "x.pt", "run:abc", "search:random"])
def test_a_missing_distribution_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="pip install bargain-train"):
        load_policy(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("random?depth=1", "policy 'random' has no option 'depth'; it has none"),
        ("fair_split?threshold=1", "no option 'threshold'; its options are accept_threshold"),
        ("fair_split?accept_threshold=x", "accept_threshold=x of policy 'fair_split' cannot be read"),
        ("fair_split?accept_threshold=2", "must lie in"),
        ("fair_split?accept_threshold=.1&accept_threshold=.2", "gives an option twice"),
        ("greedy:x", "takes no argument, got 'x'"),
        ("", "starts with a name"),
    ],
)
def test_bad_policy_strings_are_refused_in_a_sentence(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_policy(text)


def test_a_policy_that_does_not_exist_on_a_game_says_so() -> None:
    with pytest.raises(UnsupportedGame):
        load_policy("tioli", GameSpec(discount=0.9))


@pytest.mark.parametrize("usable", [True, False])
def test_auto_is_a_gpu_where_one_can_be_used(usable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "has_cuda_device", lambda: usable)
    assert resolve_device("auto") == ("cuda:0" if usable else "cpu")
    assert resolve_device("cpu") == "cpu"


def test_a_named_gpu_is_found_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(device: str) -> int:
        if device == "cuda:3":
            raise RuntimeError("the driver is missing.")
        return 2

    monkeypatch.setattr(cuda_device, "find_cuda_device", find)
    assert resolve_device("cuda") == resolve_device("cuda:2") == "cuda:2"
    with pytest.raises(ValueError, match=r"^the driver is missing\.$"):
        load_policy("random", device="cuda:3")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match=r'^device must be "cpu", "cuda" or "cuda:k", got \'gpu\'\.$'):
        resolve_device("gpu")

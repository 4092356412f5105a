"""The TorchRL environment over an engine of tensors, as on a GPU: the same streams as over the CPU engine's arrays."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchrl")
pytest.importorskip("cuda.core")

from bargain_env import GAMES, GameSpec, torchrl_env  # noqa: E402
from bargain_env.testing import check_env  # noqa: E402
from bargain_env.torchrl_env import BargainEnv  # noqa: E402
from host_launcher import host_engine  # noqa: E402
from tensordict import TensorDictBase  # noqa: E402
from torchrl.envs.utils import check_env_specs  # noqa: E402

SPECS = {"standard": GameSpec(), "mini-b": GAMES["mini-b"].with_observation("history")}


def _tensor_env(monkeypatch: pytest.MonkeyPatch, spec: GameSpec, num_envs: int, seed: int, view: Any) -> BargainEnv:
    def make(
        spec: GameSpec, num_envs: int, device: str, seed: int, *, first_game: int, threads: int, views: bool
    ) -> Any:
        return host_engine(spec, num_envs, seed=seed, first_game=first_game, views=views)

    with monkeypatch.context() as patch:
        patch.setattr(torchrl_env, "make_engine", make)
        env = BargainEnv(spec, num_envs, seed, view=view)
    assert isinstance(env.engine.mover, torch.Tensor)
    return env


@pytest.mark.parametrize("view", ["acting", "agents"])
@pytest.mark.parametrize("name", SPECS)
def test_tensors_and_arrays_make_one_stream(name: str, view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = _tensor_env(monkeypatch, SPECS[name], 40, 3, view), BargainEnv(SPECS[name], 40, 3, view=view)
    roots = [env.reset() for env in pair]
    for step in range(40):
        _assert_same(roots)
        drawn = [env.rand_action(root) for env, root in zip(pair, roots, strict=True)]
        if step % 2:
            steps = [env.step_and_maybe_reset(root) for env, root in zip(pair, drawn, strict=True)]
            roots = [root for _, root in steps]
            _assert_same([stepped["next"] for stepped, _ in steps])
        else:
            after = [env.step(root)["next"] for env, root in zip(pair, drawn, strict=True)]
            _assert_same(after)
            done = [following.exclude("reward").set("_reset", following["done"]) for following in after]
            roots = [env.reset(ended) for env, ended in zip(pair, done, strict=True)]


def _assert_same(pair: list[TensorDictBase]) -> None:
    first, second = pair
    assert set(first.keys(True, True)) == set(second.keys(True, True))
    for key in first.keys(True, True):
        assert torch.equal(first[key], second[key]), key


@pytest.mark.parametrize("view", ["acting", "agents"])
def test_torchrls_checks_hold(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_env_specs(_tensor_env(monkeypatch, GameSpec(), 3, 0, view), seed=1, break_when_any_done="both")


@pytest.mark.parametrize("view", ["acting", "agents"])
def test_actions_need_not_be_contiguous(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    env = _tensor_env(monkeypatch, GameSpec(), 3, 0, view)
    root, key = env.reset(), env.action_key
    strided = torch.full((3, 4), 80)[:, 1:3] if view == "agents" else torch.full((3, 4), 81)[:, 1]
    env.step_and_maybe_reset(root.set(key, strided))
    assert env.engine.decisions.tolist() == [1, 1, 1]


@pytest.mark.parametrize("view", ["acting", "agents"])
def test_it_conforms(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check_env(lambda: _tensor_env(monkeypatch, GameSpec(), 9, 0, view))

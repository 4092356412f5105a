"""The arena on an engine of tensors: who gets tensors, who gets copies, and that the games are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bargain_env import GameSpec, make_engine
from bargain_eval import FairSplitPolicy, RandomPolicy, arena, play
from bargain_eval.cli import main
from bargain_eval.game_rows import GameRows
from bargain_eval.policy import to_numpy

torch = pytest.importorskip("torch")


class TensorEngine:
    """The CPU engine behind tensors that share its memory, as the CUDA engine shows them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._engine = make_engine(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        if name in self._engine.buffers:
            return torch.from_numpy(self._engine.buffers[name])
        return getattr(self._engine, name)

    def step(self, actions: Any) -> None:
        assert isinstance(actions, torch.Tensor)
        assert actions.dtype == torch.int64
        self._engine.step(actions.numpy())


class Watched:
    """A policy that computes on `device`, keeps the kinds of what it is shown, and answers in a kind of its own."""

    def __init__(self, policy: Any, device: str, answer: Any) -> None:
        self.policy, self.device, self.answer = policy, device, answer
        self.observation = policy.observation
        self.shown: set[type] = set()

    def get_action(self, obs: Any, action_mask: Any, rng: Any = None, game_ids: Any = None) -> Any:
        self.shown |= {type(obs), type(action_mask)}
        assert isinstance(game_ids, np.ndarray)
        return self.answer(self.policy.get_action(obs, action_mask, rng, game_ids))


def _to_int32_tensor(actions: Any) -> Any:
    return torch.as_tensor(actions).to(torch.int32)


@pytest.fixture
def tensor_engines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that the arena asked engines of."""
    asked: list[str] = []

    def make(spec: GameSpec, num_envs: int, device: str, seed: int, **options: Any) -> TensorEngine:
        asked.append(device)
        return TensorEngine(spec, num_envs, "cpu", seed, **options)

    monkeypatch.setattr(arena, "make_engine", make)
    return asked


def _assert_equal(first: GameRows, second: GameRows) -> None:
    for name in GameRows.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), name)


@pytest.mark.parametrize(("device", "kind"), [("cpu", np.ndarray), ("cuda:0", torch.Tensor)])
@pytest.mark.parametrize("answer", [to_numpy, _to_int32_tensor, torch.as_tensor])
def test_a_policy_gets_what_it_computes_on(
    device: str, kind: type, answer: Any, tensor_engines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(RandomPolicy(), device, answer)
    rows = play((watched, FairSplitPolicy()), 300, 4, device="cuda:0", block_size=128)
    assert watched.shown == {kind}
    assert tensor_engines == ["cuda:0"] * 3
    monkeypatch.undo()
    _assert_equal(rows, play((RandomPolicy(), FairSplitPolicy()), 300, 4, block_size=128))


def test_bad_actions_in_tensors_are_refused(tensor_engines: list[str]) -> None:
    wrong = Watched(RandomPolicy(), "cuda:0", lambda actions: torch.as_tensor(actions).float())
    with pytest.raises(ValueError, match=r"^Watched returned float32 actions of shape \(5,\) for 5 games; one integer"):
        play((wrong, RandomPolicy()), 5, 0, device="cuda:0")


def test_the_command_line_plays_on_the_device_that_it_is_told(
    tensor_engines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["baselines", "--policies", "greedy", "--num-games", "20", "--json"]
    monkeypatch.setattr("bargain_env.cuda_device.find_cuda_device", lambda device: 1)
    assert main([*command, "--device", "cuda:1"]) == 0
    assert tensor_engines == ["cuda:1"]
    on_device = capsys.readouterr().out
    monkeypatch.undo()
    assert main(command) == 0
    assert capsys.readouterr().out == on_device

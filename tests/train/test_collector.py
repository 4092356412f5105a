"""The time-major collector yields what TorchRL's own collector yields, from one piece of memory."""

from __future__ import annotations

import pytest
import torch
from bargain_env import GAMES, BargainEnv, GameSpec
from bargain_train.collector import TimeMajorCollector
from tensordict import TensorDictBase
from torchrl.collectors import BaseCollector, Collector

SPECS = {"default": GameSpec(), "history": GAMES["mini-c"].with_observation("history")}
GAMES_AT_ONCE, LENGTH, ROLLOUTS = 30, 5, 4


class _Player:
    """Draws legal actions, and notes how often it was asked."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, root: TensorDictBase) -> TensorDictBase:
        noise = torch.rand(root["action_mask"].shape, generator=self._generator)
        best, action = noise.masked_fill(~root["action_mask"], -1.0).max(-1)
        return root.set("action", action).set("best", best)


def _collector(spec: GameSpec = SPECS["default"], seed: int = 3) -> TimeMajorCollector:
    return TimeMajorCollector(BargainEnv(spec, GAMES_AT_ONCE, seed=seed), _Player(), length=LENGTH)


@pytest.mark.parametrize("name", SPECS)
def test_the_rows_are_those_of_torchrls_collector(name: str) -> None:
    ours, env = _collector(SPECS[name]), BargainEnv(SPECS[name], GAMES_AT_ONCE, seed=3)
    warm = _Player()
    stock = Collector(
        env,
        warm,
        frames_per_batch=GAMES_AT_ONCE * LENGTH,
        total_frames=-1,
        trust_policy=True,
        auto_register_policy_transforms=False,
    )
    warm.__init__()  # type: ignore[misc]  # the stock collector asks its policy once before it begins
    for _, mine, theirs in zip(range(ROLLOUTS), ours, stock, strict=False):
        assert mine.batch_size == (LENGTH, GAMES_AT_ONCE)
        for key in mine.keys(True, True):
            assert torch.equal(mine[key], theirs[key].transpose(0, 1)), key
        assert mine["next", "done"].any()
    keys = {"observation", "action_mask", "player", "action", "best", "next"}
    assert set(mine.keys()) == keys
    assert set(mine["next"].keys()) == {"reward", "done", "terminated"}


def test_rollouts_share_their_memory() -> None:
    collector = _collector()
    first = collector.rollout()
    second = collector.rollout()
    for key in first.keys(include_nested=True, leaves_only=True):
        assert first[key].data_ptr() == second[key].data_ptr(), key


def test_a_caller_may_drop_and_rename_keys_of_what_it_got() -> None:
    collector = _collector()
    rollout = collector.rollout()
    del rollout["action"], rollout["next", "reward"]
    assert {"action", "observation"} < set(collector.rollout().keys())


def test_games_go_on_from_a_stored_state_and_from_a_seed() -> None:
    collector, other = _collector(), _collector(seed=8)
    collector.rollout()
    state = collector.state_dict()
    expected = collector.rollout()["observation"][0].clone()
    other.load_state_dict(state)
    assert torch.equal(other.rollout()["observation"][0], expected)
    collector.set_seed(11)
    fresh = BargainEnv(SPECS["default"], GAMES_AT_ONCE, seed=11)
    assert torch.equal(collector.rollout()["observation"][0], fresh.reset()["observation"])
    with pytest.raises(ValueError, match=r"^state .* must have shape .*\.$"):
        _collector(GAMES["mini-a"]).load_state_dict(state)


def test_it_is_a_torchrl_collector_that_closes_its_games() -> None:
    collector = _collector()
    assert isinstance(collector, BaseCollector)
    assert collector.next().batch_size == (LENGTH, GAMES_AT_ONCE)
    collector.shutdown()
    collector.shutdown()
    with pytest.raises(RuntimeError, match=r"^this engine is closed\.$"):
        collector.rollout()


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^length must be at least 1, got 0\.$"):
        TimeMajorCollector(BargainEnv(num_envs=2), _Player(), length=0)
    with pytest.raises(ValueError, match=r'^a TimeMajorCollector needs BargainEnv\(view="acting"\)\.$'):
        TimeMajorCollector(BargainEnv(num_envs=2, view="agents"), _Player(), length=3)

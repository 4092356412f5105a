"""TorchRL's own wrapper over the PettingZoo views, in both of its ways to deal with turns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchrl")

from bargain_env import env, make_engine, parallel_env  # noqa: E402
from torchrl.envs.libs.pettingzoo import PettingZooWrapper  # noqa: E402
from torchrl.envs.utils import check_env_specs  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:PettingZoo in TorchRL is tested using version")

AGENTS = ("player_0", "player_1")
STEPS = 60


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _seats(tensordict: Any, *key: str) -> Any:
    """Returns `[T, 2, ...]`, whether TorchRL keeps both agents in one group or each in its own."""
    if "player" in set(tensordict.keys()):
        return tensordict[("player", *key)]
    return torch.cat([tensordict[(agent, *key)] for agent in AGENTS], dim=1)


def _check_games(rollout: Any, movers: Any) -> None:
    """Replays the movers' actions on an engine of the same seed and compares what they saw and both seats earned."""
    engine, ended = make_engine(seed=5), 0
    engine.reset()
    engine.reset()  # the wrapper's constructor resets once before the rollout does
    seen, actions = _seats(rollout, "observation", "observation"), _seats(rollout, "action")
    rewards = _seats(rollout["next"], "reward")
    for step, mover in enumerate(movers.tolist()):
        assert mover == engine.mover[0]
        assert np.array_equal(seen[step, mover].numpy(), engine.observation[0])
        engine.step(np.array([int(actions[step, mover])]))
        assert not engine.illegal[0]
        assert np.array_equal(rewards[step].flatten().numpy(), engine.reward[0])
        assert bool(rollout["next", "done"][step]) == engine.terminated[0]
        ended += int(engine.terminated[0])
    assert ended > 8


def test_parallel_view() -> None:
    check_env_specs(PettingZooWrapper(env=parallel_env(), return_state=True))
    rollout = PettingZooWrapper(env=parallel_env(), return_state=True, seed=5).rollout(STEPS, break_when_any_done=False)
    waits = _seats(rollout, "action_mask")[..., -1]
    assert torch.all(waits.sum(-1) == 1)
    _check_games(rollout, (~waits).int().argmax(-1))
    assert torch.equal(rollout["state"], _seats(rollout, "observation", "observation").flatten(1))


def test_turn_based_view() -> None:
    check_env_specs(PettingZooWrapper(env=env(), use_mask=True))
    rollout = PettingZooWrapper(env=env(), use_mask=True, seed=5).rollout(STEPS, break_when_any_done=False)
    acts = _seats(rollout, "mask")
    assert torch.all(acts.sum(-1) == 1)
    _check_games(rollout, acts.int().argmax(-1))

"""The TorchRL environment: TorchRL's own checks, and one stream on both step paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchrl")

from bargain_env import GAMES, GameSpec, make_engine  # noqa: E402
from bargain_env.torchrl_env import BargainEnv  # noqa: E402
from tensordict import TensorDictBase  # noqa: E402
from torchrl.envs import EnvBase  # noqa: E402
from torchrl.envs.utils import check_env_specs  # noqa: E402

SPECS = {
    "default": GameSpec(),
    "history": GameSpec(observation="history"),
    "mini-a": GAMES["mini-a"],
    "discount": GameSpec(max_rounds=2, discount=0.9),
}
each_spec = pytest.mark.parametrize("name", SPECS)


class _ReferencePath(BargainEnv):
    """The environment with the step that TorchRL builds from `_step` and `_reset`."""

    step_and_maybe_reset = EnvBase.step_and_maybe_reset


@each_spec
@pytest.mark.parametrize("kind", [BargainEnv, _ReferencePath])
@pytest.mark.parametrize("num_envs", [1, 5])
def test_torchrls_checks_hold(kind: type[BargainEnv], name: str, num_envs: int) -> None:
    check_env_specs(kind(SPECS[name], num_envs), seed=1, break_when_any_done="both")


def test_first_game_names_the_deals_of_the_first_row() -> None:
    whole, part = BargainEnv(num_envs=7, seed=5), BargainEnv(num_envs=3, seed=5, first_game=4)
    assert torch.equal(part.reset()["observation"], whole.reset()["observation"][4:])


@each_spec
def test_both_step_paths_make_one_stream(name: str) -> None:
    fused, reference = BargainEnv(SPECS[name], 50, seed=4), _ReferencePath(SPECS[name], 50, seed=4)
    roots = fused.reset(), reference.reset()
    ended = 0
    for step in range(60):
        _assert_same(roots[0], roots[1], step)
        action = torch.from_numpy(fused.engine.random_actions(step))
        assert np.array_equal(action.numpy(), reference.engine.random_actions(step))
        stepped, following = zip(
            *(
                env.step_and_maybe_reset(root.set("action", action))
                for env, root in zip((fused, reference), roots, strict=True)
            ),
            strict=True,
        )
        for key in ("reward", "done", "terminated"):
            assert torch.equal(stepped[0]["next", key], stepped[1]["next", key]), (key, step)
        ended += int(stepped[0]["next", "done"].sum())
        roots = following[0], following[1]
    assert ended > 50


def _assert_same(root: TensorDictBase, other: TensorDictBase, step: int) -> None:
    for key in ("observation", "action_mask", "player", "done", "terminated"):
        assert torch.equal(root[key], other[key]), (key, step)


@each_spec
def test_the_stream_is_the_engines(name: str) -> None:
    env, engine = BargainEnv(SPECS[name], 30, seed=9), make_engine(SPECS[name], 30, seed=9)
    root = env.reset()
    for step in range(40):
        assert np.array_equal(root["observation"].numpy(), engine.observation)
        assert np.array_equal(root["action_mask"].numpy(), engine.action_mask)
        assert np.array_equal(root["player"].numpy(), engine.mover)
        assert not root["done"].any()
        action = engine.random_actions(step)
        stepped, root = env.step_and_maybe_reset(root.set("action", torch.from_numpy(action)))
        engine.step(action)
        assert np.array_equal(stepped["next", "reward"].numpy(), engine.reward)
        assert np.array_equal(stepped["next", "done"].squeeze(-1).numpy(), engine.terminated)


@each_spec
def test_the_plain_step_leaves_a_finished_game_finished(name: str) -> None:
    env = BargainEnv(SPECS[name], 3)
    walk = SPECS[name].walk_action
    finished = env.step(env.reset().set("action", torch.full((3,), walk)))["next"]
    assert finished["done"].all()
    assert not finished["observation"].any()
    assert finished["action_mask"].sum(-1).tolist() == [1, 1, 1]
    assert finished["action_mask"][:, walk].all()
    again = env.step(finished.exclude("reward").set("action", torch.full((3,), walk)))["next"]
    assert again["done"].all()
    assert not again["reward"].any()


def test_a_partial_reset_deals_only_the_named_games() -> None:
    env = BargainEnv(num_envs=4, seed=2)
    root = env.reset()
    before = root["observation"].clone()
    mask = torch.tensor([[True], [False], [False], [True]])
    changed = (before != env.reset(root.set("_reset", mask))["observation"]).any(-1)
    assert torch.equal(changed, mask.squeeze(-1))


def test_set_seed_decides_the_next_reset() -> None:
    env, other = BargainEnv(num_envs=4, seed=2), BargainEnv(num_envs=4, seed=7)
    env.set_seed(7)
    assert torch.equal(env.reset()["observation"], other.reset()["observation"])


def test_rows_handed_out_are_copies() -> None:
    env = BargainEnv(num_envs=4)
    root = env.reset()
    kept = root["observation"].clone()
    env.step_and_maybe_reset(env.rand_action(root))
    assert torch.equal(root["observation"], kept)


def test_random_actions_are_legal() -> None:
    env = BargainEnv(num_envs=500)
    root = env.reset()
    for _ in range(10):
        root = env.rand_action(root)
        assert root["action_mask"].gather(1, root["action"].unsqueeze(1)).all()
        root = env.step_and_maybe_reset(root)[1]


def test_explicit_deals_are_dealt() -> None:
    env = BargainEnv(num_envs=2)
    values, outside = np.full((2, 2, 3), 50), np.full((2, 2), 300)
    root = env.reset(options={"values": values, "outside": outside})
    seen = env.spec_of_game.read_observation(root["observation"].numpy())
    assert np.array_equal(seen.values, values[:, 0])
    assert np.array_equal(seen.outside, outside[:, 0])


def test_a_closed_environment_says_so() -> None:
    env = BargainEnv(num_envs=2)
    env.close()
    with pytest.raises(RuntimeError, match="this engine is closed"):
        env.reset()


@pytest.mark.parametrize("view", ["acting", "agents"])
def test_reset_takes_a_seed_and_refuses_what_it_does_not_know(view: Any) -> None:
    env = BargainEnv(num_envs=3, seed=0, view=view)
    env.reset(seed=5)
    assert env.engine.seed == 5
    fresh = make_engine(num_envs=3, seed=5)
    assert np.array_equal(env.engine.get_state()["values"], fresh.get_state()["values"])
    with pytest.raises(ValueError, match=r"^unknown arguments of reset: foo; known: seed, options\.$"):
        env.reset(foo=1)
    with pytest.raises(ValueError, match=r"^seed must lie between"):
        env.set_seed(2**64)
    env.reset()
    assert env.engine.seed == 5

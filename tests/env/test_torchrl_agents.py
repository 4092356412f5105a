"""The two-agent view of the TorchRL environment: its layout, its games and the losses that it is made for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchrl")

from bargain_env import GAMES, GameSpec  # noqa: E402
from bargain_env.reference import ReferenceGame  # noqa: E402
from bargain_env.torchrl_env import BargainEnv  # noqa: E402
from tensordict import TensorDictBase  # noqa: E402
from tensordict.nn import TensorDictModule  # noqa: E402
from torchrl.collectors import Collector  # noqa: E402
from torchrl.envs import Compose, EnvBase, RewardSum, StepCounter, TransformedEnv  # noqa: E402
from torchrl.envs.utils import ExplorationType, check_env_specs, set_exploration_type  # noqa: E402
from torchrl.modules import MaskedCategorical, MultiAgentMLP, ProbabilisticActor  # noqa: E402
from torchrl.objectives.multiagent import IPPOLoss, MAPPOLoss  # noqa: E402

SPECS = {
    "default": GameSpec(),
    "history": GameSpec(observation="history"),
    "mini-a": GAMES["mini-a"],
    "discount": GameSpec(max_rounds=2, discount=0.9),
}
each_spec = pytest.mark.parametrize("name", SPECS)
OUTCOME = ("done", "terminated", ("agents", "reward"), ("agents", "done"), ("agents", "terminated"))


def _env(spec: GameSpec | None = None, num_envs: int = 1, seed: int = 0, kind: type[BargainEnv] = BargainEnv) -> Any:
    return kind(spec, num_envs, seed, view="agents")


class _ReferencePath(BargainEnv):
    """The environment with the step that TorchRL builds from `_step` and `_reset`."""

    step_and_maybe_reset = EnvBase.step_and_maybe_reset


@each_spec
@pytest.mark.parametrize("kind", [BargainEnv, _ReferencePath])
@pytest.mark.parametrize("num_envs", [1, 5])
def test_torchrls_checks_hold(kind: type[BargainEnv], name: str, num_envs: int) -> None:
    check_env_specs(_env(SPECS[name], num_envs, kind=kind), seed=1, break_when_any_done="both")


@each_spec
def test_both_step_paths_make_one_stream(name: str) -> None:
    fused, reference = _env(SPECS[name], 50, 4), _env(SPECS[name], 50, 4, _ReferencePath)
    roots = [fused.reset(), reference.reset()]
    ended = 0
    for _ in range(60):
        _assert_same(roots[0], roots[1], list(roots[0].keys(True, True)))
        drawn = [env.rand_action(root) for env, root in zip((fused, reference), roots, strict=True)]
        _assert_same(drawn[0], drawn[1], [("agents", "action")])
        steps = [env.step_and_maybe_reset(root) for env, root in zip((fused, reference), drawn, strict=True)]
        _assert_same(steps[0][0]["next"], steps[1][0]["next"], list(OUTCOME))
        ended += int(steps[0][0]["next", "done"].sum())
        roots = [root for _, root in steps]
    assert ended > 50


def _assert_same(first: TensorDictBase, second: TensorDictBase, keys: list[Any]) -> None:
    for key in keys:
        assert torch.equal(first[key], second[key]), key


@each_spec
def test_both_views_play_the_same_games(name: str) -> None:
    spec, rows = SPECS[name], torch.arange(40)
    acting, agents = BargainEnv(spec, 40, 9), _env(spec, 40, 9)
    one, both = acting.reset(), agents.reset()["agents"]
    for _ in range(40):
        mover = one["player"]
        assert torch.equal(both["observation"][rows, mover], one["observation"])
        assert torch.equal(both["action_mask"][rows, mover, :-1], one["action_mask"])
        assert not both["action_mask"][rows, mover, -1].any()
        assert torch.equal(both["action_mask"][rows, 1 - mover].nonzero()[:, 1], torch.full((40,), spec.noop_action))
        assert not both["observation"][rows, 1 - mover][:, spec.slices["mask"]].any()
        assert torch.equal(both["turn"][rows, mover], torch.ones(40, 1, dtype=torch.bool))
        assert not both["turn"][rows, 1 - mover].any()
        assert torch.equal(both["observation"][..., spec.slices["state"].stop - 1], torch.tensor([[0.0, 1.0]] * 40))
        one, both = acting.rand_action(one), agents.rand_action()
        assert torch.equal(both["agents", "action"][rows, mover], one["action"])
        assert torch.equal(both["agents", "action"][rows, 1 - mover], torch.full((40,), spec.noop_action))
        stepped, one = acting.step_and_maybe_reset(one)
        together, both = agents.step_and_maybe_reset(both)
        both = both["agents"]
        assert torch.equal(together["next", "agents", "reward"].squeeze(-1), stepped["next", "reward"])
        assert torch.equal(together["next", "done"], stepped["next", "done"])
        assert torch.equal(together["next", "agents", "done"], stepped["next", "done"].unsqueeze(1).expand(40, 2, 1))


def test_each_seat_sees_its_own_deal() -> None:
    env = _env(num_envs=3)
    seen = env.spec_of_game.read_observation(env.reset()["agents", "observation"].numpy())
    state = env.engine.get_state()
    assert np.array_equal(seen.values, state["values"])
    assert np.array_equal(seen.outside, state["outside"])


def test_a_waiting_seat_cannot_act_and_noop_is_no_move() -> None:
    env = _env(num_envs=2)
    walk, noop = env.spec_of_game.walk_action, env.spec_of_game.noop_action
    root = env.reset()
    root["agents", "action"] = torch.tensor([[5, walk], [noop, 5]])
    after = env.step_and_maybe_reset(root)[0]["next"]
    assert after["done"].squeeze(-1).tolist() == [False, True]
    assert env.engine.illegal.tolist() == [False, True]
    assert env.engine.outcome.tolist()[1] == 2


@each_spec
def test_the_plain_step_leaves_a_finished_game_finished(name: str) -> None:
    env = _env(SPECS[name], 3)
    walk, noop = SPECS[name].walk_action, SPECS[name].noop_action
    root = env.reset()
    root["agents", "action"] = torch.tensor([[walk, noop]] * 3)
    finished = env.step(root)["next"]
    assert finished["done"].all()
    assert finished["agents", "terminated"].all()
    assert not finished["agents", "observation"].any()
    legal = finished["agents", "action_mask"].nonzero()[:, 2].tolist()
    assert legal == [walk, noop] * 3
    again = env.step(finished.clone().update(root.select(("agents", "action"))))["next"]
    assert again["done"].all()
    assert not again["agents", "reward"].any()


def test_rewards_are_the_rules() -> None:
    env = _env(GameSpec(discount=0.9), 30, 6)
    env.reset()
    for _ in range(30):
        state = {name: array.copy() for name, array in env.engine.get_state().items()}
        drawn = env.rand_action()
        stepped = env.step_and_maybe_reset(drawn)[0]["next"]
        for row in range(30):
            game = ReferenceGame(env.spec_of_game, values=state["values"][row], outside=state["outside"][row])
            for action in state["actions"][row, : state["turn"][row]]:
                game.play(int(action))
            game.play(int(drawn["agents", "action"][row, game.mover]))
            assert stepped["agents", "reward"][row].squeeze(-1).tolist() == [float(reward) for reward in game.rewards]


def test_a_partial_reset_deals_only_the_named_games() -> None:
    env = _env(num_envs=4, seed=2)
    root = env.reset()
    before = root["agents", "observation"].clone()
    mask = torch.tensor([[True], [False], [False], [True]])
    changed = (before != env.reset(root.set("_reset", mask))["agents", "observation"]).flatten(1).any(-1)
    assert torch.equal(changed, mask.squeeze(-1))
    with pytest.raises(ValueError, match="games are dealt as a whole"):
        env.reset(env.current_root().set(("agents", "_reset"), mask.unsqueeze(1).repeat(1, 2, 1)))


def test_rows_handed_out_are_copies() -> None:
    env = _env(num_envs=4)
    root = env.reset()
    kept = root.clone()
    env.step_and_maybe_reset(env.rand_action(root.clone()))
    assert (root == kept).all()


def test_the_group_map_names_the_agents() -> None:
    assert _env().group_map == {"agents": ["player_0", "player_1"]}
    assert BargainEnv().group_map == {}


def test_an_unknown_view_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^view must be one of acting, agents, got 'both'\.$"):
        BargainEnv(view="both")  # type: ignore[arg-type]


def test_a_collector_runs_it() -> None:
    env = _env(num_envs=8)
    collector = Collector(
        env, env.rand_action, frames_per_batch=160, total_frames=160, auto_register_policy_transforms=False
    )
    (batch,) = list(collector)
    assert batch["agents", "action"].shape == (8, 20, 2)
    assert batch["next", "done"].any()
    collector.shutdown()


def test_transforms_see_whole_games() -> None:
    """Both reset what they count where a game was dealt anew, and so read the resets of the plain step path."""
    env = _env(GameSpec(max_rounds=2), 16, 5)
    sums = RewardSum(in_keys=[("agents", "reward")], out_keys=[("agents", "episode_reward")])
    counted = TransformedEnv(env, Compose(sums, StepCounter()))
    after = counted.rollout(40, env.rand_action, break_when_any_done=False)["next"]
    done = after["done"].squeeze(-1)
    assert done.sum() > 100
    assert torch.equal(after["agents", "episode_reward"], after["agents", "reward"])
    assert set(after["step_count"][done].unique().tolist()) == {1, 2, 3, 4}
    assert after["step_count"].max() == 4


@pytest.mark.parametrize("kind", [MAPPOLoss, IPPOLoss])
def test_the_multi_agent_losses_learn_from_acting_rows_alone(kind: type[Any]) -> None:
    torch.manual_seed(0)
    env = _env(GAMES["mini-c"], 16, 3)
    spec = env.spec_of_game
    features, actions = spec.observation_dim, spec.num_actions + 1
    shape = {"n_agents": 2, "share_params": True, "depth": 1, "num_cells": 16}
    body = MultiAgentMLP(features, actions, centralized=False, **shape)
    policy = ProbabilisticActor(
        TensorDictModule(body, in_keys=[("agents", "observation")], out_keys=[("agents", "logits")]),
        in_keys={"logits": ("agents", "logits"), "mask": ("agents", "action_mask")},
        out_keys=[("agents", "action")],
        distribution_class=MaskedCategorical,
        return_log_prob=True,
    )
    critic = TensorDictModule(
        MultiAgentMLP(features, 1, centralized=kind is MAPPOLoss, **shape),
        in_keys=[("agents", "observation")],
        out_keys=[("agents", "state_value")],
    )
    loss = kind(policy, critic, entropy_coeff=0.1, functional=False)
    loss.set_keys(
        action=("agents", "action"),
        value=("agents", "state_value"),
        reward=("agents", "reward"),
        sample_log_prob=("agents", "action_log_prob"),
    )
    loss.make_value_estimator(loss.default_value_estimator, gamma=1.0, lmbda=0.95)
    with torch.no_grad(), set_exploration_type(ExplorationType.RANDOM):
        rollout = env.rollout(12, policy, break_when_any_done=False)
        loss.value_estimator(rollout)
    assert rollout["advantage"].shape == (16, 12, 2, 1)
    assert rollout["advantage"].isfinite().all()
    logits = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        output.retain_grad()
        logits.append(output)

    handle = body.register_forward_hook(keep)
    terms = loss(rollout.reshape(-1))
    handle.remove()
    sum(terms[key] for key in ("loss_objective", "loss_entropy", "loss_critic")).backward()
    gradients = [p.grad for p in loss.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert all(g.any() for g in gradients)
    turn = rollout.reshape(-1)["agents", "turn"].squeeze(-1)
    (seen,) = (tensor.grad for tensor in logits)
    assert not seen[~turn].any()
    assert seen[turn].any(-1).float().mean() > 0.9

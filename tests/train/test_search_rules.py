"""The searcher's rules are the engine's: views bit for bit, offers read back, and what endings pay."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec
from bargain_env.engine import make_engine
from bargain_train.search.rules import Rules

SPECS = {
    "standard": GameSpec(),
    "history": GameSpec(observation="history"),
    "mini-a": GAMES["mini-a"].with_observation("history"),
    "discounted": GameSpec((2, 1), max_rounds=3, max_value=7, discount=0.9, outside_range=(0.2, 0.8)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_rules_follow_the_engine_through_random_games(spec: GameSpec) -> None:
    games = 300
    engine = make_engine(spec, games, seed=3, autoreset=False)
    engine.reset()
    rules = Rules(spec)
    state = engine.get_state()
    values, outside = torch.tensor(state["values"]).long(), torch.tensor(state["outside"]).long()
    made = np.empty((games, 0), dtype=np.int64)
    playing = np.arange(games)
    for decision in range(spec.max_turns):
        seat = decision % 2
        offers = torch.tensor(made[playing])
        hands = values[playing, seat], outside[playing, seat]
        obs, mask = rules.view(*hands, decision, offers, spec.observation)
        np.testing.assert_array_equal(obs.numpy(), engine.observation[playing])
        np.testing.assert_array_equal(mask.numpy(), engine.action_mask[playing])
        full = rules.view(*hands, decision, offers, "history")[0]
        assert torch.equal(rules.offers_made(full, decision), offers)

        actions = engine.random_actions(decision).copy()
        engine.step(actions)
        accepted = playing[engine.terminated[playing] & (actions[playing] == spec.accept_action)]
        walked = playing[engine.terminated[playing] & (actions[playing] == spec.walk_action)]
        for place in range(2):
            shares = rules.shares(values[:, place], place)[accepted, made[accepted, -1]] if decision else np.zeros(0)
            paid = rules.discount(decision) * np.asarray(shares)
            np.testing.assert_allclose(paid, engine.reward[accepted, place], atol=1e-6)
            kept = rules.discount(decision) * rules.walks(values[:, place], outside[:, place])[walked].numpy()
            np.testing.assert_allclose(kept, engine.reward[walked, place], atol=1e-6)
        made = np.concatenate([made, actions[:, None]], axis=1)
        playing = playing[~engine.terminated[playing]]
    assert not len(playing)


def test_the_last_own_decisions() -> None:
    rules = Rules(dataclasses.replace(GameSpec(), max_rounds=2))
    assert [rules.last_own(seat) for seat in range(2)] == [2, 3]
    assert rules.legal(3).nonzero()[:, 0].tolist() == [80, 81]

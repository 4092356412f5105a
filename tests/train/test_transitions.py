"""Transitions lead from a seat's decision to its own next one, whatever rollout they lie in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bargain_env import GAMES, BargainEnv, GameSpec
from bargain_train.buffers import unpack_observation
from bargain_train.collector import TimeMajorCollector
from bargain_train.transitions import Transitions
from tensordict import TensorDictBase

SPECS = {"mini-b": GAMES["mini-b"].with_observation("history"), "default": GameSpec()}
GAMES_AT_ONCE, STEPS = 20, 60


def _stream(spec: GameSpec) -> TensorDictBase:
    """One long rollout `[60, 20]` of random play; the flag best_response is random too."""
    generator = torch.Generator().manual_seed(1)

    def play(root: TensorDictBase) -> TensorDictBase:
        noise = torch.rand(root["action_mask"].shape, generator=generator)
        root["action"] = noise.masked_fill(~root["action_mask"], -1.0).argmax(-1)
        return root.set("best_response", noise[:, 0] < 0.4)

    batch = TimeMajorCollector(BargainEnv(spec, GAMES_AT_ONCE, seed=3), play, length=STEPS).rollout()
    rows = batch.exclude("next")
    rows["reward"], rows["done"] = batch["next", "reward"], batch["next", "done"].squeeze(-1)
    return rows


def _by_hand(spec: GameSpec, stream: TensorDictBase) -> list[list[dict[str, Any]]]:
    """The transitions of each step and game, game by game and decision by decision; empty beyond the stream."""
    found: list[list[dict[str, Any]]] = [[{} for _ in range(GAMES_AT_ONCE)] for _ in range(STEPS)]
    for n in range(GAMES_AT_ONCE):
        for t in range(STEPS - 2):
            seat = int(stream["player"][t, n])
            reward, over, step = 0.0, False, t
            while not over and (step == t or int(stream["player"][step, n]) != seat):
                reward += float(stream["reward"][step, n, seat])
                over = bool(stream["done"][step, n])
                step += 1
            found[t][n] = {"seat": seat, "reward": reward, "over": over, "successor": step}
    return found


@pytest.mark.parametrize("name", SPECS)
def test_every_decision_leads_to_the_same_seats_next_and_sums_its_rewards(name: str) -> None:
    spec = SPECS[name]
    stream = _stream(spec)
    rows = Transitions(spec).cut(stream).unflatten(0, (STEPS - 2, GAMES_AT_ONCE))
    seat = spec.slices["state"].start + 2
    for t, games in enumerate(_by_hand(spec, stream)[: STEPS - 2]):
        shown, mask = unpack_observation(spec, rows["observation"][t])
        assert torch.equal(shown, stream["observation"][t])
        assert torch.equal(mask, stream["action_mask"][t])
        for n, expected in enumerate(games):
            row = rows[t, n]
            assert row["player"] == expected["seat"] == shown[n, seat]
            assert row["action"] == stream["action"][t, n]
            assert row["best_response"] == stream["best_response"][t, n]
            assert float(row["reward"]) == pytest.approx(expected["reward"])
            assert bool(row["over"]) == expected["over"]
            if not expected["over"]:
                assert expected["successor"] == t + 2
                successor, _ = unpack_observation(spec, row["successor"][None])
                assert torch.equal(successor[0], stream["observation"][t + 2, n])
                assert successor[0, seat] == expected["seat"]
    assert rows["over"].any()
    assert not rows["over"].all()


@pytest.mark.parametrize("name", SPECS)
def test_rewards_sum_to_the_payoffs_of_each_seat(name: str) -> None:
    """Of the games that end before the last two decisions; a seat that never moves has no transition."""
    spec = SPECS[name]
    stream = _stream(spec)
    rows = Transitions(spec).cut(stream).unflatten(0, (STEPS - 2, GAMES_AT_ONCE))
    for n in range(GAMES_AT_ONCE):
        start = 0
        for end in stream["done"][:-2, n].nonzero().squeeze(-1).tolist():
            game, payoff = rows[start : end + 1, n], stream["reward"][end, n]
            for seat in range(2):
                own = game["player"] == seat
                if bool(own.any()):
                    assert float(game["reward"][own].sum()) == pytest.approx(float(payoff[seat]))
                    assert int(game["over"][own].sum()) == 1
            start = end + 1


@pytest.mark.parametrize("lengths", [[60], [2] * 30, [7, 2, 31, 20], [3] * 20])
def test_rollouts_of_any_length_yield_each_transition_once(lengths: list[int]) -> None:
    spec = SPECS["mini-b"]
    stream = _stream(spec)
    whole, parts, start = Transitions(spec).cut(stream), Transitions(spec), 0
    found = []
    for length in lengths:
        rollout = stream[start : start + length].clone()
        found.append(parts.cut(rollout))
        rollout["observation"].fill_(9.0)  # as the next rollout overwrites the memory of this one
        rollout["reward"].fill_(9.0)
        start += length
    joined = torch.cat(found)
    assert len(joined) == (STEPS - 2) * GAMES_AT_ONCE
    for key in whole.keys():  # noqa: SIM118
        assert torch.equal(joined[key], whole[key]), key


def test_a_stored_state_goes_on_exactly() -> None:
    spec = SPECS["mini-b"]
    stream = _stream(spec)
    first, second = Transitions(spec), Transitions(spec)
    first.cut(stream[:30])
    second.load_state_dict(first.state_dict())
    expected, found = first.cut(stream[30:]), second.cut(stream[30:])
    for key in expected.keys():  # noqa: SIM118
        assert torch.equal(found[key], expected[key]), key
    fresh = Transitions(spec)
    fresh.load_state_dict(Transitions(spec).state_dict())
    assert len(fresh.cut(stream)) == (STEPS - 2) * GAMES_AT_ONCE

"""Rollouts: what the rows hold, that games go on, opponents, and exact resumption."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bargain_env import GAMES, GameSpec, make_engine
from bargain_env.spec import ObservationKind
from bargain_eval import RandomPolicy
from bargain_eval.mixture import Mixture
from bargain_eval.policy import Policy
from bargain_train.collect import Player, Rollout, Rollouts
from bargain_train.networks import Network, build_network

SPEC = GAMES["mini-b"]
SPECS = {"mini-b": SPEC, "history": GAMES["mini-c"].with_observation("history"), "default": GameSpec()}


def _network(spec: GameSpec = SPEC, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    network = build_network({"network": "mlp", "hidden_dims": [16]}, spec)
    for parameter in network.policy_head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def _rollouts(players: tuple[Player, Player], spec: GameSpec = SPEC, num_envs: int = 20, length: int = 7) -> Rollouts:
    return Rollouts(spec, players, num_envs=num_envs, length=length, seed=3)


def _collect(rollouts: Rollouts, count: int) -> list[Rollout]:
    """Copies, because the next rollout overwrites the memory of the last."""
    collected = []
    for _ in range(count):
        rollout = rollouts.collect()
        collected.append(Rollout(rollout.rows.clone(), rollout.head_value.clone()))
    return collected


def _joined(rollouts: list[Rollout]) -> dict[str, torch.Tensor]:
    """One long rollout."""
    return {key: torch.cat([rollout.rows[key] for rollout in rollouts]) for key in rollouts[0].rows.keys()}  # noqa: SIM118


@pytest.mark.parametrize("name", SPECS)
def test_rows_are_what_the_engine_shows_when_it_replays_the_actions(name: str) -> None:
    spec = SPECS[name]
    network = _network(spec)
    engine = make_engine(spec, 20, seed=3)
    for rollout in _collect(_rollouts((network, network), spec), 4):
        rows = rollout.rows
        assert rows.batch_size == (7, 20)
        for t in range(7):
            row = {key: value[t].numpy() for key, value in rows.items()}
            np.testing.assert_array_equal(row["observation"], engine.observation)
            np.testing.assert_array_equal(row["action_mask"], engine.action_mask)
            np.testing.assert_array_equal(row["player"], engine.mover)
            assert row["action_mask"][np.arange(20), row["action"]].all()
            engine.step(row["action"])
            np.testing.assert_array_equal(row["reward"], engine.reward)
            np.testing.assert_array_equal(row["done"], engine.terminated)
            assert not engine.illegal.any()
        head = network.values(torch.from_numpy(engine.observation.copy()))
        torch.testing.assert_close(rollout.head_value, head.detach())


def test_log_probabilities_and_values_are_the_networks() -> None:
    network = _network()
    rows = _collect(_rollouts((network, network)), 1)[0].rows.flatten()
    logits, value = network(rows["observation"])
    log_probs = logits.masked_fill(~rows["action_mask"], -1e9).log_softmax(-1)
    torch.testing.assert_close(rows["action_log_prob"], log_probs.gather(1, rows["action"].unsqueeze(1)).squeeze(1))
    torch.testing.assert_close(rows["state_value"], value)


def test_games_go_on_across_rollouts() -> None:
    network = _network()
    uninterrupted = _collect(_rollouts((network, network), length=35), 1)[0].rows
    parts = _joined(_collect(_rollouts((network, network), length=7), 5))
    for key in ("observation", "action", "reward", "done", "player"):
        assert torch.equal(parts[key], uninterrupted[key]), key
    assert torch.equal(_lengths(parts["done"]), _lengths(uninterrupted["done"]))
    assert len(set(_lengths(parts["done"]).tolist())) == SPEC.max_turns


def _lengths(done: torch.Tensor) -> torch.Tensor:
    lengths = []
    for column in done.T:
        ends = column.nonzero().squeeze(-1)
        lengths.append(torch.diff(ends, prepend=torch.tensor([-1])))
    return torch.cat(lengths)


def test_networks_act_with_their_present_parameters() -> None:
    network = _network()
    rollouts = _rollouts((network, network))
    before = _collect(rollouts, 1)[0].rows
    with torch.no_grad():
        network.policy_head.bias[SPEC.walk_action] += 50.0  # type: ignore[operator,index]
    after = _collect(rollouts, 1)[0].rows
    assert not before["done"].all()
    assert after["done"].all()


@pytest.mark.parametrize("seat", [0, 1])
def test_against_an_opponent_only_the_learners_seat_has_log_probs_and_values(seat: int) -> None:
    network, opponent = _network(), RandomPolicy(SPEC)
    players: tuple[Player, Player] = (network, opponent) if seat == 0 else (opponent, network)
    for rollout in _collect(_rollouts(players), 3):
        rows = rollout.rows.flatten()
        own = rows["player"] == seat
        assert own.any()
        assert (~own).any()
        assert not rows["state_value"][~own].any()
        assert not rows["action_log_prob"][~own].any()
        assert (rows["action_log_prob"][own] < 0).all()
        torch.testing.assert_close(rows["state_value"][own], network.values(rows["observation"][own]))
        assert rows["action_mask"].gather(1, rows["action"].unsqueeze(1)).all()


def test_two_networks_play_their_own_seats() -> None:
    networks = _network(seed=0), _network(seed=1)
    rollout = _collect(_rollouts(networks), 1)[0]
    rows = rollout.rows.flatten()
    for seat, network in enumerate(networks):
        own = rows["player"] == seat
        torch.testing.assert_close(rows["state_value"][own], network.values(rows["observation"][own]))


class _Remembering(RandomPolicy):
    """Random play that checks that each of its games was begun, once."""

    def __init__(self, spec: GameSpec) -> None:
        super().__init__(spec)
        self.decided: dict[int, int] = {}
        self.begun = 0

    def begin(self, game_ids: Any, seat: int, rng: np.random.Generator | None = None) -> None:
        assert seat in (0, 1)
        self.begun += len(game_ids)
        self.decided |= dict.fromkeys(game_ids.tolist(), 0)

    def get_action(
        self, obs: Any, action_mask: Any, rng: np.random.Generator | None = None, game_ids: Any = None
    ) -> Any:
        for game, played in zip(game_ids.tolist(), self.spec.read_observation(obs).round.tolist(), strict=True):
            assert self.decided[game] == played, "begun late, or twice in one game"
            self.decided[game] += 1
        return super().get_action(obs, action_mask, rng, game_ids)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("seat", [0, 1])
def test_a_policy_with_memory_begins_every_game_once(seat: int, name: str) -> None:
    spec = SPECS[name]
    network, opponent = _network(spec), _Remembering(spec)
    players: tuple[Player, Player] = (network, opponent) if seat == 1 else (opponent, network)
    rows = _joined(_collect(_rollouts(players, spec), 5))
    seen = sum(
        bool((rows["player"][start : stop + 1, game] == seat).any())
        for game in range(20)
        for start, stop in _games(rows["done"][:, game])
    )
    assert opponent.begun == seen


def _games(done: torch.Tensor) -> list[tuple[int, int]]:
    """First and last row of each game of a column, the unfinished last one included."""
    ends = done.nonzero().squeeze(-1).tolist()
    stops = [*ends, *([len(done) - 1] if not ends or ends[-1] < len(done) - 1 else [])]
    return list(zip([0, *(stop + 1 for stop in stops[:-1])], stops, strict=True))


def _players(kind: str) -> tuple[Player, Player]:
    if kind == "shared":
        network = _network()
        return network, network
    opponents: dict[str, Policy] = {"random": RandomPolicy(SPEC)}
    return (_network(), _network(seed=1)) if kind == "two" else (_network(), opponents[kind])


@pytest.mark.parametrize("kind", ["shared", "two", "random"])
def test_a_restored_state_gives_the_same_rollouts_in_a_fresh_object(kind: str) -> None:
    rollouts = _rollouts(_players(kind))
    _collect(rollouts, 2)
    state = rollouts.state_dict()
    expected = _collect(rollouts, 3)
    fresh = _rollouts(_players(kind))
    fresh.load_state_dict(state)
    for got, wanted in zip(_collect(fresh, 3), expected, strict=True):
        assert sorted(got.rows.keys()) == sorted(wanted.rows.keys())
        for key, tensor in wanted.rows.items():
            assert torch.equal(got.rows[key], tensor), key
        assert torch.equal(got.head_value, wanted.head_value)


def test_a_state_of_another_number_of_games_is_refused() -> None:
    state = _rollouts(_players("shared")).state_dict()
    with pytest.raises(ValueError, match="shape"):
        _rollouts(_players("shared"), num_envs=21).load_state_dict(state)


def test_a_mixture_plays_on_after_a_restoration() -> None:
    """It forgot its draws; without a new one it would not know the games in progress."""
    mixture = Mixture([RandomPolicy(SPEC), RandomPolicy(SPEC)], [0.5, 0.5], SPEC)
    rollouts = _rollouts((_network(), mixture))
    _collect(rollouts, 1)
    again = Mixture([RandomPolicy(SPEC), RandomPolicy(SPEC)], [0.5, 0.5], SPEC)
    fresh = _rollouts((_network(), again))
    fresh.load_state_dict(rollouts.state_dict())
    assert len(_collect(fresh, 2)) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_seeds_decide_deals_and_actions_and_threads_do_not(threads: int) -> None:
    network = _network()
    kinds: dict[str, Any] = {"num_envs": 50, "length": 6}
    base = Rollouts(SPEC, (network, network), seed=3, **kinds).collect().rows
    same = Rollouts(SPEC, (network, network), seed=3, threads=threads, **kinds).collect().rows
    other = Rollouts(SPEC, (network, network), seed=4, threads=threads, **kinds).collect().rows
    assert torch.equal(base["observation"], same["observation"])
    assert torch.equal(base["action"], same["action"])
    assert not torch.equal(base["observation"][0], other["observation"][0])
    assert not torch.equal(base["action"], other["action"])


@pytest.mark.parametrize("observation", ["standing", "history"])
def test_a_standing_network_plays_on_history_rows(observation: ObservationKind) -> None:
    network = _network()
    rollout = _rollouts((network, network), SPEC.with_observation(observation)).collect()
    assert rollout.rows["observation"].shape[-1] == SPEC.with_observation(observation).observation_dim

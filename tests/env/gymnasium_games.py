"""Whole games as a learner sees them, played by the reference rules: what the Gymnasium views must show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from bargain_env import GAMES, BargainVectorEnv, GameSpec
from bargain_env.reference import ReferenceGame, random_action
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

SPECS = {
    "standing": GameSpec(),
    "history": GameSpec(max_rounds=5, discount=0.98, observation="history"),
    "one-round": GAMES["mini-a"],
}


class Step(NamedTuple):
    """What the learner saw, the bytes of its observation, and what its move brought."""

    observation: bytes
    action: int
    reward: float
    terminated: bool


class Record(NamedTuple):
    """How a game went, as the infos of its last step say it."""

    seat: int
    illegal: bool
    opponent_illegal: bool
    outcome: int
    offer: int
    decisions: int
    opponent_payoff: float


Played = tuple[list[Step], Record]


def odd_policy(spec: GameSpec) -> Callable[[Any, Any], NDArray[np.int64]]:
    """Returns a policy that any change of the observation changes, and that plays an illegal number now and then."""

    def act(observation: Any, action_mask: Any) -> NDArray[np.int64]:
        numbers = (np.asarray(observation, np.float64)[:, : spec.slices["state"].stop] * 997).round().astype(np.int64)
        keys = (numbers * np.arange(3, 3 + numbers.shape[1])).sum(axis=1)
        legal = np.asarray(action_mask, bool)
        ranks = keys % legal.sum(axis=1)
        actions = np.array([np.flatnonzero(row)[rank] for row, rank in zip(legal, ranks, strict=True)])
        return np.where(keys % 29 == 0, 200, actions)

    return act


def reference_game(spec: GameSpec, seed: int, game: int, episode: int, seat: int, random_opponent: bool) -> Played:
    """Plays one game between `odd_policy` in `seat` and the opponent: uniform random actions, or `odd_policy` too."""
    policy, played = odd_policy(spec), ReferenceGame(spec, seed, game, episode)
    steps: list[Step] = []
    illegal, earned = [False, False], 0.0
    while not played.finished or not steps:
        if played.finished:  # by the opponent's first move: one step is shown, in which only walk is legal
            steps.append(Step(over(spec).tobytes(), spec.walk_action, 0.0, False))
            break
        view, mask = played.observation(), played.action_mask()
        mover = played.mover
        if mover == seat or not random_opponent:
            action = int(policy(view[None], mask[None])[0])
        else:
            action = random_action(played, seed, 0, game, episode)
        if mover == seat:
            steps.append(Step(view.tobytes(), action, 0.0, False))
        illegal[mover == seat] |= played.play(action)
    earned = float(np.float32(played.rewards[seat]))
    steps[-1] = steps[-1]._replace(reward=earned, terminated=True)
    offer = played.offer if played.outcome == 1 else -1
    other = float(np.float32(played.rewards[1 - seat]))
    return steps, Record(seat, illegal[True], illegal[False], played.outcome, offer, len(played.moves), other)


def over(spec: GameSpec) -> NDArray[np.float32]:
    """Returns the observation of a game that is over: zeros, and only walk is legal."""
    view = np.zeros(spec.observation_dim, np.float32)
    view[spec.slices["mask"].start + spec.walk_action] = 1
    return view


def play_vector(env: BargainVectorEnv, steps: int, seed: int | None = None) -> Iterator[tuple[Any, Any, Any]]:
    """Yields observation, actions and result of every step of `odd_policy`; resets what is not reset by itself."""
    policy = odd_policy(env.spec_of_game)
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        actions = policy(observation, env.action_masks())
        result = env.step(actions)
        yield observation, actions, result
        observation = result[0]
        if env.autoreset_mode is AutoresetMode.DISABLED and result[2].any():
            observation, _ = env.reset(options={"reset_mask": result[2]})


def decline(observation: Any, action_mask: Any) -> NDArray[np.int64]:
    return np.full(len(observation), GameSpec().walk_action)

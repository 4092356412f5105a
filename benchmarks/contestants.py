"""The ways to play our games that the environment benchmark times; each counts actions of games, of either seat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from bargain_env import BargainEnv, GameSpec, make_engine, parallel_env, raw_env
from bargain_env.layout import rollout_layout
from bargain_train.collect import Rollouts
from bargain_train.collector import TimeMajorCollector
from bargain_train.networks import build_network
from c_games import Probe, PufferGame, ScalarGame
from numpy.typing import NDArray
from timing import Work
from torchrl.collectors import Collector

LENGTH = 60
"""Steps of each game that one piece of work plays: about eleven games' worth."""

ROWS = 2**18
"""Rows of the longest rollout: 118 MB of observations and masks."""


def recorded_actions(spec: GameSpec, games: int) -> list[NDArray[np.int64]]:
    """Returns `LENGTH` times uniformly random actions `[B]`, legal from the start of the games of seed 0.

    What is legal depends on the actions alone, so they are legal whatever was dealt.
    """
    engine, actions = make_engine(spec, games), []
    for _ in range(LENGTH):
        actions.append(engine.random_actions())
        engine.step(actions[-1])
    return actions


def probe(game: Probe) -> Work:
    def work() -> int:
        game.step(LENGTH)
        return game.games * LENGTH

    return work


def scalar(game: ScalarGame) -> Work:
    def work() -> int:
        for _ in range(LENGTH):
            game.step()
        return game.games * LENGTH

    return work


def puffer(game: PufferGame) -> Work:
    recorded = [actions.astype(np.int32) for actions in recorded_actions(GameSpec(), game.games)]

    def work() -> int:
        game.reset()
        for actions in recorded:
            game.step(actions)
        return game.games * LENGTH

    return work


def engine_step(spec: GameSpec, games: int, threads: int = 1) -> Work:
    engine, recorded = make_engine(spec, games, threads=threads), recorded_actions(spec, games)

    def work() -> int:
        engine.reset(seed=0)
        for actions in recorded:
            engine.step(actions)
        return games * LENGTH

    return work


def engine_random(spec: GameSpec, games: int) -> Work:
    engine, actions = make_engine(spec, games), np.empty(games, np.int64)

    def work() -> int:
        for _ in range(LENGTH):
            engine.random_actions(out=actions)
            engine.step(actions)
        return games * LENGTH

    return work


def engine_rollout(spec: GameSpec, games: int) -> Work:
    engine, length = make_engine(spec, games), rollout_length(games)
    out: dict[str, NDArray[Any]] = {
        name: np.zeros(shape, dtype) for name, (shape, dtype) in rollout_layout(spec, games, length).items()
    }

    def work() -> int:
        engine.random_rollout(out)
        return games * length

    return work


def rollout_length(games: int) -> int:
    return max(2, min(LENGTH, ROWS // games))


def vector_env(spec: GameSpec, games: int, copy: bool) -> Work:
    """Gymnasium's view: a step is the learner's move and the opponent's reply, and both are counted."""
    make = gymnasium.make_vec
    env: Any = make("bargain_env:Bargain-v0", num_envs=games, spec=spec, copy=copy, seed=0)
    env.reset(seed=0)
    recorded, decisions = [], 0
    for _ in range(LENGTH):
        recorded.append(env.engine.random_actions(stream=1))
        infos = env.step(recorded[-1])[4]
        if "final_info" in infos:
            decisions += int(infos["final_info"]["decisions"].sum())
    decisions += int(env.engine.get_state()["turn"].sum())

    def work() -> int:
        env.reset(seed=0)
        for actions in recorded:
            env.step(actions)
        return decisions

    return work


def parallel(spec: GameSpec, games: int, copy: bool) -> Work:
    env, recorded = parallel_env(spec, num_envs=games, copy=copy), recorded_actions(spec, games)

    def work() -> int:
        env.reset(seed=0)
        for actions in recorded:
            env.step(dict.fromkeys(env.possible_agents, actions))
        return games * LENGTH

    return work


def agents_view(spec: GameSpec, games: int) -> Work:
    env = BargainEnv(spec, games, view="agents")
    root = env.reset()

    def work() -> int:
        nonlocal root
        for _ in range(LENGTH):
            root = env.step_and_maybe_reset(env.rand_action(root))[1]
        return games * LENGTH

    return work


def collector(spec: GameSpec, games: int) -> Work:
    """TorchRL's own collector, told of what it need not do."""
    env, frames = BargainEnv(spec, games), games * rollout_length(games)
    batches = iter(
        Collector(
            env,
            env.rand_action,
            frames_per_batch=frames,
            total_frames=-1,
            track_traj_ids=False,
            compact_obs=True,
            return_same_td=True,
            no_cuda_sync=True,
            trust_policy=True,
            auto_register_policy_transforms=False,
        )
    )

    def work() -> int:
        next(batches)
        return frames

    return work


def time_major(spec: GameSpec, games: int) -> Work:
    env = BargainEnv(spec, games)
    ours, frames = TimeMajorCollector(env, env.rand_action, length=rollout_length(games)), games * rollout_length(games)

    def work() -> int:
        ours.rollout()
        return frames

    return work


def network_rollouts(spec: GameSpec, games: int) -> Work:
    torch.manual_seed(0)
    network = build_network({"network": "mlp", "hidden_dims": [256, 256]}, spec)
    rollouts = Rollouts(spec, (network, network), num_envs=games, length=rollout_length(games), seed=0)

    def work() -> int:
        rollouts.collect()
        return rollouts.frames

    return work


def cartpole(games: int) -> Work:
    env = gymnasium.make_vec("CartPole-v1", num_envs=games, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 2, games)

    def work() -> int:
        for _ in range(LENGTH):
            env.step(actions)
        return games * LENGTH

    return work


def turn_based(make: Callable[[GameSpec], Any], spec: GameSpec, length: int) -> Work:
    """One game of PettingZoo's turn-based form, played as its documentation does: `last`, `step`, and leaving."""
    env, recorded = make(spec), one_game_actions(spec, length)

    def work() -> int:
        env.reset(seed=0)
        for action in recorded:
            env.last()
            env.step(action)
            if env.terminations[env.agent_selection]:
                for _ in range(2):
                    env.last()
                    env.step(None)
                env.reset()
        return length

    return work


def one_parallel(spec: GameSpec, length: int) -> Work:
    """One game of PettingZoo's parallel form; the waiting seat's action is ignored."""
    env, recorded = parallel_env(spec), one_game_actions(spec, length)

    def work() -> int:
        env.reset(seed=0)
        for action in recorded:
            env.step(dict.fromkeys(env.agents, action))
            if not env.agents:
                env.reset()
        return length

    return work


def one_game_actions(spec: GameSpec, length: int) -> list[int]:
    engine, recorded = make_engine(spec, 1), []
    for _ in range(length):
        recorded.append(int(engine.random_actions()[0]))
        engine.step(np.array(recorded[-1:]))
    return recorded


def one_game(spec: GameSpec, length: int) -> dict[str, Work]:
    """Returns the contestants that play a single game at a time."""
    return {
        "raw_env, turn-based, one game": turn_based(raw_env, spec, length),
        "parallel_env, one game": one_parallel(spec, length),
    }

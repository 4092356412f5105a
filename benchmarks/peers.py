"""Games of other packages beside ours, in one run: `python benchmarks/peers.py` (`nox -s peers` installs them).

One step is one action of one game, uniformly random legal actions, automatic reset, one core. Every peer is optional;
the table says which are not installed. The games differ, so this compares what a step costs its user, and no rules.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from bargain_env import GameSpec, make_engine, raw_env
from timing import Work, machine, median, rates, ratio, readable

LENGTH = 64
"""Steps that one piece of work plays of each game."""

SCALAR_LENGTH = 1000
"""Steps that one piece of work plays where there is one game at a time."""


def ours(games: int) -> Work:
    engine, actions = make_engine(GameSpec(), games), np.empty(games, np.int64)

    def work() -> int:
        for _ in range(LENGTH):
            engine.random_actions(out=actions)
            engine.step(actions)
        return games * LENGTH

    return work


def pgx(name: str, games: int) -> Work:
    """Actions by categorical sampling, observations and masks kept; all of `LENGTH` steps in one compiled loop."""
    import jax
    import pgx
    from pgx.experimental import auto_reset

    env: Any = pgx.make(name)
    step = jax.vmap(auto_reset(env.step, env.init))

    def one(state: Any, key: Any) -> tuple[Any, Any]:
        draw, deal = jax.random.split(key)
        logits = jax.numpy.where(state.legal_action_mask, 0.0, -1e9)
        state = step(state, jax.random.categorical(draw, logits), jax.random.split(deal, games))
        return state, None

    play = jax.jit(lambda state, key: jax.lax.scan(one, state, jax.random.split(key, LENGTH))[0])
    state = jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.PRNGKey(0), games))
    keys = iter(jax.random.split(jax.random.PRNGKey(1), 100_000))

    def work() -> int:
        nonlocal state
        state = jax.block_until_ready(play(state, next(keys)))
        return games * LENGTH

    return work


def envpool(games: int) -> Work:
    import envpool

    env = envpool.make("CartPole-v1", env_type="gymnasium", num_envs=games, num_threads=1, seed=0)
    env.reset()
    actions = np.random.default_rng(0).integers(0, 2, games).astype(np.int32)

    def work() -> int:
        for _ in range(LENGTH):
            env.step(actions)
        return games * LENGTH

    return work


def turn_based(env: Any) -> Work:
    """A PettingZoo game, played as its documentation does: `last`, `step`, leaving at the end."""
    rng = random.Random(0)

    def work() -> int:
        env.reset(seed=0)
        for _ in range(SCALAR_LENGTH):
            observation = env.last()[0]
            env.step(rng.choice(observation["action_mask"].nonzero()[0].tolist()))
            if env.terminations[env.agent_selection]:
                while env.agents:
                    env.step(None)
                env.reset()
        return SCALAR_LENGTH

    return work


def tic_tac_toe() -> Work:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from pettingzoo.classic import tictactoe_v3

    return turn_based(tictactoe_v3.raw_env())


def open_spiel() -> Work:
    """The C++ game from Python: the mover's tensor and legal actions of every state."""
    import pyspiel

    game, rng = pyspiel.load_game("bargaining"), random.Random(0)

    def work() -> int:
        steps = 0
        while steps < SCALAR_LENGTH:
            state = game.new_initial_state()
            state.apply_action(rng.randrange(len(state.chance_outcomes())))
            while not state.is_terminal():
                state.observation_tensor(state.current_player())
                state.apply_action(rng.choice(state.legal_actions()))
                steps += 1
        return steps

    return work


def open_spiel_rl() -> Work:
    from open_spiel.python.rl_environment import Environment

    env, rng = Environment("bargaining"), random.Random(0)

    def work() -> int:
        time_step, steps = env.reset(), 0
        while steps < SCALAR_LENGTH:
            legal = time_step.observations["legal_actions"][time_step.observations["current_player"]]
            time_step = env.step([rng.choice(legal)])
            steps += 1
            if time_step.last():
                time_step = env.reset()
        return steps

    return work


OURS, OUR_GAME = "Engine.random_actions + step", "raw_env, turn-based, one game"


def available(contestants: dict[str, Callable[[], Work]]) -> tuple[dict[str, Work], list[str]]:
    """Returns those that can be built, and the names of those whose package is not installed."""
    built, missing = {}, []
    for name, build in contestants.items():
        try:
            built[name] = build()
        except ImportError:
            missing.append(name)
    return built, missing


def table(title: str, base: str, contestants: dict[str, Callable[[], Work]], **settings: Any) -> None:
    built, missing = available(contestants)
    measured = rates(built, **settings)
    print(f"\n| {title} | steps/s | ours is so many times as fast |\n|---|---|---|")
    for name in contestants:
        if name in missing:
            print(f"| {name} | not installed | |")
        else:
            print(f"| {name} | {readable(median(measured, name))} | {ratio(measured, base, name):,.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=4096)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="shortest time of one measurement")
    parser.add_argument("--cpu-time", action="store_true", help="of the process, instead of the time that passes")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    games, settings = options.games, {"repetitions": options.repetitions, "seconds": options.seconds, "clock": clock}
    if hasattr(os, "sched_setaffinity"):  # one core for all: some start threads that they cannot be talked out of
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(machine())
    batched: dict[str, Callable[[], Work]] = {
        OURS: lambda: ours(games),
        "pgx kuhn_poker": lambda: pgx("kuhn_poker", games),
        "pgx tic_tac_toe": lambda: pgx("tic_tac_toe", games),
        "pgx leduc_holdem": lambda: pgx("leduc_holdem", games),
        "EnvPool CartPole": lambda: envpool(games),
    }
    single: dict[str, Callable[[], Work]] = {
        OUR_GAME: lambda: turn_based(raw_env(GameSpec())),
        "OpenSpiel bargaining, C++ from Python": open_spiel,
        "OpenSpiel bargaining, rl_environment": open_spiel_rl,
        "PettingZoo tic-tac-toe, turn-based": tic_tac_toe,
    }
    table(f"{games:,} games together", OURS, batched, **settings)
    table("one game at a time", OUR_GAME, single, **settings)


if __name__ == "__main__":
    main()

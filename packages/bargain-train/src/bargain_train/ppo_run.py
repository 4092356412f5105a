"""A run of `ppo_phase`: its rollouts, what resuming needs, and the frame around its updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from bargain_env.spec import GameSpec
from bargain_eval.policy import Policy

from bargain_train.collect import Player, Rollouts
from bargain_train.evaluation import Evaluator, conduct
from bargain_train.learner import ppo_phase
from bargain_train.policies import SeatNetworks
from bargain_train.run import Run
from bargain_train.seeds import derive_seed
from bargain_train.updates import Learner


def lead(
    run: Run,
    learners: Sequence[Learner],
    players: tuple[Player, Player],
    spec: GameSpec,
    networks: Callable[[], SeatNetworks],
    evaluator: Evaluator,
    *,
    num_envs: int,
    rollout_steps: int,
) -> Policy:
    """Trains `learners` from the start, or where the run was, to its end; returns the policy that it stores.

    Args:
        run: The run; its budget counts steps.
        learners: Who learns, each with its seats.
        players: Who plays seat 0 and seat 1, learners among them.
        spec: The game, with an observation that suffices for every player.
        networks: Returns who plays each seat of the policy that is evaluated and stored.
        evaluator: Evaluates it.
        num_envs: Games played at once.
        rollout_steps: Decisions of each game in a rollout.
    """
    seed, device = run.config.seed, run.device
    rollouts = Rollouts(
        spec, players, num_envs=num_envs, length=rollout_steps, seed=seed, device=device, threads=run.threads
    )
    generator = torch.Generator(device=device).manual_seed(derive_seed(seed, "shuffle"))
    if run.resumed is not None:
        for learner, stored in zip(learners, run.resumed["learners"], strict=True):
            learner.load_state_dict(stored)
        rollouts.load_state_dict(run.resumed["rollouts"])
        generator.set_state(run.resumed["generator"].cpu())

    def state() -> dict[str, Any]:
        return {
            "learners": [learner.state_dict() for learner in learners],
            "rollouts": rollouts.state_dict(),
            "generator": generator.get_state(),
        }

    updates = ppo_phase(learners, rollouts, spec, run.config.budget, run, generator)
    policy = conduct(run, updates, networks, state, evaluator)
    rollouts.close()
    return policy

"""Trains Tianshou's DQN in seat 0 against uniform play, with masks, over the turn-based PettingZoo environment.

It needs `pip install ./packages/bargain-env tianshou==2.0.1`, from the repository's root. Tianshou stores the moves
of both seats in one stream and reads each seat's reward from it. The move that ends a game pays both seats, so a
horizon of two moves is what makes the credit right: the reward of the opponent's answer counts, and the next state is
one in which the learner moves again.
"""

from __future__ import annotations

import argparse
import logging

import numpy as np
import torch
from bargain_env import env
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.multiagent.marl import MultiAgentOffPolicyAlgorithm
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.algorithm.random import MARLRandomDiscreteMaskedOffPolicyAlgorithm
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, PettingZooEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net


def payoffs(collector: Collector, num_games: int) -> np.ndarray:
    """Returns the mean payoffs of both seats over new games."""
    collector.reset()
    returns: np.ndarray = collector.collect(n_episode=num_games).returns
    return returns.mean(axis=0)


def main(timesteps: int, num_envs: int = 16, test_games: int = 400) -> None:
    logging.getLogger("tianshou").setLevel(logging.ERROR)  # it remarks on returns that have two entries a game
    np.random.seed(0)  # noqa: NPY002 (Tianshou draws from numpy's global generator)
    torch.manual_seed(0)
    torch.set_num_threads(1)  # faster for small networks
    one = PettingZooEnv(env())
    net = Net(
        state_shape=one.observation_space["observation"].shape, action_shape=one.action_space.n, hidden_sizes=[128, 128]
    )
    policy = DiscreteQLearningPolicy(model=net, action_space=one.action_space, eps_training=0.2, eps_inference=0.0)
    optim = AdamOptimizerFactory(lr=1e-3)
    learner = DQN(policy=policy, optim=optim, gamma=1.0, n_step_return_horizon=2, target_update_freq=200)
    uniform = MARLRandomDiscreteMaskedOffPolicyAlgorithm(action_space=one.action_space)
    both = MultiAgentOffPolicyAlgorithm(algorithms=[learner, uniform], env=one)

    train_envs, test_envs = (
        DummyVectorEnv([lambda seed=seed: PettingZooEnv(env(seed=seed)) for seed in range(first, first + num_envs)])
        for first in (0, num_envs)
    )
    buffer = VectorReplayBuffer(20_000, num_envs)
    collector = Collector(both, train_envs, buffer, exploration_noise=True)
    tester = Collector(both, test_envs)
    collector.reset()
    collector.collect(n_step=64 * num_envs)
    seat_0, seat_1 = payoffs(tester, test_games)
    print(f"untrained: seat 0 {seat_0:.3f}, seat 1 {seat_1:.3f}")
    both.run_training(
        OffPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=timesteps,
            collection_step_num_env_steps=10 * num_envs,
            update_step_num_gradient_steps_per_sample=0.3,
            batch_size=128,
            show_progress=False,
            verbose=False,
        )
    )
    seat_0, seat_1 = payoffs(tester, test_games)
    print(f"trained:   seat 0 {seat_0:.3f}, seat 1 {seat_1:.3f} (uniform play earns .50, a best response .80)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--timesteps", type=int, default=40_000, help="moves of both seats")
    main(parser.parse_args().timesteps)

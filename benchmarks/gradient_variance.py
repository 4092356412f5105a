"""How much the policy gradient varies with MAPPO's critics and with PPO's: `python benchmarks/gradient_variance.py`.

Takes actors that do not change: one as training draws it, nearly uniform, and one half trained by PPO. For each it fits
critics that see both hands and critics that see their own to the payoffs of the same games, then plays many batches of
equal size and computes the policy gradient of each batch by both. Prints the ratio of the traces of their covariances
in a table in Markdown, and exits 1 if it is not below 1 for the half trained actor. (While everybody plays uniformly,
what the other seat holds tells nothing of what it will do, and the ratio is 1.)
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import numpy as np
import torch
from bargain_env import GAMES, GameSpec
from bargain_train.actors import MaskedCategorical
from bargain_train.advantage import Credit, seat_gae
from bargain_train.collect import Rollouts
from bargain_train.config import PpoOptions
from bargain_train.critics import ActorCritic, Critic
from bargain_train.learner import Budget, ppo_phase
from bargain_train.networks import Network, build_network
from bargain_train.updates import Learner
from tensordict import TensorDictBase
from torch import nn

FITTED = 512  # rows of a gradient step of the critics
HEADINGS = ("actor", "lambda", "seed", "error, both hands", "own hand", "variance, both", "own hand", "ratio", "se")


class Found(NamedTuple):
    """Both critics' mean squared errors over the batches, and the variance of the gradient with each, `[batches]`."""

    errors: tuple[float, float]
    both: np.ndarray
    own: np.ndarray

    @property
    def ratio(self) -> float:
        """The ratio of the traces."""
        return float(self.both.mean() / self.own.mean())

    @property
    def error(self) -> float:
        """The standard error of the ratio over the batches, by the delta method."""
        rest = self.both - self.ratio * self.own
        return float(rest.std(ddof=1) / np.sqrt(len(rest)) / self.own.mean())


def fresh_actor(spec: GameSpec, hidden: list[int], seed: int) -> Network:
    """Returns a network as training draws it."""
    torch.manual_seed(seed)
    return build_network({"network": "mlp", "hidden_dims": hidden}, spec)


def half_trained_actor(spec: GameSpec, hidden: list[int], steps: int, seed: int) -> Network:
    """Returns a network after the first `steps` of a training by PPO that would take twice as many."""
    network = fresh_actor(spec, hidden, seed)
    options = PpoOptions(lr=1e-3, entropy_coef=0.2, entropy_coef_final=0.005)
    rollouts = Rollouts(spec, (network, network), num_envs=512, length=32, seed=seed)
    generator, clock = torch.Generator().manual_seed(seed), Budget()
    phase = ppo_phase([Learner(network, (0, 1), options)], rollouts, spec, 2 * steps, clock, generator)
    while clock.step < steps:
        next(phase)
    rollouts.close()
    return network


def pair_of_critics(actor: Network, hidden: list[int]) -> tuple[ActorCritic, ActorCritic]:
    """Returns `actor` with critics that see both hands, and with critics that see their own."""
    spec = actor.spec_of_game

    def critics() -> list[Critic]:
        return [Critic(spec, tuple(hidden), normalise=False) for _ in range(2)]

    return ActorCritic(actor, critics(), hands=True), ActorCritic(actor, critics(), hands=False)


def credit(network: ActorCritic, rows: TensorDictBase, lmbda: float) -> Credit:
    """Returns the credit of all rows `[T, N]` but the last, which is where the others end."""
    with torch.no_grad():
        value = network.values(rows["observation"].flatten(0, 1)).view(rows.shape)
    return seat_gae(
        rows["player"][:-1], rows["reward"][:-1], rows["done"][:-1], value[:-1], value[-1], gamma=1.0, lmbda=lmbda
    )


def fit(networks: tuple[ActorCritic, ActorCritic], rollouts: Rollouts, rounds: int) -> None:
    """Fits the critics of both networks to the payoffs of the same decisions, drawn alike, over `rounds` rollouts."""
    parameters = [[*network.critics.parameters(), *network.hand_maps.parameters()] for network in networks]
    optimizers = [torch.optim.Adam(own, lr=2e-3) for own in parameters]
    generator = torch.Generator().manual_seed(0)
    for number in range(rounds):
        rows = rollouts.collect().rows
        found = credit(networks[0], rows, 1.0)
        observation, target = rows["observation"][:-1][found.valid], found.value_target[found.valid]
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 - number / rounds)
        order = torch.randperm(len(target), generator=generator)
        for index in torch.tensor_split(order, -(-len(order) // FITTED)):
            for network, optimizer in zip(networks, optimizers, strict=True):
                loss: torch.Tensor = nn.functional.mse_loss(network.values(observation[index]), target[index])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()


def policy_gradient(actor: Network, rows: TensorDictBase, found: Credit) -> torch.Tensor:
    """Returns the gradient of the mean of advantage times log-probability over the valid decisions, flat."""
    valid = found.valid
    logits, _ = actor(rows["observation"][:-1][valid])
    log_prob = MaskedCategorical(logits, rows["action_mask"][:-1][valid]).log_prob(rows["action"][:-1][valid])
    parameters = [*actor.trunk.parameters(), *actor.policy_head.parameters()]
    gradients = torch.autograd.grad((found.advantage[valid] * log_prob).mean(), parameters)
    return torch.cat([gradient.flatten() for gradient in gradients])


def compare(actor: Network, lambdas: list[float], options: argparse.Namespace, seed: int) -> dict[float, Found]:
    """Fits both kinds of critic and measures the gradients of the same batches by both, for each lambda."""
    networks, spec = pair_of_critics(actor, options.hidden), actor.spec_of_game.with_observation("history")
    players = networks[0], networks[0]
    games = Rollouts(spec, players, num_envs=512, length=options.length, seed=seed)
    fit(networks, games, options.rounds)
    games.close()
    batches = Rollouts(spec, players, num_envs=options.games, length=options.length, seed=seed + 1)
    gradients: dict[tuple[float, int], list[torch.Tensor]] = {(x, k): [] for x in lambdas for k in range(2)}
    errors: list[list[float]] = [[], []]
    for _ in range(options.batches):
        rows = batches.collect().rows
        for k, network in enumerate(networks):
            payoff = credit(network, rows, 1.0)
            errors[k].append(float(payoff.advantage[payoff.valid].square().mean()))
            for lmbda in lambdas:
                gradients[lmbda, k].append(policy_gradient(actor, rows, credit(network, rows, lmbda)))
    batches.close()
    spread = {key: torch.stack(found) for key, found in gradients.items()}
    traces = {key: (all_ - all_.mean(0)).square().sum(1).double().numpy() for key, all_ in spread.items()}
    both, own = (float(np.mean(found)) for found in errors)
    return {x: Found((both, own), traces[x, 0], traces[x, 1]) for x in lambdas}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", choices=GAMES, default="mini-c")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 64], help="hidden layers of actor and critics")
    parser.add_argument("--actor-steps", type=int, default=500_000, help="of the half trained actor's training")
    parser.add_argument("--rounds", type=int, default=60, help="rollouts of 512 games that the critics are fitted to")
    parser.add_argument("--batches", type=int, default=400, help="whose gradients are compared")
    parser.add_argument("--games", type=int, default=64, help="of a batch")
    parser.add_argument("--length", type=int, default=33, help="decisions of each game in a batch")
    options = parser.parse_args()
    torch.set_num_threads(1)
    spec, ratios = GAMES[options.game], []
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
    for seed in options.seeds:
        actors = {
            "fresh": fresh_actor(spec, options.hidden, seed),
            "half trained": half_trained_actor(spec, options.hidden, options.actor_steps, seed),
        }
        for name, actor in actors.items():
            for lmbda, found in compare(actor, [1.0, 0.95], options, seed).items():
                numbers = (*found.errors, *(1e4 * x.mean() for x in (found.both, found.own)), found.ratio, found.error)
                cells = " | ".join(f"{number:.4f}" for number in numbers)
                print(f"| {name} | {lmbda} | {seed} | {cells} |", flush=True)
                ratios += [found.ratio] if name == "half trained" else []
    return int(max(ratios) >= 1)


if __name__ == "__main__":
    sys.exit(main())

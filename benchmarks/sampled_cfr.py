"""Speed of sampled CFR, one thread: `python benchmarks/sampled_cfr.py [--deals 512] [--offers 4]`.

Decisions visited a second by traversals of the standard game with 256-256 networks, beside the limit: the networks'
passes over as many rows and nothing else. Gradient steps a second of an advantage network, beside the bare matrix
products of its batches. Then traversals of mini-b, uniform play, beside OpenSpiel's external sampling on the same game,
which also looks up and updates its tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from bargain_env import GAMES, GameSpec
from bargain_env.openspiel import openspiel_game
from bargain_train.config import RegretOptions
from bargain_train.regret import RegretLearner, advantage_loss, fit, network_strategy, uniform_strategy
from bargain_train.traversal import Traverser
from open_spiel.python.algorithms.external_sampling_mccfr import ExternalSamplingSolver
from timing import machine, median, rates, ratio, readable

HIDDEN = 256
GRADIENT_STEPS = 20


def traversals(options: argparse.Namespace) -> dict[str, Callable[[], int]]:
    spec = GameSpec(observation="history")
    defaults = RegretOptions()
    learner = RegretLearner(0, defaults, {"network": "mlp", "hidden_dims": [HIDDEN, HIDDEN]}, spec, seed=0)
    ((network, _),) = learner.average()
    strategy = network_strategy(network)
    traverser = Traverser(spec, options.deals, offers=options.offers, seed=0)
    sample = traverser.traverse(0, (strategy, strategy))
    features = torch.randn(sample.nodes, spec.observation_dim - spec.num_actions + 4)
    rows, generator = sample.advantages, torch.Generator()
    batch = torch.randn(defaults.advantage_batch_size, features.shape[1])

    @torch.no_grad()
    def passes() -> int:
        for part in torch.split(features, 16_384):
            network.heads(network.trunk(part))
        return len(features)

    def products() -> int:
        for _ in range(GRADIENT_STEPS):
            loss = network.heads(network.trunk(batch))[0].sum()
            network.zero_grad()
            torch.autograd.backward(loss)
        return GRADIENT_STEPS

    def regression() -> int:
        size, lr, clip = defaults.advantage_batch_size, defaults.lr, defaults.max_grad_norm
        steps = GRADIENT_STEPS
        fit(network, rows, advantage_loss, spec, generator, steps=steps, batch_size=size, lr=lr, max_grad_norm=clip)
        return steps

    return {
        "traversal": lambda: traverser.traverse(0, (strategy, strategy)).nodes,
        "its passes alone": passes,
        "regression": regression,
        "its products alone": products,
    }


def peers(options: argparse.Namespace) -> dict[str, Callable[[], int]]:
    spec = GAMES["mini-b"]
    traverser = Traverser(spec, options.deals, offers=spec.num_offers, seed=0)
    solver = ExternalSamplingSolver(openspiel_game(spec))

    def ours() -> int:
        for seat in range(2):
            traverser.traverse(seat, (uniform_strategy, uniform_strategy))
        return 2 * int(options.deals)

    def theirs() -> int:
        solver.iteration()
        return 2

    return {"ours": ours, "OpenSpiel": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deals", type=int, default=512)
    parser.add_argument("--offers", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    print("\n| what | a second | of its limit |\n|---|---|---|")
    found = rates(traversals(options), repetitions=options.repetitions, seconds=options.seconds)
    for name, limit, unit in (
        ("traversal", "its passes alone", "decisions"),
        ("regression", "its products alone", "gradient steps"),
    ):
        print(f"| {name} | {readable(median(found, name))} {unit} | {ratio(found, name, limit):.2f} |")
        print(f"| {limit} | {readable(median(found, limit))} {unit} | 1 |")
    print("\n| traversals of mini-b | a second | times OpenSpiel |\n|---|---|---|")
    found = rates(peers(options), repetitions=options.repetitions, seconds=options.seconds)
    for name in found:
        print(f"| {name} | {readable(median(found, name))} | {ratio(found, name, 'OpenSpiel'):.0f} |")


if __name__ == "__main__":
    main()

"""Where Ex2PSRO sends its responses: each seat's exploration policy, cloned from the best games already played.

Nguyen, Gu and Wellman 2025; ranked by what each deal allows, because hands differ here.

Legend: `C` cells, `N` deals, `D` decisions of a game, `I` item types.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bargain_train.config import ExplorationOptions, OracleConfig
from bargain_train.exploration import WELFARES, decisions, efficiency, select, strata
from bargain_train.imitation import clone
from bargain_train.policies import stored_network
from bargain_train.population import Populations
from bargain_train.population_jobs import walks
from bargain_train.responses import new_network
from bargain_train.run import Run, torch_threads
from bargain_train.seeds import derive_seed


class Explorer:
    """Makes the guides of both seats' responses, from the second iteration until annealing ends; a `MakeGuides`.

    Costs the cloning of two networks on `imitation_data_size` games and no simulation.

    Args:
        config: The game, the networks and the seed.
        options: How to explore; `kl_coef` is above 0.
        run: Gives the device.

    Attributes:
        metrics: Of the last guides: the efficiency of what was imitated beside that of all that was played, and how
            well it was.
    """

    def __init__(self, config: OracleConfig, options: ExplorationOptions, run: Run) -> None:
        self._config, self._options, self._run = config, options, run
        deals = walks(config)
        self._values, self._outside = deals.values, deals.outside
        self.metrics: dict[str, float] = {}

    def __call__(self, populations: Populations, number: int) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Returns the arguments of each seat's `Guide` in iteration `number`; None where it is free.

        A seat that never moved in the games to imitate is free too.
        """
        self.metrics = {}
        factor = self._options.kl_factor(number - 1, max(self._config.psro_iterations - 1, 1))
        if number == 1 or not factor:
            return None, None
        config, options = self._config, self._options
        payoff, actions = kept_plays(populations)
        measure = WELFARES[options.welfare_fn]
        efficient = efficiency(config.spec(), self._values, self._outside, payoff, measure)
        chosen = select(
            measure(payoff[:, :, 0], payoff[:, :, 1]),
            efficient,
            strata(config.spec(), self._values, self._outside),
            count=options.imitation_data_size,
            top_k=options.exploration_top_k,
            temperature=options.exploration_temperature,
            weighted=options.use_welfare_weighted_sampling,
        )
        self.metrics = {
            "efficiency": float(efficient.mean()),
            "imitated_efficiency": float(chosen.weight @ efficient[chosen.cell, chosen.game]),
        }
        moves, weight = actions[chosen.cell, chosen.game], torch.from_numpy(chosen.weight)
        hands = self._values[chosen.game], self._outside[chosen.game]
        first, second = (self._guide(seat, number, hands, moves, weight, factor) for seat in range(2))
        return first, second

    def _guide(
        self,
        seat: int,
        number: int,
        hands: tuple[NDArray[np.int64], NDArray[np.int64]],
        moves: NDArray[np.int16],
        weight: torch.Tensor,
        factor: float,
    ) -> dict[str, Any] | None:
        config, options, device = self._config, self._options, self._run.device
        rows = decisions(config.spec(), *hands, moves, seat)
        if not len(rows.action):
            return None
        seed = derive_seed(config.seed, f"explore-{number}-{seat}")
        network = new_network(config.network_config(), config.spec(), seed).to(device)
        with torch_threads(self._run.threads):
            found = clone(
                network,
                rows.observation.to(device),
                rows.mask.to(device),
                rows.action.to(device),
                weight[rows.trajectory].to(device),
                epochs=options.imitation_epochs,
                batch_size=options.imitation_batch_size,
                lr=options.imitation_lr,
                generator=torch.Generator(device=device).manual_seed(derive_seed(seed, "shuffle")),
            )
        self.metrics |= {f"imitation_{name.removeprefix('last_')}_{seat}": found[name] for name in _TOLD}
        return {
            "network": stored_network(network),
            "coef": options.kl_coef,
            "target": options.kl_target,
            "adaptive": options.use_adaptive_kl,
            "horizon": options.kl_horizon,
            "factor": factor,
        }


_TOLD = ("last_loss", "last_accuracy")


def kept_plays(populations: Populations) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """Returns the payoffs `[C, N, 2]` and actions `[C, N, D]` of all cells that kept them, in a fixed order."""
    plays = [cell.plays for _, cell in sorted(populations.cells.items()) if cell.plays is not None]
    return np.stack([one["payoff"].numpy() for one in plays]), np.stack([one["actions"].numpy() for one in plays])


def equilibrium_welfare(populations: Populations, welfare_fn: str) -> float:
    """Returns the mean over games of the welfare under the solution; of each game, not of mean payoffs."""
    measure, total = WELFARES[welfare_fn], 0.0
    first, second = populations.mixtures()
    for one, p in first:
        for other, q in second:
            plays = populations.cells[one.number, other.number].plays
            assert plays is not None
            payoff = plays["payoff"].numpy()
            total += p * q * float(measure(payoff[:, 0], payoff[:, 1]).mean())
    return total

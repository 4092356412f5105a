"""The training algorithms by name. A new one is a file in this folder and a line here; this loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bargain_train.algorithms import ex2psro, fcp, mappo, nfsp, ppo, psro, sampled_cfr
from bargain_train.config import RunConfig, Space


class Algorithm(NamedTuple):
    """The settings of a training command, `train(config, run)`, which does it, and what of the settings is searched."""

    config: type[RunConfig]
    train: Callable[..., Any]
    space: Space


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(ppo.PPOConfig, ppo.train, ppo.SPACE),
    "sampled-cfr": Algorithm(sampled_cfr.SampledCFRConfig, sampled_cfr.train, sampled_cfr.SPACE),
    "nfsp": Algorithm(nfsp.NFSPConfig, nfsp.train, nfsp.SPACE),
    "mappo": Algorithm(mappo.MAPPOConfig, mappo.train, mappo.SPACE),
    "psro": Algorithm(psro.PSROConfig, psro.train, psro.SPACE),
    "ex2psro": Algorithm(ex2psro.Ex2PSROConfig, ex2psro.train, ex2psro.SPACE),
    "fcp": Algorithm(fcp.FCPConfig, fcp.train, fcp.SPACE),
}

"""The training algorithms by name. A new one is a file in this folder and a line here; this loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bargain_train.algorithms import ex2psro, fcp, mappo, nfsp, ppo, psro, sampled_cfr
from bargain_train.config import RunConfig


class Algorithm(NamedTuple):
    """The settings of a training command, and `train(config, run)`, which does it."""

    config: type[RunConfig]
    train: Callable[..., Any]


ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm(ppo.PPOConfig, ppo.train),
    "sampled-cfr": Algorithm(sampled_cfr.SampledCFRConfig, sampled_cfr.train),
    "nfsp": Algorithm(nfsp.NFSPConfig, nfsp.train),
    "mappo": Algorithm(mappo.MAPPOConfig, mappo.train),
    "psro": Algorithm(psro.PSROConfig, psro.train),
    "ex2psro": Algorithm(ex2psro.Ex2PSROConfig, ex2psro.train),
    "fcp": Algorithm(fcp.FCPConfig, fcp.train),
}

"""What `bargain-train sweep` is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

Method = Literal["grid", "random", "bayes", "gp", "cma"]
ObjectiveName = Literal["payoff", "welfare", "total", "nash-conv"]
PrunerName = Literal["none", "median", "halving"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]

_OF_A_SEARCH = ("method", "num_trials", "objective", "pruner", "space", "storage", "print_wandb")


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Search the settings of an algorithm, or train all algorithms on the same seeds.

    Settings of the trainings follow after `--`, as their own commands take them. A setting that is given there is not
    searched. Every trial is a stored run, which `bargain-eval results` shows. The study is kept in --output-dir: the
    same command again goes on with what is missing, and started several times at once its processes share the work.

    For instance
        bargain-train sweep --algorithm ppo --method random --num-trials 50
        bargain-train sweep --algorithm mappo --method bayes --seeds 1 2 3 -- --total-timesteps 1000000
        bargain-train sweep --algorithm fcp --method grid --dry-run
        bargain-train sweep --algorithm ppo --objective nash-conv -- --game mini-b --hidden-dims 64 64
        bargain-train ppo --config sweep_results/ppo_random/best.yaml
        bargain-train sweep --compare-algorithms --seeds 42 123 456
        bargain-train sweep --compare-algorithms --algorithms ppo nfsp -- --game mini-b --total-timesteps 500000
        bargain-train sweep --algorithm ppo --print-wandb > sweep.yaml
    """

    settings: tyro.conf.Positional[tuple[str, ...]] = ()
    """After `--`: settings of every training. With --compare-algorithms each algorithm takes those that it has."""
    algorithm: str | None = None
    """The algorithm whose settings are searched, e.g. ppo."""
    method: Method = "random"
    """grid: all combinations (a range: 5 points); bayes: TPE; gp: Gaussians; cma: CMA-ES, with TPE for choices."""
    num_trials: Annotated[int, Field(ge=1)] | None = None
    """Trials of the study, over all processes and reruns (default 20; all combinations with --method grid)."""
    objective: ObjectiveName = "payoff"
    """What is to be best on the validation deals; see the page on sweeps. Of nash-conv least is best."""
    pruner: PrunerName = "median"
    """Stop a trial below the median of the complete ones, from its second evaluation on; or by successive halving."""
    seed: Seed = 42
    """Seed of the search, and of every training unless --seeds are given."""
    seeds: tuple[Seed, ...] = ()
    """Train once with each, and count a trial's mean (default: --seed; with --compare-algorithms 42 123 456)."""
    space: Path | None = None
    """A YAML file with what is searched instead, as the `parameters` of a W&B sweep."""
    compare_algorithms: bool = False
    """Train every algorithm with every seed, and print one table; what is complete is not trained again."""
    algorithms: tuple[str, ...] = ()
    """The algorithms that --compare-algorithms trains (default: all)."""
    study: str | None = None
    """Name of the study and of its folder (default: ALGORITHM_METHOD, or comparison)."""
    storage: str | None = None
    """A journal file, or a database, e.g. postgresql://HOST/NAME (default: a journal in the study's folder)."""
    output_dir: Path = Path("sweep_results")
    """The folder of studies."""
    results_dir: str = "results"
    """The folder of stored runs."""
    executor: Literal["local", "ray", "submitit", "dask"] = "local"
    """Where trainings run: on this machine, or on a cluster (each needs its extra)."""
    workers: Annotated[int, Field(ge=1)] = 1
    """Trainings at the same time; 1 local worker is the process itself."""
    dry_run: bool = False
    """Print the commands of the trainings, as far as they depend on no result, and start nothing."""
    print_wandb: bool = False
    """Print the search as a file for `wandb sweep`, and start nothing."""

    def __post_init__(self) -> None:
        if self.compare_algorithms == (self.algorithm is not None):
            raise ValueError("say either --algorithm, to search its settings, or --compare-algorithms.")
        if self.algorithms and not self.compare_algorithms:
            raise ValueError("--algorithms says what --compare-algorithms trains; it needs it.")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("--seeds must differ from each other.")
        for name in _OF_A_SEARCH:
            if self.compare_algorithms and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                raise ValueError(f"--{name.replace('_', '-')} has no effect with --compare-algorithms.")
        if self.study is not None and not re.fullmatch(r"[\w-]+", self.study):
            raise ValueError(f"--study is a folder's name of letters, digits, - and _, not {self.study!r}.")

"""What a sweep judges by, on the validation deals, so that those of the final evaluation choose nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from bargain_train.config import RunConfig
from bargain_train.sweep.options import ObjectiveName


class Objective(NamedTuple):
    """What is to be best.

    Attributes:
        direction: What is better.
        metrics: Its names among the metrics of a run's evaluations, of which a run logs one: the first on small games.
    """

    direction: Literal["maximize", "minimize"]
    metrics: tuple[str, ...]


OBJECTIVES: dict[ObjectiveName, Objective] = {
    "payoff": Objective("maximize", ("eval/pool_payoff",)),
    "welfare": Objective("maximize", ()),
    "total": Objective("maximize", ("eval/total",)),
    "nash-conv": Objective("minimize", ("eval/nash_conv", "eval/nash_conv_upper")),
}


def check_objective(objective: ObjectiveName, config: RunConfig) -> None:
    """Raises ValueError if no run of `config` could be judged by `objective`."""
    if objective not in ("total", "nash-conv"):
        return
    if getattr(config, "opponent", None) is not None:
        raise ValueError(f"--objective {objective} is of two seats that learn; with --opponent use payoff or welfare.")
    if objective == "nash-conv" and config.observation == "history" and not _is_small(config):
        raise ValueError(
            "--objective nash-conv needs an upper bound, which policies of --observation history have on small games "
            "alone; set -- --observation standing or a --game such as mini-b."
        )


def _is_small(config: RunConfig) -> bool:
    from bargain_eval.exact import tabular_game

    from bargain_train.nash_conv import EXACT_BYTES

    try:
        tabular_game(config.spec(), EXACT_BYTES)
    except ValueError:
        return False
    return True


def logged_metric(objective: ObjectiveName, config: RunConfig) -> str:
    """Returns the name by which runs of `config` log the objective.

    Raises:
        ValueError: If they do not.
    """
    metrics = OBJECTIVES[objective].metrics
    if not metrics:
        raise ValueError(f"runs log no {objective}; choose another --objective.")
    return metrics[0] if _is_small(config) else metrics[-1]


def score(objective: ObjectiveName, run_id: str, config: RunConfig, *, device: str, threads: int) -> float:
    """Returns the objective of a stored run that is complete, of its final policy on the validation deals.

    Costs one evaluation of `config.eval_games` deals, or for NashConv a certificate of some 25 seconds.

    Args:
        objective: Its name.
        run_id: The run.
        config: Its settings.
        device: Where the games are played.
        threads: Parts of the evaluation computed at the same time.

    Raises:
        ValueError: If the policy's NashConv has no upper bound.
    """
    from bargain_eval.evaluate import VALIDATION_SEED, evaluate_policy
    from bargain_eval.files import read_json
    from bargain_eval.registry import load_policy
    from bargain_eval.results import ResultsManager
    from bargain_eval.results.layout import FINAL_EVAL

    from bargain_train.nash_conv import FINAL, measure_nash_conv
    from bargain_train.run import torch_threads

    options: dict[str, Any] = {"device": device, "threads": threads}
    policy = load_policy(f"run:{run_id}", config.spec(), device=device, results_dir=config.results_dir)
    with torch_threads(1):
        if objective == "nash-conv":
            found = measure_nash_conv(policy, config.spec(), VALIDATION_SEED, budget=FINAL, **options)
            bound = found.get("nash_conv", found.get("nash_conv_upper"))
            if bound is None:
                raise ValueError(f"the policy of run {run_id} has no upper bound of its NashConv.")
            return bound
        stored = Path(ResultsManager(config.results_dir).get_run(run_id)["path"])
        final = read_json(stored / FINAL_EVAL)
        evaluation = evaluate_policy(
            policy,
            num_games=config.eval_games,
            seed=VALIDATION_SEED,
            spec=config.spec(),
            results_dir=config.results_dir,
            opponents=tuple(final["opponents"]),
            seats=final["seats"],
            **options,
        )
    if objective == "total":
        return float(evaluation["self_play"]["total"])
    if objective == "payoff":
        return float(evaluation["pool_payoff"])
    cells = [cell for seats in evaluation["opponents"].values() for cell in seats.values()]
    return float(sum(cell["payoff"] + cell["opponent_payoff"] for cell in cells) / len(cells))

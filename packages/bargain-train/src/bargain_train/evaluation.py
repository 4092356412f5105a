"""What happens around the updates of every algorithm: evaluations, metrics, checkpoints and the final policy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bargain_eval.evaluate import FINAL_EVAL_SEED, POOL, VALIDATION_SEED, evaluate_policy
from bargain_eval.policy import Policy

from bargain_train.nash_conv import FINAL, ROUTINE, measure_nash_conv
from bargain_train.policies import SeatNetworks, networks_policy, policy_checkpoint
from bargain_train.run import Run, torch_threads

Metrics = dict[str, Any]
"""Numbers by name; a population is an object from the names of its members to their probabilities."""


class Evaluator:
    """Evaluates policies as `run` wants it: against a pool in the given seats, in self-play, and their NashConv.

    Evaluating leaves no trace in what it evaluates: neither the policy's own generators nor torch's are used.

    Args:
        run: Gives the game, the number of deals, the threads and the device.
        seats: The seats that learn; self-play and NashConv are measured if it is both.
        opponents: The pool, as policy strings.
    """

    def __init__(self, run: Run, *, seats: tuple[int, ...] = (0, 1), opponents: Sequence[str] = POOL) -> None:
        self.run = run
        self.seats = seats
        self.opponents = tuple(opponents)

    def __call__(self, policy: Policy, seed: int, *, final: bool = False) -> dict[str, Any]:
        """Returns what `evaluate_policy` does on the deals of `seed`, and `nash_conv`, what `measure_nash_conv` does.

        `nash_conv` is empty if one seat learns or the run does not want it. `final` spends more on bounding it.
        """
        run, config = self.run, self.run.config
        found: dict[str, float | None] = {}
        with torch_threads(1):
            evaluation = evaluate_policy(
                policy,
                num_games=config.eval_games,
                seed=seed,
                spec=config.spec(),
                device=run.device,
                results_dir=config.results_dir,
                seats=self.seats,
                threads=run.threads,
                opponents=self.opponents,
            )
            if config.eval_nash_conv and len(self.seats) == 2:
                options: dict[str, Any] = {"device": run.device, "threads": run.threads}
                found = measure_nash_conv(policy, config.spec(), seed, budget=FINAL if final else ROUTINE, **options)
        return evaluation | {"nash_conv": found}


def evaluation_metrics(evaluation: Mapping[str, Any]) -> Metrics:
    """Returns the metrics of what an `Evaluator` returned, each named `eval/...`, without bounds that do not exist."""
    metrics: Metrics = {"pool_payoff": evaluation["pool_payoff"]}
    if (play := evaluation["self_play"]) is not None:
        metrics |= {name: play[name] for name in ("payoff_0", "payoff_1", "total", "agreement_rate")}
    metrics |= {name: value for name, value in evaluation["nash_conv"].items() if value is not None}
    return {f"eval/{name}": value for name, value in metrics.items()}


def conduct(
    run: Run,
    updates: Iterable[Metrics],
    networks: Callable[[], SeatNetworks],
    state: Callable[[], dict[str, Any]],
    evaluator: Evaluator,
    *,
    best: Callable[[], SeatNetworks] | None = None,
    from_jobs: bool = False,
) -> Policy:
    """Starts a run, leads it to its end and returns its policy.

    After each update: evaluates if that is due, logs the metrics, and stores a checkpoint if that is due or the policy
    is the best so far. At the end, unless the run was stopped: the final evaluation and the final policy.

    Args:
        run: The run.
        updates: Makes one update for each of its items, the update's metrics, and ends when the run should.
        networks: Returns who plays each seat as the policy is now.
        state: Returns all that going on needs; called only where a checkpoint is stored.
        evaluator: Evaluates the policy.
        best: Returns who plays at the end, if that is not who would go on.
        from_jobs: Store a checkpoint before the first update, so that a run can go on from the jobs it has finished.
    """

    def checkpoint(resume: Mapping[str, Any]) -> dict[str, Any]:
        return policy_checkpoint(run.algorithm, networks(), run.step, resume=resume)

    run.start()
    if from_jobs and run.unsaved:
        run.save(checkpoint(state()))
    for metrics in updates:
        is_best = False
        if run.due("eval"):
            is_best = validate(run, networks(), evaluator, metrics)
        else:
            run.log(metrics)
        if run.due("checkpoint") or is_best:
            run.save(checkpoint(state()), is_best=is_best)
    if run.unsaved:
        run.save(checkpoint(state()))
    return finish(run, (best or networks)(), evaluator)


def validate(run: Run, networks: SeatNetworks, evaluator: Evaluator, metrics: Mapping[str, Any] | None = None) -> bool:
    """Evaluates a policy on the validation deals and logs that beside `metrics`; tells if it is the best so far."""
    evaluation = evaluator(networks_policy(networks, device=run.device), VALIDATION_SEED)
    is_best = run.keep_best(evaluation["pool_payoff"])
    run.log({**(metrics or {}), **evaluation_metrics(evaluation)}, force=True)
    return is_best


def finish(run: Run, networks: SeatNetworks, evaluator: Evaluator) -> Policy:
    """Returns the policy that plays seat k with `networks[k]`; evaluates and stores it, unless the run was stopped."""
    policy = networks_policy(networks, device=run.device)
    if not run.stopped:
        seat = evaluator.seats[0] if len(evaluator.seats) == 1 else None
        evaluation = evaluator(policy, FINAL_EVAL_SEED, final=True)
        run.finish(policy_checkpoint(run.algorithm, networks, run.step), evaluation, seat=seat)
    return policy

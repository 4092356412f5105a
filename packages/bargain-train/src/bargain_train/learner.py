"""The PPO loop: collect, credit per seat, update, report. Every algorithm that learns by PPO runs on it.

Legend: `T` decisions of a rollout, `N` games, `R` rows, `O` features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from bargain_env.spec import GameSpec
from tensordict import TensorDictBase

from bargain_train.advantage import Credit, seat_gae
from bargain_train.collect import Rollout, Rollouts
from bargain_train.distributed import ALONE, Team
from bargain_train.updates import Learner, ppo_update

_ROW_KEYS = ("observation", "action_mask", "action", "action_log_prob", "advantage", "value_target")
_GAME_METRICS = ("payoff_0", "payoff_1", "total", "agreement_rate", "first_move_walk_rate", "mean_decisions")


class Clock(Protocol):
    """What counts the steps of a phase: a `Run`, or the `Budget` of a part of one."""

    @property
    def step(self) -> int:
        """Environment steps taken."""
        ...

    def should_stop(self) -> bool:
        """Tells whether to stop before the next update."""
        ...

    def advance(self, steps: int) -> None:
        """Counts an update that used `steps` environment steps."""
        ...


class Budget:
    """Counts the steps of a phase that is no run of its own.

    Attributes:
        step: Environment steps taken.
        updates: Updates made.
    """

    def __init__(self) -> None:
        self.step = self.updates = 0

    def should_stop(self) -> bool:
        """Returns False: the phase ends when its budget is spent."""
        return False

    def advance(self, steps: int) -> None:
        """Counts an update that used `steps` environment steps."""
        self.step += steps
        self.updates += 1


def ppo_phase(
    learners: Sequence[Learner],
    rollouts: Rollouts,
    spec: GameSpec,
    budget: int,
    clock: Clock,
    generator: torch.Generator,
    team: Team = ALONE,
) -> Iterator[dict[str, float]]:
    """Trains `learners` until `budget` steps are taken or `clock` says stop; yields metrics after each update.

    Each update plays one rollout, credits each decision with its own seat's payoff, and improves each learner on its
    seats' decisions. Learning rate and entropy weight follow the share of `budget` that is spent.

    Args:
        learners: Who learns, each with its seats.
        rollouts: Where the players of both seats, learners among them, meet.
        spec: The game, with the observation of the rollouts.
        budget: Environment steps at which the phase ends, counted from the start of the clock.
        clock: Counts the steps, and says when to stop.
        generator: Shuffles minibatches.
        team: The processes that learn together; each collects its own rows, and metrics are those of all.

    Yields:
        Metrics of the games that ended (payoffs, agreement, walks, length) and of the update, each explained on the
        PPO page of the documentation. With several learners, the update's metrics end in `_0` and `_1` for the seat.
    """
    while clock.step < budget and not clock.should_stop():
        progress = clock.step / budget
        rollout = rollouts.collect()
        metrics = _of_all_games(game_metrics(spec, rollout.rows), team)
        for learner in learners:
            metrics |= learner.anneal(progress)
            credit, rows = learner_rows(rollout, learner, team)
            update = ppo_update(learner, rows, generator, team)
            update["explained_variance"] = explained_variance(credit, team)
            suffix = f"_{learner.seats[0]}" if len(learners) > 1 else ""
            metrics |= {f"{name}{suffix}": value for name, value in update.items()}
        clock.advance(rollouts.frames)
        yield metrics


def learner_rows(rollout: Rollout, learner: Learner, team: Team = ALONE) -> tuple[Credit, TensorDictBase]:
    """Returns the credit of the learner's decisions and their rows `[R]`, advantages normalised seat by seat.

    Mean and standard deviation are those of the rows of all processes of `team`.
    """
    rows, options = rollout.rows, learner.options
    player = rows["player"]
    credit = seat_gae(
        player,
        rows["reward"],
        rows["done"],
        rows["state_value"],
        rollout.head_value,
        gamma=options.gamma,
        lmbda=options.gae_lambda,
    )
    own = torch.zeros_like(credit.valid)
    advantage = credit.advantage.clone()
    for seat in learner.seats:
        chosen = credit.valid & (player == seat)
        own |= chosen
        sample = advantage[chosen]
        mean, std = team.mean_and_std(sample)
        advantage[chosen] = (sample - mean) / (std + 1e-8)
    rows["advantage"] = advantage.unsqueeze(-1)
    rows["value_target"] = credit.value_target.unsqueeze(-1)
    selected = rows.select(*_ROW_KEYS)[own]
    return credit._replace(valid=own), selected


def explained_variance(credit: Credit, team: Team = ALONE) -> float:
    """Returns 1 - Var(target - value) / Var(target) over the valid decisions; 0 where the targets do not vary."""
    target, error = credit.value_target[credit.valid], credit.advantage[credit.valid]
    if not (variance := team.variance(target)):
        return 0.0
    return 1.0 - team.variance(error) / variance


def _of_all_games(metrics: dict[str, float], team: Team) -> dict[str, float]:
    """Returns the means over the games of all processes, from this one's `game_metrics`."""
    if team.alone:
        return metrics
    games = metrics["games"]
    sums = team.totals({"games": games} | {name: games * metrics.get(name, 0.0) for name in _GAME_METRICS})
    total = sums.pop("games")
    return {name: value / total for name, value in sums.items() if total} | {"games": total}


def game_metrics(spec: GameSpec, rows: TensorDictBase) -> dict[str, float]:
    """Returns the means over the games that ended in the rows of a rollout; nothing if none did.

    payoff_0, payoff_1 (share of own total), total, agreement_rate, first_move_walk_rate, mean_decisions, games.
    """
    done = rows["done"]
    games = int(done.sum())
    if not games:
        return {"games": 0.0}
    last: TensorDictBase = rows.select("observation", "action", "player", "reward")[done]
    state = last["observation"][:, spec.slices["state"]]
    payoff_0, payoff_1 = last["reward"].mean(0).tolist()
    rounds = (state[:, 1] * max(spec.max_rounds - 1, 1)).round()
    decisions = 2 * rounds + last["player"] + 1
    result: dict[str, Any] = {
        "payoff_0": payoff_0,
        "payoff_1": payoff_1,
        "total": payoff_0 + payoff_1,
        "agreement_rate": (last["action"] == spec.accept_action).float().mean(),
        "first_move_walk_rate": (decisions == 1).float().mean(),
        "mean_decisions": decisions.mean(),
        "games": games,
    }
    return {name: float(value) for name, value in result.items()}

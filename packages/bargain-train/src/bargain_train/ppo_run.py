"""A run of `ppo_phase`: its rollouts, what resuming needs, and the frame around its updates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from bargain_env.spec import GameSpec
from bargain_eval.policy import Policy

from bargain_train.collect import Player, Rollouts
from bargain_train.distributed import Team, TeamError, checksum
from bargain_train.evaluation import Evaluator, conduct
from bargain_train.learner import ppo_phase
from bargain_train.networks import Network
from bargain_train.policies import SeatNetworks, networks_policy
from bargain_train.run import Run
from bargain_train.seeds import derive_seed
from bargain_train.updates import Learner

_GO_ON, _STOP, _HAND_IN = 0, 1, 2


def lead(
    run: Run,
    learners: Sequence[Learner],
    players: tuple[Player, Player],
    spec: GameSpec,
    networks: Callable[[], SeatNetworks],
    evaluator: Evaluator,
    *,
    num_envs: int,
    rollout_steps: int,
) -> Policy:
    """Trains `learners` from the start, or where the run was, to its end; returns the policy that it stores.

    In several processes each plays its share of the games. The first evaluates, stores and shows; the others only
    train. All return the policy.

    Args:
        run: The run; its budget counts steps.
        learners: Who learns, each with its seats.
        players: Who plays seat 0 and seat 1, learners among them.
        spec: The game, with an observation that suffices for every player.
        networks: Returns who plays each seat of the policy that is evaluated and stored.
        evaluator: Evaluates it.
        num_envs: Games played at once.
        rollout_steps: Decisions of each game in a rollout.

    Raises:
        ValueError: If the processes do not fit the settings, the stored run or each other.
        TeamError: If a process has ended, or its weights differ from the others'.
    """
    seed, team = run.config.seed, run.team
    team.check_alike((run.config, run.step, run.device.partition(":")[0]))
    options: dict[str, Any] = {"num_envs": num_envs, "length": rollout_steps, "threads": run.threads, "team": team}
    rollouts = Rollouts(spec, players, seed=seed, device=run.device, **options)
    generator = torch.Generator(device=run.device).manual_seed(derive_seed(seed, team.stream("shuffle")))
    if run.resumed is not None:
        for learner, stored in zip(learners, run.resumed["learners"], strict=True):
            learner.load_state_dict(stored)
        own = _own_part(run.resumed, team)
        rollouts.load_state_dict(own["rollouts"])
        generator.set_state(own["generator"].cpu())
    team.hand_out(learner.network for learner in learners)

    def part() -> dict[str, Any]:
        return {"rollouts": rollouts.state_dict(), "generator": generator.get_state()}

    together = Together(run, [learner.network for learner in learners], part)

    def state() -> dict[str, Any]:
        return {"learners": [learner.state_dict() for learner in learners], **together.parts()}

    updates = ppo_phase(learners, rollouts, spec, run.config.budget, together, generator, team)
    if team.leads:
        policy = conduct(run, updates, networks, state, evaluator)
        together.dismiss()
    else:
        for _ in updates:
            pass
        together.serve()
        policy = networks_policy(networks(), device=run.device)
    rollouts.close()
    return policy


class Together:
    """The clock of a run that several processes make together; that of a lone process is the run.

    All stop before the same update, whoever was asked to. The first process asks the others for their parts of the
    state when it stores a checkpoint, while they wait for its word on the next update.

    Args:
        run: The run, as this process sees it.
        networks: What must be the same in all processes.
        part: Returns what this process alone needs to go on.
    """

    def __init__(self, run: Run, networks: Sequence[Network], part: Callable[[], dict[str, Any]]) -> None:
        self._run, self._networks, self._part = run, networks, part

    @property
    def step(self) -> int:
        """Environment steps taken."""
        return self._run.step

    def should_stop(self) -> bool:
        """Tells whether to stop before the next update; the same in all processes."""
        if self._agree(_STOP if self._run.stopped else _GO_ON) == _STOP:
            self._run.stopped = True
        return self._run.should_stop()

    def advance(self, steps: int) -> None:
        """Counts an update that used `steps` environment steps."""
        self._run.advance(steps)

    def parts(self) -> dict[str, Any]:
        """Returns to the first process, which alone may ask, what all need to go on.

        Raises:
            TeamError: If the networks are not the same to the bit.
        """
        if self._run.team.alone:
            return self._part()
        self._say(_HAND_IN)
        handed_in = self._hand_in()
        for rank, (found, _) in enumerate(handed_in):
            if found != handed_in[0][0]:
                raise TeamError(f"process {rank} has other weights than process 0; train on devices of one kind.")
        return {"processes": [part for _, part in handed_in]}

    def dismiss(self) -> None:
        """Tells the other processes that the run has ended."""
        self._say(_GO_ON if self._run.finished else _STOP)

    def serve(self) -> None:
        """Serves the first process until it has ended the run."""
        self._run.finished = self._agree(_GO_ON) == _GO_ON

    def _agree(self, word: int) -> int:
        while (heard := self._say(word)) == _HAND_IN:
            self._hand_in()
        return heard

    def _say(self, word: int) -> int:
        """Returns the weightiest word that a process says."""
        return int(self._run.team.largest(word))

    def _hand_in(self) -> list[tuple[str, dict[str, Any]]]:
        return self._run.team.gather((checksum(self._networks), self._part()))


def _own_part(resumed: Mapping[str, Any], team: Team) -> Mapping[str, Any]:
    """Returns what this process alone needs to go on.

    Raises:
        ValueError: If it was stored by another number of processes.
    """
    parts: Sequence[Mapping[str, Any]] = resumed.get("processes", [resumed])
    if len(parts) != team.size:
        raise ValueError(f"a run resumes in as many processes as began it, {len(parts)}, not {team.size}.")
    return parts[team.rank]

"""A run of a double oracle: its solver, its checkpoints, and what it stores in the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from bargain_env.spec import GameSpec
from bargain_eval.metagame.solvers import solve
from bargain_eval.policy import Policy

from bargain_train.config import OracleConfig
from bargain_train.evaluation import Evaluator, conduct
from bargain_train.jobs import Jobs
from bargain_train.networks import Network
from bargain_train.oracle import DoubleOracle, Measure, Metrics, Profile, Respond, Simulate, Solve
from bargain_train.policies import SeatNetworks, read_network, stored_network
from bargain_train.population import Cell, Member, Mixtures, Populations
from bargain_train.population_jobs import walks
from bargain_train.run import Run


def lead(
    config: OracleConfig,
    run: Run,
    jobs: Jobs,
    initial: tuple[Network, Network],
    respond: Respond,
    simulate: Simulate,
    measure: Measure | None,
    more: Callable[[Populations], Metrics] = lambda populations: {},
) -> Policy:
    """Leads a double oracle from the start, or where it was, to its end; returns the policy that it stores.

    Args:
        config: Its settings.
        run: The run.
        jobs: Whose finished jobs are forgotten once a checkpoint holds them.
        initial: The first member of each seat.
        respond: Makes responses.
        simulate: Plays pairs.
        measure: Measures NashConv, if the game is small.
        more: Metrics of each iteration's populations, beside those that all have.
    """
    first, second = ((Member(0, network.requires_grad_(False)),) for network in initial)
    populations, best = Populations((first, second)), None
    if run.resumed is not None:
        populations, best = read_state(run.resumed["oracle"], config.spec(), run.device)
    oracle = DoubleOracle(
        run,
        populations,
        respond=respond,
        simulate=simulate,
        solve=make_solve(config),
        max_policies=config.max_policies,
        measure=measure,
        best=best,
    )

    def updates() -> Iterator[Metrics]:
        for metrics in oracle.iterations():
            yield metrics | more(oracle.populations)
            if not run.unsaved:
                jobs.forget()

    def current() -> SeatNetworks:
        populations = oracle.populations
        if not len(populations.weights[0]):
            return populations.members[0][0].network, populations.members[1][0].network
        return seat_networks(populations.mixtures())

    def kept() -> SeatNetworks:
        if config.keep == "last" or oracle.best is None:
            return current()
        return seat_networks(oracle.best.mixtures)

    def state() -> dict[str, Any]:
        return {"oracle": write_state(oracle.populations, oracle.best)}

    policy = conduct(run, updates(), current, state, Evaluator(run), best=kept, from_jobs=True)
    if run.finished:
        jobs.forget()
    return policy


def make_solve(config: OracleConfig) -> Solve:
    """Returns the solver of `config`; the Nash bargaining solution disagrees by walking at once."""
    if config.nash_solver != "nbs":
        return partial(solve, solver=config.nash_solver)
    return partial(solve, solver="nbs", disagreement=tuple(walks(config).payoff.mean(axis=0).tolist()))


def seat_networks(mixtures: Mixtures) -> SeatNetworks:
    """Returns the networks of each seat with their weights."""
    first, second = ([(member.network, weight) for member, weight in seat] for seat in mixtures)
    return first, second


def write_state(populations: Populations, best: Profile | None) -> dict[str, Any]:
    """Returns populations and the best solution as plain values and tensors."""
    return {
        "members": [[_stored(member) for member in members] for members in populations.members],
        "cells": [(*numbers, dict(cell._asdict())) for numbers, cell in populations.cells.items()],
        "weights": [weights.tolist() for weights in populations.weights],
        "regret": populations.regret,
        "best": None
        if best is None
        else dataclasses.asdict(dataclasses.replace(best, mixtures=([], [])))
        | {"mixtures": [[(_stored(member), weight) for member, weight in seat] for seat in best.mixtures]},
    }


def read_state(state: Mapping[str, Any], spec: GameSpec, device: str) -> tuple[Populations, Profile | None]:
    """Returns what `write_state` wrote."""
    networks: dict[tuple[int, int], Network] = {}

    def member(seat: int, stored: Mapping[str, Any]) -> Member:
        key = seat, stored["number"]
        if key not in networks:
            networks[key] = read_network(stored["network"], spec).to(device).requires_grad_(False)
        return Member(stored["number"], networks[key])

    first, second = (tuple(member(seat, stored) for stored in group) for seat, group in enumerate(state["members"]))
    weights = [np.array(weights, dtype=np.float64) for weights in state["weights"]]
    populations = Populations(
        (first, second),
        {(a, b): Cell(**fields) for a, b, fields in state["cells"]},
        (weights[0], weights[1]),
        tuple(state["regret"]),
    )
    if (stored := state["best"]) is None:
        return populations, None
    mixtures = [[(member(seat, one), weight) for one, weight in group] for seat, group in enumerate(stored["mixtures"])]
    return populations, Profile((mixtures[0], mixtures[1]), stored["gap"], stored["total"])


def _stored(member: Member) -> dict[str, Any]:
    return {"number": member.number, "network": stored_network(member.network)}

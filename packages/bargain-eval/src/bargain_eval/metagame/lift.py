"""What a policy brings to those already there: to each partner, and to the equilibrium of all.

Legend: `N` policies, the same in both seats; `payoffs [N, N, 2]`, row = seat 0. The seats are not interchangeable, so
every quantity exists once per seat; `BySeat.average` is the symmetrised view.

B is the set of policies that are there before, sigma_B its solution (mass 0 on all others).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bargain_eval.metagame.analysis import BySeat, CellMeasure, policy_values, welfare
from bargain_eval.metagame.solution import Solution


def partner_lift(payoffs: NDArray[np.float64], base: Solution, partner: int) -> BySeat:
    """Returns `PL(i; j | B) = u(i, j) - sum over k of sigma_B(k) u(i, k)` for every policy i and one partner j.

    `row[i]` is what i in seat 0 gains when j replaces the mixture that seat 1 plays in `base`; `column[i]` is the same
    with i in seat 1 and j in seat 0.
    """
    usual = policy_values(payoffs, base)
    return BySeat(payoffs[:, partner, 0] - usual.row, payoffs[partner, :, 1] - usual.column)


def summarise_partner_lift(lift: BySeat, base: Solution, members: NDArray[np.int64]) -> dict[str, tuple[float, float]]:
    """Returns the uniform mean, the mean weighted by sigma_B, the least and the largest lift over the `members` of B.

    Each is a pair of numbers, one per seat of the policies that are lifted. The least and the largest show whether a
    partner is good for all or for one.
    """
    row, column = lift.row[members], lift.column[members]
    row_mass, column_mass = base.row[members], base.column[members]
    return {
        "mean": (float(row.mean()), float(column.mean())),
        "weighted": (float(row_mass @ row / row_mass.sum()), float(column_mass @ column / column_mass.sum())),
        "min": (float(row.min()), float(column.min())),
        "max": (float(row.max()), float(column.max())),
    }


@dataclasses.dataclass(frozen=True)
class EcosystemLift:
    """How the equilibrium moves when a policy enters.

    Attributes:
        welfare: W(B + j) - W(B) for each measure, each at its own equilibrium.
        entry_mass: The entrant's probability in seat 0 and in seat 1 afterwards.
        shift: L1 distance of the mixtures before and after, per seat, the entrant's coordinate included: twice the
            entry mass if the incumbents only make room in proportion.
        incumbent_shift: `[N]` per seat, the change of each incumbent's payoff against the other seat's mixture; NaN for
            the entrant.
    """

    welfare: dict[str, float]
    entry_mass: tuple[float, float]
    shift: tuple[float, float]
    incumbent_shift: BySeat


def ecosystem_lift(
    payoffs: NDArray[np.float64],
    measures: Mapping[str, CellMeasure],
    before: Solution,
    after: Solution,
    entrant: int,
) -> EcosystemLift:
    """Returns what the entry of one policy does.

    Args:
        payoffs: `[N, N, 2]` of all policies.
        measures: Their welfare measures.
        before: The solution without the entrant, in all policies' numbering (see `analysis.leave_one_out`).
        after: The solution with it.
        entrant: Its index.
    """
    reached, was = welfare(measures, after.joint), welfare(measures, before.joint)
    values, were = policy_values(payoffs, after), policy_values(payoffs, before)
    shifts = BySeat(values.row - were.row, values.column - were.column)
    for shift in shifts:
        shift[entrant] = np.nan
    return EcosystemLift(
        welfare={name: reached[name] - was[name] for name in reached},
        entry_mass=(float(after.row[entrant]), float(after.column[entrant])),
        shift=(float(np.abs(after.row - before.row).sum()), float(np.abs(after.column - before.column).sum())),
        incumbent_shift=shifts,
    )

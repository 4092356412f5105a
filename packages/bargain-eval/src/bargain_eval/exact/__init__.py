"""Exact evaluation: small games as tables, and certified intervals for the best responses of large ones."""

from __future__ import annotations

from bargain_eval.exact.bounds import WelfareBounds, welfare_bounds
from bargain_eval.exact.certified import Budget, Certificate, SeatBounds, certify
from bargain_eval.exact.cfr import CFRState, cfr, cfr_iteration, cfr_start, regret_matching
from bargain_eval.exact.fictitious_play import xfp
from bargain_eval.exact.game import TabularGame, tabular_game
from bargain_eval.exact.mmd import inverse_root, mmd, mmd_step
from bargain_eval.exact.profile import (
    mean_plan,
    mix_strategies,
    plan_strategy,
    policy_profile,
    policy_strategy,
    uniform_profile,
    uniform_strategy,
)
from bargain_eval.exact.solve import SOLVERS
from bargain_eval.exact.tabular_policy import TabularPolicy, load_profile, save_profile
from bargain_eval.exact.values import (
    Evaluation,
    Flow,
    Plan,
    Profile,
    Strategy,
    action_values,
    agreement_rate,
    best_response,
    best_response_values,
    evaluate,
    flow,
    nash_conv,
    realisation,
    regret_by_outside,
    type_values,
)

__all__ = [
    "SOLVERS",
    "Budget",
    "CFRState",
    "Certificate",
    "Evaluation",
    "Flow",
    "Plan",
    "Profile",
    "SeatBounds",
    "Strategy",
    "TabularGame",
    "TabularPolicy",
    "WelfareBounds",
    "action_values",
    "agreement_rate",
    "best_response",
    "best_response_values",
    "certify",
    "cfr",
    "cfr_iteration",
    "cfr_start",
    "evaluate",
    "flow",
    "inverse_root",
    "load_profile",
    "mean_plan",
    "mix_strategies",
    "mmd",
    "mmd_step",
    "nash_conv",
    "plan_strategy",
    "policy_profile",
    "policy_strategy",
    "realisation",
    "regret_by_outside",
    "regret_matching",
    "save_profile",
    "tabular_game",
    "type_values",
    "uniform_profile",
    "uniform_strategy",
    "welfare_bounds",
    "xfp",
]

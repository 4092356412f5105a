"""Policies of the bargaining game, and how they are measured and stored.

The public names load their modules when they are first used; none of them imports torch by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bargain_eval.arena import play, play_paired
    from bargain_eval.baselines import AlwaysWalkPolicy, FairSplitPolicy, GreedyPolicy, RandomPolicy
    from bargain_eval.crossplay import Crossplay, read_crossplay
    from bargain_eval.equilibria import TioliPolicy, TioliSecondPolicy
    from bargain_eval.evaluate import evaluate_policy
    from bargain_eval.game_rows import GameRows, PairedRows
    from bargain_eval.heuristics import AspirationPolicy, MyopicPolicy, SoftPolicy, ToughPolicy
    from bargain_eval.llm.policy import OpenAIPolicy
    from bargain_eval.mixture import Mixture
    from bargain_eval.policy import Policy, PolicyRequest
    from bargain_eval.pretrained import PretrainedPolicy
    from bargain_eval.registry import load_policy, policy_names
    from bargain_eval.results import ResultsManager

__version__ = "0.1.0"

__all__ = [
    "AlwaysWalkPolicy",
    "AspirationPolicy",
    "Crossplay",
    "FairSplitPolicy",
    "GameRows",
    "GreedyPolicy",
    "Mixture",
    "MyopicPolicy",
    "OpenAIPolicy",
    "PairedRows",
    "Policy",
    "PolicyRequest",
    "PretrainedPolicy",
    "RandomPolicy",
    "ResultsManager",
    "SoftPolicy",
    "TioliPolicy",
    "TioliSecondPolicy",
    "ToughPolicy",
    "evaluate_policy",
    "load_policy",
    "play",
    "play_paired",
    "policy_names",
    "read_crossplay",
]

_MODULES = {
    "arena": ("play", "play_paired"),
    "baselines": ("AlwaysWalkPolicy", "FairSplitPolicy", "GreedyPolicy", "RandomPolicy"),
    "crossplay": ("Crossplay", "read_crossplay"),
    "equilibria": ("TioliPolicy", "TioliSecondPolicy"),
    "evaluate": ("evaluate_policy",),
    "game_rows": ("GameRows", "PairedRows"),
    "heuristics": ("AspirationPolicy", "MyopicPolicy", "SoftPolicy", "ToughPolicy"),
    "llm.policy": ("OpenAIPolicy",),
    "mixture": ("Mixture",),
    "policy": ("Policy", "PolicyRequest"),
    "pretrained": ("PretrainedPolicy",),
    "registry": ("load_policy", "policy_names"),
    "results": ("ResultsManager",),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)

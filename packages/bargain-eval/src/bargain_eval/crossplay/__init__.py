"""Cross-play: every policy against every policy, in both seats, on the same deals."""

from bargain_eval.crossplay.dry_run import ModelEstimate, estimate_calls
from bargain_eval.crossplay.jobs import CrossplayFailed
from bargain_eval.crossplay.matrix import Crossplay, read_crossplay
from bargain_eval.crossplay.plan import CallOptions, make_plan
from bargain_eval.crossplay.run import crossplay

__all__ = [
    "CallOptions",
    "Crossplay",
    "CrossplayFailed",
    "ModelEstimate",
    "crossplay",
    "estimate_calls",
    "make_plan",
    "read_crossplay",
]

"""Cross-play: every policy against every policy, in both seats, on the same deals."""

from bargain_eval.crossplay.jobs import CrossplayFailed
from bargain_eval.crossplay.matrix import Crossplay, read_crossplay
from bargain_eval.crossplay.run import crossplay

__all__ = ["Crossplay", "CrossplayFailed", "crossplay", "read_crossplay"]

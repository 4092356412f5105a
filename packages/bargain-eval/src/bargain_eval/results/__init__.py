"""Stored runs: one folder a run, an index over them, leaderboard and export."""

from bargain_eval.results.record import RunRecord
from bargain_eval.results.store import ResultsManager
from bargain_eval.results.views import DEFAULT_METRIC, Leaderboard, metric_value, nash_conv_text

__all__ = ["DEFAULT_METRIC", "Leaderboard", "ResultsManager", "RunRecord", "metric_value", "nash_conv_text"]

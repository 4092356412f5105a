"""Search at test time: IS-MCTS for many games at once, against a model of the other seat and its hand."""

from __future__ import annotations

from bargain_train.search.beliefs import BeliefOptions
from bargain_train.search.policy import SearchOptions, SearchPolicy
from bargain_train.search.selection import SelectionOptions

__all__ = ["BeliefOptions", "SearchOptions", "SearchPolicy", "SelectionOptions"]

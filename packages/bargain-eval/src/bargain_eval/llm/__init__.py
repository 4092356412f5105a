"""The game in words: what a player is told, and what its replies mean. For language models and for people."""

from __future__ import annotations

from bargain_eval.llm.prompt import PlayerView, describe_state, reply_format, rules
from bargain_eval.llm.reply import Reply, read_reply

__all__ = ["PlayerView", "Reply", "describe_state", "read_reply", "reply_format", "rules"]

"""The game in words: what a player is told, and what its replies mean. For language models and for people."""

from __future__ import annotations

from bargain_eval.llm.prompt import Prompt, load_prompt
from bargain_eval.llm.reply import Reply, read_reply, reply_schema
from bargain_eval.llm.view import PlayerView

__all__ = ["PlayerView", "Prompt", "Reply", "load_prompt", "read_reply", "reply_schema"]

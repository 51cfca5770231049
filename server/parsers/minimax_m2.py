"""MiniMax M2: `<minimax:tool_call><invoke name="NAME"><parameter name="KEY">value</parameter></invoke>…`."""

from __future__ import annotations

from .base import ToolFormat
from .invoke import InvokeTags, invoke_grammar

OPEN, CLOSE = "<minimax:tool_call>", "</minimax:tool_call>"
_TAGS = InvokeTags(prefixes=[""], envelopes=["minimax:tool_call"], trims=True)

FORMAT = ToolFormat(
    name="minimax_m2",
    grammar=invoke_grammar(_TAGS, bare_invoke=False),
    is_written_by=lambda template: OPEN in template,
    openers=[OPEN],
    markers=[OPEN, CLOSE, *_TAGS.invoke_closes, *_TAGS.parameter_closes],
)

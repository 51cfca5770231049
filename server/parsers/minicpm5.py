"""MiniCPM5: `<function name="NAME"><param name="KEY">value</param></function>`, one after another.

A value with `<`, `&` or line breaks in it stands in a CDATA block.
"""

from __future__ import annotations

from .base import ToolFormat
from .invoke import InvokeTags, invoke_grammar

_TAGS = InvokeTags(
    prefixes=[""],
    envelopes=[],
    invoke="function",
    invoke_open="function name",
    parameter="param",
    quotes=("<![CDATA[", "]]>"),
)

FORMAT = ToolFormat(
    name="minicpm5",
    grammar=invoke_grammar(_TAGS, bare_invoke=True),
    is_written_by=lambda template: '<function name="' in template and '<param name="' in template,
    openers=_TAGS.invokes,
    markers=[*_TAGS.invokes, *_TAGS.invoke_closes],
)

"""Muse Spark: `<atem:function_calls><atem:invoke name="NAME"><atem:parameter name="KEY">value</atem:parameter>…`."""

from __future__ import annotations

from .base import ToolFormat
from .invoke import InvokeTags, invoke_grammar

_TAGS = InvokeTags(prefixes=["atem:"], envelopes=["function_calls"], untyped_is_string=False)

FORMAT = ToolFormat(
    name="muse_spark",
    grammar=invoke_grammar(_TAGS, bare_invoke=True),
    is_written_by=lambda template: _TAGS.envelope_opens[0] in template,
    openers=[*_TAGS.envelope_opens, *_TAGS.invokes],
    markers=_TAGS.markers,
)

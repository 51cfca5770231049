"""LongCat: GLM's form of calls under tags of its own, or JSON between the outer ones."""

from __future__ import annotations

from .base import ToolFormat
from .glm import KeyValueTags, key_value_grammar

TAGS = KeyValueTags("longcat_tool_call", "longcat_arg_key", "longcat_arg_value")

FORMAT = ToolFormat(
    name="longcat",
    grammar=key_value_grammar(TAGS),
    is_written_by=lambda template: TAGS.open in template,
    openers=[TAGS.open],
    markers=[TAGS.open, TAGS.close, TAGS.key_open, TAGS.value_open, *TAGS.ends],
)

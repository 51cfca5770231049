"""DeepSeek's DSML: V3.2 in an envelope `function_calls`, V4 in `tool_calls`.

Each tag has a bar on both sides of its prefix, full-width as a rule, plain ASCII from some quantized models:
`<|DSML|invoke name="NAME"><|DSML|parameter name="KEY" string="true">value</|DSML|parameter>`. `string` says
whether the value is text as it stands or JSON.
"""

from __future__ import annotations

from .base import ToolFormat
from .invoke import InvokeTags, invoke_grammar

_WIDE = "\uff5c"
_PREFIXES = [f"{_WIDE}DSML{_WIDE}", "|DSML|"]
# V4 in 4 to 6 bits leaves out the last token of a call's closing tag: https://github.com/ml-explore/mlx-lm/pull/1760
# V4-0731 misspells the envelope at times: https://github.com/vllm-project/vllm/issues/51914
_TAGS = InvokeTags(prefixes=_PREFIXES, envelopes=["function_calls", "tool_calls", "toolcalls"], short_invokes=["inv"])

FORMAT = ToolFormat(
    name="dsml",
    grammar=invoke_grammar(_TAGS, bare_invoke=True),
    is_written_by=lambda template: "DSML" in template,
    openers=[*_TAGS.envelope_opens, *_TAGS.invokes],
    markers=[*_TAGS.markers, *_PREFIXES],
)

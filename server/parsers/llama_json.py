"""Llama 3: `{"name": …, "parameters": {…}}` as the whole answer, sometimes after `<|python_tag|>`.

Nothing marks the call, so only an object that names a tool of the request is one.
"""

from __future__ import annotations

from .base import Reader, ToolFormat
from .json_calls import json_call
from .source import Reading

TAG = "<|python_tag|>"


def grammar(reader: Reader) -> Reading[None]:
    yield from _calls(reader)
    while (yield from reader.prose.until([TAG])):
        yield from _calls(reader)


def _calls(reader: Reader) -> Reading[None]:
    source = reader.source
    while True:
        source.record()
        yield from source.skip_space()
        yield from source.accept(TAG, ";")
        yield from source.skip_space()
        is_call = (yield from source.peek()) == "{" and (yield from json_call(reader, [TAG], only_known=True))
        unread = source.recorded()
        if not is_call:
            reader.prose.text(unread.replace(TAG, ""))
            return


FORMAT = ToolFormat(
    name="llama_json",
    grammar=grammar,
    is_written_by=lambda template: TAG in template or '"parameters": dictionary of argument name' in template,
    openers=[TAG],
    markers=[TAG],
)

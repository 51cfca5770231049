"""gpt-oss: an answer is messages on channels.

`<|channel|>analysis<|message|>…<|end|>` is thinking, `final` and a `commentary` to nobody are text, and one
`to=functions.NAME` is a call whose arguments are the message. The prompt ends with `<|start|>assistant`, so
the answer begins inside a header. The last message's end mark is a stop token and may be missing.
"""

from __future__ import annotations

import re

from .base import Reader, ToolFormat
from .json_text import json_value
from .source import Reading

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
CONSTRAIN = "<|constrain|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
_BODY_ENDS = [*ENDS, START, CHANNEL]
_ALL = [START, CHANNEL, MESSAGE, CONSTRAIN, *ENDS]
_RECIPIENT = re.compile(r"to=(\S+)")
_ROLES = ("assistant", "user", "system", "developer", "tool")


def grammar(reader: Reader) -> Reading[None]:
    source = reader.source
    marker = CHANNEL
    has_text = False
    if not (yield from _begins_with_header(reader)):
        marker = ENDS[0]
        has_text = yield from _text(reader, has_text)
    while marker and not (source.is_ended and not source.buffer):
        header, marker = yield from _header(reader)
        if marker != MESSAGE:
            reader.prose.text(header if _is_prose(header) else "")
            continue
        recipient = _RECIPIENT.search(header)
        name = recipient[1].removeprefix("functions.") if recipient else ""
        if name != (recipient and recipient[1]) and reader.is_name(name):
            yield from _call(reader, name)
        elif "analysis" in header or recipient:
            yield from source.until(_BODY_ENDS, reader.prose.reason)
            reader.prose.end_stretch()
        else:
            has_text = yield from _text(reader, has_text)


def _begins_with_header(reader: Reader) -> Reading[bool]:
    """An answer that starts with anything else is text: the template is not this format's, or the model strays."""
    words = [*_ALL, " to=", "to="]
    found = yield from reader.source.accept(*words)
    reader.source.unread(found)
    return bool(found)


def _header(reader: Reader) -> Reading[tuple[str, str]]:
    """A header's words, and the mark that ended it: `MESSAGE`, unless it is none."""
    words: list[str] = []
    has_prose = False
    while True:
        text, marker = yield from reader.source.text_until(_ALL)
        if text:
            words.append(text)
            has_prose |= _is_prose(text)
        if marker in (MESSAGE, "") or (marker in ENDS and has_prose):
            return " ".join(words), marker


def _is_prose(header: str) -> bool:
    words = header.split()
    known = ("analysis", "final", "commentary", "json", *_ROLES)
    return bool(words) and not any(word in known or word.startswith(("to=", "functions.")) for word in words)


def _text(reader: Reader, has_text: bool) -> Reading[bool]:
    if has_text:
        reader.prose.text("\n\n")
    yield from reader.source.until([*_BODY_ENDS, MESSAGE, CONSTRAIN], reader.prose.text)
    return True


def _call(reader: Reader, name: str) -> Reading[None]:
    source = reader.source
    reader.calls.begin(name)
    yield from source.skip_space()
    if (yield from source.peek()) == "{":
        if not (yield from json_value(source, reader.calls.write, _BODY_ENDS)):
            reader.report("a call's JSON is cut short")
        yield from source.until(_BODY_ENDS, lambda _: None)
    else:
        text, _ = yield from source.text_until(_BODY_ENDS)
        reader.calls.write(text.strip())
    reader.calls.end()


FORMAT = ToolFormat(
    name="harmony",
    grammar=grammar,
    is_written_by=lambda template: CHANNEL in template and MESSAGE in template,
    openers=[CHANNEL],
    markers=_ALL,
    needs_tools=False,
)

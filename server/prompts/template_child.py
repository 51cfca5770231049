"""The process of a chat template: it tries the template out, then renders what its parent asks for.

Messages come behind their length: the template in, and what it can do out; then each conversation in, and its texts
out. All is JSON but a text, which stands behind a `TEXT`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from math import ceil
from time import process_time
from typing import Any

from ..errors import InvalidRequest, UnsupportedModel
from ..stop_signals import STOP_SIGNALS
from .chat_template import ChatTemplate, Conversation, Wanted
from .template_traits import probe

TRIAL_SECONDS = 2
RENDERING_SECONDS = 30
"""Of computing, for all texts of a conversation. Some templates go through all messages for each: a thousand then take
seconds."""
MEMORY_BYTES = 512 << 20
COPIES = 16
"""So much memory besides for each byte of a conversation: its JSON, its values, its texts, and theirs again."""
_TEXT_CHARACTERS, _TEXT_COPIES = 4 << 20, 4
"""A text may be so long, which is more than any window, and so much longer for each byte of its conversation. The
parent has to hold several, and looks into them while others wait."""
LENGTH_BYTES = 8
READ_BYTES = 1 << 20
TEXT = b"T"
OUT_OF_MEMORY = 3
_ORPHANED = 4
_LOOK_SECONDS = 0.1
_QUESTIONS, _ANSWERS = 0, 1
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class _Bounds:
    """What the next answer may take. The memory's only ever grow: what was once asked for may still be held."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._at_start = _peak_bytes()  # Linux counts in what its parent had
        self._num_bytes = 0
        signal.signal(signal.SIGALRM, lambda *_: self._look())

    def allow(self, seconds: int, num_bytes: int) -> None:
        self._num_bytes = max(self._num_bytes, num_bytes)
        _limit(resource.RLIMIT_CPU, ceil(process_time()) + seconds)
        _limit(resource.RLIMIT_AS, self._num_bytes)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_SECONDS, _LOOK_SECONDS)

    def rest(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _look(self) -> None:
        """macOS knows no limit of a process's memory; and who has lost its parent computes for nobody. Python looks
        between two steps alone: for one that takes everything, the parent looks."""
        if _peak_bytes() - self._at_start > self._num_bytes:
            os._exit(OUT_OF_MEMORY)
        if os.getppid() != self._parent:
            os._exit(_ORPHANED)


def main() -> None:
    try:
        _serve()
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)


def _serve() -> None:
    for number in STOP_SIGNALS:  # they reach all that belongs to a server, which ends this one
        signal.signal(number, signal.SIG_IGN)
    _limit(resource.RLIMIT_CORE, 0)
    bounds = _Bounds()
    task = json.loads(_hear(_num_bytes()))
    bounds.allow(TRIAL_SECONDS, MEMORY_BYTES)  # what the start took is not the template's
    try:
        template = ChatTemplate(task["source"], task["tokens"])
        _tell({"traits": asdict(probe(template)), "variables": sorted(template.variables)})
    except (InvalidRequest, UnsupportedModel) as error:
        _tell({"error": str(error)})
        return
    bounds.rest()
    while True:
        num_bytes = _num_bytes()
        bounds.allow(RENDERING_SECONDS, MEMORY_BYTES + COPIES * num_bytes)
        _render(template, num_bytes)
        bounds.rest()


def _render(template: ChatTemplate, num_bytes: int) -> None:
    max_characters = _TEXT_CHARACTERS + _TEXT_COPIES * num_bytes
    *conversation, wanted = json.loads(_hear(num_bytes))
    texts = template.renderings(Conversation(*conversation), [Wanted(*one) for one in wanted], lambda: True)
    for rendered in texts:
        if isinstance(rendered, str) and len(rendered) > max_characters:
            rendered = UnsupportedModel(f"the chat template writes {len(rendered)} characters of this conversation")
        if isinstance(rendered, str):
            _write(TEXT + rendered.encode(errors="surrogatepass"))
        elif isinstance(rendered, int):
            _tell({"common": rendered})
        elif isinstance(rendered, InvalidRequest):
            _tell({"refusal": str(rendered), "param": rendered.param})
        else:
            _tell({"error": str(rendered)})


def as_json(value: object) -> bytes:
    """Half a character may be anywhere in it."""
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def _tell(answer: dict[str, Any]) -> None:
    _write(as_json(answer))


def _write(payload: bytes) -> None:
    """Behind its length. Not through a file object: one that signals interrupt loses what it has in its buffer."""
    for unwritten in (memoryview(len(payload).to_bytes(LENGTH_BYTES)), memoryview(payload)):
        while unwritten:
            unwritten = unwritten[os.write(_ANSWERS, unwritten) :]


def _num_bytes() -> int:
    """Of the next message. The process ends where the parent has gone."""
    return int.from_bytes(_hear(LENGTH_BYTES))


def _hear(num_bytes: int) -> bytes:
    pieces = list[bytes]()
    while num_bytes:
        pieces.append(os.read(_QUESTIONS, min(num_bytes, READ_BYTES)))
        if not pieces[-1]:
            sys.exit()
        num_bytes -= len(pieces[-1])
    return b"".join(pieces)


def _limit(what: int, value: int) -> None:
    with suppress(ValueError, OSError):  # not every system knows every limit
        resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_BYTES


if __name__ == "__main__":
    main()

"""A chat template rendered in processes of its own, which may neither compute long nor take much memory.

Templates come with the weights. The sandbox stops what reaches out of them; loops without an end, and texts doubled
until the memory is gone, only a limit of the system's can stop, and a process that may be lost.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from threading import Condition
from time import monotonic
from typing import Any

from ..errors import InvalidRequest, OmlxError, Overloaded, UnsupportedModel
from ..stop_signals import held_back
from .chat_template import Conversation, Rendered, Wanted
from .template_child import (
    COPIES,
    LENGTH_BYTES,
    MEMORY_BYTES,
    OUT_OF_MEMORY,
    READ_BYTES,
    RENDERING_SECONDS,
    TEXT,
    TRIAL_SECONDS,
    as_json,
)
from .template_traits import TemplateTraits

logger = logging.getLogger(__name__)

_COMMAND = (sys.executable, "-P", "-m", "omlx.server.prompts.template_child")
_MAX_PROCESSES = 4
"""Of one template. The second is started only where the first has had no time for a while."""
_LOOK_SECONDS = 0.25
_WATCHES_MEMORY = sys.platform == "darwin"
"""The system knows no limit of a process's memory."""
_PATIENCE_S = 300.0
"""Of the clock, for a machine with other things to do."""
_REMEDY = "use a model with a template of its makers, or put a sound chat_template.jinja into its folder"


class RenderingGivenUp(Exception):
    """Nobody waits for the text any more."""


class TemplateProcess:
    """A chat template (see `Template`), and what it can do. Safe to share between threads.

    Raises `UnsupportedModel` where the template renders small conversations not at all, or not within the limits, and
    `Overloaded` where the system gives it no process, or takes that away.
    """

    def __init__(self, source: str, tokens: Mapping[str, str]) -> None:
        self.source = source
        self._task = {"source": source, "tokens": dict(tokens)}
        self._idle: list[_Child] = []
        self._num_busy = 0
        self._free = Condition()
        weakref.finalize(self, _end_all, self._idle)
        child, can = self._started()
        self._idle.append(child)
        self.variables = frozenset[str](can["variables"])
        self.traits = TemplateTraits(**can["traits"])

    def renderings(
        self, conversation: Conversation, wanted: Sequence[Wanted], go_on: Callable[[], bool]
    ) -> Iterator[Rendered]:
        """See `Template`. Where the template has computed for `RENDERING_SECONDS`, an error takes the place of each
        text that is left. Raises `RenderingGivenUp`, and `Overloaded` where the system gives it no process."""
        child = self._take(go_on)
        try:
            question = [getattr(conversation, each.name) for each in fields(Conversation)]
            child.send([*question, [*map(astuple, wanted)]], go_on)
            for index in range(len(wanted)):
                answer = child.receive(go_on)
                if answer is None:
                    error = _lost(child.end(), len(conversation.messages))
                    logger.warning("a rendering ended: %s", error)
                    yield from [error] * (len(wanted) - index)
                    return
                yield answer if isinstance(answer, str) else _rendered(answer)
        except BaseException:
            child.end()
            raise
        finally:
            self._give(child)

    def _take(self, go_on: Callable[[], bool]) -> _Child:
        with self._free:
            while not self._idle and self._num_busy:
                if not go_on():
                    raise RenderingGivenUp
                if not self._free.wait(_LOOK_SECONDS) and self._num_busy < _MAX_PROCESSES:
                    break
            self._num_busy += 1
            child = self._idle.pop() if self._idle else None
        if child is not None:
            if child.is_alive:
                return child
            child.end()
        try:
            return self._started()[0]
        except BaseException:
            self._give(None)
            raise

    def _give(self, child: _Child | None) -> None:
        with self._free:
            self._num_busy -= 1
            if child is not None and child.is_alive and not self._idle:
                self._idle.append(child)
                child = None
            self._free.notify()
        if child is not None:
            child.end()

    def _started(self) -> tuple[_Child, Mapping[str, Any]]:
        """A process that has tried the template out, and what the template can do."""
        try:
            child = _Child()
        except OSError as error:
            raise Overloaded(f"the system gives the chat template no process ({error}); try again shortly") from error
        child.send(self._task)
        can = child.receive()
        assert not isinstance(can, str)
        if can is not None and "error" not in can:
            return child, can
        status = child.end()
        raise _refused(status) if can is None else UnsupportedModel(can["error"])


class _Child:
    """One process. Reads and writes block; whoever holds it is alone with it."""

    def __init__(self) -> None:
        with held_back():
            self._process = subprocess.Popen(
                _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        self._max_bytes = 0
        self._is_too_large = False

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, question: object, go_on: Callable[[], bool] = lambda: True) -> None:
        """Where the process has gone, or takes nothing, `receive` says so. Raises `RenderingGivenUp`."""
        payload = as_json(question)
        self._max_bytes = max(self._max_bytes, MEMORY_BYTES + COPIES * len(payload))
        for unwritten in (memoryview(len(payload).to_bytes(LENGTH_BYTES)), memoryview(payload)):
            while unwritten:
                if not self._wait(self._to, select.POLLOUT, go_on):
                    self._process.kill()
                    return
                try:
                    unwritten = unwritten[os.write(self._to, unwritten) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    return

    def receive(self, go_on: Callable[[], bool] = lambda: True) -> Mapping[str, Any] | str | None:
        """The next answer or text; None where the process has ended instead, or does not come to an end. Raises
        `RenderingGivenUp`."""
        length = self._read(LENGTH_BYTES, go_on)
        payload = self._read(int.from_bytes(length), go_on) if length else None
        if not payload:
            return None
        if payload.startswith(TEXT):
            return payload[len(TEXT) :].decode(errors="surrogatepass")
        return json.loads(payload)

    def _read(self, num_bytes: int, go_on: Callable[[], bool]) -> bytes | None:
        pieces, num_left = list[bytes](), num_bytes
        while num_left:
            if not self._wait(self._from, select.POLLIN, go_on):
                return None
            pieces.append(os.read(self._from, min(num_left, READ_BYTES)))
            num_left -= len(pieces[-1])
            if not pieces[-1]:
                return None
        return b"".join(pieces)

    def _wait(self, descriptor: int, event: int, go_on: Callable[[], bool]) -> bool:
        """Whether it came to it in time. Raises `RenderingGivenUp`."""
        poll, deadline = select.poll(), monotonic() + _PATIENCE_S
        poll.register(descriptor, event)
        while not poll.poll(_LOOK_SECONDS * 1000):
            if not go_on():
                raise RenderingGivenUp
            self._is_too_large = _WATCHES_MEMORY and _resident_bytes(self._process.pid) > self._max_bytes
            if self._is_too_large or monotonic() > deadline:
                return False
        return True

    def end(self) -> int:
        """Its exit status, negative where a signal ended it, ours where it was still alive."""
        self._process.kill()
        with self._process:  # closes the pipes
            status = self._process.wait()
        return OUT_OF_MEMORY if self._is_too_large else status


def _resident_bytes(process_id: int) -> int:
    """0 where it has ended, or nobody can say."""
    try:
        listed = subprocess.run(["ps", "-o", "rss=", "-p", str(process_id)], capture_output=True, check=False)
        return int(listed.stdout or 0) * 1024
    except (OSError, ValueError):
        return 0


def _end_all(children: list[_Child]) -> None:
    for child in children:
        child.end()


def _rendered(answer: Mapping[str, Any]) -> Rendered:
    match answer:
        case {"common": num_characters}:
            return num_characters
        case {"refusal": words, "param": param}:
            return InvalidRequest(words, param)
        case {"error": words}:
            return UnsupportedModel(words)
    raise AssertionError(answer)


def _refused(status: int) -> OmlxError:
    """Why a template is not used that ended its process, with `status`, over small conversations."""
    if status == -signal.SIGKILL:
        return _killed()
    if status == OUT_OF_MEMORY:
        return UnsupportedModel(f"the chat template takes more memory than a short conversation may; {_REMEDY}")
    if status == -signal.SIGXCPU:
        return UnsupportedModel(
            f"the chat template computes for more than {TRIAL_SECONDS} s over a short conversation; {_REMEDY}"
        )
    return UnsupportedModel(f"the chat template ends its process ({status}); {_REMEDY}")


def _lost(status: int, num_messages: int) -> OmlxError:
    """Why there is no text of a process that has ended with `status` over a conversation."""
    if status == OUT_OF_MEMORY:
        return UnsupportedModel("the chat template takes more memory than there is")
    if status == -signal.SIGXCPU:
        these = "one message" if num_messages == 1 else f"these {num_messages} messages"
        return InvalidRequest(
            f"the model's chat template takes more than {RENDERING_SECONDS} s for {these}; "
            f"compact the conversation or start a new one, or {_REMEDY}",
            "messages",
        )
    if status == -signal.SIGKILL:
        return _killed()
    return UnsupportedModel(f"the chat template ends its process ({status})")


def _killed() -> Overloaded:
    """Not for what the template does: that ends with another signal."""
    return Overloaded("the chat template's process was killed; the system may have run out of memory; try again", 5)

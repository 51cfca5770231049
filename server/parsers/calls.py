"""Writes the deltas of tool calls."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable

from ..events import Delta, ToolCallDelta

_ALPHABET = string.ascii_letters + string.digits


def new_call_id() -> str:
    """`call_` and 24 letters or digits: still one of a kind in clients that take the `_` away."""
    return "call_" + "".join(secrets.choice(_ALPHABET) for _ in range(24))


class CallWriter:
    """One call at a time: `begin`, any number of `write`, `end`."""

    def __init__(self, emit: Callable[[Delta], None], new_id: Callable[[], str] = new_call_id) -> None:
        self._emit = emit
        self._new_id = new_id
        self._num_calls = 0
        self._has_arguments = False

    def begin(self, name: str) -> None:
        self._has_arguments = False
        self._emit(ToolCallDelta(self._num_calls, self._new_id(), _encodable(name)))

    def write(self, arguments: str) -> None:
        if arguments:
            self._has_arguments = True
            self._emit(ToolCallDelta(self._num_calls, arguments=_encodable(arguments)))

    def end(self) -> None:
        """A call without arguments gets the empty object."""
        if not self._has_arguments:
            self.write("{}")
        self._num_calls += 1

    def whole(self, name: str, arguments: str = "") -> None:
        self.begin(name)
        self.write(arguments)
        self.end()


def _encodable(text: str) -> str:
    """`text` without the halves of characters that an escape sequence may have left."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class ObjectWriter:
    """Builds a call's arguments from keys and values that do not come as JSON."""

    def __init__(self, calls: CallWriter) -> None:
        self._calls = calls
        self._num_keys = 0

    def key(self, name: str) -> None:
        self._calls.write(("{" if not self._num_keys else ", ") + json.dumps(name, ensure_ascii=False) + ": ")
        self._num_keys += 1

    def value(self, value: object) -> None:
        self._calls.write(json.dumps(value, ensure_ascii=False))

    def quote(self) -> None:
        """Begins or ends a string."""
        self._calls.write('"')

    def characters(self, text: str) -> None:
        """A piece of the string that `quote` began."""
        self._calls.write(json.dumps(text, ensure_ascii=False)[1:-1])

    def raw(self, text: str) -> None:
        self._calls.write(text)

    def close(self) -> None:
        self._calls.write("}" if self._num_keys else "{}")

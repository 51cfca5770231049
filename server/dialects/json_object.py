"""What a model wrote as the arguments of a call, piece by piece, as the JSON object that it had to be.

For protocols whose clients parse each piece as it comes: what is out cannot be taken back, so it is out only once it
is sure to be the beginning of an object.
"""

from __future__ import annotations

import json
import re

from .wire import MAX_DEPTH

RAW_ARGUMENTS = "raw_arguments"
"""The member that holds all of what was written, where that is no object."""

_PLAIN = re.compile(r'[^"\\\x00-\x1f]+')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_BEGUN_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_BEGUN_HALF = re.compile(r"(?:\\(?:u(?:[dD][c-fC-F]?[0-9a-fA-F]?)?)?)?")
_WORD = re.compile(r"[-+.\w]*", re.ASCII)
_SCALAR = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null", re.ASCII)
_MAX_SCALAR = 1000
"""Characters. Python reads no number of more than a few thousand."""


class _Malformed(Exception):
    pass


class ObjectText:
    """Feed it the pieces, then `finish`; what comes back, joined, is always an object's JSON, without white space.

    Of malformed text the members that were whole stand before `RAW_ARGUMENTS`. One that broke off is repeated as
    `false`, which wins, and which no text, list or object may be: half a command must not be run. Line ends inside of
    texts are escaped, and halves of characters replaced: clients' readers refuse both.
    """

    def __init__(self) -> None:
        self._written: list[str] = []
        self._unread = ""
        self._out: list[str] = []
        self._held = ""
        """A comma, a key, a colon: they stand for nothing before their value has begun."""
        self._open: list[str] = []
        self._expects = "object"
        self._in_key = False
        self._broken_off = ""
        """The key of the object's own member whose value is not whole yet."""
        self._has_members = False
        self._is_malformed = False

    def feed(self, piece: str) -> str:
        self._written.append(piece)
        if self._is_malformed:
            return ""
        self._unread += piece
        try:
            while self._step():
                pass
        except _Malformed:
            self._is_malformed = True
        return self._taken()

    def finish(self) -> str:
        written = "".join(self._written)
        if not written.strip():
            return "{}"
        if self._expects == "end" and not self._is_malformed:
            return "}"
        if not self._open:
            self._out.append("{")
        if self._expects == "text" and not self._in_key:
            self._out.append('"')
        self._out += ["}" if opener == "{" else "]" for opener in reversed(self._open[1:])]
        if self._broken_off:
            self._out.append(f",{self._broken_off}:false")
        member = f"{json.dumps(RAW_ARGUMENTS)}:{json.dumps(written, ensure_ascii=False)}}}"
        self._out.append("," + member if self._has_members else member)
        return self._taken()

    def _taken(self) -> str:
        out, self._out = "".join(self._out), []
        return out

    def _step(self) -> bool:
        """Read what comes next; False where more text has to come first."""
        if self._expects == "text":
            return self._read_text()
        self._unread = self._unread.lstrip(" \t\r\n")
        if not self._unread:
            return False
        character = self._unread[0]
        match self._expects, character:
            case "object" | "value" | "value or end", "{":
                self._begin("{", "key or end")
            case "value" | "value or end", "[":
                self._begin("[", "value or end")
            case "value" | "value or end", '"':
                self._begin_text(in_key=False)
            case "key" | "key or end", '"':
                self._begin_text(in_key=True)
            case "colon", ":":
                self._hold(":", "value")
            case "comma or end", ",":
                self._hold(",", "key" if self._open[-1] == "{" else "value")
            case "key or end" | "value or end" | "comma or end", "}" | "]":
                self._end(character)
            case "value" | "value or end", _:
                return self._read_scalar()
            case _:
                raise _Malformed
        return True

    def _begin(self, opener: str, expects: str) -> None:
        if len(self._open) == MAX_DEPTH:
            raise _Malformed
        self._write(opener, 1, expects)
        self._has_members = bool(self._open)
        self._open.append(opener)

    def _end(self, closer: str) -> None:
        if closer != ("}" if self._open[-1] == "{" else "]"):
            raise _Malformed
        if len(self._open) == 1:  # the last brace waits for `finish`: more may come, and must not
            self._hold("", "end")
            return
        self._open.pop()
        self._write(closer, 1, "comma or end")

    def _begin_text(self, in_key: bool) -> None:
        self._in_key = in_key
        if in_key:
            self._hold('"', "text")
        else:
            self._write('"', 1, "text")
            self._has_members = True

    def _read_text(self) -> bool:
        plain = _PLAIN.match(self._unread)
        if plain is not None:
            return self._go_on(plain[0], plain.end())
        if not self._unread:
            return False
        if self._unread[0] == "\\":
            return self._read_escape()
        if self._unread[0] == '"':
            if self._in_key:
                self._hold('"', "colon")
            else:
                self._write('"', 1, "comma or end")
            return True
        return self._go_on(json.dumps(self._unread[0])[1:-1], 1)

    def _read_escape(self) -> bool:
        escape = _ESCAPE.match(self._unread)
        if escape is None:
            if _BEGUN_ESCAPE.fullmatch(self._unread):
                return False
            raise _Malformed
        if not _HALF.match(self._unread):
            return self._go_on(escape[0], escape.end())
        pair = _PAIR.match(self._unread)
        if pair is not None:
            return self._go_on(pair[0], pair.end())
        if _BEGUN_HALF.fullmatch(self._unread, escape.end()):
            return False
        return self._go_on("\N{REPLACEMENT CHARACTER}", escape.end())

    def _read_scalar(self) -> bool:
        word = _WORD.match(self._unread)
        assert word is not None
        if word.end() > _MAX_SCALAR:
            raise _Malformed
        if word.end() == len(self._unread):
            return False
        if not _SCALAR.fullmatch(word[0]):
            raise _Malformed
        self._write(word[0], word.end(), "comma or end")
        self._has_members = True
        return True

    def _go_on(self, text: str, count: int) -> bool:
        """More of a text, in which `count` characters were written as `text`."""
        if self._in_key:
            self._held += text
            self._unread = self._unread[count:]
        else:
            self._write(text, count, "text")
        return True

    def _hold(self, text: str, expects: str) -> None:
        self._held += text
        self._unread = self._unread[1:]
        self._expects = expects

    def _write(self, text: str, count: int, expects: str) -> None:
        if len(self._open) == 1 and self._held:
            self._broken_off = self._held.removeprefix(",").removesuffix(":")
        self._out += [self._held, text]
        self._held = ""
        self._unread = self._unread[count:]
        self._expects = expects
        if expects == "comma or end" and len(self._open) == 1:
            self._broken_off = ""


def object_text(arguments: str) -> str:
    """The same of arguments that are all there."""
    text = ObjectText()
    return text.feed(arguments) + text.finish()

"""Shows what is about to change, with every secret masked, and asks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from .sensitive import KEY_SHAPES, SECRET_WORDS, may_be_shown

MASK = "••••"
_SHORTEST_ANYWHERE = 6
_SECRET_LINE = re.compile(
    rf"""(?P<name>["']?(?P<key>[\w.-]*(?:{"|".join(SECRET_WORDS)})[\w.-]*)\\*["']?[ \t]*[:=][ \t]*)"""
    r"""(?P<value>\\+".*?\\+"|"(?:[^"\\]|\\.)*"|'[^']*'|(?!/[/*])[^\s,"'{}\[\]#][^,}\]#\n]*)""",
    re.IGNORECASE,
)
_RED, _GREEN, _CYAN, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"


class Change(Protocol):
    """A file before and after, None where there is no file: a FileChange or a FileRestore."""

    @property
    def secrets(self) -> tuple[str, ...]: ...

    @property
    def path(self) -> Path: ...

    @property
    def before(self) -> bytes | None: ...

    @property
    def after(self) -> bytes | None: ...


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the given secrets, without what has the shape of a key, and without values that names like
    `apiKey`, `token` or `password` hold; references such as `$OMLX_API_KEY` or `{env:…}` stay."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST_ANYWHERE:
            text = text.replace(secret, MASK)
        else:  # by itself, and not as a name of something
            text = re.sub(rf"(?<![\w.-]){re.escape(secret)}(?![\w.-]|[\"']?\s*[:=])", MASK, text)
    return _SECRET_LINE.sub(_masked, KEY_SHAPES.sub(lambda found: f"{found['user'] or ''}{MASK}", text))


def _masked(found: re.Match[str]) -> str:
    value = found["value"].strip()
    if MASK in value or may_be_shown((found["key"],), value.strip("\\\"'"), is_ours=True):
        return found.group()
    quote = value[: len(value) - len(value.lstrip("\\\"'"))]
    return f"{found['name']}{quote}{MASK}{quote}"


def diff(changes: Iterable[Change], secrets: Iterable[str] = (), color: bool = False) -> str:
    """A unified diff of all files, secrets masked; empty when nothing changes. `color` is for terminals only."""
    known = tuple(secrets)
    lines = [line for change in changes for line in _file_diff(change, (*known, *change.secrets))]
    return "".join(f"{_colored(line) if color else line}\n" for line in lines)


def _file_diff(change: Change, secrets: tuple[str, ...]) -> list[str]:
    if change.before == change.after:
        return []
    old, new = (mask(_text(data), secrets).splitlines() for data in (change.before, change.after))
    before = "/dev/null" if change.before is None else str(change.path)
    after = "/dev/null" if change.after is None else str(change.path)
    lines = list(difflib.unified_diff(old, new, before, after, lineterm=""))
    # nothing but a masked value, or a line end, is different
    return lines or [f"--- {before}", f"+++ {after}", "@@ a masked value or a line end changes @@"]


def _text(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace").removeprefix("\ufeff")


def _colored(line: str) -> str:
    color = {"+": _GREEN, "-": _RED, "@": _CYAN}.get(line[:1]) if not line.startswith(("+++", "---")) else None
    return f"{color}{line}{_PLAIN}" if color else line


def confirm(question: str, read_line: Callable[[str], str]) -> bool:
    """Ask until the answer is yes or no; the end of the input, or Enter alone, means no."""
    while True:
        try:
            answer = read_line(f"{question} [y/N] ").strip().lower()
        except EOFError:
            return False
        if answer in ("y", "yes"):
            return True
        if answer in ("", "n", "no"):
            return False

"""Shows what is about to change, with every secret masked, and asks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

MASK = "••••"
_SHORTEST_SECRET = 6
_SECRET_NAME = (
    r"(?:api|access|auth|private|secret|client)[-_]?(?:key|token)|token|secret|password|passwd|credentials?"
    r"|authorization"
)
_SECRET_LINE = re.compile(
    rf"""(?P<name>["']?[\w.-]*(?:{_SECRET_NAME})\\*["']?[ \t]*[:=][ \t]*)"""
    r"""(?P<value>\\+".*?\\+"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,"'{}\[\]#][^,}\]#\n]*)""",
    re.IGNORECASE,
)
_SECRET_KEY = re.compile(rf"(?:{_SECRET_NAME})$", re.IGNORECASE)
_KEY_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|gh[oprsu]|github_pat|glpat|xox[abp]|hf|omlx)[-_][A-Za-z0-9_-]{8,}"
    r"|\b(?:AKIA[A-Z0-9]{12,}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}[\w.-]*)"
    r"|(?<=Bearer )(?!\$|\{env:)[^\s\"'\\]+"
    r"|(?P<user>://[^\s/:@\"']*:)[^\s/@\"']+(?=@)"
)
# references to a key, not keys: `$VAR`, `${VAR}`, `{env:VAR}`, `{file:…}`, `!command`
_REFERENCE = re.compile(r"""["']?(?:\$\{?\w+\}?|\{(?:env|file):[^}]*\}|!.*|)["']?""")
_PLAIN_WORDS = frozenset({"true", "false", "null", "none", "~"})
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


def is_secret_name(name: str) -> bool:
    """Whether what is called so, or given with an option called so, is a secret."""
    return bool(_SECRET_KEY.search(name))


def secret_values(value: Any, named: bool = False) -> Iterator[str]:
    """The texts in a settings file's value that stand under a name such as `apiKey`, references excepted."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from secret_values(item, named or is_secret_name(str(key)))
    elif isinstance(value, list):
        for item in value:
            yield from secret_values(item, named)
    elif isinstance(value, str) and named and not _REFERENCE.fullmatch(value) and value.lower() not in _PLAIN_WORDS:
        yield value
        yield from (line.strip() for line in value.splitlines())


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the given secrets, without what has the shape of a key, and without values that names like
    `apiKey`, `token` or `password` hold; references such as `$OMLX_API_KEY` or `{env:…}` stay."""
    for secret in sorted((secret for secret in secrets if len(secret) >= _SHORTEST_SECRET), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _SECRET_LINE.sub(_masked, _KEY_SHAPES.sub(lambda found: f"{found['user'] or ''}{MASK}", text))


def _masked(found: re.Match[str]) -> str:
    value = found["value"].strip()
    bare = value.strip("\\\"'")
    if _REFERENCE.fullmatch(value) or bare.lower() in _PLAIN_WORDS or MASK in value or bare.isdigit():
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

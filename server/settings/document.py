"""The file settings.json as a document: read with its lines, edited key by key, written at once.

What omlx doesn't know in it is kept. A file that cannot be read is refused and never replaced.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import SettingsError
from ..private_folder import make_private
from ..requests import Json
from .values import FILE_VERSION

_MAX_BYTES = 4 << 20
_MAX_DEPTH = 64
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')

KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """`lines` says on which line of the file each key stands."""

    path: Path
    content: dict[str, Json] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where a key stands, as FILE:LINE."""
        return f"{self.path}:{self.lines.get(path, 1)}"

    def changed(self, path: KeyPath, value: Json) -> Document:
        """With the key set. The sections on the way are made."""
        content = copy.deepcopy(self.content) or {"version": FILE_VERSION}
        section = content
        for name in path[:-1]:
            inner = section.setdefault(name, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"{self.place(path)}: {name} is no object; correct it")
            section = inner
        section[path[-1]] = value
        return Document(self.path, content, self.lines)

    def without(self, path: KeyPath) -> Document:
        """With the key gone, and the sections that hold nothing any more."""
        content = copy.deepcopy(self.content)
        _remove(content, path)
        return Document(self.path, content, self.lines)


def read_document(path: Path) -> Document:
    """The file, empty where there is none. Raises `SettingsError` with file, line, reason and remedy."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Document(path)
    except NotADirectoryError:
        raise SettingsError(
            f"{path.parent} is no folder; move what stands there, or choose another OMLX_HOME"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror or error}); make it a file you can read"
        ) from None
    if len(raw) > _MAX_BYTES:
        raise SettingsError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, which no settings are; move it away")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}:{line}: is not UTF-8 text; save it as UTF-8") from None
    return parse_document(path, text)


def parse_document(path: Path, text: str) -> Document:
    try:
        content = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{path}:{_told(error)}") from None
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: is not valid JSON ({error}); correct it") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path}:1: holds no object; settings begin with {{")
    return Document(path, content, _key_lines(path, text))


def _told(error: json.JSONDecodeError) -> str:
    """The line, what is wrong there, and the remedy."""
    before, after = error.doc[: error.pos].rstrip(), error.doc[error.pos :].lstrip()
    if after.startswith(","):  # Python 3.13 points at the comma, those before it at what follows
        before, after = f"{before},", after[1:].lstrip()
    if before.endswith(",") and after.startswith(("}", "]")):
        line = before.count("\n") + 1
        return f"{line}: is not valid JSON (a comma before {after[0]}, with nothing between them); take that comma out"
    return f"{error.lineno}: is not valid JSON ({error.msg}, column {error.colno}); correct that line"


def write_document(document: Document) -> None:
    """Replace the file at once, mode 0600; a link to it stays a link. Raises `SettingsError`."""
    target = document.path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        make_private(target.parent)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            text = json.dumps(document.content, indent=2, ensure_ascii=False) + "\n"
            file.write(text.encode("utf-8", "backslashreplace"))  # so half a surrogate pair is JSON's escape again
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise SettingsError(
            f"{document.path}: cannot be written ({error.strerror or error}); it is as before"
        ) from None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other writers out between reading and writing."""
    folder = path.resolve().parent
    try:
        make_private(folder)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be used ({error.strerror or error}); choose another OMLX_HOME") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is larger than any number")
    return number


def _remove(section: dict[str, Json], path: KeyPath) -> None:
    name, *rest = path
    inner = section.get(name)
    if rest and isinstance(inner, dict):
        _remove(inner, tuple(rest))
    if not rest or inner == {}:
        section.pop(name, None)


def _key_lines(path: Path, text: str) -> dict[KeyPath, int]:
    """The line of each key of a valid text. Raises `SettingsError` for a key that stands twice."""
    lines: dict[KeyPath, int] = {}
    opened: list[str] = []
    keys: list[str] = []
    line, position, wants_key = 1, 0, False
    for match in _TOKEN.finditer(text):
        token = match.group()
        line, position = line + text.count("\n", position, match.start()), match.start()
        if token in ("{", "["):
            opened.append(token)
            keys.append("")
            if len(opened) > _MAX_DEPTH:
                raise SettingsError(f"{path}:{line}: more than {_MAX_DEPTH} levels deep, which no settings are")
        elif token in ("}", "]"):
            opened.pop()
            keys.pop()
        elif wants_key and token[0] == '"':
            keys[-1] = json.loads(token)
            if "[" not in opened and lines.setdefault(tuple(keys), line) != line:
                raise SettingsError(f"{path}:{line}: {'.'.join(keys)} stands here a second time; keep one of the two")
        wants_key = token in ("{", ",") and bool(opened) and opened[-1] == "{"
    return lines

"""Round-trip edits of an agent's settings: text and changes in, text out, nothing changed that was not asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from ..errors import DocumentError, EditError
from .json_plain import read_plain
from .jsonc import JsonDocument
from .model import ABSENT, Change, Delete, Path, Set, Steps, Value, Where, applied, first_missing, get, same, show
from .model import steps_for as _steps_for
from .toml import TomlDocument
from .toml_reader import read_tomlkit
from .yaml import YamlDocument, read_ruamel
from .yaml_reader import read_pyyaml

Dialect: TypeAlias = Literal["json", "jsonc", "json5", "yaml", "toml"]


class Document(Protocol):
    """A text that has been read strictly. `set` and `delete` make one single-node change and return the new text."""

    value: Value

    def set(self, path: Path, value: Value) -> str: ...

    def delete(self, path: Path) -> str: ...

    def error_at(self, path: Path, fact: str) -> DocumentError: ...


@dataclass(frozen=True, slots=True)
class Format:
    """How a dialect is edited, and the independent readers that must agree with every edit."""

    open: Callable[[str], Document]
    rereaders: tuple[Callable[[str], Value], ...]


FORMATS: Mapping[Dialect, Format] = MappingProxyType(
    {
        "json": Format(lambda text: JsonDocument(text, "json"), (read_plain,)),
        "jsonc": Format(lambda text: JsonDocument(text, "jsonc"), (read_plain,)),
        "json5": Format(lambda text: JsonDocument(text, "json5"), (read_plain,)),
        "yaml": Format(YamlDocument, (read_ruamel, read_pyyaml)),
        "toml": Format(TomlDocument, (read_tomlkit,)),
    }
)


def read(dialect: Dialect, text: str) -> Value:
    """The text's value; an empty text is an empty mapping. Raises DocumentError with the line of what is wrong."""
    return FORMATS[dialect].open(text).value


def edit(dialect: Dialect, text: str, changes: Sequence[Change]) -> str:
    """The text with the changes made, in order; the same text when everything stands there already.

    Raises DocumentError when the text is not valid, something else stands in a change's way, or a change would harm the
    rest; EditError when one cannot be written in this dialect.
    """
    form = FORMATS[dialect]
    original = document = form.open(text)
    steps: list[Change] = []
    new = text
    for change in changes:
        for step in _steps(document, change):
            path = _plain(step.path)
            new = document.set(path, step.value) if isinstance(step, Set) else document.delete(path)
            document = _reopen(form, new, step)
            steps.append(step)
    if steps:
        try:
            _check(original.value, document.value, steps)
            for reread in form.rereaders:
                before, after = _reread(reread, text, new)
                _check(before, after, steps)
        except EditError as error:
            for change in changes if len(changes) > 1 else ():
                edit(dialect, text, [change])  # the one at fault tells where
            raise original.error_at(_plain(steps[0].path), str(error)) from error
    return new


def _plain(path: Steps) -> Path:
    """The path of a step, in which each `Where` has become an index."""
    return tuple(key for key in path if not isinstance(key, Where))


def _steps(document: Document, change: Change) -> list[Change]:
    try:
        return _steps_for(document.value, change)
    except EditError as error:
        raise document.error_at(error.path, str(error)) from error


def _reopen(form: Format, text: str, step: Change) -> Document:
    try:
        return form.open(text)
    except DocumentError as error:
        raise EditError(f"{show(step.path)} cannot be changed without breaking the file ({error})") from error


def _reread(reread: Callable[[str], Value], *texts: str) -> list[Value]:
    try:
        return [reread(text) for text in texts]
    except (ValueError, RecursionError) as error:
        raise EditError(f"a second reader does not accept this file: {error}") from error


def _check(before: Value, after: Value, steps: Sequence[Change]) -> None:
    """Old model plus the intended changes, nothing else."""
    try:
        wanted = applied(before, steps)
    except (LookupError, TypeError) as error:
        raise EditError(f"a second reader finds no {show(steps[0].path)} to change") from error
    if not same(wanted, after):
        others = "other values, such as those that an alias (`*…`) brings"
        raise EditError(f"{show(steps[0].path)} cannot be changed without changing {others}")


__all__ = [
    "ABSENT",
    "FORMATS",
    "Change",
    "Delete",
    "Dialect",
    "Document",
    "Format",
    "Path",
    "Set",
    "Steps",
    "Value",
    "Where",
    "applied",
    "edit",
    "first_missing",
    "get",
    "read",
    "same",
    "show",
]

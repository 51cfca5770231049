"""What in an agent's file, written by the user, does not have the shape that the agent takes."""

from __future__ import annotations

from collections.abc import Iterator

from ..integrations.spec import Edit, Shape, Steps
from . import files
from .documents import ABSENT, FORMATS, Document, Value, get, show
from .errors import DocumentError


def misshapen(edit: Edit) -> tuple[str, ...]:
    """A sentence with file and line for each entry; the wiring leaves them as they are. The file must parse."""
    document = FORMATS[edit.dialect].open(files.text_of(edit.path, files.read(edit.path)))
    ours = {path for path, _ in edit.values}
    found = (error for shape in edit.shapes for error in _errors(document, shape, ours))
    return tuple(f"{edit.path}, {error}, so it does nothing; it is left as it is" for error in found)


def _errors(document: Document, shape: Shape, ours: set[Steps]) -> Iterator[DocumentError]:
    value = get(document.value, shape.path)
    if not isinstance(value, shape.kind):
        if value is not ABSENT and value is not None:
            yield document.error_at(shape.path, f"{show(shape.path)} is no {_word(shape.kind)}")
        return
    entries: list[tuple[str | int, Value]] = list(enumerate(value)) if isinstance(value, list) else list(value.items())
    for key, entry in entries:
        path = (*shape.path, key)
        fact = _fault(entry, shape)
        if fact and path not in ours:
            yield document.error_at(path, f"{show(path)} {fact}")


def _fault(entry: Value, shape: Shape) -> str | None:
    if not isinstance(entry, dict):
        return "is no mapping"
    missing = [names for names in shape.needs if not any(entry.get(name) for name in names.split("|"))]
    return f"has no {missing[0].split('|')[0]}" if missing else None


def _word(kind: type) -> str:
    return "list" if kind is list else "mapping"

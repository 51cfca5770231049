"""Undoes an agent's wiring: exact old bytes where nobody changed the file since, else only values still ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import files, records
from .documents import ABSENT, Delete, Set, Steps, Value, Where, edit, get, read, same, show
from .errors import DocumentError, EditError
from .journal import secrets_of
from .records import FileRecord, ValueRecord, digest


@dataclass(frozen=True, slots=True)
class FileRestore:
    """What undoing does to one file (`after` None: it goes). `kept` says what stays because somebody changed it."""

    path: Path
    before: bytes | None = field(repr=False)
    after: bytes | None = field(repr=False)
    kept: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


def plan_restore(home: Path, agent: str) -> tuple[FileRestore, ...]:
    """What `restore` would do now; empty when the agent is not wired. Touches nothing."""
    plans = [(record, _restored(record, files.read(record.path))) for record in records.load(home, agent)]
    return tuple(
        replace(plan, secrets=secrets_of(plan.path, record.dialect, plan.before, plan.after)) for record, plan in plans
    )


def restore(home: Path, agent: str) -> tuple[FileRestore, ...]:
    """Undo the agent's wiring and forget it, file by file, the last one first: the first one's folders must be empty.

    What could not be undone stays wired.
    """
    done: list[FileRestore] = []
    with files.locked(home, records.journal_file(home, agent)):
        remaining = records.load(home, agent)
        while remaining:
            done.append(_restore_one(home, remaining[-1]))
            remaining = remaining[:-1]
            records.save(home, agent, remaining)
    return tuple(reversed(done))


def _restore_one(home: Path, record: FileRecord) -> FileRestore:
    tried: list[FileRestore] = []

    def change(before: bytes | None) -> bytes | None:
        tried.append(_restored(record, before))
        return tried[-1].after

    files.update(home, record.path, change)
    if tried[-1].after is None:
        files.remove_empty_folders(record.folders)
    return tried[-1]


def _restored(record: FileRecord, before: bytes | None) -> FileRestore:
    if before is None:
        return FileRestore(record.path, None, None)
    if digest(before) in record.hashes:
        return FileRestore(record.path, before, _backup(record))
    if record.backup is not None and before == files.read(record.backup):
        return FileRestore(record.path, before, before)
    if record.dialect is None:
        return FileRestore(record.path, before, before, ("the whole file: it was changed since",))
    try:
        return _restored_by_values(record, before)
    except (DocumentError, EditError) as error:
        was = f"; what stood there before is in {record.backup}" if record.backup else ""
        raise EditError(f"{record.path} was changed since and cannot be undone value by value: {error}{was}") from error


def _backup(record: FileRecord) -> bytes | None:
    if record.backup is None:
        return None
    data = files.read(record.backup)
    if data is None:
        raise EditError(f"{record.path} cannot be undone: its backup {record.backup} is gone")
    return data


def _restored_by_values(record: FileRecord, before: bytes) -> FileRestore:
    text = files.text_of(record.path, before)
    kept: list[str] = []
    assert record.dialect is not None
    for value in reversed(record.values):
        model = read(record.dialect, text)
        now = get(model, value.path)
        if value.stamp or any(_equal(now, ours) for ours in value.written):
            changes = [Delete(value.path)] if value.old is ABSENT else [Set(value.path, value.old)]
            text = edit(record.dialect, text, changes)
            text = _without_empty_parents(record, value, text)
        elif now is not ABSENT or value.old is not ABSENT:
            kept.append(f"{show(value.path)}: it was changed since")
    empty = record.backup is None and text.strip("\ufeff \t\r\n") in ("", "{}")
    return FileRestore(record.path, before, None if empty else text.encode(), tuple(kept))


def _equal(left: Value, right: Value) -> bool:
    return left is right if ABSENT in (left, right) else same(left, right)


def _without_empty_parents(record: FileRecord, value: ValueRecord, text: str) -> str:
    """Remove the mappings and lists that were made for this value, once nothing is left in them."""
    assert record.dialect is not None
    if value.created is None:
        return text
    for length in range(len(value.path) - 1, value.created - 1, -1):
        path = value.path[:length]
        if not _is_left_over(get(read(record.dialect, text), path), path):
            return text
        over_null = value.over_null and length == value.created
        text = edit(record.dialect, text, [Set(path, None) if over_null else Delete(path)])
    return text


def _is_left_over(value: Value, path: Steps) -> bool:
    step = path[-1]
    return value in ({}, []) or (isinstance(step, Where) and value == {step.key: step.value})


def summary(restores: Sequence[FileRestore]) -> tuple[str, ...]:
    """A line for each value that stays."""
    return tuple(f"{item.path}: kept {line}" for item in restores for line in item.kept)

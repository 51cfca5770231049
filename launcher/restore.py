"""Undoes an agent's wiring: exact old bytes where nobody changed the file since, else only values still ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import files, records, sharing
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
    plans: dict[Path, FileRestore] = {}
    for record in reversed(records.load(home, agent)):
        plan = _restored(home, agent, record, files.read(record.path), plans)
        plans[record.path] = replace(plan, secrets=secrets_of(plan.path, record.dialect, plan.before, plan.after))
    return tuple(reversed(plans.values()))


def restore(home: Path, agent: str) -> tuple[FileRestore, ...]:
    """Undo the agent's wiring and forget it, file by file, the last one first: the first one's folders must be empty.

    What could not be undone stays wired.
    """
    done: list[FileRestore] = []
    with files.locked(home, records.journal_folder(home)):
        remaining = records.load(home, agent)
        while remaining:
            done.append(_restore_one(home, agent, remaining[-1], done))
            sharing.hand_on(home, agent, remaining[-1], done[-1].before, done[-1].after)
            remaining = remaining[:-1]
            records.save(home, agent, remaining)
    return tuple(reversed(done))


def _restore_one(home: Path, agent: str, record: FileRecord, done: Sequence[FileRestore]) -> FileRestore:
    undone = {each.path: each for each in done}
    tried: list[FileRestore] = []

    def change(before: bytes | None) -> bytes | None:
        tried.append(_restored(home, agent, record, before, undone))
        return tried[-1].after

    files.update(home, record.path, change)
    if tried[-1].after is None:
        files.remove_empty_folders(record.folders)
    return tried[-1]


def _restored(
    home: Path, agent: str, record: FileRecord, before: bytes | None, planned: Mapping[Path, FileRestore]
) -> FileRestore:
    """What undoing makes of `before`; of the agent's other files those `planned` count as undone."""
    if before is None:
        return FileRestore(record.path, None, None)
    if record.dialect is None:
        return _restored_whole(home, record, before, planned)
    if digest(before) in record.hashes:
        return FileRestore(record.path, before, _backup(record))
    if record.backup is not None and before == files.read(record.backup):
        return FileRestore(record.path, before, before)
    try:
        return _restored_by_values(record, before, sharing.others(home, agent, record.path))
    except (DocumentError, EditError) as error:
        was = f"; what stood there before is in {record.backup}" if record.backup else ""
        fact = f"{record.path} was changed since and cannot be undone value by value: {error}"
        raise EditError(f"{fact}; correct that and run it again{was}") from error


def _restored_whole(home: Path, record: FileRecord, before: bytes, planned: Mapping[Path, FileRestore]) -> FileRestore:
    """A file of ours goes, save where it was changed, or a settings file that stands still names it."""
    if digest(before) not in record.hashes:
        return FileRestore(record.path, before, before, ("the whole file: it was changed since",))
    name = str(record.path).encode()
    for path in dict.fromkeys((*records.settings_files(home), *planned)):
        data = planned[path].after if path in planned else files.read(path)
        if data is not None and name in data:
            return FileRestore(record.path, before, before, (f"the whole file: {path} names it",))
    return FileRestore(record.path, before, _backup(record))


def _backup(record: FileRecord) -> bytes | None:
    if record.backup is None:
        return None
    data = files.read(record.backup)
    if data is None:
        raise EditError(f"{record.path} cannot be undone: its backup {record.backup} is gone")
    return data


def _restored_by_values(record: FileRecord, before: bytes, shared: Mapping[str, FileRecord]) -> FileRestore:
    text = files.text_of(record.path, before)
    kept: list[str] = []
    assert record.dialect is not None
    for value in reversed(record.values):
        model = read(record.dialect, text)
        now = get(model, value.path)
        claim = sharing.claim_on(value, now, shared)
        if value.stamp or any(same(now, ours) for ours in value.written):
            old = value.old if claim is None else claim.written[-1]
            text = edit(record.dialect, text, [Delete(value.path) if old is ABSENT else Set(value.path, old)])
            text = _without_empty_parents(record, value, text)
        elif claim is None and (now is not ABSENT or value.old is not ABSENT):
            kept.append(f"{show(value.path)}: it was changed since")
    empty = record.backup is None and text.strip("\ufeff \t\r\n") in ("", "{}")
    return FileRestore(record.path, before, None if empty else text.encode(), tuple(kept))


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

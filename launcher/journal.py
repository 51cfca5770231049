"""Changes other programs' files so that it can be undone: what is about to change is written down first.

    changes = preview(edits)                        what would change; nothing is touched
    apply(home, "hermes", edits, now)               lock, edit, journal, backup, replace; all files or none
    wired(home)                                     what is wired, where, and since when

`restore.py` undoes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from . import files, records, sharing
from .documents import Change, Dialect, Steps, edit, read, show
from .errors import DocumentError, EditError, FileError, ForeignEdit
from .records import FileRecord, changed_values, digest, merged
from .sensitive import secret_values


@dataclass(frozen=True, slots=True)
class FileEdit:
    """Values to set and delete in one file; a file that does not exist is made.

    The agent itself writes the `stamps` among them anew: undoing takes them away whatever they are.
    """

    path: Path
    dialect: Dialect
    changes: tuple[Change, ...] = field(repr=False)
    stamps: tuple[Steps, ...] = ()


@dataclass(frozen=True, slots=True)
class WholeFile:
    """A file that is wholly ours. It is refused where another file stands that we did not write."""

    path: Path
    text: str = field(repr=False)


Edit: TypeAlias = FileEdit | WholeFile


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file before and after (None where there is no file), and the values in it that must not be shown."""

    path: Path
    before: bytes | None = field(repr=False)
    after: bytes | None = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Wired:
    """One file that an agent's wiring changed, and the names of the values in it that are ours."""

    agent: str
    path: Path
    since: datetime
    values: tuple[str, ...]


def preview(home: Path, agent: str, edits: Sequence[Edit]) -> tuple[FileChange, ...]:
    """What `apply` would change now; empty when everything stands there already.

    Raises EditError with file and line for a file that does not parse or cannot be edited.
    """
    known = records.load(home, agent)
    changes = []
    for wanted in edits:
        before = files.read(wanted.path)
        after = _edited(wanted, before, _record_of(known, wanted.path))
        dialect = wanted.dialect if isinstance(wanted, FileEdit) else None
        changes.append(FileChange(wanted.path, before, after, secrets_of(wanted.path, dialect, before, after)))
    return tuple(change for change in changes if change.before != change.after)


def apply(home: Path, agent: str, edits: Sequence[Edit], now: datetime) -> tuple[FileChange, ...]:
    """Make the edits, each journalled and backed up first; returns what changed.

    When one file fails, those already changed are put back, and the error tells.
    """
    done: list[FileChange] = []
    with ExitStack() as stack:
        stack.enter_context(files.locked(home, records.journal_folder(home)))
        at_first = records.load(home, agent)
        made = {wanted.path: files.missing_folders(wanted.path) for wanted in edits}
        try:
            for wanted in edits:
                with files.locked(home, wanted.path):
                    change = _apply_one(home, agent, wanted, now)
                if change is not None:
                    done.append(change)
        except BaseException as error:
            if done and _put_back(home, done, made, error):
                records.save(home, agent, at_first)
            raise
    return tuple(done)


def wired(home: Path) -> tuple[Wired, ...]:
    """Everything that is wired now."""
    return tuple(
        Wired(agent, record.path, record.since, tuple(show(value.path) for value in record.values))
        for agent in records.agents(home)
        for record in records.load(home, agent)
    )


def secrets_of(path: Path, dialect: Dialect | None, *texts: bytes | None) -> tuple[str, ...]:
    """The values under names such as `apiKey` in these states of a file; none for a file that is no settings file."""
    if dialect is None:
        return ()
    return tuple(secret for data in texts for secret in secret_values(read(dialect, files.text_of(path, data))))


def in_file(path: Path, error: DocumentError | EditError) -> EditError:
    """The error with the file's name, and what to do."""
    place = f"{path}, {error}" if isinstance(error, DocumentError) else f"{path}: {error}"
    return EditError(f"{place}; nothing was written, correct that and run it again")


def _apply_one(home: Path, agent: str, wanted: Edit, now: datetime) -> FileChange | None:
    """Journal, back up, replace; anew with the newer bytes when somebody else writes the file meanwhile."""
    known = records.load(home, agent)
    shared = sharing.others(home, agent, wanted.path)
    for attempt in range(1, files.ATTEMPTS + 1):
        before = files.read(wanted.path)
        record = _record_of(known, wanted.path)
        after = _edited(wanted, before, record)
        if after == before:
            return None
        backup = None if before is None else records.back_up(home, wanted.path, before, now)
        newer = _next_record(wanted, before, after, record, shared, backup, now)
        if record is None:
            newer = replace(newer, folders=files.missing_folders(wanted.path, sharing.made_folders(home)))
        records.save(home, agent, [*(other for other in known if other.path != wanted.path), newer])
        try:
            files.replace(wanted.path, after, expected=before)
        except FileError as error:
            records.save(home, agent, known)
            if not isinstance(error, ForeignEdit) or attempt == files.ATTEMPTS:
                raise
        else:
            return FileChange(wanted.path, before, after)
    raise AssertionError("the last attempt returns or raises")


def _put_back(
    home: Path, done: Sequence[FileChange], made: Mapping[Path, Sequence[Path]], error: BaseException
) -> bool:
    """Undo the changes; what cannot be undone now stays in the journal, and the error gets a note."""
    try:
        for change in reversed(done):
            with files.locked(home, change.path):
                files.replace(change.path, change.before, expected=change.after)
            files.remove_empty_folders(made[change.path])
    except FileError as failure:
        error.add_note(f"{failure}; `omlx restore` undoes the rest")
        return False
    return True


def _record_of(known: Sequence[FileRecord], path: Path) -> FileRecord | None:
    return next((record for record in known if record.path == path), None)


def _edited(wanted: Edit, before: bytes | None, record: FileRecord | None) -> bytes:
    if isinstance(wanted, WholeFile):
        ours = record is not None and before is not None and digest(before) in record.hashes
        if before is not None and not ours and before != wanted.text.encode():
            raise FileError(f"{wanted.path} is there already and is not ours; move it away or rename it first")
        return wanted.text.encode()
    try:
        return edit(wanted.dialect, files.text_of(wanted.path, before), wanted.changes).encode()
    except (DocumentError, EditError) as error:
        raise in_file(wanted.path, error) from error


def _next_record(
    wanted: Edit,
    before: bytes | None,
    after: bytes,
    record: FileRecord | None,
    shared: Mapping[str, FileRecord],
    backup: Path | None,
    now: datetime,
) -> FileRecord:
    dialect = wanted.dialect if isinstance(wanted, FileEdit) else None
    values = []
    if isinstance(wanted, FileEdit):
        old, new = (read(wanted.dialect, files.text_of(wanted.path, data)) for data in (before, after))
        values = changed_values(old, new, wanted.changes, wanted.stamps)
        values = sharing.claimed(values, new, wanted.changes, shared)
    if record is None:
        return FileRecord(wanted.path, dialect, now, backup, (), (digest(after),), merged((), values))
    # changed by somebody since: the first backup is no longer what an undo must bring back
    untouched = before is not None and digest(before) in record.hashes
    hashes = (*record.hashes, digest(after)) if untouched else ()
    return replace(record, hashes=hashes, values=merged(record.values, values))

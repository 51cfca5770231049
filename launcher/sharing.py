"""One file with the wirings of several agents in it, such as Codex and its desktop app: each is undone by itself.

A wiring that comes over another's value says whose (`ValueRecord.over`). When that other one is undone, what it found
is handed on: so whichever goes last puts back what the user had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from . import files, records
from .documents import Change, Value, get, same
from .errors import StateError
from .records import FileRecord, ValueRecord, digest


def others(home: Path, agent: str, path: Path) -> dict[str, FileRecord]:
    """The other agents' wirings of this settings file, the youngest first; a damaged journal is its own agent's."""
    found: dict[str, FileRecord] = {}
    for name in records.agents(home):
        if name == agent:
            continue
        with suppress(StateError):
            for record in records.load(home, name):
                if record.path == path and record.dialect:
                    found[name] = record
    return dict(sorted(found.items(), key=lambda item: item[1].since, reverse=True))


def made_folders(home: Path) -> frozenset[Path]:
    """What wirings had to make, so that the last one to go takes it along; a damaged journal is its own agent's."""
    found: set[Path] = set()
    for name in records.agents(home):
        with suppress(StateError):
            found.update(folder for record in records.load(home, name) for folder in record.folders)
    return frozenset(found)


def claimed(
    values: Sequence[ValueRecord], new: Value, changes: Sequence[Change], shared: Mapping[str, FileRecord]
) -> list[ValueRecord]:
    """The values with whose they came over, and those of the others that are wanted as they stand in `new`."""
    claims = [replace(value, over=_owner(value.path, value.old, shared)) for value in values]
    known = {value.path for value in values}
    for record in shared.values():
        for theirs in record.values:
            wanted = any(theirs.path[: len(change.path)] == change.path for change in changes)
            now = get(new, theirs.path)
            owner = _owner(theirs.path, now, shared)
            if wanted and owner is not None and theirs.path not in known:
                known.add(theirs.path)
                claims.append(ValueRecord(theirs.path, now, (now,), stamp=theirs.stamp, over=owner))
    return claims


def claim_on(value: ValueRecord, now: Value, shared: Mapping[str, FileRecord]) -> ValueRecord | None:
    """The other wiring's claim on this value: of several the one that stands there now, else the youngest."""
    claims = [theirs for record in shared.values() for theirs in record.values if theirs.path == value.path]
    return next((claim for claim in claims if same(claim.written[-1], now)), claims[0] if claims else None)


def hand_on(home: Path, agent: str, undone: FileRecord, before: bytes | None, after: bytes | None) -> None:
    """After `agent`'s wiring of a file is undone: what it found there is what the ones over it now put back.

    The caller holds the lock of all journals.
    """
    if undone.dialect is None:
        return
    for name, record in others(home, agent, undone.path).items():
        rebased = _rebased(record, agent, undone, before, after)
        if rebased != record:
            known = records.load(home, name)
            records.save(home, name, [rebased if each == record else each for each in known])


def _rebased(
    record: FileRecord, agent: str, undone: FileRecord, before: bytes | None, after: bytes | None
) -> FileRecord:
    record = replace(record, values=tuple(_handed(value, agent, undone) for value in record.values))
    if record.since <= undone.since:
        return record
    backup = None if record.backup is None else files.read(record.backup)
    if backup is None or digest(backup) not in undone.hashes:
        return replace(record, hashes=())  # its backup has the undone values in it: only value by value from now on
    untouched = before is not None and after is not None and digest(before) in record.hashes
    hashes = (*record.hashes, digest(after)) if untouched and after is not None else ()
    return replace(record, hashes=hashes, backup=undone.backup, folders=undone.folders)


def _handed(value: ValueRecord, agent: str, undone: FileRecord) -> ValueRecord:
    for theirs in undone.values:
        if value.over == agent and theirs.path == value.path:
            value = replace(value, old=theirs.old, created=theirs.created, over_null=theirs.over_null, over=theirs.over)
    for theirs in undone.values:
        made = theirs.created
        if made and value.created and made < value.created and theirs.path[:made] == value.path[:made]:
            value = replace(value, created=made, over_null=theirs.over_null)
    return value


def _owner(path: Sequence[object], now: Value, shared: Mapping[str, FileRecord]) -> str | None:
    """Which of the others wrote the value that stands at `path`."""
    return next(
        (
            name
            for name, record in shared.items()
            for theirs in record.values
            if theirs.path == path and any(same(now, written) for written in theirs.written)
        ),
        None,
    )

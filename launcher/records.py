"""What the journal remembers of each agent's wiring, and how that is kept: one JSON file an agent, mode 0600.

`journal.py` writes records before it writes files; `restore.py` reads them to put things back.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, TypeAlias

from . import files
from .documents import ABSENT, Change, Dialect, Steps, Value, Where, first_missing, get, same
from .errors import StateError

_BACKUPS_KEPT = 10
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ValueRecord:
    """One value of ours. `written` are all that we ever put there (ABSENT: we removed it), `old` is what stood before.

    `created` is the length of the shortest prefix of `path` that did not exist before (`over_null`: that was null). A
    `stamp` is ours whatever stands there: the agent itself writes it anew. What stood before may be another agent's
    value: `over` is its name.
    """

    path: Steps
    old: Value
    written: tuple[Value, ...]
    created: int | None = None
    over_null: bool = False
    stamp: bool = False
    over: str | None = None


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file that we changed. A file whose hash is in `hashes` is as we left it, and `backup` is what it was before.

    No `dialect`: the whole file is ours. No `backup`: there was no file. `folders` did not exist either.
    """

    path: Path
    dialect: Dialect | None
    since: datetime
    backup: Path | None
    folders: tuple[Path, ...]
    hashes: tuple[str, ...]
    values: tuple[ValueRecord, ...] = ()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def changed_values(
    old: Value, new: Value, changes: Sequence[Change], stamps: Collection[Steps] = ()
) -> list[ValueRecord]:
    """What differs between the models, key by key; list items go by the keys that the changes find them by."""
    names = {
        change.path[:index]: step.key
        for change in changes
        for index, step in enumerate(change.path)
        if isinstance(step, Where)
    }
    found = []
    for path, before, after in _differences(old, new, (), names):
        created = first_missing(old, path)
        over_null = created is not None and get(old, path[:created]) is None
        found.append(ValueRecord(path, before, (after,), created, over_null, path in stamps))
    return found


Difference: TypeAlias = tuple[Steps, Value, Value]


def _differences(old: Value, new: Value, path: Steps, names: Mapping[Steps, str]) -> Iterator[Difference]:
    if same(old, new):
        return
    parts: list[Difference] = []
    if isinstance(new, dict) and (isinstance(old, dict) or old is None or old is ABSENT):
        # the key that an item is found by is no value by itself: it goes when nothing else is left
        found_by = path[-1].key if path and isinstance(path[-1], Where) else None
        before = old if isinstance(old, dict) else {}
        for key in {**before, **new}:
            if key != found_by:
                parts += _differences(before.get(key, ABSENT), new.get(key, ABSENT), (*path, key), names)
    elif isinstance(new, list) and path in names and (isinstance(old, list) or old is None or old is ABSENT):
        before = _by_name(old if isinstance(old, list) else [], names[path])
        after = _by_name(new, names[path])
        for name in {**before, **after}:
            where = Where(names[path], name)
            parts += _differences(before.get(name, ABSENT), after.get(name, ABSENT), (*path, where), names)
    yield from parts or [(path, old, new)]


def _by_name(items: list[Value], key: str) -> dict[str, Value]:
    """The items that can be found by `key`; of several with one name the first, as `Where` finds it."""
    named = [item for item in reversed(items) if isinstance(item, dict) and isinstance(item.get(key), str)]
    return {item[key]: item for item in named}


def merged(records: Sequence[ValueRecord], new: Sequence[ValueRecord]) -> tuple[ValueRecord, ...]:
    """The records with newer ones added; what stood before the first of them stays what is put back."""
    known = {record.path: record for record in records}
    for record in new:
        first = known.get(record.path)
        if first is None:
            known[record.path] = record
        elif not same(first.written[-1], record.written[-1]):
            known[record.path] = replace(first, written=first.written + record.written)
    return tuple(known.values())


def journal_folder(home: Path) -> Path:
    """Where the journals stand; who changes one holds the lock of all, since undoing one may change another."""
    return home / "journal"


def journal_file(home: Path, agent: str) -> Path:
    return journal_folder(home) / f"{agent}.json"


def load(home: Path, agent: str) -> tuple[FileRecord, ...]:
    """The agent's records; empty where it is not wired. Raises StateError when the journal cannot be read."""
    path = journal_file(home, agent)
    data = files.read(path)
    if data is None:
        return ()
    try:
        journal = json.loads(data, object_hook=_from_json)
        if journal["version"] != _VERSION:
            raise StateError(f"{path} was written by another version of omlx; undo the wiring with that one")
        return tuple(_file_record(item) for item in journal["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"{path} is damaged ({error}); the old files are in {home / 'backups'}") from error


def save(home: Path, agent: str, records: Sequence[FileRecord]) -> None:
    """Write the records, or remove the journal when there are none. The caller holds the journals' lock."""
    path = journal_file(home, agent)
    old = files.read(path)
    if not records:
        files.replace(path, None, expected=old)
        return
    journal = {"version": _VERSION, "agent": agent, "files": [_file_json(record) for record in records]}
    files.private_folder(path.parent)
    files.replace(path, (json.dumps(journal, default=_to_json, indent=1) + "\n").encode(), expected=old)


def agents(home: Path) -> list[str]:
    """The agents that have a journal."""
    return sorted(path.stem for path in journal_folder(home).glob("*.json"))


def settings_files(home: Path) -> tuple[Path, ...]:
    """Every file that is wired, apart from those that are wholly ours."""
    found: dict[Path, None] = {}
    for agent in agents(home):
        with suppress(StateError):  # a damaged journal is its own agent's affair
            found |= {record.path: None for record in load(home, agent) if record.dialect}
    return tuple(found)


def back_up(home: Path, path: Path, data: bytes, now: datetime) -> Path:
    """Keep these bytes of the file; older backups of it go, save the newest ten and those that an undo needs."""
    folder = home / "backups" / f"{path.name}-{digest(str(path).encode())[:12]}"
    files.private_folder(home / "backups")
    files.private_folder(folder)
    backup = folder / f"{now:%Y%m%dT%H%M%S.%f}-{digest(data)[:12]}"
    files.replace(backup, data, expected=files.read(backup))
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    older = sorted(entries, key=lambda entry: entry.stat().st_mtime_ns)[:-_BACKUPS_KEPT]
    needed = {record.backup for agent in agents(home) for record in load(home, agent)} if older else set()
    for entry in older:
        if entry not in needed and entry != backup:
            entry.unlink(missing_ok=True)
    return backup


def _file_json(record: FileRecord) -> dict[str, Any]:
    return {
        "path": str(record.path),
        "dialect": record.dialect,
        "since": record.since.isoformat(),
        "backup": str(record.backup) if record.backup else None,
        "folders": [str(folder) for folder in record.folders],
        "hashes": record.hashes,
        "values": [
            {
                "path": [
                    {"key": step.key, "value": step.value} if isinstance(step, Where) else step for step in v.path
                ],
                "old": _maybe(v.old),
                "written": [_maybe(value) for value in v.written],
                "created": v.created,
                "over_null": v.over_null,
                "stamp": v.stamp,
                "over": v.over,
            }
            for v in record.values
        ],
    }


def _file_record(item: dict[str, Any]) -> FileRecord:
    return FileRecord(
        path=Path(item["path"]),
        dialect=item["dialect"],
        since=datetime.fromisoformat(item["since"]),
        backup=Path(item["backup"]) if item["backup"] else None,
        folders=tuple(Path(folder) for folder in item["folders"]),
        hashes=tuple(item["hashes"]),
        values=tuple(
            ValueRecord(
                path=tuple(Where(**step) if isinstance(step, dict) else step for step in value["path"]),
                old=value["old"][0] if value["old"] else ABSENT,
                written=tuple(written[0] if written else ABSENT for written in value["written"]),
                created=value["created"],
                over_null=value["over_null"],
                stamp=value.get("stamp", False),
                over=value.get("over"),
            )
            for value in item["values"]
        ),
    )


def _maybe(value: Value) -> list[Value]:
    """JSON has no word for "no value": an empty list stands for it, a list of one for the value."""
    return [] if value is ABSENT else [value]


def _to_json(value: object) -> dict[str, str]:
    if isinstance(value, datetime | date | time):
        return {"$toml": value.isoformat()}
    raise TypeError(f"no place for {type(value).__name__} in the journal")


def _from_json(item: dict[str, Any]) -> Any:
    if item.keys() == {"$toml"} and isinstance(item["$toml"], str):
        return tomllib.loads(f"value = {item['$toml']}")["value"]
    return item

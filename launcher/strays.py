"""Agents that were launched here and went elsewhere: `omlx status` names them while they run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .errors import FileError
from .state import OmlxHome, glob, is_alive, read_text, write_private


class Stray(msgspec.Struct, frozen=True):
    """A running agent that has asked `url` nothing, and to whom (`host:port`) it was connected instead."""

    pid: int
    title: str
    url: str
    peers: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.title} (process {self.pid}) has sent no request to {self.url}; it is connected to "
            f"{', '.join(self.peers)}. If it answers you, a setting of its own leads it there."
        )


def note(home: OmlxHome, stray: Stray) -> None:
    write_private(_folder(home) / f"{stray.pid}.json", msgspec.json.encode(stray).decode())


def forget(home: OmlxHome, pid: int) -> None:
    (_folder(home) / f"{pid}.json").unlink(missing_ok=True)


def strays(home: OmlxHome) -> tuple[Stray, ...]:
    """Those that still run."""
    found: list[Stray] = []
    for path in glob(_folder(home), "*.json"):
        try:
            stray = msgspec.json.decode(read_text(path) or "", type=Stray)
        except (msgspec.DecodeError, FileError):
            continue
        if is_alive(stray.pid):
            found.append(stray)
    return tuple(found)


def _folder(home: OmlxHome) -> Path:
    return home.root / "run" / "elsewhere"

"""omlx's own folders, which are for their owner alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

_OTHERS_READ, _OTHERS_WRITE = 0o044, 0o022


def make_private(folder: Path) -> None:
    """Make a folder and those above it that are missing, with mode 0700. Raises `OSError`."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in [*reversed(missing), folder]:
        path.mkdir(mode=0o700, exist_ok=True)


def exposed(home: Path) -> Iterator[str]:
    """What others can do with the keys, the settings or the home itself, and the command against it, a line each."""
    keys = home / "keys"
    for folder in (home, keys):
        yield from _told(folder, "700", _OTHERS_WRITE)
    for file in (home / "keys.json", keys / "keys.json"):
        yield from _told(file, "600", _OTHERS_READ | _OTHERS_WRITE)
    yield from _told(home / "settings.json", "600", _OTHERS_WRITE)


def _told(path: Path, wanted: str, forbidden: int) -> Iterator[str]:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return  # it is not there, or not for us to look at
    given = mode & forbidden
    if given:
        verbs = [verb for verb, bits in (("read", _OTHERS_READ), ("write", _OTHERS_WRITE)) if given & bits]
        remedy = f"close it with `chmod {wanted} {quote(str(path))}`"
        yield f"{path} has mode {mode:04o}: others can {' and '.join(verbs)} it; {remedy}"

"""Whether omlx's home can be used, and whether others can read or write what is in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

from .finding import Finding, Patient, fail, ok, warn

_OTHERS_READ, _OTHERS_WRITE = 0o044, 0o022


def permissions(patient: Patient) -> Iterator[Finding]:
    home = patient.machine.omlx_home.root
    trouble = _trouble(home)
    found = [trouble] if trouble is not None else [*_exposed(home)] if home.exists() else []
    if found:
        yield from found
    elif home.exists():
        yield ok("permissions", f"{home} is ours, and its keys are private")
    else:
        yield ok("permissions", f"{home} is not there yet and can be made")


def _trouble(home: Path) -> Finding | None:
    """Why omlx cannot have its home there."""
    if not home.exists():
        parent = next(folder for folder in home.parents if folder.exists())
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return None
        why = "cannot be written" if parent.is_dir() else "is no folder"
        fact = f"{home} cannot be made: {parent} {why}"
        return fail("permissions", fact, "correct that, or choose another place with OMLX_HOME=FOLDER")
    if not home.is_dir():
        remedy = "move it away, or choose another place with OMLX_HOME=FOLDER"
        return fail("permissions", f"{home} is no folder", remedy)
    if not os.access(home, os.W_OK | os.X_OK):
        return fail("permissions", f"{home} cannot be written", f"make it yours: sudo chown -R $USER {home}")
    return None


def _exposed(home: Path) -> Iterator[Finding]:
    """What others can do here. The server says the same in its log as it starts."""
    for folder in (home, home / "keys"):
        if verbs := _others_can(folder, _OTHERS_WRITE):
            yield warn("permissions", verbs, f"chmod 700 {quote(str(folder))}")
    for file in (home / "keys.json", home / "keys" / "keys.json"):
        if verbs := _others_can(file, _OTHERS_READ | _OTHERS_WRITE):
            yield fail("permissions", verbs, f"chmod 600 {quote(str(file))}, and make new keys")
    settings = home / "settings.json"
    if verbs := _others_can(settings, _OTHERS_READ | _OTHERS_WRITE):
        # No key is ever in it, but it says where the models are and to whom the server listens.
        yield warn("permissions", verbs, f"chmod 600 {quote(str(settings))}; there are no keys in it")


def _others_can(path: Path, forbidden: int) -> str:
    """What others can do with it that they must not, "" for nothing."""
    if not path.exists():
        return ""
    mode = stat.S_IMODE(path.stat().st_mode)
    pairs = (("read", _OTHERS_READ), ("write", _OTHERS_WRITE))
    verbs = [verb for verb, bits in pairs if mode & forbidden & bits]
    return f"others can {' and '.join(verbs)} {path} (mode {mode:04o})" if verbs else ""

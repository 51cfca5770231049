"""The keys that open this machine's server: made here, known to the server by their hashes alone.

`keys.json` in omlx's home holds, for each key, a name, the SHA-256 of the key, its last four characters and when it was
made. An agent's key is one of a name; a launch of an agent that has none gets a key of its own, which ends with it.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from . import files
from .errors import KeyNameError, LauncherError, SecretsError, StateError
from .machine import Machine
from .own_key import own_key
from .secrets import KeyStore, system_keychain
from .state import is_alive

ADMIN = "admin"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LAUNCH_LIFETIME = timedelta(days=30)
COMMAND_LIFETIME = timedelta(days=1)
"""Of what a command of omlx's own uses, where it is killed before it can end its key."""


class ServerKey(msgspec.Struct, frozen=True):
    """What is known of a key. One of a single launch `expires`, and ends with the process `pid`; `scope` is ADMIN
    for the key of the admin pages, which opens nothing else."""

    name: str
    sha256: str
    last4: str
    created: datetime
    expires: datetime | None = None
    pid: int | None = None
    scope: str = ""


class _File(msgspec.Struct, frozen=True):
    keys: tuple[ServerKey, ...] = ()


def key_file(home: Path) -> Path:
    return home / "keys.json"


def read_keys(home: Path) -> tuple[ServerKey, ...]:
    """Every key, oldest first. Raises StateError for a file that is not ours."""
    return _decoded(key_file(home), files.read(key_file(home)))


def live_keys(home: Path, now: datetime) -> tuple[ServerKey, ...]:
    """Those that still open the server: not what a launch left that was killed. Raises as `read_keys`."""
    return tuple(key for key in read_keys(home) if _holds(key, now))


def lasting_keys(home: Path) -> tuple[ServerKey, ...]:
    """Without those of single launches and the admin key. Where there is any, the server asks for a key."""
    return tuple(key for key in read_keys(home) if key.expires is None and key.scope != ADMIN)


def new_admin_key(home: Path, now: datetime) -> str:
    """Make the key of the admin pages and return it. The one before ends, and so does who came in with it."""
    key = _random_key()
    described = msgspec.structs.replace(_described(ADMIN, key, now), scope=ADMIN)
    _update(home, lambda keys: (*(each for each in keys if each.scope != ADMIN), described))
    return key


def new_key(home: Path, name: str, now: datetime) -> str:
    """Make an agent's key and return it; nobody can read it again. Raises KeyNameError where the name has one."""
    if not _NAME.fullmatch(name):
        raise KeyNameError(f"{name!r} is no name for a key; use a-z, 0-9, `-`, `_` and `.`, such as an agent's name")
    _refuse_admin(name)
    key = _random_key()

    def change(keys: tuple[ServerKey, ...]) -> Sequence[ServerKey]:
        if any(each.name == name and each.expires is None for each in keys):
            raise KeyNameError(f"{name} has a key; `omlx key rotate {name}` makes a new one in its place")
        return (*keys, _described(name, key, now))

    _update(home, change)
    return key


def rotate_key(home: Path, name: str, now: datetime) -> str:
    """A new key in the place of the old one, which opens nothing from now on; launches go on. Raises KeyNameError."""
    _refuse_admin(name)
    key = _random_key()

    def change(keys: tuple[ServerKey, ...]) -> Sequence[ServerKey]:
        lasting = tuple(each for each in keys if each.expires is None)
        launches = (each for each in keys if each.expires is not None)
        return (*_without(lasting, name), *launches, _described(name, key, now))

    _update(home, change)
    return key


def revoke_key(home: Path, name: str) -> None:
    """End this name's key, and those of its running launches. Raises KeyNameError."""
    _update(home, lambda keys: _without(keys, name))


def access_key(
    machine: Machine, url: str, name: str, *, may_make: bool, lifetime: timedelta = _LAUNCH_LIFETIME
) -> str | None:
    """The key by which `name` speaks to the server at `url`; None where none is needed, or known.

    It is that of OMLX_API_KEY, else `name`'s own, else one for the life of this process, `lifetime` at most. The last
    two are for this machine's own server alone, so that an address never draws a key out of the keychain. Raises
    SecretsError where OMLX_API_KEY holds what cannot be sent.
    """
    own = own_key(machine.environ)
    if own or not machine.is_own_server(url):
        return own
    home = machine.omlx_home.root
    lasting = lasting_keys(home)
    hashes = {key.sha256 for key in lasting if key.name == name}
    kept = _kept_key(machine, name) if hashes else None
    if kept is not None and _sha256(kept) in hashes:
        return kept
    return launch_key(home, name, datetime.now(UTC), lifetime) if lasting and may_make else None


def kept_copy(home: Path, name: str, store: KeyStore) -> str:
    """The user's copy of the key of that name, as `store` has it.

    Raises KeyNameError where there is no such key, SecretsError where the copy is gone or of another key.
    """
    _refuse_admin(name)
    held = {key.sha256 for key in lasting_keys(home) if key.name == name}
    if not held:
        names = ", ".join(sorted({key.name for key in lasting_keys(home)})) or "none"
        raise KeyNameError(f"there is no key {name!r}; there are: {names}. `omlx key new {name}` makes one")
    kept = store.get(name)
    if kept is None or _sha256(kept) not in held:
        raise SecretsError(f"no copy of the key {name!r} is kept here; `omlx key rotate {name}` makes a new one")
    return kept


def _kept_key(machine: Machine, name: str) -> str | None:
    """The user's copy; None also where the keychain does not answer, since a launch can have a key of its own."""
    interactive = sys.stdin.isatty() and sys.stderr.isatty()
    try:
        return KeyStore(machine.omlx_home.root, machine.environ, system_keychain(machine.environ, interactive)).get(
            name
        )
    except SecretsError:
        return None


def launch_key(home: Path, name: str, now: datetime, lifetime: timedelta = _LAUNCH_LIFETIME) -> str:
    """A key that holds as long as this process, and the agent it becomes, runs; nothing but the process has it."""
    key = _random_key()
    described = _described(name, key, now, expires=now + lifetime, pid=os.getpid())
    _update(home, lambda keys: (*(each for each in keys if _holds(each, now)), described))
    atexit.register(_end, home, described)  # a process that becomes the agent gets there no more
    return key


def _end(home: Path, ended: ServerKey) -> None:
    """What cannot be written now stays until it expires."""
    with contextlib.suppress(LauncherError, OSError):
        _update(home, lambda keys: tuple(key for key in keys if key.sha256 != ended.sha256))


def _refuse_admin(name: str) -> None:
    if name == ADMIN:
        raise KeyNameError(
            "admin is the key of the pages at /admin, of which no copy is kept: "
            "`omlx key admin` makes a new one, prints it this once, and ends the one before"
        )


def _holds(key: ServerKey, now: datetime) -> bool:
    return key.expires is None or (key.expires > now and key.pid is not None and is_alive(key.pid))


def _without(keys: tuple[ServerKey, ...], name: str) -> Sequence[ServerKey]:
    left = [key for key in keys if key.name != name]
    if len(left) == len(keys):
        names = ", ".join(sorted({key.name for key in keys})) or "none"
        raise KeyNameError(f"there is no key {name!r}; there are: {names}")
    return left


def _random_key() -> str:
    return f"sk-omlx-{secrets.token_urlsafe(32)}"


def _described(
    name: str, key: str, now: datetime, expires: datetime | None = None, pid: int | None = None
) -> ServerKey:
    return ServerKey(name, _sha256(key), key[-4:], now.replace(microsecond=0), expires, pid)


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _update(home: Path, change: Callable[[tuple[ServerKey, ...]], Sequence[ServerKey]]) -> None:
    file = key_file(home)
    files.private_folder(home)

    def changed(data: bytes | None) -> bytes:
        new = _File(tuple(change(_decoded(file, data))))
        return msgspec.json.format(msgspec.json.encode(new), indent=2) + b"\n"

    files.update(home, file, changed)


def _decoded(file: Path, data: bytes | None) -> tuple[ServerKey, ...]:
    try:
        return () if data is None else msgspec.json.decode(data, type=_File).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"{file} is not what omlx wrote ({error}); mend it, or remove it and make new keys: "
            "without it a server on this machine asks for none"
        ) from error

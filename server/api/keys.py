"""Which keys open the server: the one of its environment, and those of which `keys.json` holds the hashes.
The admin key opens the admin pages and nothing else, and no other key opens these.

`omlx key` writes that file; keys are 256 random bits, so a plain SHA-256 is hash enough. It is read again when it
changes, so that a new or revoked key holds from the next request on. A launch's key ends with its process.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from ..models.placing import is_alive

logger = logging.getLogger(__name__)

KEY_FILE = "keys.json"
"""Its name in omlx's home."""
ADMIN = "admin"
"""The scope of the admin key."""
_FINGERPRINT_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a key lets in. `name` is shown, "" where there is none; what is remembered for one `namespace`, prefixes and
    responses above all, is found in no other one."""

    name: str = ""
    namespace: str = ""


class DescribedKey(msgspec.Struct, frozen=True):
    """A key as its owner may see it. `fingerprint` is the beginning of its SHA-256 in hex, `last4` its own last
    characters; `scope` is "admin" for the admin key; one of a single launch `expires`."""

    name: str
    fingerprint: str
    last4: str
    scope: str
    created: datetime | None
    expires: datetime | None


class _Entry(msgspec.Struct, frozen=True):
    """One key of the file; those of single launches expire, and end with the process `pid`."""

    sha256: str
    name: str = ""
    scope: str = ""
    last4: str = ""
    created: datetime | None = None
    expires: datetime | None = None
    pid: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None


class _File(msgspec.Struct, frozen=True):
    keys: tuple[_Entry, ...]


@dataclass(frozen=True, slots=True)
class _Digest:
    value: bytes
    name: str
    expires: float | None = None
    pid: int | None = None

    @property
    def namespace(self) -> str:
        """A lasting key's is its own, so that a key made anew under a name finds nothing of the one before. Each launch
        of an agent has another key; they share theirs, since all come from who starts launches in this home."""
        if self.expires is not None:
            return f"launches of {self.name}"
        return hmac.digest(self.value, b"namespace", "sha256").hex()

    def holds(self, now: float) -> bool:
        """Not a launch's that is over, nor one's that was killed before it could end its key."""
        return (self.expires is None or now < self.expires) and (self.pid is None or is_alive(self.pid))


@dataclass(frozen=True, slots=True)
class _Known:
    """What the file said when it had this `stamp`; `is_closed` where a request without a key is refused."""

    stamp: tuple[int, int, int] | None
    digests: tuple[_Digest, ...]
    is_closed: bool
    admin: tuple[_Digest, ...] = ()
    described: tuple[DescribedKey, ...] = ()
    is_readable: bool = True


class ServerKeys:
    """Tells whether a key opens the server.

    Without any key it is open, provided that `may_be_open`; a file that cannot be read opens nothing. Keys that
    expire are of single launches, and close nothing by themselves. The log says which others are made and ended.
    """

    def __init__(
        self,
        api_key: str = "",
        file: Path | None = None,
        *,
        may_be_open: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._own = _Digest(_digest(api_key), "") if api_key else None
        self._file = file
        self._may_be_open = may_be_open
        self._now = now
        self._known = _Known(None, (), is_closed=False) if file is None else _read(file, _stamp(file))
        self._listed = _lasting(self._known)

    @property
    def is_open(self) -> bool:
        """Whether requests need no key at all."""
        return self._may_be_open and self._own is None and not self._current().is_closed

    def accepts(self, given: str) -> bool:
        return self.holder_of(given) is not None

    def holder_of(self, given: str) -> Holder | None:
        """Whom the key given lets in, the same one for all where none is needed; None where it does not open."""
        if self.is_open:
            return Holder()
        digest, now = _digest(given), self._now()
        held = (*self._current().digests, *((self._own,) if self._own else ()))
        # All are compared: the time tells nobody which one was near.
        found = [one for one in held if hmac.compare_digest(digest, one.value) and one.holds(now)]
        return Holder(found[0].name, found[0].namespace) if found else None

    def described(self) -> tuple[DescribedKey, ...]:
        """The keys of the file that still hold, without what would open anything. A launch's that was killed ends
        here: what is not listed opens nothing."""
        if self._file is not None:
            self._take(_read(self._file, _stamp(self._file)))
        now = self._now()
        return tuple(key for key in self._known.described if key.expires is None or now < key.expires.timestamp())

    @property
    def has_admin_key(self) -> bool:
        return bool(self._current().admin)

    def admin_digest(self, given: str) -> bytes | None:
        """The digest of the key given, where it is the admin key; None otherwise."""
        digest = _digest(given)
        return digest if self.is_admin_digest(digest) else None

    def is_admin_digest(self, digest: bytes) -> bool:
        """Whether an admin key of this digest still holds."""
        return any(hmac.compare_digest(digest, one.value) for one in self._current().admin)

    def read_anew(self) -> None:
        """Look whether the file has changed, as each request does."""
        self._current()

    def _current(self) -> _Known:
        stamp = None if self._file is None else _stamp(self._file)
        if stamp != self._known.stamp:
            assert self._file is not None
            self._take(_read(self._file, stamp))
        return self._known

    def _take(self, known: _Known) -> None:
        """Go by this from now on, and have the log say what is new in it."""
        self._known = known
        if not known.is_readable:
            return  # which the log has
        listed = _lasting(known)
        for words, keys in (("Key ended", self._listed - listed), ("Key made", listed - self._listed)):
            for name, scope, _ in sorted(keys):
                logger.info("%s: %s (scope: %s)", words, name, scope or "agents")
        self._listed = listed


def given_key(headers: Mapping[str, str]) -> str:
    """The key a request came with, empty where there is none. `headers` are looked up in lower case."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def caller_of(headers: Mapping[str, str]) -> str:
    """A digest of that key, which tells callers apart; empty without one."""
    key = given_key(headers)
    return _digest(key).hex() if key else ""


def _read(file: Path, stamp: tuple[int, int, int] | None) -> _Known:
    if stamp is None:
        return _Known(None, (), is_closed=False)
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_File).keys
        entries = [one for one in found if one.pid is None or is_alive(one.pid)]
        inference, admin = (
            [_held(one) for one in entries if (one.scope == ADMIN) is wanted] for wanted in (False, True)
        )
    except (OSError, ValueError) as error:
        logger.error(
            "%s cannot be read (%s), so none of its keys is taken; `omlx key list` says what to do", file, error
        )
        return _Known(stamp, (), is_closed=True, is_readable=False)
    is_closed = any(one.expires is None for one in inference)
    described = tuple(
        DescribedKey(one.name, one.sha256[:_FINGERPRINT_DIGITS], one.last4, one.scope, one.created, one.expires)
        for one in entries
    )
    return _Known(stamp, tuple(inference), is_closed, tuple(admin), described)


def _lasting(known: _Known) -> frozenset[tuple[str, str, str]]:
    """Name, scope and fingerprint. Keys of launches come and go with every command."""
    return frozenset((key.name, key.scope, key.fingerprint) for key in known.described if key.expires is None)


def _held(entry: _Entry) -> _Digest:
    return _Digest(bytes.fromhex(entry.sha256), entry.name, entry.expires and entry.expires.timestamp(), entry.pid)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return (-1, -1, -1)
    return status.st_mtime_ns, status.st_ino, status.st_size


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()

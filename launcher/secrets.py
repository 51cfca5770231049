"""Where the user's copies of omlx keys are kept: the system's keychain, else a private file, with consent.

The keychain holds one item, a JSON object of all keys by name: macOS asks for permission per item. Back ends that keep
passwords in the clear count as absent. Every call has a time limit, so that a locked keychain cannot hang a launch.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from ..integrations.spec import KEY_VARIABLE
from . import files
from .errors import SecretsError
from .own_key import own_key

SECONDS_WITH_TERMINAL = 60.0  # time enough to type a password into the system's dialog
SECONDS_WITHOUT_TERMINAL = 5.0

_SERVICE, _ITEM = "omlx", "keys"
_ALLOWED = frozenset(
    f"keyring.backends.{name}" for name in ("macOS", "SecretService", "kwallet", "libsecret", "Windows")
)
_SWITCHED_OFF = ("keyring.backends.null.", "keyring.backends.fail.")

Result = TypeVar("Result")


class Backend(Protocol):
    """The part of a `keyring` back end that is used here."""

    def get_password(self, service: str, username: str, /) -> str | None: ...

    def set_password(self, service: str, username: str, password: str, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Keychain:
    """The system's keychain. `find` gives its back end, or None where there is none that is safe."""

    find: Callable[[], Backend | None]
    seconds: float = SECONDS_WITHOUT_TERMINAL

    def load(self) -> dict[str, str] | None:
        """All keys by name; None where this system has no keychain. Raises SecretsError when it does not answer."""

        def work() -> dict[str, str] | None:
            backend = self.find()
            return None if backend is None else _keys_of(backend.get_password(_SERVICE, _ITEM) or "{}", "the keychain")

        return _within(self.seconds, work)

    def save(self, keys: Mapping[str, str]) -> bool:
        """Keep these keys and no others; False where this system has no keychain."""

        def work() -> bool:
            backend = self.find()
            if backend is not None:
                backend.set_password(_SERVICE, _ITEM, json.dumps(dict(keys)))
            return backend is not None

        return _within(self.seconds, work)


@dataclass(frozen=True, slots=True)
class KeyStore:
    """The user's keys: an environment variable wins, then the keychain, then `keys/keys.json` in omlx's home."""

    home: Path
    environ: Mapping[str, str]
    keychain: Keychain

    @property
    def file(self) -> Path:
        return self.home / "keys" / "keys.json"

    def get(self, name: str) -> str | None:
        """The key of that name. Raises SecretsError when the keychain does not answer and no other place has it, and
        as `own_key`."""
        if own := own_key(self.environ):
            return own
        try:
            keys = self.keychain.load()
        except SecretsError:
            found = self._read_file().get(name)
            if found is None:
                raise
            return found
        return (keys or {}).get(name) or self._read_file().get(name)

    def put(self, name: str, key: str, consent: Callable[[Path], bool]) -> str:
        """Keep a key, and return the name of the place. `consent` is asked before it is written to a file in the clear.

        Raises SecretsError when the keychain does not answer, or there is none and the user does not consent.
        """
        with files.locked(self.home, self.file):
            keys = self.keychain.load()
            if keys is not None and self.keychain.save({**keys, name: key}):
                self._change_file(name, None)
                return "the keychain"
            if not consent(self.file):
                raise SecretsError(
                    f"this system has no keychain; set {KEY_VARIABLE} to it where it is used, or have one kept in "
                    f"{self.file}: `omlx key rotate {name} --yes` makes another in its place"
                )
            self._change_file(name, key)
        return str(self.file)

    def remove(self, name: str) -> None:
        """Forget a key wherever it is kept."""
        with files.locked(self.home, self.file):
            keys = self.keychain.load()
            if keys and name in keys:
                self.keychain.save({other: key for other, key in keys.items() if other != name})
            self._change_file(name, None)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted({**(self.keychain.load() or {}), **self._read_file()}))

    def _read_file(self) -> dict[str, str]:
        """The file's keys. Raises SecretsError for a file or folder that others can read."""
        data = files.read(self.file)
        if data is None:
            return {}
        for path, mode in ((self.file, "600"), (self.file.parent, "700")):
            status = path.stat()
            if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid():
                raise SecretsError(
                    f"others can read {path}, so its keys may be known to them: run `chmod {mode} {path}` "
                    "as its owner, then make new keys"
                )
        return _keys_of(files.text_of(self.file, data), str(self.file))

    def _change_file(self, name: str, key: str | None) -> None:
        old = self._read_file()
        new = {other: value for other, value in old.items() if other != name} | ({name: key} if key else {})
        if new == old:
            return
        files.private_folder(self.file.parent)
        data = (json.dumps(new, indent=2) + "\n").encode() if new else None
        files.replace(self.file, data, expected=files.read(self.file))


def system_keychain(environ: Mapping[str, str], interactive: bool) -> Keychain:
    """This system's keychain, with a time limit that fits whether somebody sits at a terminal."""
    seconds = SECONDS_WITH_TERMINAL if interactive else SECONDS_WITHOUT_TERMINAL
    return Keychain(lambda: find_backend(environ), seconds)


def find_backend(environ: Mapping[str, str]) -> Backend | None:
    """The best back end of the allowed ones; None where there is none or the user switched `keyring` off.

    `keyring`'s own choice is not asked: it may be a chain that ends in a plain-text file.
    """
    import keyring.backend  # 0.2 s, so only when a key is needed

    wanted = environ.get("PYTHON_KEYRING_BACKEND", "")
    if wanted.startswith(_SWITCHED_OFF):
        return None
    found = cast("list[Any]", keyring.backend.get_all_keyring())
    allowed = [backend for backend in found if type(backend).__module__ in _ALLOWED]
    chosen = [backend for backend in allowed if f"{type(backend).__module__}.{type(backend).__qualname__}" == wanted]
    return max(chosen or allowed, key=lambda backend: float(backend.priority), default=None)


def _keys_of(text: str, place: str) -> dict[str, str]:
    try:
        keys = json.loads(text)
    except ValueError:
        keys = None
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
        raise SecretsError(f"the omlx item in {place} is not what omlx wrote; remove it and make new keys")
    return keys


def _within(seconds: float, work: Callable[[], Result]) -> Result:
    """The result of `work` in a thread of its own, which is left behind when it takes too long."""
    results: list[Result] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="keychain", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise SecretsError(f"the keychain did not answer in {seconds:.0f} s; unlock it, or set {KEY_VARIABLE}")
    if not failures:
        return results[0]
    failure = failures[0]
    if isinstance(failure, SecretsError) or not isinstance(failure, Exception):
        raise failure
    # each back end has errors of its own; all of them mean that the keychain gave no answer
    raise SecretsError(f"the keychain refused ({failure}); unlock it, or set {KEY_VARIABLE}") from failure

"""Reads and replaces other programs' files so that at every moment a whole file stands there, the old or the new one.

    with locked(home, path):                      one omlx at a time for each file
        old = read(path)
        replace(path, new, expected=old)          temp file, fsync, compare once more, rename, fsync the folder

A link stays a link (its target is replaced); mode, owner, group and extended attributes stay as they are.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Generator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import FileError, ForeignEdit

MAX_BYTES = 5_000_000
ATTEMPTS = 3
LOCK_SECONDS = 10.0

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space and run it again",
    errno.EDQUOT: "your disk quota is used up; free some space and run it again",
    errno.EFBIG: "the system does not allow a file of this size here",
    errno.EROFS: "this file system is read-only",
    errno.EACCES: "you have no permission; check who owns the file and its folder",
    errno.EPERM: "you have no permission; check who owns the file and its folder",
    errno.ENOTDIR: "a file stands where a folder belongs; move it away, or choose another place",
    errno.ELOOP: "its symbolic links go round in a circle",
}


def read(path: Path) -> bytes | None:
    """The file's bytes, or None where there is none. Raises FileError for anything but a plain file of ≤ 5 MB."""
    try:
        return read_plain(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise file_error(path, "read", error) from error


def read_plain(path: Path) -> bytes:
    """The file's bytes. Raises FileError for anything but a plain file of ≤ 5 MB, and OSError as it comes."""
    with open(_target(path), "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise FileError(f"{path} is not a plain file")
        if status.st_size > MAX_BYTES:
            raise FileError(f"{path} has {status.st_size:,} bytes; no settings file has more than {MAX_BYTES:,}")
        return file.read()


def text_of(path: Path, data: bytes | None) -> str:
    """The file's text, line ends and BOM kept. Raises FileError for what is not UTF-8."""
    try:
        return (data or b"").decode()
    except UnicodeDecodeError as error:
        line = (data or b"")[: error.start].count(b"\n") + 1
        raise FileError(f"{path}, line {line}: not UTF-8 text, so it is left alone") from error


@contextmanager
def locked(home: Path, path: Path, seconds: float = LOCK_SECONDS) -> Generator[None]:
    """Hold the one lock for this file. It lies in omlx's own home, so no agent ever sees it.

    One waits for it at a time, in a turnstile that the others wait for: so nobody who comes back at once keeps all out.
    """
    name = hashlib.sha256(os.fsencode(_target(path))).hexdigest()
    deadline = time.monotonic() + seconds
    with _opened(home / "locks" / f"{name}.lock") as lock:
        with _opened(home / "locks" / f"{name}.turn") as turnstile:
            _wait_for(turnstile, path, deadline)
            _wait_for(lock, path, deadline)
        yield


@contextmanager
def _opened(lock: Path) -> Generator[int]:
    """A handle of this file; what is locked by it is free when it is closed."""
    try:
        private_folder(lock.parent)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise file_error(lock, "open the lock", error) from error
    try:
        yield handle
    finally:
        os.close(handle)


def _wait_for(handle: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise FileError(f"another omlx is editing {path}; try again when it is done") from None
            time.sleep(0.005)


def update(home: Path, path: Path, change: Callable[[bytes | None], bytes | None]) -> tuple[bytes | None, bytes | None]:
    """Replace the file by `change(its bytes)`, under its lock; None means no file. Returns what was and what is now.

    When somebody else changes the file meanwhile, `change` is asked again with the new bytes, three times in all.
    """
    with locked(home, path):
        for attempt in range(1, ATTEMPTS + 1):
            before = read(path)
            after = change(before)
            if after == before:
                return before, after
            try:
                replace(path, after, expected=before)
            except ForeignEdit:
                if attempt == ATTEMPTS:
                    raise
            else:
                return before, after
    raise AssertionError("the last attempt returns or raises")


def replace(path: Path, data: bytes | None, expected: bytes | None, mode: int = 0o600) -> None:
    """Put `data` in the place of `expected` (None: no file) in one step; `mode` is for a file that is new.

    The caller holds the lock. Raises ForeignEdit when something other than `expected` stands there, FileError when the
    file cannot be replaced; in both cases the old file is intact and nothing is left over.
    """
    target = _target(path)
    made = missing_folders(path)
    try:
        if not made:
            sweep(target)
        if data is None:
            _compare(path, expected)
            target.unlink(missing_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_beside(path, target, data, expected, mode)
        if target.parent.is_dir():
            _sync_folder(target.parent)
    except BaseException as error:
        remove_empty_folders(made)
        if isinstance(error, OSError):
            raise file_error(path, "write", error) from error
        raise


def missing_folders(path: Path, made: Set[Path] = frozenset()) -> tuple[Path, ...]:
    """The folders that must be made before the file can be, or were `made` for others; the innermost first."""
    return tuple(folder for folder in _target(path).parents if folder in made or not os.path.exists(folder))


def remove_empty_folders(folders: Sequence[Path]) -> None:
    """Remove the folders, the innermost first, up to one that holds something."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def sweep(target: Path) -> None:
    """Remove what killed writers left beside the target; its lock is held, so no living writer owns any of it."""
    prefix = f".{target.name}.omlx-"
    for entry in os.scandir(target.parent):
        if entry.name.startswith(prefix) and entry.name.endswith(".tmp"):
            with suppress(FileNotFoundError):
                os.unlink(entry.path)


def private_folder(folder: Path) -> None:
    """Make a folder of omlx's own and those above it that are missing, with mode 0700. Raises FileError."""
    try:
        for missing in reversed(missing_folders(folder / "file")):
            missing.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        raise file_error(folder, "make", error) from error


def _write_beside(path: Path, target: Path, data: bytes, expected: bytes | None, mode: int) -> None:
    temporary = target.with_name(f".{target.name}.omlx-{secrets.token_hex(6)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            _keep_attributes(path, target, file.fileno(), mode)
            _sync(file.fileno())
        _compare(path, expected)
        os.rename(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _compare(path: Path, expected: bytes | None) -> None:
    if read(path) != expected:
        raise ForeignEdit(f"{path} was changed by another program meanwhile; nothing was written, run it again")


def _keep_attributes(path: Path, target: Path, handle: int, mode: int) -> None:
    """Give the new file the old one's owner, group, extended attributes and mode; refuse where that cannot be."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        os.fchmod(handle, mode)
        return
    if old.st_nlink > 1:
        raise FileError(f"{path} has {old.st_nlink} hard links, which an edit would part; edit it by hand")
    new = os.fstat(handle)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        try:
            os.fchown(handle, old.st_uid, old.st_gid)
        except PermissionError as error:
            raise FileError(f"{path} belongs to another user or group, which an edit would change") from error
    _copy_extended_attributes(target, handle)
    os.fchmod(handle, stat.S_IMODE(old.st_mode))


def _copy_extended_attributes(target: Path, handle: int) -> None:
    if sys.platform == "darwin":
        _copy_mac_attributes(target, handle)
        return
    for name in os.listxattr(target):
        try:
            os.setxattr(handle, name, os.getxattr(target, name))
        except OSError:
            # security.* and trusted.* are the system's to give; what a user can set must not be lost
            if not name.startswith(("security.", "trusted.")):
                raise


def _copy_mac_attributes(target: Path, handle: int) -> None:
    """macOS: Python has no call for extended attributes and ACLs; the C library's fcopyfile copies both."""
    acl, xattr = 1 << 0, 1 << 2  # COPYFILE_ACL, COPYFILE_XATTR in <copyfile.h>
    library = ctypes.CDLL(None, use_errno=True)
    with open(target, "rb") as source:
        if library.fcopyfile(source.fileno(), handle, None, ctypes.c_uint32(acl | xattr)) < 0:
            raise OSError(ctypes.get_errno(), "cannot copy extended attributes")


def _sync(handle: int) -> None:
    os.fsync(handle)
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone leaves the data in the drive's cache
    if full is not None:
        with suppress(OSError):
            fcntl.fcntl(handle, full)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


def _open_without_waiting(name: str, flags: int) -> int:
    """A pipe in the file's place must not hang us; nothing here is a terminal."""
    return os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _target(path: Path) -> Path:
    """The file itself, behind any links."""
    return Path(os.path.realpath(path))


def file_error(path: Path, verb: str, error: OSError) -> FileError:
    """What the system said, as the fact and the remedy."""
    remedy = _REMEDIES.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
    return FileError(f"cannot {verb} {path}: {remedy}")

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from omlx.launcher import files
from omlx.launcher.errors import FileError, ForeignEdit
from tests.torture.kills import kills, together
from tests.waiting import wait_until

from .full_disk import full_disk

NOBODY = 65534


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "omlx"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "settings.json"
    path.write_bytes(b"old")
    files.replace(path, b"new", expected=b"old")
    assert (path.read_bytes(), names(tmp_path)) == (b"new", ["settings.json"])


def test_a_new_file_is_private_and_its_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "new"
    files.replace(path, b"x", expected=None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_none_removes_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    files.replace(path, None, expected=b"x")
    assert names(tmp_path) == []


def test_mode_and_extended_attributes_stay(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(0o640)
    try:
        os.setxattr(path, "user.colour", b"blue")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    files.replace(path, b"y", expected=b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.getxattr(path, "user.colour") == b"blue"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_owner_and_group_stay(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.chown(path, NOBODY, 1)
    files.replace(path, b"y", expected=b"x")
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, 1)


def test_a_link_stays_a_link_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "dotfiles" / "file", tmp_path / "link"
    target.parent.mkdir()
    target.write_bytes(b"x")
    link.symlink_to("dotfiles/file")
    files.replace(link, b"y", expected=b"x")
    assert link.is_symlink()
    assert target.read_bytes() == b"y"
    assert names(target.parent) == ["file"]


def test_a_dangling_link_gets_its_target(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("there/file")
    files.replace(link, b"y", expected=files.read(link))
    assert (tmp_path / "there" / "file").read_bytes() == b"y"


def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(FileError, match="circle"):
        files.read(tmp_path / "a")


def test_a_file_with_two_names_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.link(path, tmp_path / "other name")
    with pytest.raises(FileError, match="2 hard links"):
        files.replace(path, b"y", expected=b"x")
    assert names(tmp_path) == ["file", "other name"]
    assert path.read_bytes() == b"x"


def test_what_is_no_plain_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="not a plain file"):
        files.read(tmp_path / "pipe")
    with pytest.raises(FileError, match="cannot read"):
        files.read(tmp_path)


def test_a_huge_file_is_refused(tmp_path):
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    with pytest.raises(FileError, match="5,000,001 bytes"):
        files.read(tmp_path / "huge")


def test_what_is_not_utf8_is_refused_with_its_line(tmp_path):
    with pytest.raises(FileError, match="line 2: not UTF-8"):
        files.text_of(tmp_path / "file", b"a\n\xff")


def test_a_foreign_change_is_seen_before_the_rename(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"theirs")
    with pytest.raises(ForeignEdit, match="changed by another program"):
        files.replace(path, b"ours", expected=b"what we read")
    assert (path.read_bytes(), names(tmp_path)) == (b"theirs", ["file"])


def test_an_update_is_made_anew_on_top_of_a_foreign_change(tmp_path, home):
    path = tmp_path / "file"
    path.write_bytes(b"0")
    seen = []

    def change(data: bytes | None) -> bytes:
        seen.append(data)
        if len(seen) == 1:
            path.write_bytes(b"theirs")
        return (data or b"") + b"+ours"

    assert files.update(home, path, change) == (b"theirs", b"theirs+ours")
    assert path.read_bytes() == b"theirs+ours"


def test_an_update_gives_up_after_three_foreign_changes(tmp_path, home):
    path = tmp_path / "file"
    path.write_bytes(b"0")
    count = 0

    def change(_: bytes | None) -> bytes:
        nonlocal count
        count += 1
        path.write_bytes(str(count).encode())
        return b"ours"

    with pytest.raises(ForeignEdit):
        files.update(home, path, change)
    assert (path.read_bytes(), names(tmp_path)) == (b"3", ["file", "omlx"])


def test_what_a_killed_writer_left_is_swept(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    (tmp_path / ".file.omlx-0123.tmp").write_bytes(b"half")
    (tmp_path / ".file.other.tmp").write_bytes(b"not ours")
    files.replace(path, b"y", expected=b"x")
    assert names(tmp_path) == [".file.other.tmp", "file"]


def test_a_second_writer_waits_only_so_long(tmp_path, home):
    path = tmp_path / "file"
    with (
        files.locked(home, path),
        pytest.raises(FileError, match="another omlx is editing"),
        files.locked(home, path, seconds=0.0),
    ):
        pass
    assert names(tmp_path) == ["omlx"]
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_file_that_cannot_grow_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with full_disk(), pytest.raises(FileError, match=r"cannot write .*does not allow a file of this size"):
        files.replace(path, b"new" * 100, expected=b"old")
    with full_disk(), pytest.raises(FileError):
        files.replace(tmp_path / "a" / "b", b"new" * 100, expected=None)
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["file"])


@pytest.mark.parametrize(
    ("code", "says"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")]
)
@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_or_read_only_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, code, says):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(FileError, match=says):
        files.replace(path, b"new", expected=b"old")
    assert (path.read_bytes(), names(tmp_path)) == (b"old", ["file"])


FULL_DISK = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from omlx.launcher import files
folder = Path(sys.argv[1])
path = folder / "file"
path.write_bytes(b"old")
if sys.argv[2] == "full":
    (folder / "ballast").write_bytes(bytes(40_000))
    new = bytes(60_000)
else:
    os.system(f"mount -o remount,ro {folder}")
    new = b"new"
try:
    files.replace(path, new, expected=b"old")
except Exception as error:
    print(type(error).__name__, str(error).partition(": ")[2])
print(path.read_bytes(), sorted(entry.name for entry in folder.iterdir() if entry.name != "ballast"))
"""


@pytest.mark.parametrize(
    ("state", "says"), [("full", "the disk is full"), ("read-only", "this file system is read-only")]
)
def test_a_real_disk_that_is_full_or_read_only_keeps_the_old_file(tmp_path, state, says):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (Linux: util-linux)")
    shell = f'mount -t tmpfs -o size=64k tmpfs {tmp_path} || exit 77; exec "$0" -c "$1" {tmp_path} {state}'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, sys.executable, FULL_DISK], capture_output=True, text=True, check=False
    )
    if done.returncode in (1, 77) and "Traceback" not in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    error, left = done.stdout.splitlines()
    assert error.startswith(f"FileError {says}"), done.stdout
    assert left == "b'old' ['file']"


@contextmanager
def without_root() -> Iterator[None]:
    """As a user who owns nothing, should the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_a_read_only_folder_keeps_its_file(open_folder):
    path = open_folder / "file"
    path.write_bytes(b"old")
    path.chmod(0o666)
    open_folder.chmod(0o555)
    with without_root(), pytest.raises(FileError, match=r"cannot write .*no permission"):
        files.replace(path, b"new", expected=b"old")
    open_folder.chmod(0o755)
    assert (path.read_bytes(), names(open_folder)) == (b"old", ["file"])


def test_a_file_that_may_not_be_read_is_refused(open_folder):
    path = open_folder / "file"
    path.write_bytes(b"old")
    path.chmod(0)
    with without_root(), pytest.raises(FileError, match=r"cannot read .*no permission"):
        files.read(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs two users")
def test_a_file_of_another_user_is_refused_since_an_edit_would_make_it_ours(open_folder):
    path = open_folder / "file"
    path.write_bytes(b"old")
    path.chmod(0o666)
    open_folder.chmod(0o777)
    with without_root(), pytest.raises(FileError, match="belongs to another user"):
        files.replace(path, b"new", expected=b"old")
    assert (path.read_bytes(), names(open_folder)) == (b"old", ["file"])


@pytest.mark.parametrize("dialect", ["jsonc", "toml"])
def test_a_killed_writer_leaves_a_whole_file(tmp_path, dialect):
    counts = kills(tmp_path, dialect, cycles=5, seed=3)
    del counts["killed in a write"]
    assert +counts == {"cycles": 5}


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    assert together(tmp_path, writers=4, increments=10) == 40


def test_who_comes_back_to_a_lock_at_once_keeps_nobody_out(tmp_path: Path):
    home, path = tmp_path / "home", tmp_path / "file"
    is_over = threading.Event()
    num_held = 0

    def come_back() -> None:
        nonlocal num_held
        while not is_over.is_set():
            with files.locked(home, path, seconds=60):
                num_held += 1
                time.sleep(0.02)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(come_back)
        wait_until(lambda: num_held > 0)
        try:
            for _ in range(5):
                before = num_held
                with files.locked(home, path, seconds=60):
                    assert num_held - before < 20
        finally:
            is_over.set()

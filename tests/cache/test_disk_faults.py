"""A disk that fails in any way costs cached prefixes, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx.server.cache.disk_tier import DiskLimits, DiskTier

from .test_disk_tier import ROOT, TOKENS, WIDE, Text, TextCodec, name, write

_CALLS: list[tuple[Any, str]] = [
    (os, "open"),
    (os, "write"),
    (os, "scandir"),
    (os, "unlink"),
    (os, "utime"),
    (os, "mkdir"),
    (os, "rename"),
    (shutil, "disk_usage"),
    (Path, "read_bytes"),
]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(folder: Path, clock: Callable[[], float] = Clock(), limits: DiskLimits = WIDE) -> DiskTier[Text]:  # noqa: B008
    return DiskTier(folder, "model", TextCodec(), limits, clock=clock)


def use(folder: Path) -> tuple[list[Text | None], str]:
    """Write some blocks, read them, and read them again after a restart; what was read, and the trouble."""
    tier = make(folder)
    for number in range(4):
        if tier.has_room():
            tier.write(name(number), ROOT, TOKENS, Text(b"block %d" % number))
    tier.close()
    found = [tier.read(name(number)) for number in range(4)]
    tier.used([name(number) for number in range(4)])
    trouble = tier.trouble
    again = make(folder)
    found += [again.read(name(number)) for number in range(4)]
    again.close()
    return found, trouble


def failing(patch: pytest.MonkeyPatch, at: int, code: int, forever: bool) -> list[int]:
    """Every call of the system fails from the `at`-th on, or only that one. How many calls there were."""
    calls = [0]

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == at or (forever and calls[0] > at):
                raise OSError(code, os.strerror(code))
            return real(*arguments, **options)

        return call

    for owner, function in _CALLS:
        patch.setattr(owner, function, wrapped(getattr(owner, function)))
    return calls


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("forever", [False, True])
def test_a_fault_at_every_call_is_survived_and_never_gives_wrong_values(tmp_path: Path, code: int, forever: bool):
    at, num_calls = 1, 1
    while at <= num_calls:
        with pytest.MonkeyPatch.context() as patch:
            calls = failing(patch, at, code, forever)
            found, _ = use(tmp_path / f"{at}")
            num_calls = calls[0]
        right = [Text(b"block %d" % number) for number in range(4)] * 2
        assert all(block in (None, wanted) for block, wanted in zip(found, right, strict=True))
        at += 1
    assert at > 30


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only"), (errno.EACCES, "Permission denied")],
)
def test_a_disk_that_takes_nothing_is_told_once_and_tried_again_after_a_minute(
    tmp_path: Path, code: int, words: str, caplog: pytest.LogCaptureFixture
):
    clock = Clock()
    tier = make(tmp_path, clock)
    with pytest.MonkeyPatch.context() as patch:
        real = os.open

        def refuse(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                raise OSError(code, os.strerror(code))
            return real(path, flags, *rest, **options)

        patch.setattr(os, "open", refuse)
        assert not write(tier, name(1), ROOT, TOKENS, Text(b"a"))
        assert not tier.write(name(2), ROOT, TOKENS, Text(b"b"))
    assert words in tier.trouble
    assert caplog.text.count(words) == 1
    clock.now = 61.0
    assert write(tier, name(2), ROOT, TOKENS, Text(b"b"))
    tier.close()
    assert tier.trouble == ""
    assert tier.read(name(2)) == Text(b"b")


def test_the_cap_holds_after_folders_could_not_be_listed(tmp_path: Path):
    limits, clock = DiskLimits(max_bytes=5000, free_share=1.0), Clock()
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "scandir", _refuse)
            tier = make(tmp_path, clock, limits)
            assert not tier.write(name(0), ROOT, TOKENS, Text(b"x" * 900))
        clock.now += 61.0
        for number in range(10):
            write(tier, name(number), ROOT, TOKENS, Text(bytes([number]) * 900))
        tier.close()
    assert 0 < sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) <= 5000


def test_a_folder_of_another_owner_is_none_of_ours(tmp_path: Path):
    (tmp_path / "lost+found").mkdir()
    real = os.scandir

    def scandir(path: Any) -> Any:
        return _refuse(path) if str(path).endswith("lost+found") else real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        tier = make(tmp_path)
        assert write(tier, name(1), ROOT, TOKENS, Text(b"a"))
        tier.close()
        again = make(tmp_path)
        assert (again.read(name(1)), again.trouble) == (Text(b"a"), "")
        again.close()


def _refuse(path: Any) -> Any:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_a_full_disk_is_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))  # type: ignore
    tier = make(tmp_path)
    assert not write(tier, name(1), ROOT, TOKENS, Text(b"a"))
    assert "is full: 0 MiB are free" in tier.trouble
    tier.close()


def test_a_removed_folder_is_made_again(tmp_path: Path):
    tier = make(tmp_path / "cache")
    assert write(tier, name(1), ROOT, TOKENS, Text(b"a"))
    while not tier.holds(name(1)):
        pass
    shutil.rmtree(tmp_path / "cache")
    assert tier.read(name(1)) is None
    assert write(tier, name(2), ROOT, TOKENS, Text(b"b"))
    tier.close()
    assert tier.read(name(2)) == Text(b"b")


def test_a_folder_that_is_a_file_is_trouble(tmp_path: Path):
    (tmp_path / "cache").write_text("in the way")
    tier = make(tmp_path / "cache")
    assert "cannot be used" in tier.trouble
    assert not tier.write(name(1), ROOT, TOKENS, Text(b"a"))
    assert tier.read(name(1)) is None
    tier.close()


def test_damaged_blocks_are_counted(tmp_path: Path):
    tier = make(tmp_path)
    for number in range(3):
        write(tier, name(number), ROOT, TOKENS, Text(b"block"))
    tier.close()
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(b"other")
    tier = make(tmp_path)
    assert [tier.read(name(number)) for number in range(3)] == [None] * 3
    assert tier.num_damaged == 3
    tier.close()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_more_than_may_be_there_leaves_at_the_start_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tier = make(tmp_path)
    for number in range(10):
        write(tier, name(number), ROOT, TOKENS, Text(bytes(100)))
    tier.close()
    other = tmp_path / "another-model"
    other.mkdir()
    (other / "some.safetensors").write_bytes(bytes(5000))

    read_bytes = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self.suffix == ".safetensors":
            raise AssertionError(f"{self} was read at the start")
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    tier = make(tmp_path, limits=DiskLimits(max_bytes=300, free_share=1.0))
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) <= 300
    assert tier.nbytes <= 300
    tier.close()


def test_only_the_owner_may_read_what_is_kept(tmp_path: Path):
    previous = os.umask(0)
    try:
        tier = make(tmp_path / "cache")
        write(tier, name(1), ROOT, TOKENS, Text(b"a"))
        tier.close()
    finally:
        os.umask(previous)
    for path in (tmp_path / "cache").rglob("*.safetensors"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700

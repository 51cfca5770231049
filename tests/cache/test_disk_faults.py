"""A disk that fails in any way costs cached prefixes, and nothing else."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omlx.server.cache.disk_tier import DiskLimits, DiskTier

from ..waiting import wait_until
from .failing import KINDS, Faults
from .test_disk_tier import MODEL, OTHER_MODEL, ROOT, TOKENS, WIDE, Text, TextCodec, name, write

SMALL = DiskLimits(max_bytes=40, free_share=1.0, max_memory_bytes=1)
"""Room for three of the blocks below, one of them at a time on its way."""


def block(number: int) -> Text:
    return Text(b"block %05d" % number)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(folder: Path, clock: Callable[[], float] = Clock(), limits: DiskLimits = WIDE) -> DiskTier[Text]:  # noqa: B008
    return DiskTier(folder, MODEL, TextCodec(), limits, clock=clock)


def size(folder: Path) -> int:
    """Of blocks, and of what is left of some."""
    return sum(file.stat().st_size for file in folder.rglob("*.*"))


def written(tier: DiskTier[Text], number: int) -> bool:
    """Whether the tier took the block; it has done with it, and has taken note of that."""
    is_taken = write(tier, name(number), ROOT, TOKENS, block(number))
    wait_until(tier.has_room)
    assert not is_taken or tier.holds(name(number)) or tier.trouble
    return is_taken


def use(tier: DiskTier[Text]) -> None:
    """Ask for all that a tier does. What it serves is what was written."""
    for number in range(4):
        written(tier, number)
    _look(tier)
    tier.used([name(number) for number in range(4)])


def _look(tier: DiskTier[Text]) -> None:
    tier.children(ROOT)
    assert all(tier.read(name(number)) in (None, block(number)) for number in range(4))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("forever", [False, True])
def test_a_fault_at_every_call_is_survived_and_never_gives_wrong_values(tmp_path: Path, code: int, forever: bool):
    at, num_calls, failed = 0, 1, set[str]()
    while at <= num_calls:
        folder, clock = tmp_path / f"{at}", Clock()
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, folder, at, code, forever)
            tier = make(folder, clock, SMALL)
            use(tier)
            again = make(folder, clock, SMALL)
            _look(again)
        if at == 0:  # nothing failed: the most calls there are
            num_calls = len(faults.calls)
            assert [again.holds(name(number)) for number in range(4)] == [False, True, True, True]
        assert size(folder) <= SMALL.max_bytes, (at, faults.calls[:at][-1:])
        clock.now += 61.0
        for number, each in ((5, tier), (6, again)):
            assert written(each, number), (at, faults.calls[:at][-1:])
            assert (each.read(name(number)), each.trouble) == (block(number), "")
            assert size(folder) <= SMALL.max_bytes
            each.close()
        failed |= faults.failed
        at += 1
    assert failed == KINDS


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
    (tmp_path / OTHER_MODEL).mkdir()
    (tmp_path / "rank0of2").mkdir()
    real = os.scandir

    def scandir(path: Any) -> Any:
        return _refuse(path) if str(path).endswith((OTHER_MODEL, "rank0of2")) else real(path)

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
    assert f"{tmp_path}/cache is no folder; move it away, or choose another with `omlx config set" in tier.trouble
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
    other = tmp_path / OTHER_MODEL / f"{name(1).hex()}.of.another.make.safetensors"
    other.parent.mkdir()
    other.write_bytes(bytes(5000))

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            assert not str(path).endswith(".safetensors"), f"{path} was opened at the start"
            return real(path, *arguments, **options)

        return call

    for module in (os, io, builtins):
        monkeypatch.setattr(module, "open", refusing(module.open))
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


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[malloc] Unable to allocate")])
def test_a_block_that_memory_does_not_hold_is_a_miss_and_stays(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    def decode(_codec: TextCodec, _raw: memoryview) -> Text:
        raise error

    tier = make(tmp_path)
    write(tier, name(1), ROOT, TOKENS, block(1))
    tier.close()
    tier = make(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(TextCodec, "decode", decode)
        assert tier.read(name(1)) is None
    assert "cannot be read" in tier.trouble
    assert tier.read(name(1)) == block(1)
    tier.close()

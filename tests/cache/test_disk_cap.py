"""The files on disk never take more than they may: what cannot be removed or read, or is left over, counts too."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from omlx.server.cache.disk_tier import DiskLimits, DiskTier

from ..waiting import wait_until
from .test_disk_faults import SMALL, Clock, block, make, size, written
from .test_disk_tier import MODEL, OTHER_MODEL, ROOT, TOKENS, Text, TextCodec, Waiting, name, only_file, write


@contextmanager
def failing(*calls: str, code: int = errno.EIO, part: str = "") -> Iterator[None]:
    """These of `os`'s calls fail, those with a path only where it contains `part`."""

    def refusing(real: Any) -> Any:
        def call(first: Any, *arguments: Any, **options: Any) -> Any:
            if part and not isinstance(first, int) and part not in str(first):
                return real(first, *arguments, **options)
            raise OSError(code, os.strerror(code))

        return call

    with pytest.MonkeyPatch.context() as patch:
        for each in calls:
            patch.setattr(os, each, refusing(getattr(os, each)))
        yield


@contextmanager
def unreadable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:

        def refuse(_path: str, _go_on: Any = None) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patch.setattr("omlx.server.cache.disk_tier.read_checked", refuse)
        yield


def test_what_cannot_be_removed_counts_is_served_and_goes_when_it_can(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    clock = Clock()
    tier = make(tmp_path, clock, SMALL)
    for number in range(3):
        assert written(tier, number)
    with failing("unlink", code=errno.EPERM):
        for number in (3, 4):
            assert not written(tier, number)
            clock.now += 61.0
    assert "3 files" in tier.trouble
    assert caplog.text.count("cannot be removed") == 1
    assert tier.nbytes == size(tmp_path) == 33
    assert [tier.read(name(number)) for number in range(3)] == [block(number) for number in range(3)]
    assert written(tier, 3)
    assert (tier.nbytes, size(tmp_path), tier.trouble) == (33, 33, "")
    tier.close()


def test_one_that_cannot_be_removed_leaves_room_for_others_in_the_place_of_the_next(tmp_path: Path):
    tier = make(tmp_path, limits=SMALL)
    for number in range(3):
        assert written(tier, number)
    with failing("unlink", part=name(0).hex()):
        assert written(tier, 3)
        assert written(tier, 4)
    assert [tier.holds(name(number)) for number in range(5)] == [True, False, False, True, True]
    assert (tier.nbytes, size(tmp_path), tier.trouble) == (33, 33, "")
    tier.close()


def test_a_damaged_file_that_cannot_be_removed_counts_once_and_is_not_served(tmp_path: Path):
    clock = Clock()
    tier = make(tmp_path, clock, SMALL)
    assert written(tier, 0)
    only_file(tmp_path).write_bytes(b"block 00009")
    with failing("unlink"):
        assert tier.read(name(0)) is None
    assert (tier.holds(name(0)), tier.num_damaged, tier.nbytes) == (False, 1, 11)
    for number in (1, 2, 3):
        assert written(tier, number)
        assert size(tmp_path) <= SMALL.max_bytes
    assert tier.num_damaged == 1
    assert written(tier, 0)
    assert tier.read(name(0)) == block(0)
    tier.close()


def test_files_that_cannot_be_read_count_are_told_once_and_are_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    clock = Clock()
    with unreadable():
        tier = make(tmp_path, clock, SMALL)
        for number in range(3):
            assert written(tier, number)
        for number in range(3):
            assert tier.read(name(number)) is None
            assert not tier.holds(name(number))
            clock.now += 1.0
    assert tier.trouble == f"{tmp_path / MODEL} cannot be read: Input/output error"
    assert caplog.text.count("cannot be read") == 1
    assert tier.nbytes == 33
    assert not written(tier, 0)
    clock.now += 61.0
    for number in (0, 1, 2, 3):
        assert written(tier, number)
        assert size(tmp_path) <= SMALL.max_bytes
    assert tier.trouble == ""
    tier.close()
    again = make(tmp_path, clock, SMALL)
    assert [again.read(name(number)) for number in range(4)] == [None, block(1), block(2), block(3)]
    again.close()


def test_what_is_left_of_a_block_that_could_not_be_written_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    clock = Clock()
    tier = make(tmp_path, clock, SMALL)
    with failing("write", "unlink"):
        for number in (0, 1):
            assert written(tier, number)
            assert "cannot be written" in tier.trouble
            clock.now += 61.0
    assert caplog.text.count("cannot be written") == 1
    assert len(list(tmp_path.rglob("*.part"))) == 2
    for number in (2, 3, 4):
        assert written(tier, number)
        assert size(tmp_path) <= SMALL.max_bytes
    assert [tier.holds(name(number)) for number in (2, 3, 4)] == [False, False, True]
    tier.close()


def test_what_is_on_its_way_to_the_disk_counts_and_nothing_leaves_for_what_has_no_room_beside_it(tmp_path: Path):
    codec = Waiting()
    tier = DiskTier(tmp_path, MODEL, codec, DiskLimits(max_bytes=40, free_share=1.0))
    codec.may_encode.set()
    assert tier.write(name(9), ROOT, TOKENS, Text(bytes(5)))
    wait_until(lambda: tier.holds(name(9)))
    codec.may_encode.clear()
    taken = [tier.write(name(number), ROOT, TOKENS, Text(bytes(15))) for number in range(3)]
    assert taken == [True, True, False]
    assert (size(tmp_path), tier.holds(name(9)), tier.trouble) == (35, True, "")
    codec.may_encode.set()
    tier.close()


def test_a_block_written_again_after_its_file_was_missed_ahead_is_served_and_counts(tmp_path: Path):
    limits = DiskLimits(max_bytes=40, free_share=1.0)
    one, another = make(tmp_path, limits=limits), DiskTier(tmp_path, OTHER_MODEL, TextCodec(), limits)
    names = [name(number) for number in range(9)]

    def keep(tier: DiskTier[Text], number: int) -> None:
        assert write(tier, names[number], ROOT, TOKENS, block(number))
        wait_until(lambda: tier.holds(names[number]))
        assert size(tmp_path) <= limits.max_bytes

    for tier in (one, another):
        for number in range(3):
            keep(tier, number)
    one.fetch(names[:3])  # their files had to leave for the other model's
    wait_until(lambda: not one.is_fetching(names[:3]))
    assert one.read(names[0]) is None
    for number in range(3):
        keep(one, number)
    assert [one.read(names[number]) for number in range(3)] == [block(number) for number in range(3)]
    for number in range(3, 9):
        keep(one, number)
    one.close()
    another.close()


def test_what_cannot_be_marked_as_used_is_served_and_counts(tmp_path: Path):
    tier = make(tmp_path, limits=SMALL)
    assert written(tier, 0)
    with failing("utime"):
        tier.used([name(0)])
        assert written(tier, 0)
    assert (tier.nbytes, tier.read(name(0))) == (size(tmp_path), block(0))
    tier.close()


def test_a_count_that_cannot_be_kept_is_trouble(tmp_path: Path):
    tier = make(tmp_path, limits=SMALL)
    with failing("pwrite"):
        assert not written(tier, 0)
    assert "cannot be used" in tier.trouble
    tier.close()

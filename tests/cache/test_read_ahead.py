"""Files are read before they are wanted: within a bound, and with the errors of reading them late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from omlx.server.cache.read_ahead import ReadAhead

from ..waiting import wait_until


class Disk:
    """Reads "a" as b"a", once `gate` is open, where it is not `gone`; notes what was read."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gone: set[str] = set()
        self.read_paths: list[str] = []

    def read(self, path: str) -> memoryview:
        assert self.gate.wait(30)
        self.read_paths.append(path)
        if path in self.gone:
            raise FileNotFoundError(path)
        return memoryview(path.encode())


@contextmanager
def ahead_of(disk: Disk, max_bytes: int = 100) -> Iterator[ReadAhead]:
    ahead = ReadAhead(disk.read, max_bytes)
    try:
        yield ahead
    finally:
        disk.gate.set()
        ahead.close()


def test_what_was_begun_is_read_once():
    disk = Disk()
    with ahead_of(disk) as ahead:
        ahead.begin({"a": 10, "b": 10})
        ahead.begin({"a": 10})
        assert ahead.is_under_way("a")
        assert not ahead.is_under_way("c")
        disk.gate.set()
        assert [ahead.take(path) for path in ("b", "a", "c")] == [b"b", b"a", b"c"]
        assert not ahead.is_under_way("a")
        assert sorted(disk.read_paths) == ["a", "b", "c"]
        assert ahead.take("a") == b"a"
        assert disk.read_paths[-1] == "a"


def test_an_error_is_that_of_whoever_takes():
    disk = Disk()
    disk.gate.set()
    disk.gone.add("a")
    with ahead_of(disk) as ahead:
        ahead.begin({"a": 10})
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                ahead.take("a")


def test_what_could_not_be_read_ahead_is_read_again():
    disk = Disk()
    disk.gate.set()
    disk.gone |= {"a", "b"}
    with ahead_of(disk) as ahead:
        ahead.begin(dict.fromkeys("ab", 10))
        wait_until(lambda: not ahead.is_under_way("a") and not ahead.is_under_way("b"))
        disk.gone.clear()
        assert ahead.take("a") == b"a"
        ahead.begin({"b": 10})
        wait_until(lambda: not ahead.is_under_way("b"))
        assert disk.read_paths.count("b") == 2
        assert ahead.take("b") == b"b"
        assert disk.read_paths.count("b") == 2


def test_what_nobody_takes_goes_for_what_comes_and_what_is_under_way_stays():
    disk = Disk()
    with ahead_of(disk, max_bytes=25) as ahead:
        ahead.begin(dict.fromkeys("abc", 10))
        assert [ahead.is_under_way(path) for path in ("a", "b", "c")] == [True, True, False]
        disk.gate.set()
        wait_until(lambda: not ahead.is_under_way("a") and not ahead.is_under_way("b"))
        ahead.begin(dict.fromkeys("abc", 10))  # none of them goes for another
        assert sorted(disk.read_paths) == ["a", "b"]
        ahead.begin({"d": 10})
        wait_until(lambda: not ahead.is_under_way("d"))
        assert [ahead.take(path) for path in ("d", "b", "a")] == [b"d", b"b", b"a"]
        assert disk.read_paths[2:] == ["d", "a"]


def test_files_are_read_beside_one_another():
    together = threading.Barrier(3)

    def read(path: str) -> memoryview:
        together.wait(30)
        return memoryview(path.encode())

    ahead = ReadAhead(read, 100)
    ahead.begin(dict.fromkeys("abc", 10))
    assert [ahead.take(path) for path in "abc"] == [b"a", b"b", b"c"]
    ahead.close()

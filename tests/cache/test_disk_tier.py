"""The disk tier: what it keeps, what it refuses to read, and that it never takes more room than it may."""

from __future__ import annotations

import os
import subprocess
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from omlx.server.cache import block_file
from omlx.server.cache.blocks import BlockHash, block_hash, root_hash
from omlx.server.cache.disk_tier import DiskLimits, DiskTier
from omlx.server.cache.tensor_file import DamagedFile, Tensor, pack, unpack
from omlx.server.cache.write_ledger import Written, read_written, spend

from ..waiting import wait_until

ROOT = root_hash("model")
TOKENS = range(256)
MODEL, OTHER_MODEL = "5a" * 16, "0b" * 16
WIDE = DiskLimits(free_share=1.0)


@dataclass(frozen=True)
class Text:
    text: bytes
    resumable: bool = True
    divisible: bool = False


class TextCodec:
    def size(self, payload: Text, _tokens: Sequence[int]) -> int | None:
        return None if payload.text == b"unwritable" else len(payload.text)

    def encode(self, payload: Text, _tokens: Sequence[int]) -> bytes:
        return payload.text

    def decode(self, raw: memoryview) -> Text:
        if bytes(raw).startswith(b"not ours"):
            raise DamagedFile("not ours")
        return Text(bytes(raw))


def write(tier: DiskTier[Text], key: BlockHash, parent: BlockHash, token_ids: Sequence[int], text: Text) -> bool:
    """Write as soon as there is room."""
    while not tier.has_room():
        pass
    return tier.write(key, parent, token_ids, text)


@contextmanager
def disk(folder: Path, limits: DiskLimits = WIDE, identity: str = MODEL, day: int = 1) -> Iterator[DiskTier[Text]]:
    tier = DiskTier(folder, identity, TextCodec(), limits, today=lambda: date(2026, 1, day))
    yield tier
    tier.close()


def name(number: int) -> BlockHash:
    return block_hash(ROOT, [number])


def keep(folder: Path, number: int, text: bytes = b"values", **options) -> None:
    with disk(folder, **options) as tier:
        assert write(tier, name(number), ROOT, TOKENS, Text(text))


class Waiting(TextCodec):
    """Encodes when it is told to."""

    def __init__(self) -> None:
        self.may_encode = threading.Event()

    def encode(self, payload: Text, _tokens: Sequence[int]) -> bytes:
        assert self.may_encode.wait(60)
        return super().encode(payload, _tokens)


def test_what_waits_for_the_disk_is_bounded_in_bytes_too(tmp_path: Path):
    codec = Waiting()
    tier = DiskTier(tmp_path, MODEL, codec, DiskLimits(free_share=1.0, max_memory_bytes=10))
    assert tier.write(name(1), ROOT, TOKENS, Text(b"6bytes"))
    assert tier.write(name(2), ROOT, TOKENS, Text(b"6bytes"))
    assert not tier.has_room()
    assert not tier.write(name(3), ROOT, TOKENS, Text(b"6bytes"))
    codec.may_encode.set()
    assert write(tier, name(3), ROOT, TOKENS, Text(b"6bytes"))
    tier.close()
    assert all(map(tier.holds, map(name, (1, 2, 3))))


def test_a_block_that_is_written_is_held_no_longer(tmp_path: Path):
    with disk(tmp_path) as tier:
        text = Text(b"values")
        gone = weakref.ref(text)
        assert write(tier, name(1), ROOT, TOKENS, text)
        del text
        wait_until(lambda: gone() is None)


class Short(TextCodec):
    """Without the memory to encode one of its payloads."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def encode(self, payload: Text, _tokens: Sequence[int]) -> bytes:
        if payload.text == b"large":
            raise self._error
        return super().encode(payload, _tokens)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[malloc] Unable to allocate 9 bytes.")])
def test_a_block_that_there_is_no_memory_to_write_is_the_only_one_lost(tmp_path: Path, error: Exception):
    now = [0.0]
    tier = DiskTier(tmp_path, MODEL, Short(error), DiskLimits(free_share=1.0, max_memory_bytes=5), clock=lambda: now[0])
    assert tier.write(name(1), ROOT, TOKENS, Text(b"large"))
    wait_until(tier.has_room)
    assert not tier.write(name(2), ROOT, TOKENS, Text(b"small"))
    assert "cannot be written" in tier.trouble
    now[0] = 3600.0
    assert tier.write(name(2), ROOT, TOKENS, Text(b"small"))
    tier.close()
    assert tier.holds(name(2))
    assert not tier.holds(name(1))
    assert not tier.trouble
    assert only_file(tmp_path).read_bytes() == b"small"


def size_now(file: Path) -> int:
    """In bytes; 0 once another thread has moved or deleted it."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def only_file(folder: Path) -> Path:
    (file,) = folder.rglob("*.safetensors")
    return file


def test_what_was_written_is_read_after_a_restart(tmp_path: Path):
    keep(tmp_path, 1, b"values")
    with disk(tmp_path) as tier:
        assert tier.holds(name(1))
        assert tier.is_resumable(name(1))
        assert not tier.is_divisible(name(1))
        assert tier.read(name(1)) == Text(b"values")
        assert tier.read(name(2)) is None


def test_a_block_is_read_in_pieces_and_each_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keep(tmp_path, 1, b"some values")
    monkeypatch.setattr(block_file, "_PIECE_BYTES", 4)
    told: list[None] = []
    tier = DiskTier(tmp_path, MODEL, TextCodec(), WIDE, go_on=lambda: told.append(None))
    assert tier.read(name(1)) == Text(b"some values")
    assert len(told) == 3
    tier.close()


def test_tails_are_known_by_their_parent_longest_first(tmp_path: Path):
    with disk(tmp_path) as tier:
        for number, length in enumerate((7, 90, 256)):
            write(tier, name(number), name(99), range(length), Text(b"x", resumable=False))
    with disk(tmp_path) as tier:
        assert tier.tails(name(99)) == [90, 7]
        assert not tier.is_resumable(name(0))


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "longer", "renamed"])
def test_a_damaged_file_is_a_miss_and_goes_away(tmp_path: Path, damage: str):
    keep(tmp_path, 1, b"some values")
    file = only_file(tmp_path)
    raw = file.read_bytes()
    wanted = name(1)
    match damage:
        case "cut":
            file.write_bytes(raw[:-1])
        case "flip":
            file.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
        case "empty":
            file.write_bytes(b"")
        case "longer":
            file.write_bytes(raw + b"x")
        case "renamed":
            wanted = name(2)
            file = file.rename(file.with_name(file.name.replace(name(1).hex(), wanted.hex())))
    with disk(tmp_path) as tier:
        assert tier.read(wanted) is None
        assert not tier.holds(wanted)
    assert not file.exists()


def test_a_file_that_vanished_is_a_miss(tmp_path: Path):
    keep(tmp_path, 1)
    with disk(tmp_path) as tier:
        only_file(tmp_path).unlink()
        assert tier.read(name(1)) is None
        assert not tier.holds(name(1))


@pytest.mark.parametrize("damage", ["", "vanishes", "is changed"])
def test_what_is_fetched_ahead_is_read_and_found_damaged_as_ever(tmp_path: Path, damage: str):
    keep(tmp_path, 1)
    with disk(tmp_path) as tier:
        if damage == "vanishes":
            only_file(tmp_path).unlink()
        elif damage:
            only_file(tmp_path).write_bytes(b"volues")
        tier.fetch([name(1), name(2)])
        wait_until(lambda: not tier.is_fetching([name(2), name(1)]))
        assert tier.read(name(1)) == (None if damage else Text(b"values"))
        assert tier.num_damaged == (damage == "is changed")


def test_contents_the_codec_refuses_are_a_miss(tmp_path: Path):
    keep(tmp_path, 1, b"not ours")
    with disk(tmp_path) as tier:
        assert tier.read(name(1)) is None


def test_another_model_shares_nothing(tmp_path: Path):
    keep(tmp_path, 1)
    with disk(tmp_path, identity=OTHER_MODEL) as tier:
        assert not tier.holds(name(1))


def test_the_cap_holds_over_all_models_and_the_least_recently_used_goes_first(tmp_path: Path):
    limits = DiskLimits(max_bytes=100, free_share=1.0)
    for number in range(3):
        keep(tmp_path, number, bytes(30), identity=OTHER_MODEL, limits=limits)
    with disk(tmp_path, limits) as tier:
        for number in range(2):
            assert write(tier, name(number), ROOT, TOKENS, Text(bytes(40)))
        tier.close()
        assert tier.nbytes <= 100
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors")) <= 100
    with disk(tmp_path, limits) as tier:
        assert tier.holds(name(0))
        assert tier.holds(name(1))


def test_what_was_used_stays_longer(tmp_path: Path):
    limits = DiskLimits(max_bytes=100, free_share=1.0)
    for number in range(2):
        keep(tmp_path, number, bytes(40), limits=limits)
    with disk(tmp_path, limits) as tier:
        tier.used([name(0)])
        write(tier, name(2), ROOT, TOKENS, Text(bytes(40)))
    with disk(tmp_path, limits) as tier:
        assert [tier.holds(name(number)) for number in range(3)] == [True, False, True]


def test_a_block_larger_than_the_cap_is_refused(tmp_path: Path):
    with disk(tmp_path, DiskLimits(max_bytes=10, free_share=1.0)) as tier:
        assert not tier.write(name(1), ROOT, TOKENS, Text(bytes(11)))


def test_the_share_of_the_free_disk_bounds_too(tmp_path: Path):
    with disk(tmp_path, DiskLimits(free_share=0.0)) as tier:
        assert not tier.write(name(1), ROOT, TOKENS, Text(b"x"))


def test_the_days_budget_outlives_the_process_and_ends_with_the_day(tmp_path: Path):
    limits = DiskLimits(max_bytes_per_day=50, free_share=1.0)
    keep(tmp_path, 1, bytes(40), limits=limits)
    with disk(tmp_path, limits) as tier:
        assert not tier.write(name(2), ROOT, TOKENS, Text(bytes(40)))
    with disk(tmp_path, limits, day=2) as tier:
        assert tier.write(name(2), ROOT, TOKENS, Text(bytes(40)))


def test_a_used_up_budget_empties_nothing_and_is_told_once_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    days, words = [1], "are used up; cache.ssd_bytes_per_day allows more"
    limits = DiskLimits(max_bytes=100, max_bytes_per_day=100, free_share=1.0)
    tier = DiskTier(tmp_path, MODEL, TextCodec(), limits, today=lambda: date(2026, 1, days[0]))
    for number in (1, 2):
        assert write(tier, name(number), ROOT, TOKENS, Text(bytes(45)))
    while not tier.holds(name(2)):
        pass
    for number, nbytes in ((3, 45), (4, 45), (5, 5)):
        assert not write(tier, name(number), ROOT, TOKENS, Text(bytes(nbytes)))
    assert words in tier.trouble
    assert caplog.text.count(words) == 1
    assert tier.read(name(1)) == tier.read(name(2)) == Text(bytes(45))
    days[0] = 2
    assert tier.trouble == ""
    assert write(tier, name(3), ROOT, TOKENS, Text(bytes(45)))
    tier.close()
    assert [tier.holds(name(number)) for number in (1, 2, 3)] == [False, True, True]


def test_what_was_written_in_all_is_counted_over_restarts_days_and_models(tmp_path: Path):
    assert read_written(tmp_path) == Written()
    keep(tmp_path, 1, bytes(40))
    keep(tmp_path, 2, bytes(30), identity=OTHER_MODEL)
    assert read_written(tmp_path) == Written("2026-01-01", 70, 70)
    keep(tmp_path, 3, bytes(20), day=2)
    assert read_written(tmp_path) == Written("2026-01-02", 20, 90)


def test_a_count_of_an_earlier_make_goes_on_and_a_broken_one_begins_anew(tmp_path: Path):
    ledger = tmp_path / "written"
    ledger.write_text("2026-01-01 100")
    keep(tmp_path, 1, bytes(40))
    assert read_written(tmp_path) == Written("2026-01-01", 140, 140)
    ledger.write_text("\xff" * 60)
    keep(tmp_path, 2, bytes(40))
    assert read_written(tmp_path) == Written("2026-01-01", 40, 40)


def test_engines_that_write_at_once_are_all_counted(tmp_path: Path):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: spend(tmp_path, 3, date(2026, 1, 1)), range(400)))
    assert read_written(tmp_path) == Written("2026-01-01", 1200, 1200)


def test_a_payload_no_file_can_hold_is_refused(tmp_path: Path):
    with disk(tmp_path) as tier:
        assert not tier.write(name(1), ROOT, TOKENS, Text(b"unwritable"))


def test_a_block_is_written_once(tmp_path: Path):
    keep(tmp_path, 1)
    before = only_file(tmp_path).stat().st_ino
    keep(tmp_path, 1)
    assert only_file(tmp_path).stat().st_ino == before


def test_what_an_ended_writer_left_unfinished_is_cleared(tmp_path: Path):
    keep(tmp_path, 1)
    writer = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    part = only_file(tmp_path).with_name(f"{name(2).hex()}.{writer}.part")
    part.write_bytes(b"half")
    with disk(tmp_path) as tier:
        assert tier.holds(name(1))
    assert not part.exists()


def test_what_another_engine_is_writing_stays_and_counts(tmp_path: Path):
    keep(tmp_path, 1, b"x" * 60)
    part = only_file(tmp_path).with_name(f"{name(3).hex()}.{os.getppid()}.part")
    part.write_bytes(b"half of a hundred".ljust(30))
    with disk(tmp_path, DiskLimits(max_bytes=100, free_share=1.0)) as tier:
        assert write(tier, name(2), ROOT, TOKENS, Text(b"y" * 50))
        tier.close()
        assert part.exists()
        assert not tier.holds(name(1))


def test_two_engines_in_one_folder_never_pass_the_cap_together(tmp_path: Path):
    limits = DiskLimits(max_bytes=1000, free_share=1.0)
    with disk(tmp_path, limits) as one, disk(tmp_path, limits, OTHER_MODEL) as another:
        for number in range(60):
            for tier in (one, another):
                write(tier, name(number), ROOT, TOKENS, Text(b"x" * 70))
                files = list(tmp_path.rglob("*.*"))  # all listed first: what is renamed meanwhile counts once
                assert sum(map(size_now, files)) <= 1000, number
    assert len(list(tmp_path.rglob("*.safetensors"))) > 10


def test_a_disk_that_cannot_be_written_costs_nothing_but_the_block(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with disk(tmp_path) as tier:
        write(tier, name(1), ROOT, TOKENS, Text(b"x"))
        tier.close()
        (tmp_path / MODEL).rename(tmp_path / "elsewhere")
    with disk(tmp_path) as tier:
        (tmp_path / MODEL).rmdir()
        (tmp_path / MODEL).write_text("in the way")
        assert not tier.write(name(2), ROOT, TOKENS, Text(b"x"))
        tier.close()
        assert not tier.holds(name(2))
    assert "not kept on disk for now" in caplog.text


@pytest.mark.parametrize("raw", [b"", b"\0" * 8, b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"])
def test_bytes_that_are_no_tensor_file_are_refused(raw: bytes):
    with pytest.raises(DamagedFile):
        unpack(raw)


def test_tensors_come_back_as_they_went():
    tensors = {"a": Tensor("F32", (2, 1), b"12345678"), "b": Tensor("U8", (0,), b"")}
    found, metadata = unpack(pack(tensors, {"who": "me"}))
    assert {key: (t.dtype, t.shape, bytes(t.data)) for key, t in found.items()} == {
        "a": ("F32", (2, 1), b"12345678"),
        "b": ("U8", (0,), b""),
    }
    assert metadata == {"who": "me"}

"""What the heads of blocks' files say of their tokens, and that nothing wrong in one is believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from omlx.server.cache import followers
from omlx.server.cache.block_file import read_token_ids, short, token_metadata
from omlx.server.cache.blocks import block_hash, root_hash
from omlx.server.cache.disk_tier import DiskLimits, DiskTier
from omlx.server.cache.tensor_file import pack, unpack

ROOT = root_hash("model", "a key")
OTHER = root_hash("model", "another key")
FIRST = tuple(range(256))
TAIL = tuple(range(100))


@dataclass(frozen=True)
class Whole:
    resumable: bool = True
    divisible: bool = True


class TokensCodec:
    """Writes nothing but the tokens."""

    def size(self, payload: Whole, token_ids: Sequence[int]) -> int:
        return len(self.encode(payload, token_ids))

    def encode(self, _payload: Whole, token_ids: Sequence[int]) -> bytes:
        return pack({}, token_metadata(token_ids))

    def decode(self, raw: memoryview) -> Whole:
        unpack(raw)
        return Whole()


class EarlierCodec(TokensCodec):
    """Of a make that did not write them."""

    def encode(self, _payload: Whole, token_ids: Sequence[int]) -> bytes:
        return pack({}, {"length": str(len(token_ids))})


@contextmanager
def disk(folder: Path, codec: TokensCodec | None = None) -> Iterator[DiskTier[Whole]]:
    tier = DiskTier(folder, "model", codec or TokensCodec(), DiskLimits(free_share=1.0))
    yield tier
    tier.close()


def keep(
    folder: Path, *blocks: tuple[int, ...], codec: TokensCodec | None = None, payload: Whole | None = None
) -> None:
    with disk(folder, codec) as tier:
        for tokens in blocks:
            while not tier.has_room():
                pass
            assert tier.write(block_hash(ROOT, tokens), ROOT, tokens, payload or Whole())


def only_file(folder: Path) -> Path:
    (file,) = folder.rglob("*.safetensors")
    return file


def test_the_tokens_of_blocks_are_told_after_a_restart_those_used_last_first(tmp_path: Path):
    keep(tmp_path, FIRST, TAIL)
    with disk(tmp_path) as tier:
        tier.used([block_hash(ROOT, FIRST)])
        assert tier.children(ROOT) == [(block_hash(ROOT, FIRST), FIRST), (block_hash(ROOT, TAIL), TAIL)]
        assert tier.children(block_hash(ROOT, FIRST)) == []


def test_no_head_is_read_at_the_start_and_each_is_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    keep(tmp_path, FIRST, TAIL)
    read: list[Path] = []
    monkeypatch.setattr(followers, "read_token_ids", lambda file: read.append(file) or read_token_ids(file))
    with disk(tmp_path) as tier:
        assert read == []
        for _ in range(2):
            assert len(tier.children(ROOT)) == 2
        assert len(read) == 2


def test_no_more_heads_are_read_for_one_prompt_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(followers, "_MAX_FOLLOWERS", 3)
    keep(tmp_path, *((number,) for number in range(5)))
    with disk(tmp_path) as tier:
        tier.used([block_hash(ROOT, [0])])
        assert next(tokens for _, tokens in tier.children(ROOT)) == (0,)
        assert len(tier.children(ROOT)) == 3


def test_where_only_divisible_blocks_are_asked_for_no_other_is_told(tmp_path: Path):
    keep(tmp_path, FIRST, payload=Whole(divisible=False))
    with disk(tmp_path) as tier:
        assert len(tier.children(ROOT)) == 1
        assert tier.children(ROOT, divisible=True) == []


def test_under_another_key_no_tokens_are_told(tmp_path: Path):
    """Not even where the file's name is made to say that it follows what the other key's blocks do."""
    keep(tmp_path, FIRST)
    with disk(tmp_path) as tier:
        assert tier.children(OTHER) == []
    file = only_file(tmp_path)
    file.rename(file.with_name(file.name.replace(short(ROOT), short(OTHER))))
    with disk(tmp_path) as tier:
        assert tier.children(OTHER) == []


def test_a_block_of_an_earlier_make_is_found_whole_and_tells_no_tokens(tmp_path: Path):
    keep(tmp_path, FIRST, codec=EarlierCodec())
    with disk(tmp_path) as tier:
        assert tier.children(ROOT) == []
        assert tier.read(block_hash(ROOT, FIRST)) == Whole()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff" * 20,
        bytes(7) + b"\x01" + b"[" * 90_000,
        b"\x02\0\0\0\0\0\0\0[]",
        pack({}, token_metadata(TAIL)),
        pack({}, {"tokens": "0"}),
        pack({}, {"tokens": "words"}),
        pack({}, {"tokens": "010203"}),
    ],
)
def test_a_damaged_head_tells_no_tokens(tmp_path: Path, raw: bytes):
    keep(tmp_path, FIRST)
    only_file(tmp_path).write_bytes(raw)
    with disk(tmp_path) as tier:
        assert tier.children(ROOT) == []
        assert tier.read(block_hash(ROOT, FIRST)) is None


def test_a_file_that_vanished_tells_no_tokens(tmp_path: Path):
    keep(tmp_path, FIRST)
    with disk(tmp_path) as tier:
        only_file(tmp_path).unlink()
        assert tier.children(ROOT) == []
        assert tier.read(block_hash(ROOT, FIRST)) is None
        assert tier.tails(ROOT) == []

"""The files of blocks: what their names say, and whether their contents are what they were."""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .blocks import BlockHash
from .tensor_file import DamagedFile, read_metadata

SUFFIX = ".safetensors"
DIVISIBLE, RESUMABLE, PASSABLE = USES = "drp"
"""A sequence can go on from any token of the block; from its end; only past it, with the blocks that follow."""

_PIECE_BYTES = 4 << 20
_TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class BlockFile:
    path: Path
    nbytes: int
    parent: str = ""
    num_tokens: int = 0
    use: str = ""
    checksum: str = ""

    @property
    def name(self) -> str:
        """The block's, in hexadecimal."""
        return self.path.name.partition(".")[0]

    @property
    def block(self) -> BlockHash:
        return BlockHash(bytes.fromhex(self.name))

    @classmethod
    def parse(cls, path: Path, nbytes: int) -> BlockFile:
        """The file, with what its name says; a name of another make leaves that empty."""
        parts = path.name.removesuffix(SUFFIX).split(".")
        if len(parts) != 4 or parts[2][-1:] not in USES or not parts[2][:-1].isdecimal():
            return cls(path, nbytes)
        return cls(path, nbytes, parts[1], int(parts[2][:-1]), parts[2][-1], parts[3])


def read_checked(path: str, go_on: Callable[[], None] = lambda: None) -> memoryview:
    """The file's contents; `go_on` is called for every piece that has come. Raises `DamagedFile` where they or the name
    are not what they were, and `OSError`."""
    file = Path(path)
    with file.open("rb", buffering=0) as opened:
        raw = memoryview(bytearray(os.fstat(opened.fileno()).st_size))
        start, total = 0, _checksum_of_name(file.name)
        while count := opened.readinto(piece := raw[start : start + _PIECE_BYTES]):
            total = zlib.crc32(piece[:count], total)  # while it lies in the processor's cache
            start += count
            go_on()
    if start < len(raw) or f"{total:08x}" != BlockFile.parse(file, 0).checksum:
        raise DamagedFile("its checksum is wrong")
    return raw


def token_metadata(token_ids: Sequence[int]) -> dict[str, str]:
    """What a block's file says of its tokens, in as many characters for as many tokens."""
    return {_TOKENS: array("I", token_ids).tobytes().hex()}


def read_token_ids(file: Path) -> array[int]:
    """The tokens the file says it holds; nothing vouches for them. Raises `DamagedFile`, and `OSError`."""
    try:
        return array("I", bytes.fromhex(str(read_metadata(file)[_TOKENS])))
    except (KeyError, ValueError) as error:
        raise DamagedFile(f"its tokens are not told: {error}") from error


def short(name: BlockHash) -> str:
    """How a block is named as another's parent."""
    return name.hex()[:32]


def checksum(file_name: str, raw: bytes) -> str:
    """Over the contents and the parts of the name before the checksum."""
    return f"{zlib.crc32(raw, _checksum_of_name(file_name)):08x}"


def _checksum_of_name(file_name: str) -> int:
    return zlib.crc32(".".join(file_name.split(".")[:3]).encode())


def write_all(descriptor: int, raw: bytes) -> None:
    left = memoryview(raw)
    while left:
        left = left[os.write(descriptor, left) :]

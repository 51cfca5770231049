"""What a model's cached values depend on besides the tokens, in one short name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

_PAGE_BYTES = 4096
_STRETCH_BYTES = 64 << 20
"""A tensor gives one page for each of these, so that a stack of experts gives several."""
_HEADER_BYTES = 8
_Place = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]


class _Tensor(msgspec.Struct):
    data_offsets: tuple[_Place, _Place]


def model_fingerprint(folder: Path, *surroundings: str, whole: str | None = None) -> str:
    """The name of the model in the folder, as run in these surroundings (versions, device).

    It covers the config, every weight file's whole header and size, and samples of every tensor, so that another
    quantization, a merged adapter or retrained weights get another name. File times don't count. Where the
    folder holds only a part of the weights, `whole` stands for them all.
    """
    digest = hashlib.sha256(json.dumps(surroundings).encode())
    config = folder / "config.json"
    if config.exists():
        digest.update(json.dumps(json.loads(config.read_text()), sort_keys=True).encode())
    if whole is not None:
        digest.update(whole.encode())
        return digest.hexdigest()[:32]
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.name.encode())
        for piece in _samples(file):
            digest.update(piece)
    return digest.hexdigest()[:32]


def _samples(file: Path) -> Iterator[bytes]:
    """The file's size, its header, and pages of its tensors in the order in which they lie there."""
    with file.open("rb", buffering=0) as opened:
        descriptor, size = opened.fileno(), os.fstat(opened.fileno()).st_size
        length = int.from_bytes(os.pread(descriptor, _HEADER_BYTES, 0), "little")
        header = os.pread(descriptor, min(length, size), _HEADER_BYTES)
        yield f"{size} {len(header)} ".encode()
        yield header
        start = _HEADER_BYTES + len(header)
        for begin, end in _places(header):
            count = -(-(end - begin) // _STRETCH_BYTES)
            for index in range(count):
                middle = begin + (end - begin) * (2 * index + 1) // (2 * count)
                page = max(begin, middle - _PAGE_BYTES // 2)
                yield os.pread(descriptor, min(_PAGE_BYTES, end - page), start + page)


def _places(header: bytes) -> list[tuple[int, int]]:
    """Where tensors begin and end behind the header; none where it is no header, which loading refuses."""
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries.pop("__metadata__", None)
        return sorted(msgspec.json.decode(entry, type=_Tensor).data_offsets for entry in entries.values())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []

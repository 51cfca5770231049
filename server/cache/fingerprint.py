"""What a model's cached values depend on besides the tokens, in one short name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

_SAMPLES = 16
_SAMPLE_BYTES = 4096
_HEADER_BYTES = 8


def model_fingerprint(folder: Path, *surroundings: str, whole: str | None = None) -> str:
    """The name of the model in the folder, as run in these surroundings (versions, device).

    It covers the config, every weight file's whole header and size, and samples of its contents, so that
    another quantization, a merged adapter or retrained weights get another name. File times don't count. Where the
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
            digest.update(hashlib.sha256(piece).digest())
    return digest.hexdigest()[:32]


def _samples(file: Path) -> Sequence[bytes]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = opened.read(_HEADER_BYTES)
        header = opened.read(min(int.from_bytes(length, "little"), size))
        pieces = [str(size).encode(), header]
        start = _HEADER_BYTES + len(header)
        for index in range(_SAMPLES):
            opened.seek(start + (size - start) * index // _SAMPLES)
            pieces.append(opened.read(_SAMPLE_BYTES))
    return pieces

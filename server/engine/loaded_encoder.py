"""From a model's folder to an encoder that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..models.catalog import ModelKind
from ..models.encoders.loading import load_encoder
from .batch import BatchInfo
from .messages import EncoderInput
from .mlx_memory import bound_memory, give_back


class LoadedEncoder:
    """Raises `ModelError` where the folder cannot be used."""

    def __init__(self, path: Path, kind: ModelKind) -> None:
        self._encoder = load_encoder(path, kind)
        bound_memory(self._encoder.weight_bytes)
        self._info = BatchInfo(str(mx.default_device()), self._encoder.weight_bytes)

    @property
    def info(self) -> BatchInfo:
        return self._info

    def encode(self, inputs: Sequence[EncoderInput]) -> list[bytes]:
        return [row.astype("<f4").tobytes() for row in np.array(self._encoder.encode(inputs))]

    def rest(self) -> None:
        give_back()

"""The model that comes as a package, and the tiny one that borrows its tokens."""

from __future__ import annotations

import hashlib
from pathlib import Path

import mlx.core as mx
import numpy as np
import tokenizers

from omlx.server.models.capabilities import read_capabilities
from omlx.server.models.catalog import discover
from omlx.server.models.embedded import find_embedded_gguf
from omlx.server.models.loading import load_model

from ..tiny_model import build_tiny_model, needs_embedded_model


def digest(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@needs_embedded_model
def test_the_embedded_model_is_a_gguf_file() -> None:
    path = find_embedded_gguf()
    assert path is not None
    assert path.read_bytes()[:4] == b"GGUF"


@needs_embedded_model
def test_the_tiny_model_is_the_same_every_time(tmp_path: Path) -> None:
    assert digest(build_tiny_model(tmp_path / "a")) == digest(build_tiny_model(tmp_path / "b"))


@needs_embedded_model
def test_the_tiny_model_is_discovered_loaded_and_speaks(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "tiny", context_window=131072)
    (entry,) = discover([tmp_path])
    assert (entry.id, entry.context_window, entry.architecture) == ("tiny", 131072, "llama")
    capabilities = read_capabilities(folder)
    assert capabilities.stop_token_ids == (2,)
    assert capabilities.chat_template is not None
    tokenizer = tokenizers.Tokenizer.from_file(str(capabilities.tokenizer_path))
    token_ids = tokenizer.encode("Hello there").ids
    second, first = np.sort(np.array(load_model(folder).model(mx.array([token_ids]))[0, -1]))[-2:]
    assert first - second > 1e-3  # a clear choice, the same on every machine

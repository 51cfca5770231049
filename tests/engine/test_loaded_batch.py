"""What `load_batch` shares between models."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np

from omlx.server.cache.disk_tier import DiskLimits
from omlx.server.engine.loaded_batch import DiskCache, load_batch
from omlx.server.models.importing import ImportType, import_gguf
from omlx.server.models.safetensors_file import header_bytes, read_header

from ..models.small_gguf import SmallLlama
from .driving import drain, make_engine
from .tiny_model import submit

PROMPT = [index * 37 % 250 + 3 for index in range(600)]


def change(file: Path, *kinds: str) -> None:
    """Give the tensors of these kinds other values, in their places."""
    raw, position = bytearray(file.read_bytes()), header_bytes(file)
    for tensor in read_header(file).tensors:
        if any(kind in tensor.name for kind in kinds):
            values = np.frombuffer(raw, np.float32, tensor.nbytes // 4, position)
            raw[position : position + tensor.nbytes] = (values * -3).tobytes()
        position += tensor.nbytes
    file.write_bytes(raw)


def answer(folder: Path, cache: Path) -> tuple[int, list[int]]:
    """How many of the prompt's tokens came from the cache's folder, and what the model writes."""
    with closing(load_batch(folder, DiskCache(cache, DiskLimits(free_share=1.0)))) as batch:
        engine = make_engine(batch)
        engine.submit(submit("a", PROMPT, 8))
        found = drain(engine)["a"]
        return found.last.num_cached_tokens, found.token_ids


def test_a_copy_with_a_merged_adapter_shares_no_prefix_with_the_original(tmp_path: Path):
    SmallLlama(intermediate=1024).write(tmp_path / "small.gguf")
    original = import_gguf(tmp_path / "small.gguf", models_folder=tmp_path, dtype=ImportType.FLOAT32)
    merged = shutil.copytree(original, tmp_path / "merged")
    change(merged / "model.safetensors", "q_proj", "v_proj")

    num_cached, cold = answer(merged, tmp_path / "apart")
    assert num_cached == 0
    answer(original, tmp_path / "shared")
    assert answer(original, tmp_path / "shared")[0] > 256
    assert answer(merged, tmp_path / "shared") == (0, cold)

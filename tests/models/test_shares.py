"""What each rank would hold, told from headers, is what it holds once it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from omlx.server.errors import UnsupportedModel
from omlx.server.models.loading import load_model
from omlx.server.models.shares import shares
from omlx.server.models.split import Split

from ..engine.ranks.models import write_deepseek_v4, write_llama, write_mixture

WRITERS = [write_llama, write_mixture, write_deepseek_v4]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("size", [2, 4])
def test_the_parts_are_smaller_than_the_whole_and_hold_all_of_it(
    tmp_path: Path, write: Callable[[Path], Path], size: int
):
    folder = write(tmp_path / "model")
    whole = load_model(folder).weight_bytes
    split, parts = shares(folder, size, Split.AUTO, 1000)
    assert split is Split.TENSOR
    assert max(part.weight_bytes for part in parts) < whole
    assert sum(part.weight_bytes for part in parts) > whole  # embeddings and norms are on every rank


def test_a_rank_of_a_pipeline_keeps_the_keys_of_its_layers_only(tmp_path: Path):
    folder = write_mixture(tmp_path / "model")
    (_, alone), (split, parts) = (shares(folder, size, Split.PIPELINE, 1000) for size in (1, 4))
    assert split is Split.PIPELINE
    assert [part.kv_bytes * 4 for part in parts] == [alone[0].kv_bytes] * 4


def test_heads_that_do_not_divide_are_named(tmp_path: Path):
    with pytest.raises(UnsupportedModel, match="num_attention_heads, 8, is no multiple of 3"):
        shares(write_llama(tmp_path / "model"), 3, Split.AUTO, 1000)

"""What each rank would hold, told from headers, is what it holds once it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlx_lm.models import qwen3_moe

from omlx.server.errors import UnsupportedModel
from omlx.server.models.loading import load_model
from omlx.server.models.shares import Place, shares
from omlx.server.models.split import Split

from ..cache.models import QWEN3_5
from ..engine.ranks.models import write_deepseek_v4, write_deepseek_v4_with_mtp, write_llama, write_mixture
from .architectures.test_qwen3_5_mtp import write_qwen3_5

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


def test_rank_0_alone_holds_an_mtp_layer_that_it_can_draft_with(tmp_path: Path):
    with_mtp, without = write_deepseek_v4_with_mtp(tmp_path / "with"), write_deepseek_v4(tmp_path / "without")
    (_, drafting), (_, plain) = (shares(folder, 2, Split.TENSOR, 1000) for folder in (with_mtp, without))
    assert drafting[0].weight_bytes > plain[0].weight_bytes
    assert drafting[1].weight_bytes == plain[1].weight_bytes


def test_an_mtp_layer_that_no_rank_can_draft_with_is_held_by_none_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write_qwen3_5(tmp_path, QWEN3_5 | {"vocab_size": 96})
    _, parts = shares(tmp_path, 2, Split.TENSOR, 1000)
    assert parts[0].weight_bytes == parts[1].weight_bytes
    assert caplog.messages == [
        "The MTP layer is not used in this group (its output layer is cut too); n-gram drafts are"
    ]


def test_what_only_the_architecture_knows_not_to_fit_is_told(tmp_path: Path):
    write_qwen3_5(tmp_path, QWEN3_5)
    with pytest.raises(UnsupportedModel, match="into 2 slices: group size 2 must divide vocab_size 97"):
        shares(tmp_path, 2, Split.TENSOR, 1000)


def test_layers_are_divided_where_the_architecture_finds_no_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def shard(model: qwen3_moe.Model, group: Place) -> None:
        model.model.layers.pop()  # it has begun
        raise ValueError(f"171 groups are no multiple of {group.size()}")

    monkeypatch.setattr(qwen3_moe.Model, "shard", shard)
    folder = write_mixture(tmp_path / "model")
    assert shares(folder, 2, Split.AUTO, 1000) == shares(folder, 2, Split.PIPELINE, 1000)
    assert "into 2 slices: 171 groups are no multiple of 2; each rank has some of the layers instead" in caplog.text
    with pytest.raises(UnsupportedModel, match="into 2 slices: 171 groups are no multiple of 2; take --split pipeline"):
        shares(folder, 2, Split.TENSOR, 1000)


def test_heads_that_do_not_divide_are_named(tmp_path: Path):
    with pytest.raises(UnsupportedModel, match="num_attention_heads, 8, is no multiple of 3"):
        shares(write_llama(tmp_path / "model"), 3, Split.AUTO, 1000)

"""A model that cannot be divided among so many ranks is refused with what would do."""

from __future__ import annotations

from typing import Any

import mlx.nn as nn
import pytest

from omlx.server.errors import UnsupportedModel
from omlx.server.models.sharding import divide
from omlx.server.models.split import Split

HEADS = {"model_type": "any", "num_attention_heads": 8, "num_key_value_heads": 4}


class _Group:
    def __init__(self, size: int) -> None:
        self._size = size

    def rank(self) -> int:
        return 0

    def size(self) -> int:
        return self._size


class _Sliced(nn.Module):
    def shard(self, group: object) -> None: ...


class _Layers(nn.Module):
    def pipeline(self, group: object) -> None: ...


class _SlicedOrLayered(_Sliced):
    def __init__(self) -> None:
        super().__init__()
        self.model = _Layers()


def _refusal(model: nn.Module, size: int, split: Split) -> str:
    with pytest.raises(UnsupportedModel) as refusal:
        divide(model, HEADS, _Group(size), split)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("model", "split", "remedy"),
    [
        (_Sliced, Split.AUTO, "take 2 or 4 ranks"),
        (_Sliced, Split.PIPELINE, "take 2 or 4 ranks and --split tensor"),
        (_SlicedOrLayered, Split.TENSOR, "take --split pipeline, or 2 or 4 ranks"),
        (nn.Module, Split.AUTO, "serve it on one machine"),
    ],
)
def test_three_ranks_are_refused_with_the_numbers_that_fit(model: Any, split: Split, remedy: str) -> None:
    assert f"; {remedy}" in _refusal(model(), 3, split)

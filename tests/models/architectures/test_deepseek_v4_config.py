"""What DeepSeek V4's config.json may say, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from omlx.server.errors import CorruptModel, UnsupportedModel
from omlx.server.models.architectures.deepseek_v4 import ModelArgs
from omlx.server.models.architectures.deepseek_v4.config import Yarn

from .published_deepseek_v4 import CONFIG, published_config

PUBLISHED = published_config(CONFIG)


def test_the_published_spelling_and_hugging_face_s_say_the_same() -> None:
    published, huggingface = ModelArgs.from_dict(PUBLISHED), ModelArgs.from_dict(CONFIG)
    assert published == huggingface
    assert published.compress_ratios == (0, 4, 128)
    assert published.hash_layers == 2
    assert published.yarn == Yarn(16.0, 4096, 32.0, 1.0)


def test_nested_rope_parameters_are_read() -> None:
    nested = {
        "main": {"rope_type": "default", "rope_theta": 500.0},
        "compress": {"rope_type": "yarn", "rope_theta": 7000.0, "factor": 4, "original_max_position_embeddings": 64},
    }
    bare = {key: CONFIG[key] for key in CONFIG if key not in ("rope_scaling", "rope_theta", "compress_rope_theta")}
    args = ModelArgs.from_dict(bare | {"rope_parameters": nested})
    assert (args.rope_theta, args.compress_rope_theta, args.yarn) == (500.0, 7000.0, Yarn(4.0, 64))


def test_sizes_left_out_are_the_flash_model_s() -> None:
    args = ModelArgs.from_dict({"compress_ratios": [0, 0] + [4, 128] * 21})
    assert (args.num_hidden_layers, args.hidden_size, args.index_topk) == (43, 4096, 512)
    assert args.compress_ratios[:4] == (0, 0, 4, 128)
    assert args.hash_layers == 3


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"scoring_func": "softmax"}, UnsupportedModel, "scoring_func 'softmax'"),
        ({"compress_ratios": [0, 4]}, CorruptModel, "2 entries for 3 layers"),
        ({"compress_ratios": [0, 4, 64]}, UnsupportedModel, "0, 4 and 128"),
        ({"layer_types": ["linear_attention"] * 3}, UnsupportedModel, "linear_attention"),
        ({"compress_rates": {"compressed_sparse_attention": 8}}, UnsupportedModel, "compress_rates"),
        ({"mlp_layer_types": ["moe", "hash_moe", "moe"]}, UnsupportedModel, "hash_moe after moe"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, UnsupportedModel, "'linear'"),
        ({"rope_scaling": {"type": "yarn"}}, CorruptModel, "no factor"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2, "attention_factor": 1.3}},
            UnsupportedModel,
            "attention_factor",
        ),
        ({"o_groups": 5}, CorruptModel, "o_groups 5"),
        ({"qk_rope_head_dim": 50}, CorruptModel, "qk_rope_head_dim 50"),
        ({"num_experts_per_tok": 9}, CorruptModel, "num_experts_per_tok 9 of 8"),
    ],
)
def test_what_omlx_cannot_run_is_refused_with_the_field(
    change: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        ModelArgs.from_dict(PUBLISHED | change)

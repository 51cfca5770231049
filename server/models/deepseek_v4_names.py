"""Tensor names of every checkpoint layout, as this model names its parameters.

    the published checkpoint   layers.3.attn.wq_a.weight         layers.3.ffn.experts.7.w1.scale
    Hugging Face               model.layers.3.self_attn.q_a_proj.weight
    MLX conversions            model.layers.3.attn.wq_a.scales   model.layers.3.ffn.switch_mlp.gate_proj.weight
    others of them             layers.3.attn.wo_a.0.scales       layers.3.ffn.experts.w1.scales (all experts in one)
    the MTP layer              mtp.0.attn.wq_a.weight            mtp.0.block.attn.wq_a.weight in some MLX conversions

Ours are those of most MLX conversions. A name that no rule knows comes out as it went in, and loading then names it.
"""

from __future__ import annotations

import re

_TOP = {
    "embed": "model.embed_tokens",
    "embed_tokens": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "lm_head": "lm_head",
    "hc_head": "model.hc_head",
}
_LAYER = re.compile(r"(layers|mtp)\.(\d+)\.(.+)")
_RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\.weight_scale_inv$", ".scale"),
        (r"_proj_scale_inv$", "_proj.scale"),
        (r"^self_attn\.", "attn."),
        (r"^mlp\.", "ffn."),
        (r"^input_layernorm\.", "attn_norm."),
        (r"^post_attention_layernorm\.", "ffn_norm."),
        (r"^hc_(attn|ffn)[._](fn|base|scale)$", r"\1_hc.\2"),
        (r"^hc_head[._](?:hc_)?(fn|base|scale)$", r"hc_head.\1"),
        (r"^attn\.compressor\.indexer\.(kv_proj|gate_proj|position_bias|kv_norm)", r"attn.indexer.compressor.\1"),
        (r"^attn\.compressor\.indexer\.(scorer\.)?", "attn.indexer."),
        (r"\.compressor\.kv_norm\.", ".compressor.norm."),
        (r"\.compressor\.gate_proj\.", ".compressor.wgate."),
        (r"\.position_bias$", ".ape"),
        (r"^(attn\..*)?kv_proj\.", r"\1wkv."),
        (r"^(attn\..*)?q_a_proj\.", r"\1wq_a."),
        (r"^(attn\..*)?q_b_proj\.", r"\1wq_b."),
        (r"^attn\.q_a_norm\.", "attn.q_norm."),
        (r"^attn\.o_(a|b)_proj\.", r"attn.wo_\1."),
        (r"^attn\.sinks$", "attn.attn_sink"),
        (r"^ffn\.gate\.bias$", "ffn.gate.e_score_correction_bias"),
        (r"^ffn\.experts\.(w\d)\.", r"ffn.switch_mlp.\1."),
        (r"^(ffn\.(?:shared_experts|experts\.\d+|switch_mlp))\.w1\.", r"\1.gate_proj."),
        (r"^(ffn\.(?:shared_experts|experts\.\d+|switch_mlp))\.w2\.", r"\1.down_proj."),
        (r"^(ffn\.(?:shared_experts|experts\.\d+|switch_mlp))\.w3\.", r"\1.up_proj."),
        (r"^(ffn\.experts\.(?:gate_up|down)_proj)$", r"\1.weight"),
    )
)


def our_name(name: str, num_layers: int, num_mtp_layers: int = 0) -> str | None:
    """The parameter that a checkpoint's tensor fills; None for layers that the model has not."""
    bare = name.removeprefix("language_model.").removeprefix("model.")
    in_layer = _LAYER.fullmatch(bare)
    if in_layer is None:
        top, dot, rest = _by_rules(bare).partition(".")
        return f"{_TOP[top]}.{rest}" if dot and top in _TOP else name
    stack, index, rest = in_layer[1], int(in_layer[2]), in_layer[3]
    if index >= (num_layers if stack == "layers" else num_mtp_layers):
        return None
    if stack == "mtp":
        rest = rest.removeprefix("block.")
    rest = _by_rules(rest)
    return f"model.layers.{index}.{rest}" if stack == "layers" else f"mtp.{index}.{rest}"


def _by_rules(name: str) -> str:
    for pattern, replacement in _RULES:
        name = pattern.sub(replacement, name)
    return name

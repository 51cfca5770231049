"""What a DeepSeek V4 config.json says, whichever of its spellings it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ....errors import CorruptModel, UnsupportedModel

_RATIO_OF_LAYER_TYPE = {
    "sliding_attention": 0,
    "compressed_sparse_attention": 4,
    "heavily_compressed_attention": 128,
}
OVERLAPPING_RATIO = 4
"""The ratio whose windows overlap and whose rows an indexer picks from."""


@dataclass(frozen=True, slots=True)
class Yarn:
    """YaRN's stretching of the compressed layers' RoPE; V4 leaves its attention factor at 1."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelArgs:
    """Sizes are the published Flash model's unless the config says otherwise.

    `compress_ratios` has 0 (window only), 4 or 128 for every layer; `hash_layers` is the number of leading
    layers whose experts are looked up by token id.
    """

    compress_ratios: tuple[int, ...]
    hash_layers: int = 3
    yarn: Yarn | None = None
    model_type: str = "deepseek_v4"
    vocab_size: int = 129280
    hidden_size: int = 4096
    moe_intermediate_size: int = 2048
    num_hidden_layers: int = 43
    num_attention_heads: int = 64
    head_dim: int = 512
    qk_rope_head_dim: int = 64
    q_lora_rank: int = 1024
    o_groups: int = 8
    o_lora_rank: int = 1024
    sliding_window: int = 128
    index_n_heads: int = 64
    index_head_dim: int = 128
    index_topk: int = 512
    rope_theta: float = 10000.0
    compress_rope_theta: float = 160000.0
    num_experts_per_tok: int = 6
    n_routed_experts: int = 256
    n_shared_experts: int = 1
    routed_scaling_factor: float = 1.5
    swiglu_limit: float = 10.0
    hc_mult: int = 4
    hc_sinkhorn_iters: int = 20
    hc_eps: float = 1e-6
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    fp8_block: tuple[int, int] = (128, 128)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> ModelArgs:
        """Read a parsed config.json. Raises `UnsupportedModel` or `CorruptModel` with the field and its value."""
        if config.get("scoring_func", "sqrtsoftplus") != "sqrtsoftplus":
            raise UnsupportedModel(f"deepseek_v4: scoring_func {config['scoring_func']!r}; only sqrtsoftplus is known")
        plain = {field.name for field in fields(cls)} - {"compress_ratios", "hash_layers", "yarn", "fp8_block"}
        given = {name: config[name] for name in plain if config.get(name) is not None}
        num_layers = given.setdefault("num_hidden_layers", 43)
        if "qk_rope_head_dim" not in given and config.get("partial_rotary_factor") is not None:
            given["qk_rope_head_dim"] = int(given.get("head_dim", 512) * config["partial_rotary_factor"])
        rope = _rope_parameters(config)
        given.setdefault("rope_theta", rope.get("main_theta", 10000.0))
        given.setdefault("compress_rope_theta", rope.get("compress_theta", 160000.0))
        args = cls(
            compress_ratios=_compress_ratios(config, num_layers),
            hash_layers=_hash_layers(config, num_layers),
            yarn=_yarn(rope.get("scaling") or {}, config),
            fp8_block=_fp8_block(config),
            **given,
        )
        _check(args)
        return args


def _compress_ratios(config: Mapping[str, Any], num_layers: int) -> tuple[int, ...]:
    """One ratio a layer. Published configs carry one more, for the MTP layer."""
    layer_types, ratios = config.get("layer_types"), config.get("compress_ratios")
    if layer_types is not None:
        unknown = set(layer_types) - _RATIO_OF_LAYER_TYPE.keys()
        if unknown:
            raise UnsupportedModel(f"deepseek_v4: layer_types has {sorted(unknown)}, which omlx does not know")
        ratios = [_RATIO_OF_LAYER_TYPE[name] for name in layer_types]
    if ratios is None:
        ratios = [128, 128, *(4 if layer % 2 else 128 for layer in range(max(num_layers - 2, 0)))]
    if len(ratios) < num_layers:
        raise CorruptModel(f"deepseek_v4: compress_ratios has {len(ratios)} entries for {num_layers} layers")
    chosen = tuple(int(ratio) for ratio in ratios[:num_layers])
    if not set(chosen) <= set(_RATIO_OF_LAYER_TYPE.values()):
        raise UnsupportedModel(f"deepseek_v4: compress_ratios has {sorted(set(chosen))}; omlx knows 0, 4 and 128")
    rates = config.get("compress_rates") or {}
    if any(_RATIO_OF_LAYER_TYPE.get(name) != rate for name, rate in rates.items()):
        raise UnsupportedModel(f"deepseek_v4: compress_rates is {rates}; omlx knows 4 and 128")
    return chosen


def _hash_layers(config: Mapping[str, Any], num_layers: int) -> int:
    kinds = config.get("mlp_layer_types")
    if kinds is None:
        return min(int(config.get("num_hash_layers", 3)), num_layers)
    count = sum(kind == "hash_moe" for kind in kinds[:num_layers])
    if any(kind != "hash_moe" for kind in kinds[:count]):
        raise UnsupportedModel("deepseek_v4: mlp_layer_types has hash_moe after moe; omlx knows it in the first layers")
    return count


def _rope_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Both spellings: flat `rope_scaling`, or `rope_parameters` with `main` and `compress` in it."""
    nested = config.get("rope_parameters") or {}
    main, compress = nested.get("main"), nested.get("compress")
    if isinstance(main, Mapping) and isinstance(compress, Mapping):
        found = {
            "scaling": compress,
            "main_theta": main.get("rope_theta"),
            "compress_theta": compress.get("rope_theta"),
        }
        return {name: value for name, value in found.items() if value is not None}
    return {"scaling": config.get("rope_scaling") or nested}


def _yarn(scaling: Mapping[str, Any], config: Mapping[str, Any]) -> Yarn | None:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return None
    if kind not in ("yarn", "deepseek_yarn"):
        raise UnsupportedModel(f"deepseek_v4: RoPE scaling of type {kind!r}; only yarn is known")
    if scaling.get("attention_factor", 1.0) != 1.0:
        raise UnsupportedModel("deepseek_v4: a YaRN attention_factor other than 1 is not known")
    original = scaling.get("original_max_position_embeddings") or config.get("max_position_embeddings", 1048576)
    if not scaling.get("factor"):
        raise CorruptModel("deepseek_v4: RoPE scaling of type yarn has no factor")
    return Yarn(
        factor=float(scaling["factor"]),
        original_max_position_embeddings=int(original),
        beta_fast=float(scaling.get("beta_fast") or 32),
        beta_slow=float(scaling.get("beta_slow") or 1),
    )


def _fp8_block(config: Mapping[str, Any]) -> tuple[int, int]:
    block = (config.get("quantization_config") or {}).get("weight_block_size") or (128, 128)
    return int(block[0]), int(block[1])


def _check(args: ModelArgs) -> None:
    """Sizes that must fit each other; wrong ones would fail later with a shape nobody understands."""
    wide = args.num_attention_heads * args.head_dim
    if args.o_groups < 1 or wide % args.o_groups:
        raise CorruptModel(f"deepseek_v4: o_groups {args.o_groups} does not divide the heads' {wide} outputs")
    if args.qk_rope_head_dim % 2 or not 0 < args.qk_rope_head_dim <= min(args.head_dim, args.index_head_dim):
        raise CorruptModel(f"deepseek_v4: qk_rope_head_dim {args.qk_rope_head_dim} does not fit a head")
    if args.num_experts_per_tok > args.n_routed_experts:
        raise CorruptModel(
            f"deepseek_v4: num_experts_per_tok {args.num_experts_per_tok} of {args.n_routed_experts} experts"
        )

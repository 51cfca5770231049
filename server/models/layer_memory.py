"""What a sequence takes in each layer of a model, from the config alone. Sizes in numbers of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..requests import Json
from .folder import MOST_LAYERS

_EVERY_HEAD = frozenset({"deepseek_v2", "kimi_vl", "minicpm3", "youtu_llm"})
"""Types whose code in mlx-lm keeps the keys and values of all heads, though the config has a latent's size."""
_CACHES_A_LAYER = {"longcat_flash": 2, "longcat_flash_ngram": 2}
_FULL, _SLIDING = ("full", "global", "attention"), ("sliding", "chunked", "local")
_COMPRESSED = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
_CONVOLUTION = 4
MOST = 1 << 64
"""Of any number of a config: no model is as large, and products of several of these are no error as floats."""


@dataclass(frozen=True, slots=True)
class LayerMemory:
    """Values of one sequence: `token` for each of its tokens, or for each of the last `window` where there is one,
    and `state` whatever its length."""

    token: float = 0
    window: int | None = None
    state: int = 0


def layer_memories(config: Mapping[str, Json]) -> list[LayerMemory]:
    """Every layer of the language model whose (text) config this is. What is not known counts as full attention,
    which takes the most."""
    count = min(MOST_LAYERS, number_of(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers"))
    ratios = compress_ratios(config)
    if ratios:
        return [_compressed(config, ratio) for ratio in ratios[:count]]
    kept = count - number_of(config, "num_kv_shared_layers", "num_kv_reuse_layers")
    kinds = _kinds(config, count)[:kept]
    repeats = _CACHES_A_LAYER.get(str(config.get("model_type")), 1)
    return [_memory(config, kind, index) for index, kind in enumerate(kinds) for _ in range(repeats)]


def compress_ratios(config: Mapping[str, Json]) -> list[int]:
    """DeepSeek V4's, in either spelling; empty for other models."""
    ratios, named = config.get("compress_ratios"), config.get("layer_types")
    if isinstance(ratios, list):
        return [min(ratio, MOST) if type(ratio) is int and ratio > 0 else 0 for ratio in ratios]
    if isinstance(named, list) and any(str(name) in _COMPRESSED for name in named):
        return [_COMPRESSED.get(str(name), 0) for name in named]
    return []


def _memory(config: Mapping[str, Json], kind: str, index: int) -> LayerMemory:
    if kind == "none":
        return LayerMemory()
    if kind == "recurrent":
        return LayerMemory(state=_state(config))
    window = number_of(config, "sliding_window", "sliding_window_size", "attention_chunk_size", "attention_window_size")
    if kind == "sliding" and window:
        return LayerMemory(_attention(config, index), window)
    side_by_side = "mamba_d_ssm" in config  # such a layer has both
    return LayerMemory(_attention(config, index, is_full=True), state=_state(config) if side_by_side else 0)


def _kinds(config: Mapping[str, Json], count: int) -> list[str]:
    """ "full", "sliding", "recurrent" or "none" for each layer, by whichever way the config says it."""
    named = next(
        (config[key] for key in ("layer_types", "layers_block_type") if isinstance(config.get(key), list)), None
    )
    if isinstance(named, list) and len(named) >= count:
        return [_kind_named(str(name)) for name in named[:count]]
    pattern = config.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return [{"M": "recurrent", "*": "full"}.get(letter, "none") for letter in pattern[:count]]
    indexes = config.get("full_attn_idxs")
    if isinstance(indexes, list):
        return ["full" if index in indexes else "recurrent" for index in range(count)]
    for key, others in (("full_attention_interval", "recurrent"), ("sliding_window_pattern", "sliding")):
        every = config.get(key)
        if isinstance(every, int) and every > 0:
            return ["full" if index % every == every - 1 else others for index in range(count)]
    period, offset = number_of(config, "attn_layer_period"), number_of(config, "attn_layer_offset")
    if period:
        return ["full" if index % period == offset else "recurrent" for index in range(count)]
    has_heads = (
        number_of(config, "num_attention_heads", "n_head", "n_heads", "num_heads") and "state_size" not in config
    )
    return ["full" if has_heads else "recurrent"] * count


def _kind_named(name: str) -> str:
    if any(part in name for part in _SLIDING):
        return "sliding"
    if "linear" in name:
        return "recurrent"
    return "full" if any(part in name for part in _FULL) else "recurrent"


def _attention(config: Mapping[str, Json], index: int, is_full: bool = False) -> float:
    """Values of keys and values a token has in one attention layer."""
    heads = number_of(config, "num_attention_heads", "n_head", "n_heads", "num_heads") or 1
    latent = number_of(config, "kv_lora_rank")
    if latent and config.get("model_type") not in _EVERY_HEAD:
        return latent + number_of(config, "qk_rope_head_dim") + 2 * number_of(config, "index_head_dim")
    if latent:
        keys = number_of(config, "qk_nope_head_dim") + number_of(config, "qk_rope_head_dim")
        return heads * (keys + (number_of(config, "v_head_dim") or keys))
    size = number_of(config, "head_dim") or number_of(config, "hidden_size", "n_embd", "d_model", "hidden_dim") // heads
    kv_heads = _of_layer(config, index, "num_key_value_heads", "num_kv_heads") or heads
    if is_full:
        size = number_of(config, "global_head_dim") or size
        kv_heads = number_of(config, "num_global_key_value_heads") or kv_heads
    return kv_heads * (size + (number_of(config, "v_head_dim") or size))


def _compressed(config: Mapping[str, Json], ratio: int) -> LayerMemory:
    """DeepSeek V4: a window, a row for every `ratio` tokens, and for ratio 4 an indexer's row too."""
    size, window = number_of(config, "head_dim"), number_of(config, "sliding_window")
    index = number_of(config, "index_head_dim") if ratio == 4 else 0
    rows = (size + index) / ratio if ratio else 0
    return LayerMemory(rows, state=window * size + 2 * ratio * (size + index))


def _state(config: Mapping[str, Json]) -> int:
    """Values of a recurrent layer's state and of its convolution, as far as the config names their sizes."""
    hidden = number_of(config, "hidden_size", "d_model", "n_embd")
    values = number_of(config, "linear_num_value_heads")
    if values:
        keys = number_of(config, "linear_num_key_heads") * number_of(config, "linear_key_head_dim")
        size = number_of(config, "linear_value_head_dim")
        return values * size * number_of(config, "linear_key_head_dim") + _CONVOLUTION * (2 * keys + values * size)
    short = number_of(config, "conv_L_cache")
    if short:
        return short * hidden
    inner = number_of(config, "mamba_d_ssm", "intermediate_size", "d_inner") or 2 * hidden
    inner = max(inner, number_of(config, "mamba_expand", "expand") * hidden)
    state = number_of(config, "state_size", "ssm_state_size", "mamba_d_state", "d_state") or 128
    return inner * (state + _CONVOLUTION)


def number_of(config: Mapping[str, Json], *keys: str) -> int:
    """The first of the keys that holds a number, `MOST` where that is less, 0 where none does."""
    return next((min(value, MOST) for key in keys if type(value := config.get(key)) is int and value > 0), 0)


def _of_layer(config: Mapping[str, Json], index: int, *keys: str) -> int:
    """Like `number_of`, where the config may have one number for each layer."""
    for key in keys:
        value = config.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str) and index < len(value):
            return min(max(0, item), MOST) if type(item := value[index]) is int else 0
    return number_of(config, *keys)

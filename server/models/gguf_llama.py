"""A GGUF of the Llama family read as mlx-lm's `llama`: the configuration, and which tensor goes where.

llama.cpp rotates neighbouring pairs of a head, MLX and Hugging Face the two halves, so the converter has
shuffled the rows of q and k (conversion of LlamaModel in llama.cpp). `row_order` undoes that; rows move whole,
so it holds for packed weights, their scales and their biases alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import CorruptModel, UnsupportedModel
from ..requests import Json
from .gguf import GgufFile, GgufTensor

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.(weight|bias)", re.ASCII)
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_ROPE_FACTORS = "rope_freqs.weight"
_LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The sizes a Llama is made of."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_length: int


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor under its new name; `row_order` lists the source rows in their new order, None as they are."""

    name: str
    source: GgufTensor
    row_order: npt.NDArray[np.intp] | None = None


def read_shape(file: GgufFile) -> LlamaShape:
    """The model's sizes. Raises `UnsupportedModel` for what is no plain Llama, by name."""
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        raise UnsupportedModel(f"{file.path}: the architecture {architecture!r} is not supported; 'llama' is")
    if file.metadata.get("split.count", 1) not in (0, 1):
        raise UnsupportedModel(f"{file.path}: one of several files; join them with llama-gguf-split --merge first")
    if file.metadata.get("llama.expert_count", 0) != 0:
        raise UnsupportedModel(f"{file.path}: a mixture of experts (llama.expert_count) is not supported")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise CorruptModel(f"{file.path}: has no token_embd.weight of two dimensions")
    hidden, heads = _count(file, "llama.embedding_length"), _count(file, "llama.attention.head_count")
    layers = _count(file, "llama.block_count")
    if layers > len(file.tensors):
        raise CorruptModel(f"{file.path}: {len(file.tensors)} tensors cannot make {layers} layers")
    head_dim = _count(file, "llama.attention.key_length", hidden // heads)
    if head_dim % 2:
        raise UnsupportedModel(f"{file.path}: heads of the odd size {head_dim} are not supported")
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if _count(file, key, head_dim) != head_dim:
            raise UnsupportedModel(f"{file.path}: {key} is {file.metadata[key]}, other than the head's {head_dim}")
    return LlamaShape(
        layers=layers,
        hidden=hidden,
        intermediate=_count(file, "llama.feed_forward_length"),
        heads=heads,
        kv_heads=_count(file, "llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        vocabulary=embedding.shape[0],
        context_length=_count(file, "llama.context_length"),
    )


def plan_tensors(file: GgufFile, shape: LlamaShape) -> tuple[PlannedTensor, ...]:
    """Every tensor with its new name. Raises where one is missing, unknown or of another shape than it must be."""
    expected = _expected_shapes(shape)
    planned: list[PlannedTensor] = []
    for tensor in file.tensors.values():
        if tensor.name == _ROPE_FACTORS:
            continue
        name, row_order = _new_place(tensor, shape)
        if name not in expected:
            raise UnsupportedModel(f"{file.path}: tensor {tensor.name!r} has no place in a plain Llama")
        if tensor.shape != expected[name]:
            wants = list(expected[name])
            raise CorruptModel(f"{file.path}: tensor {tensor.name!r} has the shape {list(tensor.shape)}, not {wants}")
        planned.append(PlannedTensor(name, tensor, row_order))
    missing = _missing(set(expected), {tensor.name for tensor in planned})
    if missing:
        raise CorruptModel(f"{file.path}: {len(missing)} tensors are missing, {missing[0]} first")
    return tuple(sorted(planned, key=lambda tensor: tensor.source.offset))


def _missing(expected: set[str], names: set[str]) -> list[str]:
    """What a Llama needs and `names` lacks: an output layer is optional, and biases come all or none a part."""
    missing = {name for name in expected - names if not name.endswith(".bias") and name != "lm_head.weight"}
    for part in (".self_attn.", ".mlp."):
        biases = {name for name in expected if part in name and name.endswith(".bias")}
        if biases & names:
            missing |= biases - names
    return sorted(missing)


def convert_config(file: GgufFile, shape: LlamaShape, names: frozenset[str]) -> dict[str, Json]:
    """`config.json` but for types, quantization and token ids; `names` are the planned tensors' names."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": _number(file, "llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": _number(file, "llama.rope.freq_base", 10000.0),
        "rope_scaling": _rope_scaling(file, shape),
        "hidden_act": "silu",
        "attention_bias": "model.layers.0.self_attn.q_proj.bias" in names,
        "mlp_bias": "model.layers.0.mlp.up_proj.bias" in names,
        "tie_word_embeddings": "lm_head.weight" not in names,
    }


def _new_place(tensor: GgufTensor, shape: LlamaShape) -> tuple[str, npt.NDArray[np.intp] | None]:
    match = _BLOCK.fullmatch(tensor.name)
    if match is None:
        return _OUTSIDE.get(tensor.name, tensor.name), None
    layer, part, kind = match.groups()
    name = f"model.layers.{int(layer)}.{_IN_BLOCK.get(part, part)}.{kind}"
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(part)
    if heads is None:
        return name, None
    rows = np.arange(heads * shape.head_dim).reshape(heads, shape.head_dim // 2, 2)
    return name, rows.swapaxes(1, 2).reshape(-1)


def _expected_shapes(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Every tensor a Llama of this shape may have, the optional `lm_head` and biases included."""
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    linear = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (shape.intermediate, hidden),
        "mlp.up_proj": (shape.intermediate, hidden),
        "mlp.down_proj": (hidden, shape.intermediate),
    }
    expected: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (shape.vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (shape.vocabulary, hidden),
    }
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        expected[f"{prefix}.input_layernorm.weight"] = (hidden,)
        expected[f"{prefix}.post_attention_layernorm.weight"] = (hidden,)
        for part, sizes in linear.items():
            expected[f"{prefix}.{part}.weight"] = sizes
            expected[f"{prefix}.{part}.bias"] = sizes[:1]
    return expected


def _rope_scaling(file: GgufFile, shape: LlamaShape) -> dict[str, Json] | None:
    kind = file.metadata.get("llama.rope.scaling.type", "none")
    if _ROPE_FACTORS in file.tensors:
        if kind != "none":
            raise UnsupportedModel(f"{file.path}: rope scaling {kind!r} together with {_ROPE_FACTORS} is not supported")
        return _llama3_scaling(file, shape)
    if kind == "none":
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": _number(file, "llama.rope.scaling.factor")}
    raise UnsupportedModel(f"{file.path}: rope scaling {kind!r} is not supported; 'linear' and Llama 3's are")


def _llama3_scaling(file: GgufFile, shape: LlamaShape) -> dict[str, Json]:
    """Llama 3.1 and later: the file has the divisors of the frequencies but not what they were made from. All
    published models use one recipe with their own factor; take it if it gives the very divisors in the file."""
    tensor = file.tensors[_ROPE_FACTORS]
    if tensor.type.name != "F32" or tensor.shape != (shape.head_dim // 2,):
        raise CorruptModel(f"{file.path}: {_ROPE_FACTORS} is {tensor.type.name} {list(tensor.shape)}")
    found = np.fromfile(file.path, dtype="<f4", count=shape.head_dim // 2, offset=tensor.offset)
    factor = float(found.max())
    low, high = _LLAMA3_ROPE["low_freq_factor"], _LLAMA3_ROPE["high_freq_factor"]
    original = _LLAMA3_ROPE["original_max_position_embeddings"]
    exponents = np.arange(0, shape.head_dim, 2, dtype=np.float64) / shape.head_dim
    wavelengths = 2 * np.pi * _number(file, "llama.rope.freq_base", 10000.0) ** exponents
    smooth = np.clip((original / wavelengths - low) / (high - low), 0.0, 1.0)
    if not np.allclose(found, 1.0 / ((1.0 - smooth) / factor + smooth), rtol=1e-3):
        raise UnsupportedModel(f"{file.path}: the factors in {_ROPE_FACTORS} are not those of Llama 3's rope scaling")
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3_ROPE}


def _count(file: GgufFile, key: str, default: int | None = None) -> int:
    value = file.metadata.get(key, default)
    if value is None:
        raise CorruptModel(f"{file.path}: the metadata has no {key}")
    if type(value) is not int or not 0 < value < 1 << 31:
        raise UnsupportedModel(f"{file.path}: {key} is {value!r}, one positive number is needed")
    return value


def _number(file: GgufFile, key: str, default: float | None = None) -> float:
    value = file.metadata.get(key, default)
    if not isinstance(value, float) or not 0.0 < value < float("inf"):
        raise CorruptModel(f"{file.path}: {key} is {value!r}, a positive number is needed")
    return float(str(np.float32(value)))

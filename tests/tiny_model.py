"""A Llama of two layers with random weights: everything is real but the sense of what it says.

It speaks the embedded model's tokens, and its chat template renders tools, calls, results and reasoning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from omlx.server.models.embedded import PACKAGE, find_embedded_gguf
from omlx.server.models.gguf import read_gguf
from omlx.server.models.gguf_tokenizer import GgufTokenizer, convert_tokenizer
from omlx.server.models.safetensors_file import SafetensorsWriter, TensorSpec

HIDDEN, INTERMEDIATE = 64, 128
VOCABULARY = 49152

needs_embedded_model = pytest.mark.skipif(
    find_embedded_gguf() is None, reason=f"the package {PACKAGE} is not installed (make setup installs it)"
)


@dataclass(frozen=True, slots=True)
class Shape:
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16


def build_tiny_model(
    folder: Path,
    *,
    context_window: int = 131072,
    tokenizer: GgufTokenizer | None = None,
    seed: int = 0,
    shape: Shape = Shape(),
) -> Path:
    """Write the model to the new folder `folder` and return it. The same `seed` gives the same bytes.

    `tokenizer` defaults to the embedded model's, whose package must then be installed.
    """
    tokenizer = tokenizer or embedded_tokenizer(context_window)
    folder.mkdir(parents=True)
    template = files("omlx.templates").joinpath("chat/chatml_tools.jinja").read_text(encoding="utf-8")
    tokenizer_config = {**tokenizer.tokenizer_config, "model_max_length": context_window}
    tokenizer_config.pop("chat_template", None)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": list(tokenizer.stop_token_ids)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer.tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps(ids))
    (folder / "config.json").write_text(json.dumps(_config(context_window, shape) | ids))
    _write_weights(folder / "model.safetensors", seed, shape)
    return folder


def embedded_tokenizer(context_window: int) -> GgufTokenizer:
    """The embedded model's tokenizer. Raises `FileNotFoundError` where its package is missing."""
    path = find_embedded_gguf()
    if path is None:
        raise FileNotFoundError(f"the tiny model takes its tokenizer from the package {PACKAGE}; install it")
    return convert_tokenizer(read_gguf(path), context_window, VOCABULARY)


def _config(context_window: int, shape: Shape) -> dict[str, object]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": context_window,
        "rms_norm_eps": 1e-5,
        "rope_theta": 100000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }


def _shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (HIDDEN,),
            f"{prefix}.post_attention_layernorm.weight": (HIDDEN,),
            f"{prefix}.self_attn.q_proj.weight": (shape.heads * shape.head_dim, HIDDEN),
            f"{prefix}.self_attn.k_proj.weight": (shape.kv_heads * shape.head_dim, HIDDEN),
            f"{prefix}.self_attn.v_proj.weight": (shape.kv_heads * shape.head_dim, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": (HIDDEN, shape.heads * shape.head_dim),
            f"{prefix}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
        }
    return shapes


def _write_weights(path: Path, seed: int, shape: Shape) -> None:
    """Rows of unit length on average, so that the next token is a clear choice; norms of one."""
    random = np.random.default_rng(seed)
    shapes = _shapes(shape)
    writer = SafetensorsWriter(path, [TensorSpec(name, "F32", dimensions) for name, dimensions in shapes.items()], {})
    for name, dimensions in shapes.items():
        if len(dimensions) == 1:
            values = np.ones(dimensions, np.float32)
        else:
            values = random.standard_normal(dimensions, dtype=np.float32) * np.float32(dimensions[-1] ** -0.5)
        writer.append(name, values.tobytes())
    writer.close()

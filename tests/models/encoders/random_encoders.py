"""Tiny random encoders in the published layout, and the tokens they are asked about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from omlx.server.models.safetensors_file import SafetensorsWriter, TensorSpec

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "yes", "no", *(f"w{number}" for number in range(90))]
VOCABULARY, HIDDEN, INTERMEDIATE, LAYERS, HEADS = len(WORDS), 32, 48, 2, 4
ROWS = [[1, 9, 8, 7, 2], [1, 50, 2], [1, 20, 21, 22, 23, 24, 25, 26, 2]]
PAIRS = [([1, 9, 8, 2, 2, 7, 2], [0, 0, 0, 0, 1, 1, 1]), ([1, 50, 2, 2, 60, 61, 62, 2], [0, 0, 0, 1, 1, 1, 1, 1])]

_BERT: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INTERMEDIATE,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
_ROBERTA = {**_BERT, "pad_token_id": 3, "layer_norm_eps": 1e-5}
_QWEN: dict[str, Any] = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": INTERMEDIATE,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 120,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
_MODERN_BERT: dict[str, Any] = {
    "model_type": "modernbert",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INTERMEDIATE,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 120,
    "norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "global_attn_every_n_layers": 2,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
    "local_attention": 4,
}
_LABELED = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
CONFIGS: Mapping[str, dict[str, Any]] = {
    "bert": {"model_type": "bert", "architectures": ["BertModel"], **_BERT},
    "xlm-roberta": {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"], **_ROBERTA},
    "bert-reranker": {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        **_BERT,
    },
    "xlm-roberta-reranker": {
        "model_type": "xlm-roberta",
        "architectures": ["XLMRobertaForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        **_ROBERTA,
    },
    "Tiny-Embedding": _QWEN,
    "Tiny-Reranker": _QWEN,
    "modernbert": {"architectures": ["ModernBertModel"], **_MODERN_BERT},
    "modernbert-reranker": {
        "architectures": ["ModernBertForSequenceClassification"],
        "classifier_pooling": "mean",
        **_LABELED,
        **_MODERN_BERT,
    },
    "qwen3-labels": {
        **_QWEN,
        "architectures": ["Qwen3ForSequenceClassification"],
        "tie_word_embeddings": False,
        "pad_token_id": 0,
        **_LABELED,
    },
}


def random_weights(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The same at every call, by their published names."""
    random = np.random.default_rng(11)
    found: dict[str, np.ndarray] = {}
    for name, shape in _shapes(config).items():
        values = random.standard_normal(shape).astype(np.float32) * np.float32(0.3)
        found[name] = values + 1 if "norm" in name.lower() and name.endswith("weight") else values
    return found


def build(folder: Path, config: Mapping[str, Any], modules: Mapping[str, Any] | None = None) -> Path:
    """Write the model's folder; `modules` are the files beside it, by their paths."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = random_weights(config)
    writer = SafetensorsWriter(
        folder / "model.safetensors", [TensorSpec(name, "F32", value.shape) for name, value in weights.items()], {}
    )
    for name, value in weights.items():
        writer.append(name, value.tobytes())
    writer.close()
    _tokenizer(config["model_type"] == "qwen3").save(str(folder / "tokenizer.json"))
    for path, value in (modules or {}).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(value))
    return folder


def _tokenizer(is_decoder: bool) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, "<unk>"))
    backend.pre_tokenizer = Whitespace()
    backend.add_special_tokens(WORDS[:3])
    single, pair = ("$A </s>", None) if is_decoder else ("<s> $A </s>", "<s> $A </s> $B:1 </s>:1")
    backend.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=[("<s>", 1), ("</s>", 2)])
    return backend


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    classifies = config["architectures"][0].endswith("Classification")
    match config["model_type"]:
        case "qwen3" if classifies:
            return {"score.weight": (1, HIDDEN)} | {f"model.{name}": shape for name, shape in _qwen_shapes().items()}
        case "qwen3":
            return _qwen_shapes()
        case "modernbert":
            return _modern_bert_shapes(classifies)
        case _:
            return _bert_shapes(config)


def _modern_bert_shapes(classifies: bool) -> dict[str, tuple[int, ...]]:
    at = "model." if classifies else ""
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}embeddings.tok_embeddings.weight": (VOCABULARY, HIDDEN),
        f"{at}embeddings.norm.weight": (HIDDEN,),
        f"{at}final_norm.weight": (HIDDEN,),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"{at}layers.{layer}.attn.Wqkv.weight": (3 * HIDDEN, HIDDEN),
            f"{at}layers.{layer}.attn.Wo.weight": (HIDDEN, HIDDEN),
            f"{at}layers.{layer}.mlp_norm.weight": (HIDDEN,),
            f"{at}layers.{layer}.mlp.Wi.weight": (2 * INTERMEDIATE, HIDDEN),
            f"{at}layers.{layer}.mlp.Wo.weight": (HIDDEN, INTERMEDIATE),
        }
        if layer:
            shapes[f"{at}layers.{layer}.attn_norm.weight"] = (HIDDEN,)
    if classifies:
        shapes |= {"head.dense.weight": (HIDDEN, HIDDEN), "head.norm.weight": (HIDDEN,)}
        shapes |= _linear("classifier", 1, HIDDEN)
    return shapes


def _bert_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    architecture, kind = config["architectures"][0], config["model_type"]
    classifies = architecture.endswith("Classification")
    prefix = ("bert." if kind == "bert" else "roberta.") if classifies else ""
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN),
        f"{prefix}embeddings.position_embeddings.weight": (config["max_position_embeddings"], HIDDEN),
        f"{prefix}embeddings.token_type_embeddings.weight": (2, HIDDEN),
        **_norm(f"{prefix}embeddings.LayerNorm"),
    }
    for layer in range(LAYERS):
        at = f"{prefix}encoder.layer.{layer}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= _linear(f"{at}.{name}", HIDDEN, HIDDEN)
        shapes |= _linear(f"{at}.intermediate.dense", INTERMEDIATE, HIDDEN)
        shapes |= _linear(f"{at}.output.dense", HIDDEN, INTERMEDIATE)
        shapes |= _norm(f"{at}.attention.output.LayerNorm") | _norm(f"{at}.output.LayerNorm")
    if classifies and kind == "bert":
        shapes |= _linear("bert.pooler.dense", HIDDEN, HIDDEN) | _linear("classifier", 1, HIDDEN)
    elif classifies:
        shapes |= _linear("classifier.dense", HIDDEN, HIDDEN) | _linear("classifier.out_proj", 1, HIDDEN)
    else:
        shapes |= _linear(f"{prefix}pooler.dense", HIDDEN, HIDDEN)
    return shapes


def _qwen_shapes() -> dict[str, tuple[int, ...]]:
    """As sentence-transformers save it: without the prefix that a language model's weights have."""
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (VOCABULARY, HIDDEN), "norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        at = f"layers.{layer}"
        shapes |= {
            f"{at}.self_attn.q_proj.weight": (HEADS * 8, HIDDEN),
            f"{at}.self_attn.k_proj.weight": (16, HIDDEN),
            f"{at}.self_attn.v_proj.weight": (16, HIDDEN),
            f"{at}.self_attn.o_proj.weight": (HIDDEN, HEADS * 8),
            f"{at}.self_attn.q_norm.weight": (8,),
            f"{at}.self_attn.k_norm.weight": (8,),
            f"{at}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{at}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{at}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
            f"{at}.input_layernorm.weight": (HIDDEN,),
            f"{at}.post_attention_layernorm.weight": (HIDDEN,),
        }
    return shapes


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (HIDDEN,), f"{name}.bias": (HIDDEN,)}

"""A model folder of an 8B-class shape with random weights: its speed is a real one's, its answers are noise."""

from __future__ import annotations

import itertools
import json
import string
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import tokenizers
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import qwen3
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

END_OF_TURN = "<|im_end|>"
_TEMPLATE = """\
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
_SHAPE = {
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
}
"""Qwen3-8B's."""
_TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 1024,
}
_WINDOW = 40960
_SHARD_BYTES = 4 << 30


def build(folder: Path, tiny: bool = False) -> None:
    """Write the model. A letter of a prompt is a token, and so is any word of an answer."""
    folder.mkdir(parents=True)
    config = {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        **(_TINY if tiny else _SHAPE),
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "max_position_embeddings": _WINDOW,
        "tie_word_embeddings": False,
        "torch_dtype": "float32" if tiny else "bfloat16",
    }
    write_text_files(folder, config)
    save_model(_random_model(config, mx.float32 if tiny else mx.bfloat16), folder)


def write_text_files(folder: Path, config: dict[str, Any]) -> None:
    """All of a model folder but its weights."""
    (folder / "config.json").write_text(json.dumps(config))
    _tokenizer(config["vocab_size"]).save(str(folder / "tokenizer.json"))
    text = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TURN,
        "model_max_length": config["max_position_embeddings"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(text))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)


def _random_model(config: dict[str, object], dtype: mx.Dtype) -> nn.Module:
    mx.random.seed(0)
    model = qwen3.Model(qwen3.ModelArgs.from_dict(config))

    def draw(parameter: mx.array) -> mx.array:
        if parameter.ndim == 1:
            return mx.ones(parameter.shape, dtype)
        return (mx.random.normal(parameter.shape) * parameter.shape[-1] ** -0.5).astype(dtype)

    model.update(tree_map(draw, model.parameters()))
    return model


def save_model(model: nn.Module, folder: Path) -> None:
    """Shards, evaluated and let go one by one."""
    shards: list[dict[str, mx.array]] = [{}]
    nbytes = 0
    for name, array in dict(tree_flatten(model.parameters())).items():
        if nbytes + array.nbytes > _SHARD_BYTES:
            shards.append({})
            nbytes = 0
        shards[-1][name] = array
        nbytes += array.nbytes
    index: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        mx.save_safetensors(str(folder / file), shard, {"format": "mlx"})
        index |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _tokenizer(vocabulary: int) -> tokenizers.Tokenizer:
    """Bytes first, then words that no text is ever encoded to, since there are no merges."""
    alphabet = sorted(ByteLevel.alphabet())
    words = ("Ġ" + "".join(letters) for letters in itertools.product(string.ascii_lowercase, repeat=4))
    names = itertools.chain(alphabet, itertools.islice(words, vocabulary - len(alphabet) - 2))
    tokenizer = tokenizers.Tokenizer(BPE({name: index for index, name in enumerate(names)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", END_OF_TURN])
    return tokenizer

"""A model folder with a text side and no weights worth the name: enough for everything but MLX."""

from __future__ import annotations

import json
from pathlib import Path

import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

_TEMPLATE = """\
{%- if tools %}<|im_start|>system
Call tools as <tool_call>{"name": …, "arguments": …}</tool_call>. Tools:
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}<tool_call>
{{ call.function | tojson }}
</tool_call>{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

END_OF_TURN = "<|im_end|>"


def build_text_model(folder: Path, context_window: int = 4096) -> tokenizers.Tokenizer:
    """Write the folder; its tokenizer has a token a byte. Deterministic, a few milliseconds."""
    folder.mkdir(parents=True)
    tokenizer = byte_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END_OF_TURN}))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    config = {"model_type": "llama", "max_position_embeddings": context_window, "vocab_size": 300}
    (folder / "config.json").write_text(json.dumps(config))
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return tokenizer


DEEPSEEK_V4_MARKS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")  # noqa: RUF001


def build_deepseek_v4_text_model(folder: Path, context_window: int = 4096) -> tokenizers.Tokenizer:
    """The folder as DeepSeek V4 is published: an architecture, a tokenizer with its marks, and no template."""
    build_text_model(folder, context_window)
    (folder / "chat_template.jinja").unlink()
    tokenizer = byte_tokenizer(*DEEPSEEK_V4_MARKS, "<think>", "</think>", "｜DSML｜")  # noqa: RUF001
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": DEEPSEEK_V4_MARKS[1]}))
    config = {"model_type": "deepseek_v4", "max_position_embeddings": context_window, "vocab_size": 300}
    (folder / "config.json").write_text(json.dumps(config))
    return tokenizer


def byte_tokenizer(*control: str) -> tokenizers.Tokenizer:
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(BPE({character: index for index, character in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(list(control) or ["<|im_start|>", END_OF_TURN])
    return tokenizer

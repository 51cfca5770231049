"""Small GGUF files of the Llama family, made with the format's own package the way llama.cpp's converter does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize

Arrays = dict[str, npt.NDArray[np.float32]]

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w"]


def byte_alphabet() -> list[str]:
    """GPT-2's printable character for each byte, as its vocabularies spell them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def small_tokens() -> list[str]:
    return [*SPECIALS, *byte_alphabet(), *(merge.replace(" ", "") for merge in MERGES)]


@dataclass(slots=True)
class SmallLlama:
    """What to write. `metadata` overrides single keys (None leaves one out); `types` give tensors by their GGUF
    name another type than `type`; `raw` tensors stand in for the random ones; `extra` ones are added as they are."""

    type: GGMLQuantizationType = GGMLQuantizationType.F32
    hidden: int = 64
    intermediate: int = 96
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    tied: bool = True
    attention_biases: bool = False
    tokens: Sequence[str] = field(default_factory=small_tokens)
    merges: Sequence[str] = tuple(MERGES)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, GGMLQuantizationType] = field(default_factory=dict)
    without: Sequence[str] = ()
    raw: dict[str, tuple[GGMLQuantizationType, npt.NDArray[Any]]] = field(default_factory=dict)
    extra: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def write(self, path: Path) -> Arrays:
        """Write the file; the result is what the weights are worth, by Hugging Face's names and layout."""
        writer = GGUFWriter(path, "llama")
        for key, value in (self._metadata() | dict(self.metadata)).items():
            if value is not None and key != "general.architecture":
                _add(writer, key, value)
        worth: Arrays = {}
        for name, (hf_name, values) in self._weights().items():
            if name in self.without:
                continue
            kind = self.types.get(name, self.type if values.ndim == 2 else GGMLQuantizationType.F32)
            kind, stored = self.raw.get(name) or (kind, quantize(values, kind))
            worth[hf_name] = self._unpermuted(name, dequantize(stored, kind))
            writer.add_tensor(name, stored, raw_dtype=kind)
        for name, values in self.extra.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        if "general.architecture" in self.metadata:
            _rename_architecture(path, self.metadata["general.architecture"])
        return worth

    def _metadata(self) -> dict[str, Any]:
        return {
            "llama.block_count": self.layers,
            "llama.context_length": 512,
            "llama.embedding_length": self.hidden,
            "llama.feed_forward_length": self.intermediate,
            "llama.attention.head_count": self.heads,
            "llama.attention.head_count_kv": self.kv_heads,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.freq_base": 10000.0,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "smollm",
            "tokenizer.ggml.tokens": list(self.tokens),
            "tokenizer.ggml.token_type": [3 if token in SPECIALS else 1 for token in self.tokens],
            "tokenizer.ggml.merges": list(self.merges),
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.chat_template": "{{ messages[0].content }}",
        }

    def _weights(self) -> dict[str, tuple[str, npt.NDArray[np.float32]]]:
        """GGUF name to Hugging Face name and values as the GGUF holds them."""
        random = np.random.default_rng(5)

        def matrix(rows: int, columns: int) -> npt.NDArray[np.float32]:
            return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)

        def vector(size: int) -> npt.NDArray[np.float32]:
            return np.float32(1) + random.standard_normal(size, dtype=np.float32) / np.float32(8)

        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        weights = {"token_embd.weight": ("model.embed_tokens.weight", matrix(len(self.tokens), self.hidden))}
        for layer in range(self.layers):
            block, target = f"blk.{layer}", f"model.layers.{layer}"
            weights |= {
                f"{block}.attn_norm.weight": (f"{target}.input_layernorm.weight", vector(self.hidden)),
                f"{block}.ffn_norm.weight": (f"{target}.post_attention_layernorm.weight", vector(self.hidden)),
                f"{block}.attn_q.weight": (f"{target}.self_attn.q_proj.weight", matrix(queries, self.hidden)),
                f"{block}.attn_k.weight": (f"{target}.self_attn.k_proj.weight", matrix(keys, self.hidden)),
                f"{block}.attn_v.weight": (f"{target}.self_attn.v_proj.weight", matrix(keys, self.hidden)),
                f"{block}.attn_output.weight": (f"{target}.self_attn.o_proj.weight", matrix(self.hidden, queries)),
                f"{block}.ffn_gate.weight": (f"{target}.mlp.gate_proj.weight", matrix(self.intermediate, self.hidden)),
                f"{block}.ffn_up.weight": (f"{target}.mlp.up_proj.weight", matrix(self.intermediate, self.hidden)),
                f"{block}.ffn_down.weight": (f"{target}.mlp.down_proj.weight", matrix(self.hidden, self.intermediate)),
            }
            if self.attention_biases:
                for part, size in (("q", queries), ("k", keys), ("v", keys), ("o", self.hidden)):
                    name = "attn_output" if part == "o" else f"attn_{part}"
                    weights[f"{block}.{name}.bias"] = (
                        f"{target}.self_attn.{part}_proj.bias",
                        vector(size) - np.float32(1),
                    )
        weights["output_norm.weight"] = ("model.norm.weight", vector(self.hidden))
        if not self.tied:
            weights["output.weight"] = ("lm_head.weight", matrix(len(self.tokens), self.hidden))
        return weights

    def _unpermuted(self, name: str, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Rows of q and k back in two halves a head, in the plainest words: pair (2i, 2i+1) came from (i, i+half)."""
        heads = self.heads if "attn_q." in name else self.kv_heads if "attn_k." in name else 0
        result, half = values.copy(), self.head_dim // 2
        for head in range(heads):
            for index in range(half):
                start = head * self.head_dim
                result[start + index] = values[start + 2 * index]
                result[start + half + index] = values[start + 2 * index + 1]
        return result


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _rename_architecture(path: Path, name: str) -> None:
    """The writer puts the architecture first and checks it, so another one is patched in, of the same length."""
    assert len(name) == len("llama")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"llama", name.encode(), 1))

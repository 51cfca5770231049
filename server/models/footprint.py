"""How much memory a model takes: weights, the state of its sequences, and the work on them. Bytes, and no MLX.

All of omlx's arithmetic about memory is here, for the pool, for admission, for what is listed and for plans over
several machines, so that they agree. Sizes come from the config and the headers of the weights; nothing is loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from ..requests import Json
from .folder import text_config
from .layer_memory import compress_ratios, layer_memories, number_of
from .safetensors_file import SafetensorsHeader

_CHUNK_TOKENS = 256
"""The smallest piece that prompts are computed in while nothing else runs; mlx-lm's caches grow by as much."""
_FLOAT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_PACKED_BLOCK = [32, 32]
"""FP8 in blocks of which MLX computes with it as it is."""
_STATE_BYTES = 4
"""Recurrent states are kept in float32 by most models."""
_GB = 10**9
EXPECTED_ANSWER_TOKENS = 4096
"""There must be room for so many before a prompt is begun, where it may have them. Agents allow far more than they
take."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """A model's memory. A sequence takes `token_bytes` for every token, `state_bytes` whatever its length, and for
    each (window, bytes) of `windows` so many bytes for every token of the last `window`. The work on a piece of a
    prompt takes `chunk_bytes`, and `score_bytes` for every token that the piece looks back on, with the copy of one
    layer's part that is made where it grows."""

    weight_bytes: int
    token_bytes: int
    state_bytes: int = 0
    windows: tuple[tuple[int, int], ...] = ()
    chunk_bytes: int = 0
    score_bytes: int = 0
    growth_tokens: int = 1
    """What holds keys and values grows by so many tokens at once."""

    def kv_bytes(self, num_tokens: int) -> int:
        """What the keys, values and states of one sequence of so many tokens take."""
        windowed = sum(min(num_tokens, window) * token_bytes for window, token_bytes in self.windows)
        return num_tokens * self.token_bytes + windowed + self.state_bytes

    def held_bytes(self, num_tokens: int) -> int:
        """What is set aside for `kv_bytes`."""
        return self.kv_bytes(-(-num_tokens // self.growth_tokens) * self.growth_tokens)

    def transient_bytes(self, num_tokens: int) -> int:
        """What is needed for a moment while the last piece of a prompt of so many tokens is computed."""
        return self.chunk_bytes + num_tokens * self.score_bytes

    def sequence_bytes(self, num_tokens: int) -> int:
        """What one sequence needs to be computed and held."""
        return self.kv_bytes(num_tokens) + self.transient_bytes(num_tokens)

    def total_bytes(self, window: int, num_sequences: int = 1) -> int:
        """The model with so many sequences as long as the window, one of which is being computed."""
        return self.weight_bytes + num_sequences * self.held_bytes(window) + self.transient_bytes(window)

    def window_within(self, memory_bytes: int, declared: int) -> int:
        """The longest window, at most `declared`, that fits beside the weights; 0 where not even the weights fit.

        A window that was shortened is a multiple of 256 tokens.
        """
        if self.total_bytes(declared) <= memory_bytes:
            return declared
        low, high = 0, declared // _CHUNK_TOKENS
        while low < high:
            middle = (low + high + 1) // 2
            if self.total_bytes(middle * _CHUNK_TOKENS) <= memory_bytes:
                low = middle
            else:
                high = middle - 1
        return low * _CHUNK_TOKENS

    def part(self, weight_bytes: int, held: Fraction) -> Footprint:
        """That of one machine of several, which has these weights and so much of each sequence's memory."""
        windows = tuple((window, int(num_bytes * held)) for window, num_bytes in self.windows)
        token_bytes, state_bytes = int(self.token_bytes * held), int(self.state_bytes * held)
        return replace(
            self, weight_bytes=weight_bytes, token_bytes=token_bytes, state_bytes=state_bytes, windows=windows
        )

    def beside(self, drafting: Footprint) -> Footprint:
        """That of both, where the other model reads the same sequences."""
        return replace(
            self,
            weight_bytes=self.weight_bytes + drafting.weight_bytes,
            token_bytes=self.token_bytes + drafting.token_bytes,
            state_bytes=self.state_bytes + drafting.state_bytes,
            windows=self.windows + drafting.windows,
        )

    def describe(self, window: int) -> str:
        """One line of words for people."""
        weights, kv, work = (
            size / _GB for size in (self.weight_bytes, self.kv_bytes(window), self.transient_bytes(window))
        )
        return f"{weights:.2f} GB of weights, {kv:.2f} GB for {window} tokens, {work:.2f} GB to compute them"


def footprint_of(config: Mapping[str, Json], headers: list[SafetensorsHeader]) -> Footprint:
    """The footprint of the model whose config and whose weight files' headers these are. `ModelEntry` has it."""
    value_bytes = _value_bytes(headers)
    text = text_config(config)
    layers = layer_memories({**config, **text})
    windows: Counter[int] = Counter()
    for layer in layers:
        if layer.window:
            windows[layer.window] += int(layer.token * value_bytes)
    chunk, score = _work(text)
    return Footprint(
        weight_bytes=_weight_bytes(config, headers),
        token_bytes=int(sum(layer.token for layer in layers if not layer.window) * value_bytes),
        state_bytes=sum(layer.state for layer in layers) * _STATE_BYTES,
        windows=tuple(sorted(windows.items())),
        chunk_bytes=_CHUNK_TOKENS * chunk * value_bytes,
        score_bytes=int((_CHUNK_TOKENS * score + max((layer.token for layer in layers), default=0)) * value_bytes),
        growth_tokens=_CHUNK_TOKENS,
    )


def _weight_bytes(config: Mapping[str, Json], headers: list[SafetensorsHeader]) -> int:
    """What the weights take once loaded: numbers in FP8 become twice as wide, unless MLX computes with them."""
    given = config.get("quantization_config")
    packing = given if isinstance(given, dict) and "quantization" not in config else {}
    unpacks = packing.get("quant_method") == "fp8" and packing.get("weight_block_size") != _PACKED_BLOCK
    keeps_experts = bool(compress_ratios(config))
    size = sum(header.size_bytes for header in headers)
    for tensor in (tensor for header in headers for tensor in header.tensors if unpacks and tensor.dtype == "F8_E4M3"):
        size += 0 if keeps_experts and ".experts." in tensor.name else tensor.nbytes
    return size


def _value_bytes(headers: list[SafetensorsHeader]) -> int:
    """The width of the model's numbers while it computes: that of its norms, which are never packed, or of most."""
    floats = [tensor for header in headers for tensor in header.tensors if tensor.dtype in _FLOAT_BYTES]
    norms = [tensor for tensor in floats if "norm" in tensor.name]
    found = Counter(tensor.dtype for tensor in norms or floats)
    return _FLOAT_BYTES[found.most_common(1)[0][0]] if found else 2


def _work(config: Mapping[str, Json]) -> tuple[int, int]:
    """Values a token takes while a layer computes it, and those for each token it looks back on: scores of attention,
    which not every device keeps, one for each head."""
    hidden = number_of(config, "hidden_size", "n_embd", "d_model", "hidden_dim")
    experts = max(1, number_of(config, "num_experts_per_tok", "moe_topk"))
    inner = number_of(config, "intermediate_size"), number_of(config, "moe_intermediate_size") * experts
    heads = number_of(config, "num_attention_heads", "n_head", "n_heads", "num_heads")
    return 8 * hidden + 3 * (max(inner) or 4 * hidden), heads

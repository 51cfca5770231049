"""The model as mlx-lm's loaders and generators know models: `Model(args)`, `model(tokens, cache)`, `make_cache`."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from .attention import Attention
from .cache import LayerCache
from .config import ModelArgs
from .experts import Experts
from .hyper_connections import HyperConnection, HyperHead, rejoin
from .weights import fit_weights


class DecoderLayer(nn.Module):
    def __init__(self, args: ModelArgs, layer: int) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.ffn_norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.attn_hc = HyperConnection(args)
        self.ffn_hc = HyperConnection(args)
        self.attn = Attention(args, args.compress_ratios[layer])
        self.ffn = Experts(args, layer)

    def __call__(self, streams: mx.array, token_ids: mx.array, cache: LayerCache) -> mx.array:
        """Streams [B, L, N, D] → the same; token_ids [B, L] route the hash layers' experts."""
        x, write, mix = self.attn_hc(streams)
        streams = rejoin(self.attn(self.attn_norm(x), cache), streams, write, mix)
        x, write, mix = self.ffn_hc(streams)
        return rejoin(self.ffn(self.ffn_norm(x), token_ids), streams, write, mix)


class Trunk(nn.Module):
    """All but the output projection: token ids [B, L] → hidden [B, L, D]."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self._streams = args.hc_mult
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.layers = [DecoderLayer(args, layer) for layer in range(args.num_hidden_layers)]
        self.norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.hc_head = HyperHead(args)

    def __call__(self, token_ids: mx.array, cache: Sequence[LayerCache]) -> mx.array:
        x = self.embed_tokens(token_ids)
        streams = mx.broadcast_to(x[:, :, None], (*x.shape[:2], self._streams, x.shape[-1]))
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            streams = layer(streams, token_ids, layer_cache)
        return self.norm(self.hc_head(streams))


class Model(nn.Module):
    """DeepSeek V4. Rows of a batch may stand at different positions: the cache knows."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.args = args
        self.model_type = args.model_type
        self.model = Trunk(args)
        if not args.tie_word_embeddings:
            self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)

    def __call__(self, inputs: mx.array, cache: Sequence[LayerCache] | None = None) -> mx.array:
        """Logits [B, L, vocabulary] of token ids [B, L] that follow what `cache` holds; it then holds them too."""
        hidden = self.model(inputs, self._caches(inputs.shape[0]) if cache is None else cache)
        if self.args.tie_word_embeddings:
            return self.model.embed_tokens.as_linear(hidden)
        return self.lm_head(hidden)

    @property
    def layers(self) -> list[DecoderLayer]:
        return self.model.layers

    def make_cache(self, spare: int = 0) -> list[LayerCache]:
        """An empty cache of one sequence. Up to `spare` tokens can then be taken back with `trim`."""
        return self._caches(1, spare)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """A checkpoint's tensors under this model's names, dequantized where MLX has no such format.

        Experts stay packed where MLX computes with their format; the model's modules are changed to match.
        Raises `CorruptModel` for tensors that do not fit.
        """
        return fit_weights(self, self.args, weights)

    def _caches(self, batch: int, spare: int = 0) -> list[LayerCache]:
        window = self.args.sliding_window
        return [LayerCache(window, ratio, batch=batch, spare=spare) for ratio in self.args.compress_ratios]

"""The model as mlx-lm's loaders and generators know models: `Model(args)`, `model(tokens, cache)`, `make_cache`."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ....errors import CorruptModel
from ...mtp import judge
from .attention import Attention
from .cache import LayerCache
from .config import ModelArgs
from .experts import Experts
from .hyper_connections import HyperConnection, HyperHead, rejoin
from .sharding import shard_attention, shard_experts
from .weights import fit_weights

logger = logging.getLogger(__name__)


class DecoderLayer(nn.Module):
    """A layer whose attention compresses by `ratio`. `by_token`: its experts are looked up, not scored."""

    def __init__(self, args: ModelArgs, ratio: int, *, by_token: bool) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.ffn_norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.attn_hc = HyperConnection(args)
        self.ffn_hc = HyperConnection(args)
        self.attn = Attention(args, ratio)
        self.ffn = Experts(args, by_token=by_token)

    def __call__(self, streams: mx.array, token_ids: mx.array, cache: LayerCache) -> mx.array:
        """Streams [B, L, N, D] → the same; token_ids [B, L] route the hash layers' experts."""
        x, weights = self.attn_hc(streams)
        streams = rejoin(self.attn(self.attn_norm(x), cache), streams, weights)
        x, weights = self.ffn_hc(streams)
        return rejoin(self.ffn(self.ffn_norm(x), token_ids), streams, weights)


class MtpLayer(DecoderLayer):
    """Predicts the token after the next one: from the streams a position ended with and the token that follows it.

    Embedding and output projection are the model's; the mixture of the streams and the norm before it its own.
    """

    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args, 0, by_token=False)
        self.e_proj = nn.Linear(args.hidden_size, args.hidden_size, bias=False)
        self.h_proj = nn.Linear(args.hidden_size, args.hidden_size, bias=False)
        self.enorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.hnorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.hc_head = HyperHead(args)

    def joined(self, embedded: mx.array, streams: mx.array) -> mx.array:
        """What goes into the layer: [B, L, D] and [B, L, N, D] → [B, L, N, D]."""
        return self.e_proj(self.enorm(embedded))[:, :, None] + self.h_proj(self.hnorm(streams))


class Trunk(nn.Module):
    """All but the output projection: token ids [B, L] → the streams they end with, and hidden [B, L, D] of those."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self._streams = args.hc_mult
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.layers = [
            DecoderLayer(args, ratio, by_token=layer < args.hash_layers)
            for layer, ratio in enumerate(args.compress_ratios)
        ]
        self.norm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)
        self.hc_head = HyperHead(args)

    def __call__(self, token_ids: mx.array, cache: Sequence[LayerCache]) -> tuple[mx.array, mx.array]:
        x = self.embed_tokens(token_ids)
        streams = mx.broadcast_to(x[:, :, None], (*x.shape[:2], self._streams, x.shape[-1]))
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            streams = layer(streams, token_ids, layer_cache)
        return streams, self.norm(self.hc_head(streams))


class Model(nn.Module):
    """DeepSeek V4. Rows of a batch may stand at different positions: the cache knows.

    `mtp` holds the MTP layer, once a checkpoint that has it was fitted (`omlx.server.models.mtp_model`). `divided_by`
    are the facts of the config that must be multiples of the ranks it is sharded over. It `drafts_alone`: what the MTP
    layer needs of the model is whole on every rank.
    """

    divided_by = ("num_attention_heads", "o_groups", "moe_intermediate_size")
    drafts_alone = True

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.args = args
        self.model_type = args.model_type
        self.model = Trunk(args)
        self.mtp: list[MtpLayer] = []
        if not args.tie_word_embeddings:
            self.lm_head = nn.Linear(args.hidden_size, args.vocab_size, bias=False)

    def __call__(self, inputs: mx.array, cache: Sequence[LayerCache] | None = None) -> mx.array:
        """Logits [B, L, vocabulary] of token ids [B, L] that follow what `cache` holds; it then holds them too."""
        return self.forward(inputs, cache)[0]

    def forward(self, inputs: mx.array, cache: Sequence[LayerCache] | None = None) -> tuple[mx.array, mx.array]:
        """The logits, and the streams [B, L, N, D] that `draft` goes on from."""
        streams, hidden = self.model(inputs, self._caches(inputs.shape[0]) if cache is None else cache)
        return self._head(hidden), streams

    def draft(self, token_ids: mx.array, hidden: mx.array, cache: Sequence[LayerCache]) -> mx.array:
        """Logits [B, L, vocabulary] of the tokens after `token_ids` [B, L], each of which follows a position that
        ended with `hidden` [B, L, N, D]."""
        (layer,) = self.mtp
        streams = layer(layer.joined(self.model.embed_tokens(token_ids), hidden), token_ids, cache[0])
        return self._head(layer.norm(layer.hc_head(streams)))

    def make_draft_cache(self) -> list[LayerCache]:
        """An empty cache of one sequence for `draft`."""
        return [LayerCache(self.args.sliding_window, 0)]

    def _head(self, hidden: mx.array) -> mx.array:
        if self.args.tie_word_embeddings:
            return self.model.embed_tokens.as_linear(hidden)
        return self.lm_head(hidden)

    @property
    def layers(self) -> list[DecoderLayer]:
        return self.model.layers

    def make_cache(self, spare: int = 0) -> list[LayerCache]:
        """An empty cache of one sequence. Up to `spare` tokens can then be taken back with `trim`."""
        return self._caches(1, spare)

    def shard(self, group: mx.distributed.Group) -> None:
        """Keep this rank's slice of every layer; the group then computes what one model did."""
        for layer in self.layers:
            shard_attention(layer.attn, group)
            shard_experts(layer.ffn, group)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """A checkpoint's tensors under this model's names, dequantized where MLX has no such format.

        Experts stay packed where MLX computes with their format; the model's modules are changed to match.
        Raises `CorruptModel` for tensors that do not fit.
        """
        found = judge({"n_routed_experts": self.args.n_routed_experts}, list(weights))
        if found.mtp_compatible:
            self.mtp = [MtpLayer(self.args)]
            try:
                return fit_weights(self, self.args, weights, num_mtp_layers=1)
            except CorruptModel as error:
                self.mtp = []
                logger.warning("The MTP layer is not used: %s", error)
        elif any(".mtp." in f".{name}" for name in weights):
            logger.warning("The MTP layer is not used: %s", found.reason)
        return fit_weights(self, self.args, weights)

    def _caches(self, batch: int, spare: int = 0) -> list[LayerCache]:
        window = self.args.sliding_window
        return [LayerCache(window, ratio, batch=batch, spare=spare) for ratio in self.args.compress_ratios]

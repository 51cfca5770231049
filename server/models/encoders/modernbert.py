"""ModernBERT: pre-norm layers, rotary positions, a gated MLP, and a window in two of three layers.

Names follow the published checkpoints, so that weights load as they are. The reference is transformers' `modernbert`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from .bert import activation_of, num_labels_of

_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True)
class ModernBertConfig:
    """`reaches` says for each layer how far a token sees to either side, None for everywhere, and `bases` the base of
    its rotary positions. `num_labels` 0 means no classifier."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    vocab_size: int
    norm_eps: float
    norm_bias: bool
    attention_bias: bool
    mlp_bias: bool
    classifier_bias: bool
    classifies_by_mean: bool
    activation: Callable[[mx.array], mx.array]
    classifier_activation: Callable[[mx.array], mx.array]
    reaches: tuple[int | None, ...]
    bases: tuple[float, ...]
    num_labels: int

    @classmethod
    def read(cls, config: Mapping[str, Any], classifies: bool) -> ModernBertConfig:
        """Raises `KeyError` for what is missing, `UnsupportedModel` for what is not here."""
        every = config.get("global_attn_every_n_layers", 3)
        patterned = [_SLIDING if layer % every else _FULL for layer in range(config["num_hidden_layers"])]
        layer_types = config.get("layer_types") or patterned
        return cls(
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_attention_heads=config["num_attention_heads"],
            vocab_size=config["vocab_size"],
            norm_eps=config.get("norm_eps", 1e-5),
            norm_bias=config.get("norm_bias", False),
            attention_bias=config.get("attention_bias", False),
            mlp_bias=config.get("mlp_bias", False),
            classifier_bias=config.get("classifier_bias", False),
            classifies_by_mean=config.get("classifier_pooling", "cls") == "mean",
            activation=activation_of(config.get("hidden_activation", "gelu")),
            classifier_activation=activation_of(config.get("classifier_activation", "gelu")),
            reaches=tuple(
                config.get("local_attention", 128) // 2 if kind == _SLIDING else None for kind in layer_types
            ),
            bases=tuple(_rope_base(config, kind) for kind in layer_types),
            num_labels=num_labels_of(config) if classifies else 0,
        )


def _rope_base(config: Mapping[str, Any], layer_type: str) -> float:
    """Configurations of transformers 5 name it by the type of layer, older ones by what a layer sees."""
    found = (config.get("rope_parameters") or {}).get(layer_type) or {}
    older, default = ("local_rope_theta", 10_000.0) if layer_type == _SLIDING else ("global_rope_theta", 160_000.0)
    return found.get("rope_theta") or config.get(older) or default


class _Embeddings(nn.Module):
    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = _norm(config)

    def __call__(self, token_ids: mx.array) -> mx.array:
        return self.norm(self.tok_embeddings(token_ids))


class _Attention(nn.Module):
    def __init__(self, config: ModernBertConfig, base: float) -> None:
        super().__init__()
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=config.attention_bias)
        self.Wo = nn.Linear(config.hidden_size, config.hidden_size, bias=config.attention_bias)
        self._num_heads = config.num_attention_heads
        self._rope = nn.RoPE(config.hidden_size // config.num_attention_heads, base=base)

    def __call__(self, hidden: mx.array, mask: mx.array) -> mx.array:
        rows, length, width = hidden.shape
        states = self.Wqkv(hidden).reshape(rows, length, 3, self._num_heads, -1).transpose(2, 0, 3, 1, 4)
        attended = mx.fast.scaled_dot_product_attention(
            self._rope(states[0]), self._rope(states[1]), states[2], scale=states.shape[-1] ** -0.5, mask=mask
        )
        return self.Wo(attended.transpose(0, 2, 1, 3).reshape(rows, length, width))


class _Mlp(nn.Module):
    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.Wi = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=config.mlp_bias)
        self.Wo = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self._activation = config.activation

    def __call__(self, hidden: mx.array) -> mx.array:
        value, gate = mx.split(self.Wi(hidden), 2, axis=-1)
        return self.Wo(self._activation(value) * gate)


class _Layer(nn.Module):
    def __init__(self, config: ModernBertConfig, number: int) -> None:
        super().__init__()
        self.attn_norm = _norm(config) if number else nn.Identity()  # the embeddings are normed already
        self.attn = _Attention(config, config.bases[number])
        self.mlp_norm = _norm(config)
        self.mlp = _Mlp(config)

    def __call__(self, hidden: mx.array, mask: mx.array) -> mx.array:
        hidden = hidden + self.attn(self.attn_norm(hidden), mask)
        return hidden + self.mlp(self.mlp_norm(hidden))


class _Head(nn.Module):
    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.classifier_bias)
        self.norm = _norm(config)
        self._activation = config.classifier_activation

    def __call__(self, hidden: mx.array) -> mx.array:
        return self.norm(self._activation(self.dense(hidden)))


class ModernBert(nn.Module):
    """Token ids [rows, tokens] and a mask of each row's tokens in, vectors [rows, tokens, width] out."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.layers = [_Layer(config, number) for number in range(len(config.reaches))]
        self.final_norm = _norm(config)
        if config.num_labels:
            self.head = _Head(config)
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self._reaches = config.reaches
        self._classifies_by_mean = config.classifies_by_mean

    def __call__(self, token_ids: mx.array, type_ids: mx.array, is_token: mx.array) -> mx.array:
        del type_ids  # it has none
        places = mx.arange(token_ids.shape[1])
        distance = mx.abs(places[:, None] - places[None])
        everywhere = is_token[:, None, None, :]
        masks = {reach: everywhere if reach is None else everywhere & (distance <= reach) for reach in {*self._reaches}}
        hidden = self.embeddings(token_ids)
        for layer, reach in zip(self.layers, self._reaches, strict=True):
            hidden = layer(hidden, masks[reach])
        return self.final_norm(hidden)

    def classify(self, hidden: mx.array, is_token: mx.array) -> mx.array:
        """The labels' scores by the first token's vector or the mean of all, shape [rows, labels]."""
        pooled = hidden[:, 0]
        if self._classifies_by_mean:
            pooled = mx.where(is_token[..., None], hidden, 0).sum(axis=1) / is_token.sum(axis=1, keepdims=True)
        return self.classifier(self.head(pooled))


def _norm(config: ModernBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


def own_names(weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """The published weights by this module's names."""
    return {name.removeprefix("model."): value for name, value in weights.items()}

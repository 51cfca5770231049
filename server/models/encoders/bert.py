"""BERT and its kin (RoBERTa, XLM-RoBERTa), which differ in where positions begin and in the classifier's head.

Names follow the published checkpoints, so that weights load as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ...errors import UnsupportedModel

_ACTIVATIONS: Mapping[str, Callable[[mx.array], mx.array]] = {
    "gelu": nn.gelu,
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "relu": nn.relu,
}
_PREFIXES = ("bert.", "roberta.")


@dataclass(frozen=True, slots=True)
class BertConfig:
    """`first_position` is where positions begin; `num_labels` 0 means no classifier."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    activation: Callable[[mx.array], mx.array]
    first_position: int
    num_labels: int

    @classmethod
    def read(cls, config: Mapping[str, Any], classifies: bool) -> BertConfig:
        """Raises `KeyError` for what is missing, `UnsupportedModel` for what is not here."""
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise UnsupportedModel(f"omlx has no {config['position_embedding_type']} positions for BERT")
        return cls(
            hidden_size=config["hidden_size"],
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=config["num_attention_heads"],
            intermediate_size=config["intermediate_size"],
            vocab_size=config["vocab_size"],
            max_position_embeddings=config["max_position_embeddings"],
            type_vocab_size=config.get("type_vocab_size", 2),
            layer_norm_eps=config.get("layer_norm_eps", 1e-12),
            activation=activation_of(config.get("hidden_act", "gelu")),
            first_position=0 if config["model_type"] == "bert" else config.get("pad_token_id", 1) + 1,
            num_labels=num_labels_of(config) if classifies else 0,
        )


def activation_of(name: str) -> Callable[[mx.array], mx.array]:
    """Raises `UnsupportedModel` for one that is not here."""
    if name not in _ACTIVATIONS:
        raise UnsupportedModel(f"omlx has no {name} for encoders; it has {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def num_labels_of(config: Mapping[str, Any]) -> int:
    """How many labels a classifier has. A configuration that says nothing means transformers' two."""
    labels = config.get("id2label")
    return len(labels) if labels else config.get("num_labels", 2)


class _Embeddings(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self._first_position = config.first_position

    def __call__(self, token_ids: mx.array, type_ids: mx.array) -> mx.array:
        positions = self.position_embeddings(mx.arange(token_ids.shape[1]) + self._first_position)
        return self.LayerNorm(self.word_embeddings(token_ids) + positions + self.token_type_embeddings(type_ids))


class _Output(nn.Module):
    """A projection added to what went in, and normed."""

    def __init__(self, config: BertConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(self, hidden: mx.array, residual: mx.array) -> mx.array:
        return self.LayerNorm(self.dense(hidden) + residual)


class _Attention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = _Output(config, config.hidden_size)
        self._num_heads = config.num_attention_heads

    def __call__(self, hidden: mx.array, mask: mx.array) -> mx.array:
        rows, length, width = hidden.shape

        def split(states: mx.array) -> mx.array:
            return states.reshape(rows, length, self._num_heads, -1).transpose(0, 2, 1, 3)

        attended = mx.fast.scaled_dot_product_attention(
            split(self.query(hidden)),
            split(self.key(hidden)),
            split(self.value(hidden)),
            scale=(width // self._num_heads) ** -0.5,
            mask=mask,
        )
        return self.output(attended.transpose(0, 2, 1, 3).reshape(rows, length, width), hidden)


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = nn.Linear(config.hidden_size, config.intermediate_size)
        self.output = _Output(config, config.intermediate_size)
        self._activation = config.activation

    def __call__(self, hidden: mx.array, mask: mx.array) -> mx.array:
        hidden = self.attention(hidden, mask)
        return self.output(self._activation(self.intermediate(hidden)), hidden)


class Bert(nn.Module):
    """Token ids [rows, tokens], each row's type ids and a mask of its tokens, in; vectors [rows, tokens, width] out."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.layers = [_Layer(config) for _ in range(config.num_hidden_layers)]
        if config.num_labels:
            self.before_classifier = nn.Linear(config.hidden_size, config.hidden_size)
            self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def __call__(self, token_ids: mx.array, type_ids: mx.array, is_token: mx.array) -> mx.array:
        hidden = self.embeddings(token_ids, type_ids)
        mask = is_token[:, None, None, :]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden

    def classify(self, hidden: mx.array, is_token: mx.array) -> mx.array:
        """The labels' scores by the first token's vector, shape [rows, labels]."""
        del is_token
        return self.classifier(mx.tanh(self.before_classifier(hidden[:, 0])))


_RENAMED = (
    ("attention.self.", "attention."),
    ("encoder.layer.", "layers."),
    ("intermediate.dense.", "intermediate."),
    ("pooler.dense.", "before_classifier."),
    ("classifier.dense.", "before_classifier."),
    ("classifier.out_proj.", "classifier."),
    (".gamma", ".weight"),
    (".beta", ".bias"),
)


def own_names(weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """The published weights by this module's names."""
    found: dict[str, mx.array] = {}
    for name, value in weights.items():
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        for old, new in _RENAMED:
            name = name.replace(old, new)
        found[name] = value
    return found

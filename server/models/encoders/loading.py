"""An embedding model or a reranker in memory: from token ids to vectors or scores."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
import tokenizers
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model as load_mlx_lm_model

from ...errors import CorruptModel, UnsupportedModel
from ..catalog import ModelKind, weight_files
from ..folder import read_config
from ..safetensors_file import read_header
from . import bert, modernbert
from .bert import Bert, BertConfig
from .description import MODERN_BERT, Dense, Encoding, Pooling, read_encoding
from .modernbert import ModernBert, ModernBertConfig

_DENSE_ACTIVATIONS: Mapping[str, Callable[[mx.array], mx.array]] = {
    "Identity": lambda vectors: vectors,
    "Tanh": mx.tanh,
    "ReLU": nn.relu,
    "GELU": nn.gelu,
    "SiLU": nn.silu,
}


class Tokens(Protocol):
    @property
    def token_ids(self) -> list[int]: ...

    @property
    def type_ids(self) -> list[int]: ...


class TextEncoder:
    """Encodes rows of tokens together. One float a row for a reranker, a vector of unit length otherwise."""

    def __init__(self, model: nn.Module, encoding: Encoding, kind: ModelKind, yes_no: tuple[int, int] | None) -> None:
        self._model: Any = model
        self._encoding = encoding
        self._kind = kind
        self._yes_no = yes_no
        self._projections = [_load_dense(dense) for dense in encoding.dense]
        self.weight_bytes = sum(array.nbytes for array in dict(tree_flatten(model.parameters())).values())

    def encode(self, inputs: Sequence[Tokens]) -> mx.array:
        """Shape [rows, width], float32, computed. A reranker's is [rows, 1], each between 0 and 1."""
        lengths = mx.array([len(each.token_ids) for each in inputs])
        width = max(len(each.token_ids) for each in inputs)
        token_ids = mx.array([each.token_ids + [0] * (width - len(each.token_ids)) for each in inputs])
        if self._kind is ModelKind.RERANKER:
            found = self._scores(token_ids, inputs, lengths)
        else:
            hidden = self._hidden(token_ids, inputs, lengths).astype(mx.float32)
            found = _pooled(hidden, lengths, self._encoding.pooling)
            for project in self._projections:
                found = project(found)
            found = found / mx.maximum(mx.linalg.norm(found, axis=-1, keepdims=True), 1e-12)
        mx.eval(found)
        return found

    def _hidden(self, token_ids: mx.array, inputs: Sequence[Tokens], lengths: mx.array) -> mx.array:
        if self._encoding.is_decoder:  # what pads a row stands behind it, where its tokens do not look
            return self._model.model(token_ids)
        width = token_ids.shape[1]
        types = [[*each.type_ids, *[0] * (width - len(each.type_ids))] for each in inputs]
        return self._model(token_ids, mx.array(types), _is_token(width, lengths))

    def _scores(self, token_ids: mx.array, inputs: Sequence[Tokens], lengths: mx.array) -> mx.array:
        if self._yes_no is not None:
            last = _pooled(self._model(token_ids), lengths, Pooling.LAST).astype(mx.float32)
            return mx.softmax(last[:, mx.array(self._yes_no)], axis=-1)[:, :1]
        hidden = self._hidden(token_ids, inputs, lengths)
        if self._encoding.is_decoder:
            logits = self._model.score(_pooled(hidden, lengths, Pooling.LAST)).astype(mx.float32)
        else:
            logits = self._model.classify(hidden, _is_token(token_ids.shape[1], lengths)).astype(mx.float32)
        return mx.sigmoid(logits) if logits.shape[-1] == 1 else mx.softmax(logits, axis=-1)[:, 1:2]


def _pooled(hidden: mx.array, lengths: mx.array, pooling: Pooling) -> mx.array:
    match pooling:
        case Pooling.FIRST:
            return hidden[:, 0]
        case Pooling.LAST:
            return hidden[mx.arange(len(lengths)), lengths - 1]
        case Pooling.MEAN:
            is_token = _is_token(hidden.shape[1], lengths)
            return mx.where(is_token[:, :, None], hidden, 0).sum(axis=1) / lengths[:, None]


def _is_token(width: int, lengths: mx.array) -> mx.array:
    """Shape [rows, width]: False where a row is padded."""
    return mx.arange(width)[None] < lengths[:, None]


def load_encoder(path: Path, kind: ModelKind) -> TextEncoder:
    """Load the model in the folder. The calling thread must own MLX. Raises `CorruptModel`, `UnsupportedModel`."""
    config, encoding = read_config(path), read_encoding(path)
    for file in weight_files(path):  # they may be others than when the folder was found
        read_header(file)
    is_reranker = kind is ModelKind.RERANKER
    try:
        if not encoding.is_decoder:
            return TextEncoder(_load_own(path, config, is_reranker), encoding, kind, None)
        speaks = is_reranker and not encoding.has_classifier
        classes = _decoder_classes(config, speaks, bert.num_labels_of(config) if is_reranker and not speaks else 0)
        model = load_mlx_lm_model(path, get_model_classes=lambda config: classes)[0]  # noqa: ARG005  (by this name)
    except ValueError as error:
        raise CorruptModel(f"{path}: its weights and its config do not fit together ({error})") from error
    except ImportError as error:
        raise UnsupportedModel(f"{path}: omlx has no {config['model_type']} to encode with") from error
    except (KeyError, TypeError, RuntimeError) as error:
        raise CorruptModel(f"{path}: cannot be built of its config ({type(error).__name__}: {error})") from error
    return TextEncoder(model, encoding, kind, _yes_no(path) if speaks else None)


def _load_dense(dense: Dense) -> Callable[[mx.array], mx.array]:
    """The projection, in float32."""
    activation = _DENSE_ACTIVATIONS.get(dense.activation)
    if activation is None:
        raise UnsupportedModel(f"{dense.path}: omlx has no {dense.activation}; it has {', '.join(_DENSE_ACTIVATIONS)}")
    file = dense.path / "model.safetensors"
    read_header(file)
    weights: Any = mx.load(str(file))
    if "linear.weight" not in weights:
        raise CorruptModel(f"{file}: has no linear.weight; download it again")
    weight = weights["linear.weight"].astype(mx.float32)
    bias = weights["linear.bias"].astype(mx.float32) if "linear.bias" in weights else mx.zeros(weight.shape[0])
    return lambda vectors: activation(vectors @ weight.T + bias)


def _load_own(path: Path, config: Mapping[str, Any], classifies: bool) -> Bert | ModernBert:
    if config["model_type"] == MODERN_BERT:
        model, own_names = ModernBert(ModernBertConfig.read(config, classifies)), modernbert.own_names
    else:
        model, own_names = Bert(BertConfig.read(config, classifies)), bert.own_names
    weights: dict[str, mx.array] = {}
    for file in weight_files(path):
        weights |= own_names(mx.load(str(file)))  # pyright: ignore[reportArgumentType]  (safetensors give a dict)
    quantization = config.get("quantization")
    if isinstance(quantization, dict):
        nn.quantize(
            model,
            quantization["group_size"],
            quantization["bits"],
            class_predicate=lambda name, _: f"{name}.scales" in weights,
        )
    known = dict(tree_flatten(model.parameters()))
    model.load_weights([(name, value) for name, value in weights.items() if name in known])
    mx.eval(model.parameters())
    return model


def _decoder_classes(config: Mapping[str, Any], speaks: bool, num_labels: int) -> tuple[Any, Any]:
    """mlx-lm's classes, without the head that chooses words unless it `speaks`, with one for `num_labels` labels.

    Sentence-transformers leave out the prefix that these look for.
    """
    module = importlib.import_module(f"mlx_lm.models.{config['model_type']}")
    if not hasattr(module, "Model"):
        raise UnsupportedModel(f"mlx-lm has no model in {config['model_type']}")

    class HeadedModel(module.Model):
        def __init__(self, arguments: Any) -> None:
            super().__init__(arguments)
            if not speaks:
                self.pop("lm_head", None)
            if num_labels:
                self.score = nn.Linear(config["hidden_size"], num_labels, bias=False)

        def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
            if not speaks:
                weights = {name: value for name, value in weights.items() if not name.startswith("lm_head.")}
            if not any(name.startswith("model.") for name in weights):
                weights = {f"model.{name}": value for name, value in weights.items()}
            sanitize = getattr(super(), "sanitize", None)
            return sanitize(weights) if sanitize else weights

    return HeadedModel, module.ModelArgs


def _yes_no(path: Path) -> tuple[int, int]:
    """The tokens by which a language model says whether a document fits."""
    tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    yes, no = tokenizer.token_to_id("yes"), tokenizer.token_to_id("no")
    if yes is None or no is None:
        raise UnsupportedModel(f"{path}: a reranker that is a language model needs the tokens 'yes' and 'no'")
    return yes, no

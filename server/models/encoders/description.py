"""What an embedding model or a reranker makes of its texts, read from its folder without MLX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from ...errors import CorruptModel, UnsupportedModel
from ..folder import context_window, read_config, read_json_object

MODERN_BERT = "modernbert"
_ROBERTA_TYPES = frozenset({"roberta", "xlm-roberta", "camembert"})
_ENCODER_TYPES = _ROBERTA_TYPES | {"bert", MODERN_BERT}
_LIBRARY = "sentence_transformers."
_POOLING, _DENSE = "Pooling", "Dense"
_KNOWN_MODULES = frozenset({"Transformer", _POOLING, _DENSE, "Normalize"})


class Pooling(StrEnum):
    """Which of the tokens' vectors speak for the text."""

    FIRST = "first"
    MEAN = "mean"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Dense:
    """A projection of the pooled vector, its weights in the folder `path`. `activation` names PyTorch's class."""

    path: Path
    activation: str


@dataclass(frozen=True, slots=True)
class Encoding:
    """`is_decoder`: a language model, whose tokens see only what stands before them. `max_tokens` bounds one input.
    `has_classifier`: a reranker's scores come from labels of its own, not from a language model's words."""

    is_decoder: bool
    pooling: Pooling
    max_tokens: int
    has_classifier: bool = False
    dense: tuple[Dense, ...] = ()


class _Module(msgspec.Struct):
    type: str
    path: str = ""

    @property
    def name(self) -> str:
        """The class's own: the library has moved its classes between versions."""
        return self.type.rpartition(".")[2]


def read_encoding(folder: Path) -> Encoding:
    """Raises `CorruptModel` or `UnsupportedModel`."""
    config = read_config(folder)
    is_decoder = config["model_type"] not in _ENCODER_TYPES
    if is_decoder and (config.get("use_bidirectional_attention") or config.get("is_causal") is False):
        raise UnsupportedModel(
            f"{folder}: a language model whose tokens see those behind them, which omlx has not; choose one of BERT's "
            "kin, ModernBERT, or one like Qwen3-Embedding"
        )
    max_tokens = context_window(config)
    if config["model_type"] in _ROBERTA_TYPES:
        max_tokens -= _number(config.get("pad_token_id"), 1) + 1  # their positions begin behind the padding's
    limit = _number(read_json_object(folder / "sentence_bert_config.json").get("max_seq_length"), 0)
    modules = _read_modules(folder)
    pooling = next((_pooling_of(folder / Path(each.path).name) for each in modules if each.name == _POOLING), None)
    return Encoding(
        is_decoder,
        pooling or (Pooling.LAST if is_decoder else Pooling.MEAN),
        min(max_tokens, limit) if limit else max_tokens,
        has_classifier=is_classifier(config),
        dense=tuple(_dense_of(folder / Path(each.path).name) for each in modules if each.name == _DENSE),
    )


def is_classifier(config: Mapping[str, Any]) -> bool:
    """Whether the folder's architecture, the first that it names, gives scores of labels."""
    architectures = config.get("architectures")
    return isinstance(architectures, list) and str(next(iter(architectures), "")).endswith("ForSequenceClassification")


def _read_modules(folder: Path) -> list[_Module]:
    """Those of sentence-transformers, in their order; none where the folder does not say."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        modules = msgspec.json.decode(path.read_bytes(), type=list[_Module])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptModel(f"{path}: not a list of modules ({error})") from error
    for module in modules:
        if not module.type.startswith(_LIBRARY) or module.name not in _KNOWN_MODULES:
            known = ", ".join(sorted(_KNOWN_MODULES))
            raise UnsupportedModel(f"{path}: omlx has no {module.type}; choose a model made of {known}")
    return modules


def _dense_of(path: Path) -> Dense:
    config = read_json_object(path / "config.json")
    if not (path / "model.safetensors").is_file():
        raise UnsupportedModel(f"{path}: has no model.safetensors, and omlx reads nothing else; save the model as such")
    return Dense(path, str(config.get("activation_function", "Tanh")).rpartition(".")[2])


def _pooling_of(folder: Path) -> Pooling:
    path = folder / "config.json"
    config = read_json_object(path)
    modes: dict[str, Pooling] = {
        "pooling_mode_cls_token": Pooling.FIRST,
        "pooling_mode_mean_tokens": Pooling.MEAN,
        "pooling_mode_lasttoken": Pooling.LAST,
    }
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    if len(chosen) != 1 or chosen[0] not in modes:
        raise UnsupportedModel(f"{path}: omlx pools by one of {', '.join(modes)}, not by {' and '.join(chosen)}")
    return modes[chosen[0]]


def _number(value: Any, default: int) -> int:
    return value if type(value) is int else default

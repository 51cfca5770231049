"""What an embedding model or a reranker makes of its texts, read from its folder without MLX."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from ...errors import CorruptModel, UnsupportedModel
from ..folder import context_window, read_config, read_json_object

BERT_TYPES = frozenset({"bert", "roberta", "xlm-roberta", "camembert"})
_POOLING = "sentence_transformers.models.Pooling"
_KNOWN_MODULES = frozenset(
    {"sentence_transformers.models.Transformer", _POOLING, "sentence_transformers.models.Normalize"}
)


class Pooling(StrEnum):
    """Which of the tokens' vectors speak for the text."""

    FIRST = "first"
    MEAN = "mean"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Encoding:
    """`is_decoder`: a language model, whose tokens see only what stands before them. `max_tokens` bounds one input."""

    is_decoder: bool
    pooling: Pooling
    max_tokens: int


class _Module(msgspec.Struct):
    type: str
    path: str = ""


def read_encoding(folder: Path) -> Encoding:
    """Raises `CorruptModel` or `UnsupportedModel`."""
    config = read_config(folder)
    is_decoder = config["model_type"] not in BERT_TYPES
    max_tokens = context_window(config)
    if config["model_type"] != "bert" and not is_decoder:
        max_tokens -= _number(config.get("pad_token_id"), 1) + 1  # their positions begin behind the padding's
    limit = _number(read_json_object(folder / "sentence_bert_config.json").get("max_seq_length"), 0)
    pooling = _read_pooling(folder) or (Pooling.LAST if is_decoder else Pooling.MEAN)
    return Encoding(is_decoder, pooling, min(max_tokens, limit) if limit else max_tokens)


def _read_pooling(folder: Path) -> Pooling | None:
    path = folder / "modules.json"
    if not path.is_file():
        return None
    try:
        modules = msgspec.json.decode(path.read_bytes(), type=list[_Module])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptModel(f"{path}: not a list of modules ({error})") from error
    for module in modules:
        if module.type not in _KNOWN_MODULES:
            raise UnsupportedModel(f"{path}: omlx has no {module.type}")
    pooling = next((module for module in modules if module.type == _POOLING), None)
    if pooling is None:
        return None
    return _pooling_of(folder / Path(pooling.path).name / "config.json")


def _pooling_of(path: Path) -> Pooling:
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

"""The JSON files of a model folder, read with care: they come from strangers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import CorruptModel
from ..requests import Json

MAX_JSON_BYTES = 64 * 1024 * 1024
DEFAULT_CONTEXT_WINDOW = 8192
MAX_CONTEXT_WINDOW = 2**31 - 1
"""Tokens, as many as a request may ask for."""
_WINDOW_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
_TEXT_CONFIG_KEYS = ("text_config", "llm_config", "language_config")


def read_json_object(path: Path) -> dict[str, Json]:
    """The object in `path`, empty where the file is missing. Raises `CorruptModel` for anything else than JSON."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CorruptModel(f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB, which no such file is")
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CorruptModel(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise CorruptModel(f"{path}: not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise CorruptModel(f"{path}: holds a {type(document).__name__} where an object belongs")
    return document


def read_config(folder: Path) -> dict[str, Json]:
    """`config.json` of a model folder, which must name its `model_type`."""
    config = read_json_object(folder / "config.json")
    if not config:
        raise CorruptModel(f"{folder}: no config.json, or an empty one; it is no model folder")
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise CorruptModel(f"{folder / 'config.json'}: has no model_type")
    return config


def text_config(config: Mapping[str, Json]) -> Mapping[str, Json]:
    """The language model's part of a config: models that also see or hear keep it one level down."""
    for key in _TEXT_CONFIG_KEYS:
        inner = config.get(key)
        if isinstance(inner, dict):
            return inner
    return config


def context_window(config: Mapping[str, Json]) -> int:
    """How many tokens the model holds, `DEFAULT_CONTEXT_WINDOW` where its config does not say."""
    for source in (text_config(config), config):
        for key in _WINDOW_KEYS:
            value = source.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return min(value, MAX_CONTEXT_WINDOW)
    return DEFAULT_CONTEXT_WINDOW

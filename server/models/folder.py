"""The small files of a model folder, read with care: they come from strangers."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path

from ..errors import CorruptModel
from ..requests import Json

MAX_FILE_BYTES = 64 * 1024 * 1024
MOST_LAYERS = 10_000
DEFAULT_CONTEXT_WINDOW = 8192
MAX_CONTEXT_WINDOW = 2**31 - 1
"""Tokens, as many as a request may ask for."""
_WINDOW_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length", "n_ctx")
_TEXT_CONFIG_KEYS = ("text_config", "llm_config", "language_config")


def regular_size(path: Path) -> int:
    """The bytes of a file. Raises `OSError` where there is none, `CorruptModel` for a pipe or a device: who opens or
    reads one may wait for ever."""
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise CorruptModel(f"{path}: is a pipe, a device or a socket; put the model's own file there")
    return found.st_size


def read_file(path: Path) -> bytes:
    """The bytes of a file of at most `MAX_FILE_BYTES`. Raises `OSError`, and `CorruptModel` for anything else."""
    if regular_size(path) > MAX_FILE_BYTES:
        raise CorruptModel(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB, which no such file is")
    return path.read_bytes()


def read_json_object(path: Path) -> dict[str, Json]:
    """The object in `path`, empty where the file is missing. Raises `CorruptModel` for anything else than JSON."""
    try:
        document = json.loads(read_file(path))
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
    """`config.json` of a model folder, which must name its `model_type`, and a number of layers that can be made."""
    config = read_json_object(folder / "config.json")
    if not config:
        raise CorruptModel(f"{folder}: no config.json, or an empty one; it is no model folder")
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise CorruptModel(f"{folder / 'config.json'}: has no model_type")
    for key, value in (*config.items(), *text_config(config).items()):
        if key.endswith(("layers", "layer")) and type(value) is int and value > MOST_LAYERS:
            raise CorruptModel(f"{folder / 'config.json'}: {key} is {value}, and no model has over {MOST_LAYERS:,}")
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

"""A model folder as an MLX model, in memory. No code that lies in the folder is ever run.

`auto_map` in a config is ignored: the model classes are ours or mlx-lm's, chosen by `model_type`.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model as load_mlx_lm_model

from ..errors import CorruptModel, UnsupportedModel
from .catalog import weight_headers
from .folder import read_config
from .mtp_model import MtpModel
from .part_folder import loadable

_ARCHITECTURES = f"{__package__}.architectures"
_PIECE_BYTES = 1 << 27
_MOST_CHARACTERS = 500
_MODEL_TYPE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model whose weights are in memory, in the types they were stored in.

    `mtp` is the model once more where its MTP layer is loaded with it.
    """

    model: nn.Module
    weight_bytes: int
    mtp: MtpModel | None = None


def load_model(
    path: Path,
    part: Callable[[Path], nn.Module] | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> LoadedModel:
    """Load the model in the folder `path`. The calling thread must own MLX.

    `part` gives what is to be read of it, as `outline` gives all.
    `go_on` is called after every 128 MiB or so of weights that have been read.

    Raises `UnsupportedModel` for an architecture neither omlx nor mlx-lm has, and `CorruptModel` for files
    that do not fit together.
    """
    model = (part or outline)(path)
    try:
        for piece in _pieces(model):
            mx.eval(piece)
            go_on()
    except RuntimeError as error:
        raise CorruptModel(f"{path}: its weights cannot be read ({error})") from error
    return LoadedModel(model, num_bytes(model), cast(MtpModel, model) if getattr(model, "mtp", None) else None)


def outline(path: Path) -> nn.Module:
    """The model in the folder with weights that have yet to be read: MLX knows their shapes. Raises as `load_model`."""
    model_type = str((config := read_config(path))["model_type"])
    if "model_file" in config:
        raise UnsupportedModel(f"{path}: wants its own code run ({config['model_file']!r}), which omlx never does")
    if not _MODEL_TYPE.fullmatch(model_type):
        raise UnsupportedModel(f"{path}: the model type {model_type!r} is no name of an architecture")
    weight_headers(path)
    with loadable(path) as readable:
        return _load(readable, model_type)


def _pieces(model: nn.Module) -> Iterator[list[mx.array]]:
    """The model's weights, `_PIECE_BYTES` or a little more at a time: MLX reads several arrays at once."""
    piece, size = list[mx.array](), 0
    for array in dict(tree_flatten(model.parameters())).values():
        piece.append(array)
        size += array.nbytes
        if size >= _PIECE_BYTES:
            yield piece
            piece, size = [], 0
    yield piece


def num_bytes(model: nn.Module) -> int:
    """What the model's weights take, read or not."""
    return sum(array.nbytes for array in dict(tree_flatten(model.parameters())).values())


def _load(path: Path, model_type: str) -> nn.Module:
    try:
        if importlib.util.find_spec(f"{_ARCHITECTURES}.{model_type}") is not None:
            return load_mlx_lm_model(path, lazy=True, get_model_classes=_own_classes)[0]
        return load_mlx_lm_model(path, lazy=True)[0]
    except ValueError as error:
        if "not supported" in str(error):
            raise UnsupportedModel(f"{path}: {error}") from error
        raise CorruptModel(
            f"{path}: its weights and its config do not fit together ({_told(error)}); download it again"
        ) from error
    except SystemExit as error:  # mlx-lm's olmo ends the process where a package of its own is missing
        raise UnsupportedModel(f"{path}: mlx-lm's {model_type} needs a package that is not installed") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, RuntimeError) as error:
        what = f"mlx-lm cannot build a {model_type} of its config ({type(error).__name__}: {_told(error)})"
        raise CorruptModel(f"{path}: {what}; download it again") from error


def _told(error: Exception) -> str:
    """Its words, cut where it names thousands of weights."""
    words = str(error)
    return words if len(words) <= _MOST_CHARACTERS else f"{words[:_MOST_CHARACTERS]}…"


def _own_classes(config: dict[str, Any]) -> tuple[Any, Any]:
    module = importlib.import_module(f"{_ARCHITECTURES}.{config['model_type']}")
    return module.Model, module.ModelArgs

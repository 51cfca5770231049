"""One rank's part of a model that several processes run together.

Tensor parallel where the architecture says how (`shard`): every rank holds a slice of every layer. Else
pipeline parallel (`pipeline`): every rank holds some of the layers. Weights are loaded lazily, so that what a rank
does not keep is never read. An MTP layer stays whole, on rank 0 alone, which drafts for all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import mlx.nn as nn

from ..errors import UnsupportedModel
from .folder import read_config
from .loading import outline
from .split import Split

logger = logging.getLogger(__name__)

_MOST_RANKS = 16
"""As many as a remedy names."""
_ALONE = "serve it on one machine, quantized to fewer bits where it does not fit (`omlx convert`)"


class Group(Protocol):
    """As much of MLX's group as dividing a model takes."""

    def rank(self) -> int: ...
    def size(self) -> int: ...


class _NoSlices(UnsupportedModel):
    """Found out while it was cut; that model is of no use any more."""

    def __init__(self, size: int, error: str, has_pipeline: bool) -> None:
        self.reason = f"this model cannot be cut into {size} slices: {error}"
        super().__init__(f"{self.reason}; {'take --split pipeline' if has_pipeline else _ALONE}")


def outline_part(path: Path, group: Group, split: Split = Split.AUTO) -> tuple[nn.Module, Split]:
    """This rank's part of the model in the folder, with weights that have yet to be read, and how it was divided.

    Raises as `outline` and `divide`.
    """
    config, model = read_config(path), outline(path)
    try:
        return model, divide(model, config, group, split)
    except _NoSlices as error:
        if split is not Split.AUTO or _layered(model) is None:
            raise
        if group.rank() == 0:
            logger.warning("%s; each rank has some of the layers instead", error.reason)
        model = outline(path)
        return model, divide(model, config, group, Split.PIPELINE)


def divide(model: nn.Module, config: Mapping[str, Any], group: Group, split: Split = Split.AUTO) -> Split:
    """Leave this rank's part of the model, and say how it was divided.

    Raises `UnsupportedModel` where it cannot be divided in the wanted way, or in any.
    """
    if group.size() == 1:
        return split
    taken = _cut(model, config, group, split)
    if getattr(model, "mtp", None):
        alone = taken is Split.TENSOR and getattr(model, "drafts_alone", False)
        if not alone and group.rank() == 0:
            why = "no rank of a pipeline has all layers" if taken is Split.PIPELINE else "its output layer is cut too"
            logger.warning("The MTP layer is not used in this group (%s); n-gram drafts are", why)
        if not alone or group.rank():
            model.mtp = []
    return taken


def _cut(model: nn.Module, config: Mapping[str, Any], group: Group, split: Split) -> Split:
    unfit, shard = _unfit_for_tensor(model, config, group.size()), getattr(model, "shard", None)
    if shard is not None and not unfit and split is not Split.PIPELINE:
        try:
            shard(group)
        except (AssertionError, ValueError) as error:  # sizes that only the architecture's own code looks at
            raise _NoSlices(group.size(), str(error), _layered(model) is not None) from error
        return Split.TENSOR
    layered = _layered(model)
    if layered is not None and split is not Split.TENSOR:
        _pipeline(layered, group)
        return Split.PIPELINE
    reason = unfit if split is not Split.PIPELINE else "its architecture has no pipeline"
    raise UnsupportedModel(
        f"this model cannot be divided over {group.size()} ranks ({split}): {reason}; "
        + _remedy(model, config, layered is not None, split)
    )


def _layered(model: nn.Module) -> Any:
    """The part of the model whose layers can be divided, None where its architecture has no pipeline."""
    inner = getattr(model, "model", None)
    return inner if hasattr(inner, "pipeline") else None


def _unfit_for_tensor(model: nn.Module, config: Mapping[str, Any], size: int) -> str:
    """Why slices of the layers can't be had, "" where they can."""
    if not hasattr(model, "shard"):
        return f"its architecture, {config.get('model_type')}, has no tensor parallel form"
    text_config = config.get("text_config")
    facts = text_config if isinstance(text_config, Mapping) else config
    for name in getattr(model, "divided_by", ("num_attention_heads", "num_key_value_heads")):
        number = facts.get(name)
        if isinstance(number, int) and number % size:
            return f"its {name}, {number}, is no multiple of {size}"
    return ""


def _remedy(model: nn.Module, config: Mapping[str, Any], has_pipeline: bool, split: Split) -> str:
    fitting = [str(size) for size in range(2, _MOST_RANKS + 1) if not _unfit_for_tensor(model, config, size)]
    if has_pipeline and split is Split.TENSOR:
        return "take --split pipeline" + (f", or {_listed(fitting)} ranks" if fitting else "")
    if fitting:
        return f"take {_listed(fitting)} ranks" + (" and --split tensor" if split is Split.PIPELINE else "")
    return _ALONE


def _listed(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _pipeline(inner: Any, group: Group) -> None:
    layers = len(inner.layers)
    if layers < group.size():
        raise UnsupportedModel(f"{layers} layers are too few for a pipeline of {group.size()} ranks")
    inner.pipeline(group)

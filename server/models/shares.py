"""What each rank of a group would hold of a model, told from config and headers: no weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..requests import Json
from .catalog import weight_headers
from .folder import read_config, text_config
from .footprint import footprint_of
from .loading import num_bytes, outline
from .sharding import outline_part
from .split import Split


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's bytes: its weights, the keys and values of one sequence as long as the window, and the work on it."""

    weight_bytes: int
    kv_bytes: int
    transient_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.kv_bytes + self.transient_bytes


@dataclass(frozen=True, slots=True)
class Place:
    """A rank's place in a group of so many; stands in for MLX's group while nothing is computed."""

    number: int
    count: int

    def rank(self) -> int:
        return self.number

    def size(self) -> int:
        return self.count


def shares(folder: Path, size: int, split: Split, window: int) -> tuple[Split, list[Share]]:
    """How the model in the folder would be divided over `size` ranks, and what each would hold.

    Raises `ModelError` where it cannot be.
    """
    config = read_config(folder)
    footprint = footprint_of(config, weight_headers(folder))
    kv_bytes, work = footprint.kv_bytes(window), footprint.transient_bytes(window)
    found: list[Share] = []
    taken = split
    # MLX knows the shapes of arrays that it has not computed, so that a model that is never read can be cut.
    model: Any = outline(folder)
    num_layers = len(model.layers)
    for rank in range(size):
        model, taken = outline_part(folder, Place(rank, size), split)
        held = held_part(config, size, len(model.layers), num_layers)
        found.append(Share(num_bytes(model), int(kv_bytes * held), work))
    return taken, found


def held_part(config: Mapping[str, Json], size: int, layers: int, all_layers: int) -> Fraction:
    """How much of a sequence's memory one of `size` ranks holds that has so many of the layers."""
    if layers < all_layers:
        return Fraction(layers, all_layers)
    text = text_config(config)
    heads = text.get("num_key_value_heads")
    # Each keeps the keys of its own heads only; a latent that serves all heads is kept whole.
    divides = isinstance(heads, int) and heads % size == 0 and not text.get("kv_lora_rank")
    return Fraction(1, size) if divides else Fraction(1)

"""The ways to divide a model among several processes."""

from __future__ import annotations

from enum import StrEnum


class Split(StrEnum):
    """A slice of every layer each, or some of the layers each; `AUTO` is the first of them that can be had."""

    AUTO = "auto"
    TENSOR = "tensor"
    PIPELINE = "pipeline"

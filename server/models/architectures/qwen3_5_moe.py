"""Qwen3.5's mixture of experts, with its MTP layer."""

from __future__ import annotations

from typing import Any

from mlx_lm.models import qwen3_5_moe
from mlx_lm.models.qwen3_5_moe import ModelArgs

from .qwen3_5 import WithMtp

__all__ = ["Model", "ModelArgs"]


class Model(WithMtp, qwen3_5_moe.Model):
    def __init__(self, args: Any) -> None:
        super().__init__(args)
        self.mtp = None

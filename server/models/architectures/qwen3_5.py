"""Qwen3.5, which mlx-lm has, with its MTP layer, which mlx-lm leaves out."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import qwen3_5
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import KVCache
from mlx_lm.models.qwen3_5 import ModelArgs

from ..mtp import judge

__all__ = ["Model", "ModelArgs", "WithMtp"]

logger = logging.getLogger(__name__)

_OWN = re.compile(r"(?:language_model\.)?(?:model\.)?mtp\.((?:fc|norm|pre_fc_norm_\w+|layers)\..+)")

Weights = dict[str, mx.array]


class MtpLayer(nn.Module):
    """Predicts the token after the next one, from a position's hidden state and the token that follows it.

    A full-attention layer over both; embedding and output projection are the model's.
    """

    def __init__(self, args: qwen3_5.TextModelArgs) -> None:
        super().__init__()
        size, epsilon = args.hidden_size, args.rms_norm_eps
        self.fc = nn.Linear(2 * size, size, bias=False)
        self.pre_fc_norm_embedding = nn.RMSNorm(size, eps=epsilon)
        self.pre_fc_norm_hidden = nn.RMSNorm(size, eps=epsilon)
        self.layers = [qwen3_5.DecoderLayer(args, args.full_attention_interval - 1)]
        self.norm = nn.RMSNorm(size, eps=epsilon)

    def __call__(self, embedded: mx.array, hidden: mx.array, cache: Any) -> mx.array:
        parts = [self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(hidden)]
        x = self.fc(mx.concatenate(parts, axis=-1))
        mask: Any = create_attention_mask(x, cache)
        return self.norm(self.layers[0](x, mask, cache))


class WithMtp:
    """Implements `MtpModel` beside mlx-lm's model classes of the family."""

    language_model: Any
    mtp: MtpLayer | None

    def sanitize(self, weights: Weights) -> Weights:
        """As mlx-lm does, and the MTP layer's tensors under our names."""
        own = {found[1]: array for name, array in weights.items() if (found := _OWN.fullmatch(name))}
        fitted: Weights = super().sanitize(weights)  # pyright: ignore[reportAttributeAccessIssue]
        found = judge({}, list(weights))
        if not found.mtp_compatible:
            if own:
                logger.warning("The MTP layer is not used: %s", found.reason)
            return fitted
        # What mlx-lm takes for the sign that a checkpoint is Hugging Face's, whose norms lack their one.
        raw = any("conv1d.weight" in name and array.shape[-1] != 1 for name, array in weights.items())
        self.mtp = MtpLayer(self.language_model.args)
        for name, array in _parted_experts(own).items():
            is_norm = array.ndim == 1 and "norm" in name
            fitted[f"mtp.{name}"] = array + 1.0 if raw and is_norm else array
        return fitted

    def forward(self, inputs: mx.array, cache: Sequence[Any] | None = None) -> tuple[mx.array, mx.array]:
        hidden = self.language_model.model(inputs, cache)
        return self._head(hidden), hidden

    def draft(self, token_ids: mx.array, hidden: mx.array, cache: Sequence[Any]) -> mx.array:
        assert self.mtp is not None
        return self._head(self.mtp(self.language_model.model.embed_tokens(token_ids), hidden, cache[0]))

    def make_draft_cache(self) -> list[KVCache]:
        return [KVCache()]

    def _head(self, hidden: mx.array) -> mx.array:
        model = self.language_model
        tied = model.args.tie_word_embeddings
        return model.model.embed_tokens.as_linear(hidden) if tied else model.lm_head(hidden)


def _parted_experts(own: Weights) -> Weights:
    """Hugging Face keeps all experts' gate and up projections in one array, the gate first."""
    parted: Weights = {}
    for name, array in own.items():
        base, found, kind = name.partition(".experts.")
        if not found:
            parted[name] = array
        elif kind == "down_proj":
            parted[f"{base}.switch_mlp.down_proj.weight"] = array
        else:
            for part, half in zip(("gate", "up"), mx.split(array, 2, axis=-2), strict=True):
                parted[f"{base}.switch_mlp.{part}_proj.weight"] = mx.contiguous(half)
    return parted


class Model(WithMtp, qwen3_5.Model):
    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args)
        self.mtp = None

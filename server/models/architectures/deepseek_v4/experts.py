"""Routed experts beside a shared one.

The first layers route by token id, through a fixed table; the others by score. Either way the scores weigh
what the chosen experts say. Scores, weights and their sum are float32: `sqrtsoftplus` reaches far below what
the half types hold, and so does the floor under the sum.
"""

from __future__ import annotations

import functools

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.switch_layers import SwiGLU, SwitchGLU

from .config import ModelArgs

_WEIGHT_FLOOR = 1e-20


class ClampedSwiGLU(SwiGLU):
    """SwiGLU whose inputs are clamped: the gate from above, the other on both sides. A limit of 0 clamps nothing."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self._limit = limit

    def __call__(self, x: mx.array, gate: mx.array) -> mx.array:
        return _clamped_swiglu(x, gate, self._limit) if self._limit > 0 else nn.silu(gate) * x


class Router(nn.Module):
    """Chooses and weighs the experts of every token."""

    def __init__(self, args: ModelArgs, *, by_token: bool) -> None:
        super().__init__()
        self._top_k, self._scaling = args.num_experts_per_tok, args.routed_scaling_factor
        self.weight = mx.zeros((args.n_routed_experts, args.hidden_size))
        if by_token:
            self.tid2eid = mx.zeros((args.vocab_size, args.num_experts_per_tok), dtype=mx.int32)
        else:
            self.e_score_correction_bias = mx.zeros((args.n_routed_experts,))

    def __call__(self, x: mx.array, token_ids: mx.array) -> tuple[mx.array, mx.array]:
        """Of x [B, L, D] and token_ids [B, L]: the experts [B, L, k] and their weights in float32."""
        scores = _sqrtsoftplus(x.astype(mx.float32) @ self.weight.astype(mx.float32).T)
        if "tid2eid" in self:
            chosen = self.tid2eid[token_ids]
        else:
            biased = scores + self.e_score_correction_bias.astype(mx.float32)
            chosen = mx.argpartition(-biased, self._top_k - 1, axis=-1)[..., : self._top_k]
        weights = mx.take_along_axis(scores, chosen, axis=-1)
        weights = weights / (weights.sum(axis=-1, keepdims=True) + _WEIGHT_FLOOR)
        return chosen, weights * self._scaling


class SharedExperts(nn.Module):
    """The expert every token passes through."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        width = args.moe_intermediate_size * args.n_shared_experts
        self.gate_proj = nn.Linear(args.hidden_size, width, bias=False)
        self.up_proj = nn.Linear(args.hidden_size, width, bias=False)
        self.down_proj = nn.Linear(width, args.hidden_size, bias=False)
        self.activation = ClampedSwiGLU(args.swiglu_limit)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(self.activation(self.up_proj(x), self.gate_proj(x)))


class Experts(nn.Module):
    """A layer's feed-forward: `num_experts_per_tok` routed experts and the shared one. With a `group`, each rank of
    which has a slice of every expert, what they say is summed."""

    def __init__(self, args: ModelArgs, *, by_token: bool) -> None:
        super().__init__()
        self.gate = Router(args, by_token=by_token)
        self.switch_mlp = SwitchGLU(
            args.hidden_size,
            args.moe_intermediate_size,
            args.n_routed_experts,
            activation=ClampedSwiGLU(args.swiglu_limit),
        )
        self.shared_experts = SharedExperts(args)
        self.group: mx.distributed.Group | None = None

    def __call__(self, x: mx.array, token_ids: mx.array) -> mx.array:
        chosen, weights = self.gate(x, token_ids)
        said = self.switch_mlp(x, chosen).astype(mx.float32)
        routed = (weights[..., None, :] @ said).squeeze(-2)
        output = routed.astype(x.dtype) + self.shared_experts(x)
        return output if self.group is None else mx.distributed.all_sum(output, group=self.group)


@functools.partial(mx.compile, shapeless=True)
def _clamped_swiglu(x: mx.array, gate: mx.array, limit: float) -> mx.array:
    return nn.silu(mx.minimum(gate, limit)) * mx.clip(x, -limit, limit)


@functools.partial(mx.compile, shapeless=True)
def _sqrtsoftplus(logits: mx.array) -> mx.array:
    return mx.sqrt(nn.softplus(logits))

"""Manifold-constrained hyper-connections: several residual streams instead of one.

A block reads one mixture of the streams, and its output is added to another mixture of them. That second
mixture is kept close to doubly stochastic by Sinkhorn's iteration, so that the streams cannot blow up.
All mixing weights are computed in float32, whatever the model's type.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .config import ModelArgs
from .mixing import MixingWeights, mixer


class HyperConnection(nn.Module):
    """The mixing weights of one block, computed from the streams it reads."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        streams = args.hc_mult
        rows = (2 + streams) * streams
        self._iterations, self._epsilon, self._norm_epsilon = args.hc_sinkhorn_iters, args.hc_eps, args.rms_norm_eps
        self.fn = mx.zeros((rows, streams * args.hidden_size))
        self.base = mx.zeros((rows,))
        self.scale = mx.ones((3,))

    def __call__(self, streams: mx.array) -> tuple[mx.array, MixingWeights]:
        """Of streams [B, L, N, D]: the block's input [B, L, D], and what `rejoin` needs with its output."""
        mixes = _mixes(streams, self.fn, self._norm_epsilon)
        scale, base = self.scale.astype(mx.float32), self.base.astype(mx.float32)
        weights = mixer().weights(mixes, scale, base, self._epsilon, self._iterations)
        return mixer().collapse(streams, weights.read), weights


class HyperHead(nn.Module):
    """The mixture of the streams that the final norm reads."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self._epsilon, self._norm_epsilon = args.hc_eps, args.rms_norm_eps
        self.fn = mx.zeros((args.hc_mult, args.hc_mult * args.hidden_size))
        self.base = mx.zeros((args.hc_mult,))
        self.scale = mx.ones((1,))

    def __call__(self, streams: mx.array) -> mx.array:
        mixes = _mixes(streams, self.fn, self._norm_epsilon)
        read = mx.sigmoid(mixes * self.scale + self.base.astype(mx.float32)) + self._epsilon
        return mixer().collapse(streams, read)


def rejoin(block: mx.array, streams: mx.array, weights: MixingWeights) -> mx.array:
    """A block's output [B, L, D] written to every stream, beside the mixed streams it was computed from."""
    return mixer().rejoin(block, streams, weights)


def _mixes(streams: mx.array, weight: mx.array, norm_epsilon: float) -> mx.array:
    flat = streams.reshape(*streams.shape[:2], -1).astype(mx.float32)
    return mx.fast.rms_norm(flat, None, norm_epsilon) @ weight.astype(mx.float32).T

"""Manifold-constrained hyper-connections: several residual streams instead of one.

A block reads one mixture of the streams, and its output is added to another mixture of them. That second
mixture is kept close to doubly stochastic by Sinkhorn's iteration, so that the streams cannot blow up.
All mixing weights are computed in float32, whatever the model's type.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .config import ModelArgs


class HyperConnection(nn.Module):
    """The mixing weights of one block, computed from the streams it reads."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        streams = args.hc_mult
        rows = (2 + streams) * streams
        self._streams, self._iterations = streams, args.hc_sinkhorn_iters
        self._epsilon, self._norm_epsilon = args.hc_eps, args.rms_norm_eps
        self.fn = mx.zeros((rows, streams * args.hidden_size))
        self.base = mx.zeros((rows,))
        self.scale = mx.ones((3,))

    def __call__(self, streams: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Of streams [B, L, N, D]: the block's input [B, L, D], and what `rejoin` needs with its output."""
        mixes = _mixes(streams, self.fn, self._norm_epsilon)
        n = self._streams
        read, write, mix = mx.split(mixes, [n, 2 * n], axis=-1)
        read_base, write_base, mix_base = mx.split(self.base.astype(mx.float32), [n, 2 * n])
        read = mx.sigmoid(read * self.scale[0] + read_base) + self._epsilon
        write = 2 * mx.sigmoid(write * self.scale[1] + write_base)
        mix = (mix * self.scale[2] + mix_base).reshape(*mix.shape[:-1], n, n)
        return _collapse(streams, read), write, self._doubly_stochastic(mix)

    def _doubly_stochastic(self, mix: mx.array) -> mx.array:
        epsilon = self._epsilon
        mix = mx.softmax(mix, axis=-1) + epsilon
        mix = mix / (mix.sum(axis=-2, keepdims=True) + epsilon)
        for _ in range(self._iterations - 1):
            mix = mix / (mix.sum(axis=-1, keepdims=True) + epsilon)
            mix = mix / (mix.sum(axis=-2, keepdims=True) + epsilon)
        return mix


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
        return _collapse(streams, read)


def rejoin(output: mx.array, streams: mx.array, write: mx.array, mix: mx.array) -> mx.array:
    """A block's output [B, L, D] written to every stream, beside the mixed streams it was computed from.

    `mix` sums over its first stream axis; it is not symmetric.
    """
    kept = mix.swapaxes(-1, -2) @ streams.astype(mx.float32)
    return (write[..., None] * output[..., None, :] + kept).astype(streams.dtype)


def _mixes(streams: mx.array, weight: mx.array, norm_epsilon: float) -> mx.array:
    flat = streams.reshape(*streams.shape[:2], -1).astype(mx.float32)
    return mx.fast.rms_norm(flat, None, norm_epsilon) @ weight.astype(mx.float32).T


def _collapse(streams: mx.array, read: mx.array) -> mx.array:
    return (read[..., None, :] @ streams.astype(mx.float32)).squeeze(-2).astype(streams.dtype)

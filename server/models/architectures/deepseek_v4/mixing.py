"""The arithmetic of hyper-connections: as MLX's operations, and on a GPU as three kernels.

Sinkhorn's iteration over a matrix of 4 by 4 is over a hundred operations, twice a layer: launching them takes most of a
decode step. A kernel does all of it in one launch, and the others read the streams once, without a copy in float32.
Metal and CUDA compile the same source.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Final, NamedTuple, Protocol

import mlx.core as mx

logger = logging.getLogger(__name__)

ELEMENT: Final = {
    "metal": "const uint element = thread_position_in_grid.x;",
    "cuda": "const unsigned int element = blockIdx.x * blockDim.x + threadIdx.x;",
}
"""What names a thread's own element, the one line that the two languages do not share."""

WEIGHTS_SOURCE: Final = """
    if (element >= mixes_shape[0]) return;
    const float epsilon = constants[0];
    const int first = element * (2 + N) * N;
    for (int k = 0; k < N; k++) {
        const float taken = mixes[first + k] * scale[0] + base[k];
        const float given = mixes[first + N + k] * scale[1] + base[N + k];
        reading[element * N + k] = 1.0f / (1.0f + exp(-taken)) + epsilon;
        writing[element * N + k] = 2.0f / (1.0f + exp(-given));
    }
    float m[N * N];
    for (int a = 0; a < N; a++) {
        float most = -INFINITY, sum = 0.0f;
        for (int b = 0; b < N; b++) {
            const int k = a * N + b;
            m[k] = mixes[first + 2 * N + k] * scale[2] + base[2 * N + k];
            most = m[k] > most ? m[k] : most;
        }
        for (int b = 0; b < N; b++) sum += m[a * N + b] = exp(m[a * N + b] - most);
        for (int b = 0; b < N; b++) m[a * N + b] = m[a * N + b] / sum + epsilon;
    }
    for (int turn = 0; turn < 2 * ITERATIONS - 1; turn++) {
        const int across = turn % 2 ? N : 1, along = turn % 2 ? 1 : N;  // columns first, then rows
        for (int a = 0; a < N; a++) {
            float sum = epsilon;
            for (int b = 0; b < N; b++) sum += m[a * across + b * along];
            for (int b = 0; b < N; b++) m[a * across + b * along] /= sum;
        }
    }
    for (int k = 0; k < N * N; k++) mixing[element * N * N + k] = m[k];
"""
COLLAPSE_SOURCE: Final = """
    if (element >= streams_shape[0] * D) return;
    const int token = element / D, channel = element % D;
    float sum = 0.0f;
    for (int j = 0; j < N; j++) {
        sum += reading[token * N + j] * static_cast<float>(streams[(token * N + j) * D + channel]);
    }
    collapsed[element] = static_cast<T>(sum);
"""
REJOIN_SOURCE: Final = """
    if (element >= streams_shape[0] * D) return;
    const int token = element / D, channel = element % D;
    float own[N];
    for (int j = 0; j < N; j++) own[j] = static_cast<float>(streams[(token * N + j) * D + channel]);
    const float said = static_cast<float>(block[element]);
    for (int i = 0; i < N; i++) {
        float sum = writing[token * N + i] * said;
        for (int j = 0; j < N; j++) sum += mixing[(token * N + j) * N + i] * own[j];
        joined[(token * N + i) * D + channel] = static_cast<T>(sum);
    }
"""
_THREADS = 256
_TOLERANCE = 1e-4


class MixingWeights(NamedTuple):
    """Of N streams, in float32: `read` and `write` [B, L, N], `mix` [B, L, N, N]."""

    read: mx.array
    write: mx.array
    mix: mx.array


class Mixer(Protocol):
    """Mixing weights, and what is done with them. Streams are [B, L, N, D]; sums are float32."""

    def weights(
        self, mixes: mx.array, scale: mx.array, base: mx.array, epsilon: float, iterations: int
    ) -> MixingWeights:
        """Of mixes [B, L, (2 + N) * N], in float32 like `scale` [3] and `base`."""
        ...

    def collapse(self, streams: mx.array, read: mx.array) -> mx.array:
        """One mixture of the streams, [B, L, D]."""
        ...

    def rejoin(self, block: mx.array, streams: mx.array, weights: MixingWeights) -> mx.array:
        """A block's output [B, L, D] written to every stream, beside the mixed streams it was computed from."""
        ...


class PlainMixer:
    """MLX's operations, for any device."""

    def weights(
        self, mixes: mx.array, scale: mx.array, base: mx.array, epsilon: float, iterations: int
    ) -> MixingWeights:
        n = num_streams(mixes)
        read, write, mix = mx.split(mixes, [n, 2 * n], axis=-1)
        read_base, write_base, mix_base = mx.split(base, [n, 2 * n])
        read = mx.sigmoid(read * scale[0] + read_base) + epsilon
        write = 2 * mx.sigmoid(write * scale[1] + write_base)
        mix = (mix * scale[2] + mix_base).reshape(*mix.shape[:-1], n, n)
        mix = mx.softmax(mix, axis=-1) + epsilon
        mix = mix / (mix.sum(axis=-2, keepdims=True) + epsilon)
        for _ in range(iterations - 1):
            mix = mix / (mix.sum(axis=-1, keepdims=True) + epsilon)
            mix = mix / (mix.sum(axis=-2, keepdims=True) + epsilon)
        return MixingWeights(read, write, mix)

    def collapse(self, streams: mx.array, read: mx.array) -> mx.array:
        return (read[..., None, :] @ streams.astype(mx.float32)).squeeze(-2).astype(streams.dtype)

    def rejoin(self, block: mx.array, streams: mx.array, weights: MixingWeights) -> mx.array:
        # `mix` sums over its first stream axis; it is not symmetric.
        kept = weights.mix.swapaxes(-1, -2) @ streams.astype(mx.float32)
        return (weights.write[..., None] * block[..., None, :] + kept).astype(streams.dtype)


class KernelMixer:
    """A launch for each of the three, with `language` "metal" or "cuda"."""

    def __init__(self, language: str) -> None:
        def kernel(name: str, inputs: list[str], outputs: list[str], source: str) -> Any:
            make: Any = mx.fast.metal_kernel if language == "metal" else mx.fast.cuda_kernel
            text = ELEMENT[language] + source
            return make(name=f"omlx_hyper_{name}", input_names=inputs, output_names=outputs, source=text)

        outputs = ["reading", "writing", "mixing"]
        self._weights = kernel("weights", ["mixes", "scale", "base", "constants"], outputs, WEIGHTS_SOURCE)
        self._collapse = kernel("collapse", ["streams", "reading"], ["collapsed"], COLLAPSE_SOURCE)
        self._rejoin = kernel("rejoin", ["block", "streams", "writing", "mixing"], ["joined"], REJOIN_SOURCE)

    def weights(
        self, mixes: mx.array, scale: mx.array, base: mx.array, epsilon: float, iterations: int
    ) -> MixingWeights:
        n = num_streams(mixes)
        batch, length, width = mixes.shape
        tokens = batch * length
        outputs = self._weights(
            inputs=[mixes.reshape(tokens, width), scale, base, _constants(epsilon)],
            template=[("N", n), ("ITERATIONS", iterations)],
            **_launch(tokens),
            output_shapes=[(batch, length, n), (batch, length, n), (batch, length, n, n)],
            output_dtypes=[mx.float32] * 3,
        )
        return MixingWeights(*outputs)

    def collapse(self, streams: mx.array, read: mx.array) -> mx.array:
        batch, length, n, dim = streams.shape
        return self._collapse(
            inputs=[streams.reshape(-1, n, dim), read],
            template=[("N", n), ("D", dim), ("T", streams.dtype)],
            **_launch(batch * length * dim),
            output_shapes=[(batch, length, dim)],
            output_dtypes=[streams.dtype],
        )[0]

    def rejoin(self, block: mx.array, streams: mx.array, weights: MixingWeights) -> mx.array:
        batch, length, n, dim = streams.shape
        return self._rejoin(
            inputs=[block, streams.reshape(-1, n, dim), weights.write, weights.mix],
            template=[("N", n), ("D", dim), ("T", streams.dtype)],
            **_launch(batch * length * dim),
            output_shapes=[streams.shape],
            output_dtypes=[streams.dtype],
        )[0]


def mixer() -> Mixer:
    """The kernels where the default device is a GPU on which they say what MLX's operations say."""
    return _gpu_mixer() if mx.default_device().type == mx.gpu else PlainMixer()


def num_streams(mixes: mx.array) -> int:
    """N, of mixes [..., (2 + N) * N]."""
    return round((mixes.shape[-1] + 1) ** 0.5) - 1


@functools.cache
def _gpu_mixer() -> Mixer:
    plain, kernels = PlainMixer(), KernelMixer("metal" if mx.metal.is_available() else "cuda")
    try:
        off = difference(kernels, plain)
    except (RuntimeError, ValueError) as error:
        logger.warning("the kernels for hyper-connections cannot be compiled, decoding is slower: %s", error)
        return plain
    if off > _TOLERANCE:
        logger.warning("the kernels for hyper-connections are off by %.2g and not used; decoding is slower", off)
        return plain
    return kernels


def difference(mixer: Mixer, other: Mixer) -> float:
    """How far the two are apart at most, in float32, on streams of unit variance."""
    n, dim, key = 4, 40, mx.random.key(0)
    mixes, scale, base, streams, block = (
        mx.random.normal(shape, key=part)
        for shape, part in zip(
            [(2, 3, (2 + n) * n), (3,), ((2 + n) * n,), (2, 3, n, dim), (2, 3, dim)],
            mx.random.split(key, 5),
            strict=True,
        )
    )

    def results(one: Mixer) -> list[mx.array]:
        weights = one.weights(mixes, scale, base, 1e-6, 20)
        return [*weights, one.collapse(streams, weights.read), one.rejoin(block, streams, weights)]

    pairs = zip(results(mixer), results(other), strict=True)
    furthest: Any = mx.stack([mx.abs(left - right).max() for left, right in pairs]).max()
    return furthest.item()


@functools.cache
def _constants(epsilon: float) -> mx.array:
    return mx.array([epsilon])


def _launch(threads: int) -> dict[str, tuple[int, int, int]]:
    return {"grid": (threads, 1, 1), "threadgroup": (min(threads, _THREADS), 1, 1)}

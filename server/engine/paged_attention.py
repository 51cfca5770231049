"""Attention over pages of keys and values, as a CUDA kernel.

Rows stand at different lengths in one array of pages a layer. One kernel writes the new tokens' keys and values
into their pages and attends over all of a row, so nothing is padded, masked, gathered or copied. MLX's own
attention has no fused form for rows of different lengths on CUDA, and its updates copy an array that a step
still under way reads.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx

from ..errors import UnsupportedModel

PAGE_TOKENS = 64
_SPLIT_TOKENS = 512
"""Rows longer than this are read by several blocks where there are too few rows to fill the device."""
_WANTED_BLOCKS = 264
"""Two for each multiprocessor of an H100."""
_SHARED_FLOATS = 8192


@dataclass(slots=True, eq=False)
class LayerPages:
    """One layer's pages, each array of shape [pages, heads, PAGE_TOKENS, size]."""

    keys: mx.array
    values: mx.array


class PageAttention(Protocol):
    """Reads and writes pages. `table` names each row's pages in order, shape [rows, most pages or more]."""

    def attend(
        self,
        pages: LayerPages,
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        table: mx.array,
        lengths: mx.array,
        scale: float,
    ) -> mx.array:
        """Write the new `keys` and `values`, [rows, heads, new, size], behind each row's `lengths`, and attend."""
        ...

    def store(self, pages: LayerPages, keys: mx.array, values: mx.array, length: int, table: mx.array) -> mx.array:
        """Write the first `length` tokens of one row, [1, heads, room, size]; done once the result is computed."""
        ...


class CudaPageAttention:
    """Writes where the pages lie, though MLX takes them for inputs: the pages never become another array.

    Two calls that touch the same page must be computed one after the other: the second's inputs depend on the
    first's result, or the first was handed to `eval` or `async_eval` before.
    """

    def __init__(self) -> None:
        self._kernels: dict[tuple[Any, ...], Any] = {}

    def attend(
        self,
        pages: LayerPages,
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        table: mx.array,
        lengths: mx.array,
        scale: float,
    ) -> mx.array:
        rows, num_heads, num_new, size = queries.shape
        shape = _Shape.of(queries, keys, scale)
        blocks = shape.kv_heads * shape.chunks * rows * num_new
        capacity = table.shape[1] * PAGE_TOKENS
        splits = min(-(-capacity // _SPLIT_TOKENS), -(-_WANTED_BLOCKS // blocks))
        grid = (shape.kv_heads * shape.chunks * shape.threads, rows * num_new, splits)
        inputs = [queries, keys, values, pages.keys, pages.values, table, lengths]
        template = [("T", queries.dtype)]
        if splits == 1:
            return self._kernel("attend", shape, _ATTEND_INPUTS, ["out"], lambda: _attend_source(shape, split=False))(
                inputs=inputs,
                template=template,
                grid=grid,
                threadgroup=(shape.threads, 1, 1),
                output_shapes=[queries.shape],
                output_dtypes=[queries.dtype],
            )[0]
        parts = self._kernel(
            "split", shape, _ATTEND_INPUTS, ["part", "stats"], lambda: _attend_source(shape, split=True)
        )(
            inputs=inputs,
            template=template,
            grid=grid,
            threadgroup=(shape.threads, 1, 1),
            output_shapes=[(rows, num_heads, num_new, splits, size), (rows, num_heads, num_new, splits, 2)],
            output_dtypes=[mx.float32, mx.float32],
        )
        return self._kernel("join", shape, ["part", "stats"], ["out"], lambda: _combine_source(shape))(
            inputs=parts,
            template=template,
            grid=(rows * num_heads * num_new * size, 1, 1),
            threadgroup=(size, 1, 1),
            output_shapes=[queries.shape],
            output_dtypes=[queries.dtype],
        )[0]

    def store(self, pages: LayerPages, keys: mx.array, values: mx.array, length: int, table: mx.array) -> mx.array:
        shape = _Shape.of(keys, keys, 1.0)
        return self._kernel("store", shape, _STORE_INPUTS, ["done"], lambda: _store_source(shape))(
            inputs=[keys, values, pages.keys, pages.values, table, mx.array([length])],
            template=[("T", keys.dtype)],
            grid=(length * shape.kv_heads * shape.lanes, 1, 1),
            threadgroup=(256, 1, 1),
            output_shapes=[(1,)],
            output_dtypes=[mx.int32],
        )[0]

    def _kernel(self, name: str, shape: _Shape, inputs: list[str], outputs: list[str], write: Callable[[], str]) -> Any:
        """MLX knows a kernel by its name alone, so the name tells sources apart."""
        key = (name, shape)
        if key not in self._kernels:
            source = write()
            digest = hashlib.sha256(source.encode()).hexdigest()[:12]
            self._kernels[key] = mx.fast.cuda_kernel(
                name=f"omlx_{name}_{digest}", input_names=inputs, output_names=outputs, source=source
            )
        return self._kernels[key]


@dataclass(frozen=True)
class _Shape:
    """What a kernel is compiled for. A block takes one key head and `grouped` of the query heads that share it."""

    heads: int
    kv_heads: int
    size: int
    itemsize: int
    scale: float

    @classmethod
    def of(cls, queries: mx.array, keys: mx.array, scale: float) -> _Shape:
        """Raises `UnsupportedModel` for sizes the kernel is not written for."""
        if keys.dtype not in (mx.float32, mx.float16, mx.bfloat16) or queries.dtype != keys.dtype:
            raise UnsupportedModel(f"keys of type {keys.dtype} have no kernel for pages")
        shape = _shape(queries.shape[1], keys.shape[1], keys.shape[3], keys.dtype.size, scale)
        if shape.size != queries.shape[3] or shape.heads % shape.kv_heads or shape.lanes not in (1, 2, 4, 8, 16, 32):
            raise UnsupportedModel(f"{shape.heads} heads of size {shape.size} have no kernel for pages")
        return shape

    @functools.cached_property
    def lanes(self) -> int:
        """Threads that share a key, 16 bytes each."""
        return self.size * self.itemsize // 16

    @functools.cached_property
    def grouped(self) -> int:
        shared = self.heads // self.kv_heads
        return max(count for count in range(1, 9) if shared % count == 0)

    @functools.cached_property
    def chunks(self) -> int:
        return self.heads // self.kv_heads // self.grouped

    @functools.cached_property
    def threads(self) -> int:
        """As many as registers and shared memory allow; a thread holds a query and a sum for each grouped head."""
        warps = 16 if self.grouped * 16 // self.itemsize <= 16 else 8
        while warps * self.grouped * self.size > _SHARED_FLOATS:
            warps //= 2
        return warps * 32

    @property
    def constants(self) -> str:
        return f"""
  constexpr int D = {self.size}, HQ = {self.heads}, HKV = {self.kv_heads}, GC = {self.grouped};
  constexpr int CHUNKS = {self.chunks}, THREADS = {self.threads}, PAGE = {PAGE_TOKENS};
  constexpr int VEC = {16 // self.itemsize}, LANES = {self.lanes}, PER_WARP = 32 / LANES;
  constexpr int WARPS = THREADS / 32, STRIDE = WARPS * PER_WARP;
"""


@functools.lru_cache(maxsize=16)
def _shape(heads: int, kv_heads: int, size: int, itemsize: int, scale: float) -> _Shape:
    """The same object every time: every layer asks in every step."""
    return _Shape(heads, kv_heads, size, itemsize, scale)


_ATTEND_INPUTS = ["queries", "new_keys", "new_values", "key_pages", "value_pages", "table", "lengths"]
_STORE_INPUTS = ["keys", "values", "key_pages", "value_pages", "table", "length"]

_ATTEND = """
  const int L = queries_shape[2], P = table_shape[1];
  const int head = blockIdx.x / CHUNKS, chunk = blockIdx.x % CHUNKS;
  const int row = blockIdx.y / L, place = blockIdx.y % L;
  const int split = blockIdx.z, splits = gridDim.z;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % LANES, group = threadIdx.x % 32 / LANES;
  const int length = lengths[row];
  const int* pages = table + row * P;
  T* keys_out = const_cast<T*>(key_pages);
  T* values_out = const_cast<T*>(value_pages);
  const T* row_keys = new_keys + (row * HKV + head) * L * D;
  const T* row_values = new_values + (row * HKV + head) * L * D;

  if (split == 0 && chunk == 0) {
    const int at = length + place;
    const size_t to = (((size_t)pages[at / PAGE] * HKV + head) * PAGE + at % PAGE) * D;
    for (int i = threadIdx.x; i < D; i += THREADS) {
      keys_out[to + i] = row_keys[place * D + i];
      values_out[to + i] = row_values[place * D + i];
    }
  }

  float q[GC][VEC], sum[GC], top[GC], acc[GC][VEC];
  const int first_head = (head * CHUNKS + chunk) * GC;
#pragma unroll
  for (int g = 0; g < GC; g++) {
    const T* from = queries + ((size_t)(row * HQ + first_head + g) * L + place) * D + lane * VEC;
    top[g] = -1e30f;
    sum[g] = 0.f;
#pragma unroll
    for (int i = 0; i < VEC; i++) {
      q[g][i] = static_cast<float>(from[i]) * SCALE_LOG2;
      acc[g][i] = 0.f;
    }
  }

  auto visit = [&](const T* key, const T* value, bool valid) {
    alignas(16) T k[VEC];
    alignas(16) T v[VEC];
    *reinterpret_cast<uint4*>(k) = *reinterpret_cast<const uint4*>(key + lane * VEC);
    *reinterpret_cast<uint4*>(v) = *reinterpret_cast<const uint4*>(value + lane * VEC);
    float scores[GC];
#pragma unroll
    for (int g = 0; g < GC; g++) {
      float dot = 0.f;
#pragma unroll
      for (int i = 0; i < VEC; i++) {
        dot += q[g][i] * static_cast<float>(k[i]);
      }
#pragma unroll
      for (int step = LANES / 2; step > 0; step /= 2) {
        dot += __shfl_xor_sync(0xffffffffu, dot, step);
      }
      scores[g] = valid ? dot : -1e30f;
    }
#pragma unroll
    for (int g = 0; g < GC; g++) {
      const float next = max(top[g], scores[g]);
      const float keep = exp2f(top[g] - next);
      const float weight = valid ? exp2f(scores[g] - next) : 0.f;
      top[g] = next;
      sum[g] = sum[g] * keep + weight;
#pragma unroll
      for (int i = 0; i < VEC; i++) {
        acc[g][i] = acc[g][i] * keep + weight * static_cast<float>(v[i]);
      }
    }
  };

  const int per_split = (length + splits - 1) / splits;
  const int begin = split * per_split, end = min(begin + per_split, length);
#pragma unroll 2
  for (int base = begin + warp * PER_WARP; base < end; base += STRIDE) {
    const int at = min(base + group, end - 1);
    const size_t from = (((size_t)pages[at / PAGE] * HKV + head) * PAGE + at % PAGE) * D;
    visit(key_pages + from, value_pages + from, base + group < end);
  }
  if (split == 0) {
    for (int base = warp * PER_WARP; base <= place; base += STRIDE) {
      const int at = min(base + group, place);
      visit(row_keys + at * D, row_values + at * D, base + group <= place);
    }
  }

#pragma unroll
  for (int step = LANES; step < 32; step *= 2) {
#pragma unroll
    for (int g = 0; g < GC; g++) {
      const float other = __shfl_xor_sync(0xffffffffu, top[g], step);
      const float next = max(top[g], other);
      const float mine = exp2f(top[g] - next), theirs = exp2f(other - next);
      top[g] = next;
      sum[g] = sum[g] * mine + __shfl_xor_sync(0xffffffffu, sum[g], step) * theirs;
#pragma unroll
      for (int i = 0; i < VEC; i++) {
        acc[g][i] = acc[g][i] * mine + __shfl_xor_sync(0xffffffffu, acc[g][i], step) * theirs;
      }
    }
  }
  __shared__ float tops[WARPS][GC], sums[WARPS][GC], accs[WARPS][GC][D];
  if (group == 0) {
#pragma unroll
    for (int g = 0; g < GC; g++) {
      if (lane == 0) {
        tops[warp][g] = top[g];
        sums[warp][g] = sum[g];
      }
#pragma unroll
      for (int i = 0; i < VEC; i++) {
        accs[warp][g][lane * VEC + i] = acc[g][i];
      }
    }
  }
  __syncthreads();
  for (int item = threadIdx.x; item < GC * D; item += THREADS) {
    const int g = item / D, d = item % D;
    float best = -1e30f, total = 0.f, value = 0.f;
    for (int w = 0; w < WARPS; w++) {
      best = max(best, tops[w][g]);
    }
    for (int w = 0; w < WARPS; w++) {
      const float weight = exp2f(tops[w][g] - best);
      total += sums[w][g] * weight;
      value += accs[w][g][d] * weight;
    }
    const size_t to = (size_t)(row * HQ + first_head + g) * L + place;
"""
_WHOLE_END = """
    out[to * D + d] = static_cast<T>(value / total);
  }
"""
_SPLIT_END = """
    part[(to * splits + split) * D + d] = value;
    if (d == 0) {
      stats[(to * splits + split) * 2] = best;
      stats[(to * splits + split) * 2 + 1] = total;
    }
  }
"""
_COMBINE = """
  const int splits = part_shape[3];
  const size_t at = blockIdx.x;
  float best = -1e30f, total = 0.f, value = 0.f;
  for (int s = 0; s < splits; s++) {
    best = max(best, stats[(at * splits + s) * 2]);
  }
  for (int s = 0; s < splits; s++) {
    const float weight = exp2f(stats[(at * splits + s) * 2] - best);
    total += stats[(at * splits + s) * 2 + 1] * weight;
    value += part[(at * splits + s) * D + threadIdx.x] * weight;
  }
  out[at * D + threadIdx.x] = static_cast<T>(value / total);
"""
_STORE = """
  const int item = blockIdx.x * blockDim.x + threadIdx.x;
  const int lane = item % LANES, head = item / LANES % HKV, at = item / LANES / HKV;
  if (item == 0) {
    done[0] = 1;
  }
  if (at < length[0]) {
    const size_t from = ((size_t)head * keys_shape[2] + at) * D + lane * VEC;
    const size_t to = (((size_t)table[at / PAGE] * HKV + head) * PAGE + at % PAGE) * D + lane * VEC;
    *reinterpret_cast<uint4*>(const_cast<T*>(key_pages) + to) = *reinterpret_cast<const uint4*>(keys + from);
    *reinterpret_cast<uint4*>(const_cast<T*>(value_pages) + to) = *reinterpret_cast<const uint4*>(values + from);
  }
"""


def _attend_source(shape: _Shape, split: bool) -> str:
    scale = f"  constexpr float SCALE_LOG2 = {shape.scale * 1.4426950408889634!r}f;\n"
    return shape.constants + scale + _ATTEND + (_SPLIT_END if split else _WHOLE_END)


def _combine_source(shape: _Shape) -> str:
    return f"  constexpr int D = {shape.size};\n" + _COMBINE


def _store_source(shape: _Shape) -> str:
    return shape.constants + _STORE

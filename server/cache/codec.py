"""Blocks out of, and back into, a model's cache objects of one sequence; and blocks as bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import CacheList

from .block_file import token_metadata
from .layer_kinds import LayerCache, LayerKind, Snapshot, kind_of
from .tensor_file import DamagedFile, Tensor, pack, unpack

__all__ = ["BlockPayload", "CacheCodec", "LayerCache", "evaluate"]

_DTYPES = {
    "F32": mx.float32,
    "F16": mx.float16,
    "BF16": mx.bfloat16,
    "U8": mx.uint8,
    "U16": mx.uint16,
    "U32": mx.uint32,
    "I8": mx.int8,
    "I32": mx.int32,
    "I64": mx.int64,
    "BOOL": mx.bool_,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True, slots=True)
class BlockPayload:
    """The cached values of one block: `rows[i]` are those of the i-th layer, `snapshots[i]` the rest of its
    state at the block's end, where it was taken."""

    rows: tuple[tuple[mx.array, ...], ...]
    snapshots: tuple[Snapshot, ...]
    divisible: bool

    @property
    def resumable(self) -> bool:
        return self.divisible or bool(self.snapshots)

    @property
    def arrays(self) -> list[mx.array]:
        kept = [array for layer in self.rows for array in layer]
        return kept + [array for snapshot in self.snapshots for array in snapshot.arrays.values()]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


class CacheCodec:
    """Knows the kinds of a model's layers. `make_cache` makes the model's empty per-layer caches."""

    def __init__(self, make_cache: Callable[[], list[LayerCache]]) -> None:
        self._make_cache = make_cache
        leaves = flattened(make_cache())
        self._kinds: list[LayerKind] = [kind_of(leaf) for leaf in leaves]
        self._format = hashlib.sha256(json.dumps([_described(leaf) for leaf in leaves]).encode()).hexdigest()[:16]
        self.divisible = all(kind.divisible for kind in self._kinds)

    def cut(
        self, caches: Sequence[LayerCache], blocks: Sequence[tuple[int, int]], snapshot: bool
    ) -> list[BlockPayload]:
        """The payloads of token ranges the caches hold, being computed and sharing nothing with them.

        With `snapshot` the last block can be resumed from; the caches must then stand exactly at its end.
        """
        leaves = list(zip(self._kinds, flattened(caches), strict=True))
        payloads = []
        for index, (start, stop) in enumerate(blocks):
            rows = tuple(tuple(map(mx.contiguous, kind.rows(leaf, start, stop))) for kind, leaf in leaves)
            snapshots: tuple[Snapshot, ...] = ()
            if snapshot and index == len(blocks) - 1 and not self.divisible:
                snapshots = tuple(_own(kind.snapshot(leaf)) for kind, leaf in leaves)
            payload = BlockPayload(rows, snapshots, self.divisible)
            payloads.append(payload)
        # Nothing is waited for: what is written into the caches from now on comes after.
        mx.async_eval([payload.arrays for payload in payloads])
        return payloads

    def restore(self, payloads: Sequence[BlockPayload], num_tokens: int, capacity: int) -> list[LayerCache]:
        """Fresh caches standing at `num_tokens`, with room for `capacity` before they grow.

        `payloads` are those of the leading blocks; the last may hold more rows than are asked for.
        """
        caches = self._make_cache()
        if num_tokens == 0:
            return caches
        layers = iter(range(len(self._kinds)))

        def rebuild(cache: LayerCache) -> LayerCache:
            if isinstance(cache, CacheList):
                cache.caches = tuple(rebuild(inner) for inner in cache.caches)
                return cache
            layer = next(layers)
            snapshot = payloads[-1].snapshots[layer] if payloads[-1].snapshots else Snapshot()
            rows = [payload.rows[layer] for payload in payloads]
            return self._kinds[layer].restore(cache, rows, snapshot, num_tokens, capacity)

        return [rebuild(cache) for cache in caches]

    def size(self, payload: BlockPayload, token_ids: Sequence[int] = ()) -> int | None:
        """The length of `encode`'s bytes; `None` where the payload holds something no file can."""
        arrays = _named(payload)
        if any(array.dtype not in _NAMES for array in arrays.values()):
            return None
        tensors = {name: Tensor(_NAMES[array.dtype], array.shape, b"") for name, array in arrays.items()}
        try:
            return len(pack(tensors, self._metadata(payload, token_ids))) + sum(
                tensor.nbytes for tensor in tensors.values()
            )
        except TypeError:
            return None

    def encode(self, payload: BlockPayload, token_ids: Sequence[int] = ()) -> bytes:
        """The payload as a safetensors file, which tells the block's tokens. Any thread may call: what a payload holds
        is evaluated."""
        arrays = _named(payload)
        flat = {name: array.reshape(-1).view(mx.uint8) for name, array in arrays.items() if array.size}
        mx.eval(list(flat.values()))
        tensors = {
            name: Tensor(_NAMES[array.dtype], array.shape, _bytes_of(flat[name]) if array.size else b"")
            for name, array in arrays.items()
        }
        return pack(tensors, self._metadata(payload, token_ids))

    def _metadata(self, payload: BlockPayload, token_ids: Sequence[int]) -> dict[str, str]:
        scalars = json.dumps([dict(snapshot.scalars) for snapshot in payload.snapshots])
        return {"kinds": self._format, "scalars": scalars, **token_metadata(token_ids)}

    def decode(self, raw: bytes | memoryview) -> BlockPayload:
        """The payload of `encode`'s bytes. Raises `DamagedFile`."""
        tensors, metadata = unpack(raw)
        rows: list[list[mx.array]] = [[] for _ in self._kinds]
        if metadata.get("kinds") != self._format:
            raise DamagedFile("not a block of this model: its layers are of other kinds")
        try:
            scalars = json.loads(metadata["scalars"])
            snapshots: list[dict[str, mx.array]] = [{} for _ in scalars]
            for name, tensor in tensors.items():
                part, layer, rest = name.split(".", 2)
                if part == "rows":
                    rows[int(layer)].append(_array_of(tensor))
                else:
                    snapshots[int(layer)][rest] = _array_of(tensor)
        except (KeyError, IndexError, ValueError) as error:
            raise DamagedFile(f"not a block of this model: {error}") from error
        payload = BlockPayload(
            tuple(map(tuple, rows)),
            tuple(Snapshot(arrays, values) for arrays, values in zip(snapshots, scalars, strict=True)),
            self.divisible,
        )
        mx.eval(payload.arrays)
        return payload


def evaluate(caches: Sequence[LayerCache]) -> None:
    """Compute everything pending in the caches."""
    leaves = [value for leaf in flattened(caches) for _, value in tree_flatten(vars(leaf))]
    mx.eval([value for value in leaves if isinstance(value, mx.array)])


def flattened(caches: Sequence[LayerCache]) -> list[LayerCache]:
    """The caches with every list of caches replaced by its members."""
    flat: list[LayerCache] = []
    for cache in caches:
        flat += flattened(cache.caches) if isinstance(cache, CacheList) else [cache]
    return flat


def _described(leaf: LayerCache) -> list[object]:
    """What tells an empty cache from one of another kind, or of other settings: a window, or bits."""
    settings = {name: value for name, value in vars(leaf).items() if isinstance(value, int | float | str)}
    return [type(leaf).__name__, sorted(settings.items())]


def _named(payload: BlockPayload) -> dict[str, mx.array]:
    """The payload's arrays under the names they have in a file."""
    arrays = {f"rows.{i}.{j}": array for i, layer in enumerate(payload.rows) for j, array in enumerate(layer)}
    for layer, snapshot in enumerate(payload.snapshots):
        arrays |= {f"snapshot.{layer}.{name}": array for name, array in snapshot.arrays.items()}
    return arrays


def _own(snapshot: Snapshot) -> Snapshot:
    """An independent copy: MLX writes into arrays in place, so two caches must never share one."""
    return Snapshot({name: mx.contiguous(array) for name, array in snapshot.arrays.items()}, snapshot.scalars)


def _bytes_of(array: mx.array) -> memoryview:
    buffer: Any = array
    return memoryview(buffer)


def _array_of(tensor: Tensor) -> mx.array:
    if not tensor.data:
        return mx.zeros(tensor.shape, _DTYPES[tensor.dtype])
    raw: Any = memoryview(tensor.data)
    return mx.array(raw, dtype=mx.uint8).view(_DTYPES[tensor.dtype]).reshape(tensor.shape)

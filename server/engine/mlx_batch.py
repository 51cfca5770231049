"""The batch on MLX: mlx-lm's models, one prompt computed at a time, all rows decoded together."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn

from ..cache.codec import BlockPayload, CacheCodec, LayerCache, evaluate
from ..cache.prefix_cache import PrefixCache
from ..errors import InvalidRequest
from .batch import BatchInfo, MemoryUse
from .decode_layout import DecodeLayout
from .last_row import LastRow
from .messages import Submit
from .sampling import RowSampler, sample
from .sequence import checkpoints


@dataclass(slots=True, eq=False)
class _Row:
    """`token_ids` are the prompt and every token generated so far; the caches hold the first
    `num_computed` of them. While the row decodes, the layout holds its caches and `caches` is empty."""

    request: Submit
    token_ids: list[int]
    num_computed: int
    sampler: RowSampler
    caches: list[LayerCache] = field(default_factory=list)


class MlxBatch:
    """Implements `BatchEngine`. `vocabulary` bounds the token ids a request may bring."""

    def __init__(
        self,
        model: nn.Module,
        info: BatchInfo,
        layout: DecodeLayout,
        codec: CacheCodec,
        prefix_cache: PrefixCache[BlockPayload],
        vocabulary: int,
    ) -> None:
        self._model = model
        self._info = info
        self._layout = layout
        self._last_row = LastRow(model)
        self._codec = codec
        self._prefix_cache = prefix_cache
        self._vocabulary = vocabulary
        self._rows: dict[str, _Row] = {}
        self._decoding: list[_Row] = []
        """In the layout's order."""

    @property
    def info(self) -> BatchInfo:
        return self._info

    def match(self, request: Submit) -> int:
        return self._prefix_cache.peek(request.token_ids, request.cache_salt)

    def open(self, request: Submit) -> int:
        for position, token_id in enumerate(request.token_ids):
            if not 0 <= token_id < self._vocabulary:
                raise InvalidRequest(
                    f"token {token_id} at position {position} is outside the vocabulary of {self._vocabulary}"
                )
        match = self._prefix_cache.match(request.token_ids, request.cache_salt)
        caches = self._codec.restore(match.payloads, match.num_tokens, len(request.token_ids))
        sampler = RowSampler.create(request.sampling, request.token_ids, secrets.randbits(63))
        row = _Row(request, list(request.token_ids), match.num_tokens, sampler, caches)
        self._rows[request.request_id] = row
        return match.num_tokens

    def prefill(self, request_id: str, count: int) -> list[int]:
        row = self._rows[request_id]
        num_prompt = len(row.request.token_ids)
        stop = row.num_computed + count
        assert row.num_computed < stop <= num_prompt
        if stop < num_prompt:
            self._compute(row, stop)
            self._remember(row, lambda: row.caches)
            return []
        logits = self._last_row.logits(row.token_ids[row.num_computed :], row.caches)
        token_ids = sample(logits, [row.sampler])
        row.num_computed = num_prompt
        self._remember(row, lambda: row.caches)
        row.token_ids += token_ids
        self._layout.join(row.caches)
        row.caches = []
        self._decoding.append(row)
        return token_ids

    def decode(self) -> dict[str, list[int]]:
        logits = self._layout.forward([row.token_ids[-1] for row in self._decoding])
        token_ids = sample(logits, [row.sampler for row in self._decoding])
        for row, token_id in zip(self._decoding, token_ids, strict=True):
            row.num_computed += 1
            row.token_ids.append(token_id)
        return {row.request.request_id: row.token_ids[-1:] for row in self._decoding}

    def release(self, request_id: str) -> None:
        row = self._rows.pop(request_id, None)
        if row is None:
            return
        if row not in self._decoding:
            self._remember(row, lambda: row.caches, ended=True)
            return
        index = self._decoding.index(row)
        self._remember(row, lambda: self._layout.extract(index), ended=True)
        self._layout.leave(index)
        del self._decoding[index]

    def memory(self) -> MemoryUse:
        return MemoryUse(self._prefix_cache.nbytes, mx.get_active_memory())

    def idle(self) -> bool:
        return self._prefix_cache.save_one()

    def close(self) -> None:
        self._prefix_cache.close()

    def _compute(self, row: _Row, stop: int) -> None:
        """Bring the row's caches up to `stop`. Nobody reads the logits, so the head is never run."""
        self._model(mx.array([row.token_ids[row.num_computed : stop]]), cache=row.caches)
        evaluate(row.caches)
        row.num_computed = stop

    def _remember(self, row: _Row, caches: Callable[[], list[LayerCache]], ended: bool = False) -> None:
        """Keep what the row has computed for later requests. `caches` finds it, where there is any news.

        States that exist at one position only are dear, so they are taken where the next request is
        likely to part from this one.
        """
        resumable = ended or row.num_computed in checkpoints(row.request, self._info.checkpoint_tokens)
        token_ids, salt = row.token_ids[: row.num_computed], row.request.cache_salt
        blocks = self._prefix_cache.missing(token_ids, salt, resumable)
        if blocks:
            payloads = self._codec.cut(caches(), blocks, snapshot=resumable)
            self._prefix_cache.insert(token_ids, blocks, payloads, salt)

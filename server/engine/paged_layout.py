"""Decoding rows whose keys and values lie in pages: rows of any lengths are one batch.

A row takes pages as it grows and gives them back when it leaves, so nothing is moved for another row's sake but where
a large one has left memory idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from ..cache.codec import LayerCache
from ..errors import UnsupportedModel
from .attention_route import OwnAttention, attention_modules, routed
from .decode_layout import Decided, Forward
from .messages import Batching
from .paged_attention import PAGE_TOKENS, LayerPages, PageAttention

_FIRST_PAGES = 64
SPARE_TOKENS = 8192
"""Of pages that no row has, where no one says."""
_LEAST_TABLE = 8


@dataclass(slots=True, eq=False)
class _Row:
    length: int
    pages: list[int]


class _PageCache(OwnAttention):
    """One layer of all rows."""

    def __init__(self, attention: PageAttention, pages: LayerPages, table: mx.array, lengths: mx.array) -> None:
        self.offset = lengths
        self._attention = attention
        self._pages = pages
        self._table = table
        self._new: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self._new = keys, values
        return self._new  # `attend` writes them into the pages and reads those instead

    def attend(self, queries: mx.array, scale: float, sinks: mx.array | None) -> mx.array:
        if sinks is not None or self._new is None:
            raise UnsupportedModel("the model's attention has no form for pages")
        keys, values = self._new
        return self._attention.attend(self._pages, queries, keys, values, self._table, self.offset, scale)


class _PagedRow:
    """One row's keys or values, [1, heads, tokens, size], gathered where they are read."""

    def __init__(self, pages: mx.array, row: _Row) -> None:
        self._pages = pages
        self._row = row

    def __getitem__(self, key: tuple[Any, slice, slice]) -> mx.array:
        start, stop, _ = key[1].indices(self._row.length)
        first, last = start // PAGE_TOKENS, -(-stop // PAGE_TOKENS)
        found = self._pages[mx.array(self._row.pages[first:last])].swapaxes(0, 1)
        found = found.reshape(1, found.shape[0], -1, found.shape[3])
        return found[..., start - first * PAGE_TOKENS : stop - first * PAGE_TOKENS, :]


class PagedLayout(Decided):
    """A `DecodeLayout` for models all of whose layers have a plain `KVCache`. Pages that no row has are added up to
    `spare_tokens` at a time, and given back where they are more than twice that.

    Tokens that are not accepted stay where they were written, behind the row's end, where no one looks and the
    next ones go.
    """

    batching = Batching("batched")
    overruns = True

    def __init__(self, model: Forward, attention: PageAttention, spare_tokens: int = SPARE_TOKENS) -> None:
        self._model = model
        self._attention = attention
        self._spare_pages = max(1, spare_tokens // PAGE_TOKENS)
        self._modules = attention_modules(model)
        self._rows: list[_Row] = []
        self._layers: list[LayerPages] = []
        self._free: list[int] = []
        self._table: mx.array | None = None
        self._step: mx.array | None = None
        """The last step's logits. Its tokens stand in their pages only once it is under way."""

    def join(self, caches: list[LayerCache]) -> None:
        self._begin()
        if not self._layers:
            self._free = list(range(_FIRST_PAGES - 1, -1, -1))
            self._layers = [LayerPages(_pages(_FIRST_PAGES, c.keys), _pages(_FIRST_PAGES, c.values)) for c in caches]
        row = _Row(caches[0].offset, [])
        self._make_room(row, row.length + 1)
        table = mx.array(row.pages)
        mx.async_eval(
            [
                self._attention.store(layer, cache.keys, cache.values, row.length, table)
                for layer, cache in zip(self._layers, caches, strict=True)
            ]
        )
        self._rows.append(row)
        self._table = None

    def extract(self, row: int) -> list[LayerCache]:
        self._begin()
        caches: list[LayerCache] = []
        for layer in self._layers:
            cache: Any = KVCache()
            cache.keys, cache.values = _PagedRow(layer.keys, self._rows[row]), _PagedRow(layer.values, self._rows[row])
            cache.offset = self._rows[row].length
            caches.append(cache)
        return caches

    def leave(self, row: int) -> None:
        self._free += self._rows.pop(row).pages
        self._table = None
        if not self._rows:
            self._layers, self._free = [], []
        elif len(self._free) > max(_FIRST_PAGES, 2 * self._spare_pages):
            self._close_up()

    def forward(self, token_ids: Sequence[Sequence[int]] | mx.array) -> mx.array:
        inputs = token_ids if isinstance(token_ids, mx.array) else _even(token_ids)
        self._begin()
        for row in self._rows:
            self._make_room(row, row.length + inputs.shape[1])
        lengths = mx.array([row.length for row in self._rows])
        caches = [_PageCache(self._attention, layer, self._page_table(), lengths) for layer in self._layers]
        with routed(self._modules):
            logits: mx.array = self._model(inputs, cache=caches)
        self._step = logits
        return logits

    def accept(self, counts: Sequence[int]) -> None:
        for row, count in zip(self._rows, counts, strict=True):
            row.length += count

    def may_draft(self, row: int) -> bool:
        del row
        return True

    def check(self, num_rows: int) -> None:
        assert len(self._rows) == num_rows, f"{len(self._rows)} rows, not {num_rows}"
        assert bool(self._layers) == bool(num_rows), "pages without rows, or rows without pages"
        num_pages = {pages.shape[0] for layer in self._layers for pages in (layer.keys, layer.values)} or {0}
        known = sorted([*self._free, *(page for row in self._rows for page in row.pages)])
        assert {len(known)} == num_pages, f"{len(known)} pages are free or taken, of {num_pages}"
        assert known == list(range(len(known))), "a page is free and taken, or taken twice"
        assert all(row.length <= len(row.pages) * PAGE_TOKENS for row in self._rows), "a row is longer than its pages"

    def _begin(self) -> None:
        """Have the last step under way, whatever its caller did with the logits."""
        if self._step is not None:
            mx.async_eval(self._step)
            self._step = None

    def _page_table(self) -> mx.array:
        """Its width is rounded up: by it the kernel is told how to share out its work."""
        if self._table is None:
            most = max(_LEAST_TABLE, *(len(row.pages) for row in self._rows))
            width = 1 << (most - 1).bit_length()
            self._table = mx.array([row.pages + [0] * (width - len(row.pages)) for row in self._rows])
        return self._table

    def _make_room(self, row: _Row, num_tokens: int) -> None:
        """Give the row pages for so many tokens; the number of all pages doubles where there are too few, and grows by
        the spare ones where it is large."""
        needed = -(-num_tokens // PAGE_TOKENS) - len(row.pages)
        if needed <= 0:
            return
        if needed > len(self._free):
            have = self._layers[0].keys.shape[0]
            more = max(needed - len(self._free), min(have, self._spare_pages))
            for layer in self._layers:
                layer.keys = mx.concatenate([layer.keys, _pages(more, layer.keys)])
                layer.values = mx.concatenate([layer.values, _pages(more, layer.values)])
                mx.eval(layer.keys, layer.values)
            self._free = [*range(have + more - 1, have - 1, -1), *self._free]
        row.pages += [self._free.pop() for _ in range(needed)]
        self._table = None

    def _close_up(self) -> None:
        """Keep the pages that rows have, and no other."""
        self._begin()
        kept = mx.array([page for row in self._rows for page in row.pages])
        for layer in self._layers:
            layer.keys, layer.values = layer.keys[kept], layer.values[kept]
            mx.eval(layer.keys, layer.values)
        numbers = iter(range(kept.size))
        for row in self._rows:
            row.pages = [next(numbers) for _ in row.pages]
        self._free = []
        self._table = None


def _pages(count: int, like: mx.array) -> mx.array:
    return mx.zeros((count, like.shape[1], PAGE_TOKENS, like.shape[3]), like.dtype)


def _even(token_ids: Sequence[Sequence[int]]) -> mx.array:
    """Rows of one length: the last token is repeated."""
    width = max(map(len, token_ids))
    return mx.array([[*fed, *[fed[-1]] * (width - len(fed))] for fed in token_ids])

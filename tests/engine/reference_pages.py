"""Attention over pages in plain MLX: what the CUDA kernel has to give, on any device."""

from __future__ import annotations

import mlx.core as mx

from omlx.server.engine.paged_attention import PAGE_TOKENS, LayerPages


class ReferencePageAttention:
    """Writes by replacing the pages' arrays, so a step must be built anew each time."""

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
        num_new = keys.shape[2]
        positions = lengths[:, None] + mx.arange(num_new)
        places = mx.take_along_axis(table, positions // PAGE_TOKENS, axis=1)
        pages.keys = pages.keys.at[places, :, positions % PAGE_TOKENS].add(
            keys.swapaxes(1, 2) - pages.keys[places, :, positions % PAGE_TOKENS]
        )
        pages.values = pages.values.at[places, :, positions % PAGE_TOKENS].add(
            values.swapaxes(1, 2) - pages.values[places, :, positions % PAGE_TOKENS]
        )
        mask = (mx.arange(table.shape[1] * PAGE_TOKENS) <= positions[..., None])[:, None]
        return mx.fast.scaled_dot_product_attention(
            queries, _rows(pages.keys, table), _rows(pages.values, table), scale=scale, mask=mask
        )

    def store(self, pages: LayerPages, keys: mx.array, values: mx.array, length: int, table: mx.array) -> mx.array:
        positions = mx.arange(length)
        places = table[positions // PAGE_TOKENS]
        pages.keys[places, :, positions % PAGE_TOKENS] = keys[0, :, :length].swapaxes(0, 1)
        pages.values[places, :, positions % PAGE_TOKENS] = values[0, :, :length].swapaxes(0, 1)
        return pages.keys


def _rows(pages: mx.array, table: mx.array) -> mx.array:
    """[rows, heads, tokens, size]"""
    found = pages[table].swapaxes(1, 2)
    return found.reshape(*found.shape[:2], -1, found.shape[-1])

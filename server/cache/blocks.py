"""How a prompt is cut into blocks, and what names a block.

A block's name is a hash over its own tokens and the name of the block before it, so a name stands for
the whole prefix up to the block's end. The chain starts at a root that stands for everything else the
cached values depend on: model, weights, cache format, tenant.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import NewType

BLOCK_TOKENS = 256
"""Tokens in a full block. Also the grid prefill chunks end on, so that reuse is exact to the bit."""

BlockHash = NewType("BlockHash", bytes)


def root_hash(*identity: str) -> BlockHash:
    """The start of a chain for values that depend on all of `identity`."""
    digest = hashlib.sha256(b"omlx kv 1")
    for part in identity:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return BlockHash(digest.digest())


def block_hash(parent: BlockHash, token_ids: Iterable[int]) -> BlockHash:
    return BlockHash(hashlib.sha256(parent + array("I", token_ids).tobytes()).digest())


def spans(num_tokens: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """The blocks of `[start, num_tokens)` as half-open ranges; the last one may be partial.

    `start` is a block boundary.
    """
    assert start % BLOCK_TOKENS == 0
    for begin in range(start, num_tokens, BLOCK_TOKENS):
        yield begin, min(begin + BLOCK_TOKENS, num_tokens)

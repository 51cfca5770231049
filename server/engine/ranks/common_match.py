"""How much of a prompt every rank of a group has in its prefix cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from ...cache.prefix_cache import Match, Payload, PrefixCache
from .group import Ranks

P = TypeVar("P", bound=Payload)


def common_match(cache: PrefixCache[P], ranks: Ranks, token_ids: Sequence[int], salt: str) -> Match[P]:
    """The longest prefix that every rank has, and why there was no longer one here. All ranks call it together."""
    first = match = cache.match(token_ids, salt)
    for _ in range(2):
        found = ranks.gather(match.num_tokens)
        if len(set(found)) == 1:
            return replace(match, miss=first.miss, miss_token=first.miss_token)
        match = cache.match(token_ids[: min(found) + 1], salt)
    return Match(0, (), 0, first.miss, first.miss_token)

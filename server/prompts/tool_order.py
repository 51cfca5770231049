"""The same tools written alike, in whatever order a client sends them.

Clients that keep tools or the keys of schemas in hash maps send them in another order every time. The tools stand at a
prompt's beginning, so that nothing behind them would come from the cache.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence

import msgspec

from ..requests import ToolDefinition

_encoder = msgspec.json.Encoder(order="sorted")


class ToolOrder:
    """Keeps the last sets of tools in the order in which each came first, within `max_bytes` of their JSON. Safe to
    share between threads."""

    def __init__(self, max_bytes: int = 16_000_000) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._known: OrderedDict[bytes, tuple[int, tuple[ToolDefinition, ...]]] = OrderedDict()
        self._lock = threading.Lock()

    def steady(self, tools: Sequence[ToolDefinition], scope: str) -> tuple[ToolDefinition, ...]:
        """The tools as they came first; `scope` parts what must not meet, such as keys."""
        written = sorted(map(_encoder.encode, tools))
        size = sum(map(len, written))
        key = hashlib.sha256(_encoder.encode((scope, [each.decode() for each in written]))).digest()
        with self._lock:
            known = self._known.pop(key, None)
            if known is None:
                known = size, tuple(tools)
                self._num_bytes += size
            self._known[key] = known
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= self._known.popitem(last=False)[1][0]
        return known[1]

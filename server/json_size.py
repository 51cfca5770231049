"""Counts what a JSON text holds while it comes, before anything is made of it."""

from __future__ import annotations

from .errors import InvalidRequest

MAX_NODES = 250_000
"""Objects, lists and members of objects: each takes up to some hundred bytes of memory, and a microsecond to read."""
MAX_VALUES = 2_000_000
"""Beside one another in lists and objects, such as the token ids of a prompt, which take little."""
FREE_BYTES = 1 << 20
"""A text of no more is not looked at: it holds too little to matter, and most requests are of its size."""
_UNCOUNTED = bytes(set(range(256)) - set(b'"{[:,'))


class JsonSize:
    """Fed a JSON text in pieces, raises `InvalidRequest` once that holds more than `MAX_NODES` or `MAX_VALUES`.

    It is exact up to the first byte that is no JSON, behind which nobody reads.
    """

    def __init__(self, free_bytes: int = FREE_BYTES) -> None:
        self.num_nodes = 0
        self.num_values = 0
        self._free_bytes = free_bytes
        self._held = bytearray()
        """What was not looked at: as much as is free, then the first half of an escape."""
        self._is_in_string = False

    def feed_whole(self, text: bytes) -> None:
        """Another text, counted beside those before it."""
        self._held.clear()
        self._is_in_string = False
        self.feed(text)

    def feed(self, piece: bytes) -> None:
        self._free_bytes -= len(piece)
        self._held += piece
        if self._free_bytes >= 0:
            return
        text = self._held.replace(rb"\\", b"")
        self._held = text[-1:] if text.endswith(b"\\") else bytearray()
        stretches = text.replace(rb"\"", b"").translate(None, _UNCOUNTED).split(b'"')
        outside = b"".join(stretches[self._is_in_string :: 2])
        self._is_in_string ^= len(stretches) % 2 == 0
        num_commas = outside.count(b",")
        self.num_values += num_commas
        self.num_nodes += len(outside) - num_commas
        if self.num_nodes > MAX_NODES:
            raise InvalidRequest(f"more than {MAX_NODES} objects, lists and members of objects in one body")
        if self.num_values > MAX_VALUES:
            raise InvalidRequest(f"more than {MAX_VALUES} values in one body")

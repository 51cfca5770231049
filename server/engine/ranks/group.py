"""What the ranks of a group say to one another through MLX's collectives, which all call in the same order."""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx

_FIRST_BYTES = 1024
"""What one collective carries of a message. Only a longer one, such as a new prompt, takes a second."""
_LENGTH_BYTES = 4


class Ranks(Protocol):
    """The group as one of its members sees it."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def gather(self, value: int) -> list[int]:
        """Every rank's value, in the order of ranks."""
        ...

    def share(self, tokens: mx.array) -> mx.array:
        """Rank 0's tokens, int32, on every rank. Nothing is waited for."""
        ...


class Alone:
    """A group of one."""

    rank = 0
    size = 1

    def gather(self, value: int) -> list[int]:
        return [value]

    def share(self, tokens: mx.array) -> mx.array:
        return tokens


class MlxRanks:
    """A group of processes that `mlx.launch`, or whoever started them, has introduced to one another."""

    def __init__(self, group: mx.distributed.Group) -> None:
        self.group = group
        self.rank = group.rank()
        self.size = group.size()

    def gather(self, value: int) -> list[int]:
        values: Any = mx.distributed.all_gather(mx.array([value], mx.int32), group=self.group).tolist()
        return values

    def share(self, tokens: mx.array) -> mx.array:
        # The others' zeros come of their own tokens, so that no rank sums before the model's own collectives.
        own = tokens.astype(mx.int32) * (self.rank == 0)
        return mx.distributed.all_sum(own, group=self.group)

    def broadcast(self, payload: bytes = b"") -> bytes:
        """Rank 0's payload, on every rank; the others' own is ignored."""
        if self.rank:
            payload = b""
        head = len(payload).to_bytes(_LENGTH_BYTES, "little") + payload[:_FIRST_BYTES]
        heard = self._sum(head, _LENGTH_BYTES + _FIRST_BYTES)
        length = int.from_bytes(heard[:_LENGTH_BYTES], "little")
        rest = length - _FIRST_BYTES
        more = self._sum(payload[_FIRST_BYTES:], rest) if rest > 0 else b""
        return heard[_LENGTH_BYTES : _LENGTH_BYTES + length] + more

    def gather_bytes(self, payload: bytes) -> list[bytes]:
        """Every rank's payload, in the order of ranks."""
        lengths = self.gather(len(payload))
        parts = mx.distributed.all_gather(_bytes(payload, max(*lengths, 1))[None], group=self.group)
        return [_read(parts[rank])[:length] for rank, length in enumerate(lengths)]

    def _sum(self, payload: bytes, length: int) -> bytes:
        """The payload of the one rank that has any."""
        return _read(mx.distributed.all_sum(_bytes(payload, length), group=self.group))


def _bytes(payload: bytes, length: int) -> mx.array:
    raw: Any = memoryview(payload.ljust(length, b"\0"))
    return mx.array(raw, dtype=mx.uint8)


def _read(array: mx.array) -> bytes:
    mx.eval(array)
    buffer: Any = array
    return bytes(memoryview(buffer))

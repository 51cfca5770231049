"""Who is alive: a link from every rank to rank 0, beside the collectives, which cannot tell who is missing.

It carries nothing of the model: signs of life with the sender's memory both ways, and rank 0's word to wake. Each
message is a kind and two sizes in bytes. Where a link closes, or says nothing for `SILENCE_SECONDS`, the
other side is lost.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import EngineFailure
from ..messages import RankMemory

BEAT_SECONDS = 0.5
SILENCE_SECONDS = 3.0
_JOIN_SECONDS = 30.0
_VERDICT_SECONDS = SILENCE_SECONDS + 1
_MESSAGE = struct.Struct("<BQQ")
_HELLO = struct.Struct("<32sI64s")
_BEAT, _WAKE, _END = range(3)


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where rank 0 listens. Only who knows the token, which goes by a collective, is let in."""

    host: str
    port: int
    token: bytes


class _Link:
    """One end. `on_loss` is called once, from another thread, with what is wrong: "has ended", say."""

    def __init__(
        self, connection: socket.socket, memory: Callable[[], RankMemory], on_loss: Callable[[str], None]
    ) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(SILENCE_SECONDS)
        self._connection = connection
        self._memory = memory
        self._on_loss = on_loss
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self.woken = threading.Event()
        self.other = RankMemory()

    def start(self) -> None:
        for target in (self._listen, self._beat):
            threading.Thread(target=target, name="rank-link", daemon=True).start()

    def send(self, kind: int) -> None:
        """Say it; a side that is gone is `_listen`'s to find out."""
        memory = self._memory()
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(_MESSAGE.pack(kind, memory.cache_bytes, memory.memory_bytes))

    def close(self) -> None:
        """End without a loss on either side."""
        self.send(_END)
        self._ended.set()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self.send(_BEAT)

    def _listen(self) -> None:
        reason = "has ended"
        try:
            while message := _receive(self._connection, _MESSAGE.size):
                kind, *sizes = _MESSAGE.unpack(message)
                self.other = RankMemory(*sizes)
                if kind == _END:
                    self._ended.set()
                    return
                if kind == _WAKE:
                    self.woken.set()
        except TimeoutError:
            reason = f"has not answered for {SILENCE_SECONDS:.0f} seconds"
        except ConnectionResetError:
            pass  # it ended with a message unread
        except OSError as error:
            reason = f"cannot be reached any more ({error.strerror})"
        if not self._ended.is_set():
            self._ended.set()
            self._on_loss(reason)


class Members:
    """Rank 0's links to all the others. `on_loss` gets a sentence that names the first rank lost."""

    def __init__(
        self, listener: socket.socket, size: int, memory: Callable[[], RankMemory], on_loss: Callable[[str], None]
    ) -> None:
        self._listener = listener
        self._size = size
        self._memory = memory
        self._on_loss = on_loss
        self._links: dict[int, _Link] = {}
        self._verdict = ""
        self._judged = threading.Event()
        self._judging = threading.Lock()
        self.token = secrets.token_bytes(32)

    def meet(self) -> None:
        """Wait for every other rank. Raises `EngineFailure` naming those that did not come."""
        self._listener.settimeout(_JOIN_SECONDS)
        while len(self._links) < self._size - 1:
            try:
                connection, _ = self._listener.accept()
                connection.settimeout(_JOIN_SECONDS)
                token, rank, host = _HELLO.unpack(_receive(connection, _HELLO.size) or bytes(_HELLO.size))
            except TimeoutError:
                missing = ", ".join(str(rank) for rank in range(1, self._size) if rank not in self._links)
                raise EngineFailure(f"no sign of life from rank {missing}; is its way to rank 0 open?") from None
            if not hmac.compare_digest(token, self.token):
                connection.close()
                continue
            name = f"rank {rank} ({host.rstrip(bytes(1)).decode(errors='replace')})"
            self._links[rank] = _Link(connection, self._memory, lambda reason, name=name: self._lose(name, reason))
        self._listener.close()
        for link in self._links.values():
            link.start()

    def memory(self) -> list[RankMemory]:
        """What every rank holds, rank 0 first, as of its last sign of life."""
        return [self._memory(), *(self._links[rank].other for rank in sorted(self._links))]

    def wake(self) -> None:
        for link in self._links.values():
            link.send(_WAKE)

    def lost(self) -> str:
        """Which rank is lost, and how; waits for the links to find out. "" where all live."""
        self._judged.wait(_VERDICT_SECONDS)
        return self._verdict

    def close(self) -> None:
        for link in self._links.values():
            link.close()

    def _lose(self, name: str, reason: str) -> None:
        with self._judging:
            if self._judged.is_set():
                return
            self._verdict = f"{name} {reason}"
            self._judged.set()
        self._on_loss(self._verdict)


class Membership:
    """Another rank's link to rank 0."""

    def __init__(
        self, meeting: Meeting, rank: int, memory: Callable[[], RankMemory], on_loss: Callable[[str], None]
    ) -> None:
        connection = socket.create_connection((meeting.host, meeting.port), _JOIN_SECONDS)
        connection.sendall(_HELLO.pack(meeting.token, rank, socket.gethostname().encode()))
        self._link = _Link(connection, memory, lambda reason: on_loss(f"rank 0 {reason}"))
        self._link.start()

    def wait_for_wake(self, seconds: float) -> bool:
        """Whether rank 0 has said so within that time. Each word wakes once."""
        woken = self._link.woken.wait(seconds)
        if woken:
            self._link.woken.clear()
        return woken

    def close(self) -> None:
        self._link.close()


def _receive(connection: socket.socket, length: int) -> bytes | None:
    """So many bytes, or `None` where the other side has closed."""
    received = b""
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            return None
        received += piece
    return received

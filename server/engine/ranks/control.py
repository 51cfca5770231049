"""Who is alive: a link from every rank to rank 0, beside the collectives, which cannot tell who is missing.

It carries nothing of the model: signs of life with the sender's memory both ways, and rank 0's word to wake. Each
message is a kind, what the sender's thread that computes is at, how often it has gone on within steps, and two sizes in
bytes. Where a link closes, or says nothing for `SILENCE_SECONDS`, the other side is lost. Where a step of rank 0's gets
no further for longer than it may, the ranks that the others wait for are.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ...errors import EngineFailure
from ..messages import RankMemory
from .progress import Progress, State

BEAT_SECONDS = 0.5
SILENCE_SECONDS = 3.0
_JOIN_SECONDS = 30.0
_VERDICT_SECONDS = SILENCE_SECONDS + 1
_MESSAGE = struct.Struct("<BBQQQ")
_HELLO = struct.Struct("<32sI64s")
_BEAT, _WAKE, _END = range(3)
_STOOD_STILL = f"stood still for more than {SILENCE_SECONDS:.0f} seconds, and the others gave it up"
_WE_STOOD_STILL = f"this rank {_STOOD_STILL}"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where rank 0 listens. Only who knows the token, which goes by a collective, is let in."""

    host: str
    port: int
    token: bytes


class _Link:
    """One end. `on_loss` is called once, from another thread, with what is wrong: "has ended", say; or with "" where
    the fault is this side's, which stood still until the other gave it up."""

    def __init__(
        self,
        connection: socket.socket,
        memory: Callable[[], RankMemory],
        progress: Progress,
        on_loss: Callable[[str], None],
    ) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(SILENCE_SECONDS)
        self._connection = connection
        self._memory = memory
        self._progress = progress
        self._on_loss = on_loss
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._beaten_at = time.monotonic()
        self._stood_still = 0.0
        self._num_pieces = 0
        """Of the other side's."""
        self.woken = threading.Event()
        self.other = RankMemory()
        self.other_state = State.WAITING

    def start(self) -> None:
        for target in (self._listen, self._beat):
            threading.Thread(target=target, name="rank-link", daemon=True).start()

    def send(self, kind: int) -> None:
        """Say it; a side that is gone is `_listen`'s to find out."""
        memory = self._memory()
        with self._sending, contextlib.suppress(OSError):
            at = self._progress.state, self._progress.num_pieces
            self._connection.sendall(_MESSAGE.pack(kind, *at, memory.cache_bytes, memory.memory_bytes))

    def close(self) -> None:
        """End without a loss on either side."""
        self._ended.set()  # first: the other side closes as soon as it hears
        self.send(_END)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._stood_still = max(self._stood_still, self._since_beat())
            self._beaten_at = time.monotonic()
            self.send(_BEAT)

    def _since_beat(self) -> float:
        return time.monotonic() - self._beaten_at

    def _listen(self) -> None:
        reason = "has ended"
        try:
            while message := _receive(self._connection, _MESSAGE.size):
                kind, state, num_pieces, *sizes = _MESSAGE.unpack(message)
                self.other_state = State(state)
                if num_pieces != self._num_pieces:
                    self._num_pieces = num_pieces
                    self._progress.hear_other()
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
        finally:
            self._connection.close()
        if not self._ended.is_set():
            self._ended.set()
            # In this order: `_beat` notes how long it was before it begins anew.
            stood_still = max(self._since_beat(), self._stood_still) >= SILENCE_SECONDS
            self._on_loss("" if stood_still else reason)


class Members:
    """Rank 0's links to all the others. `on_loss` gets a sentence that names the first rank lost, `on_stall` one that
    names those that hold up a step for longer than streams may wait, once a step."""

    def __init__(
        self,
        listener: socket.socket,
        size: int,
        memory: Callable[[], RankMemory],
        progress: Progress,
        on_loss: Callable[[str], None],
        on_stall: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._size = size
        self._memory = memory
        self._progress = progress
        self._on_loss = on_loss
        self._on_stall = on_stall
        self._links: dict[int, _Link] = {}
        self._names: dict[int, str] = {}
        self._verdict = ""
        self._judged = threading.Event()
        self._judging = threading.Lock()
        self._closed = threading.Event()
        self.token = secrets.token_bytes(32)

    def meet(self, seconds: float = _JOIN_SECONDS) -> None:
        """Wait for every other rank; strangers are let go. Raises `EngineFailure` naming those that did not come."""
        deadline = time.monotonic() + seconds
        greetings: dict[socket.socket, bytes] = {}
        with self._listener, selectors.DefaultSelector() as selector, contextlib.ExitStack() as strangers:
            selector.register(self._listener, selectors.EVENT_READ)
            strangers.callback(lambda: [stranger.close() for stranger in greetings])
            while len(self._links) < self._size - 1:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready or time.monotonic() > deadline:
                    missing = ", ".join(str(rank) for rank in range(1, self._size) if rank not in self._links)
                    raise EngineFailure(f"no sign of life from rank {missing}; is its way to rank 0 open?")
                for key, _ in ready:
                    if key.fileobj is self._listener:
                        connection, _ = self._listener.accept()
                        greetings[connection] = b""
                        selector.register(connection, selectors.EVENT_READ)
                        continue
                    connection = next(each for each in greetings if each is key.fileobj)
                    heard = greetings[connection] + _piece(connection, _HELLO.size - len(greetings[connection]))
                    is_over = len(heard) in (_HELLO.size, len(greetings[connection]))
                    greetings[connection] = heard
                    if is_over:
                        selector.unregister(connection)
                        del greetings[connection]
                        self._admit(connection, heard)
        for link in self._links.values():
            link.start()
        threading.Thread(target=self._watch, name="rank-watch", daemon=True).start()

    def _admit(self, connection: socket.socket, greeting: bytes) -> None:
        token, rank, host = _HELLO.unpack(greeting.ljust(_HELLO.size, bytes(1)))
        if not hmac.compare_digest(token, self.token):
            connection.close()
            return
        self._names[rank] = f"rank {rank} ({host.rstrip(bytes(1)).decode(errors='replace')})"
        self._links[rank] = _Link(
            connection, self._memory, self._progress, lambda reason: self._lose(self._names[rank], reason)
        )

    def _watch(self) -> None:
        """Look whether a step gets no further for longer than it may, and which ranks hold it up; whether rank 0 does
        nothing where it could; and whether its server lives, without which the group answers nobody."""
        while not self._closed.wait(BEAT_SECONDS):
            states = {self._names[rank]: link.other_state for rank, link in sorted(self._links.items())}
            states["rank 0"] = self._progress.state
            still = [name for name, state in states.items() if state is State.STILL]
            busy = [name for name, state in states.items() if state is State.AT_WORK]
            held_up_by = " or ".join(still or busy or states)  # where all wait, what goes between them is lost
            if overdue := self._progress.overdue_seconds(bool(still)):
                self._lose(held_up_by, f"got no further for {overdue:.0f} seconds")
            elif stalled := self._progress.stalled_seconds():
                self._on_stall(f"{held_up_by} got no further for {stalled:.0f} seconds; try again")
            elif self._progress.stands_still:
                self._lose("rank 0", "goes on no more, in no step")
            elif silence := self._progress.server_silent_seconds:
                self._lose("rank 0's server", f"has not answered for {silence:.0f} seconds")

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
        self._closed.set()
        for link in self._links.values():
            link.close()

    def _lose(self, name: str, reason: str) -> None:
        with self._judging:
            if self._judged.is_set():
                return
            self._verdict = f"{name} {reason}" if reason else f"rank 0 {_STOOD_STILL}"
            self._judged.set()
        self._on_loss(self._verdict)


class Membership:
    """Another rank's link to rank 0."""

    def __init__(
        self,
        meeting: Meeting,
        rank: int,
        memory: Callable[[], RankMemory],
        progress: Progress,
        on_loss: Callable[[str], None],
    ) -> None:
        """Raises `EngineFailure` where rank 0 cannot be reached."""
        try:
            connection = socket.create_connection((meeting.host, meeting.port), _JOIN_SECONDS)
            connection.sendall(_HELLO.pack(meeting.token, rank, socket.gethostname().encode()))
        except OSError as error:
            raise EngineFailure(
                f"rank 0 cannot be reached at {meeting.host}, port {meeting.port} ({error.strerror or error}); see "
                "that no firewall stands between, and that /etc/hosts there gives its name an address that others reach"
            ) from error
        self._link = _Link(
            connection, memory, progress, lambda reason: on_loss(f"rank 0 {reason}" if reason else _WE_STOOD_STILL)
        )
        self._link.start()

    def wait_for_wake(self, seconds: float) -> bool:
        """Whether rank 0 has said so within that time. Each word wakes once."""
        woken = self._link.woken.wait(seconds)
        if woken:
            self._link.woken.clear()
        return woken

    def close(self) -> None:
        self._link.close()


def _piece(connection: socket.socket, length: int) -> bytes:
    """What has come, at most so many bytes; none where the other side has closed or reset."""
    try:
        return connection.recv(length)
    except OSError:
        return b""


def _receive(connection: socket.socket, length: int) -> bytes | None:
    """So many bytes, or `None` where the other side has closed."""
    received = b""
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            return None
        received += piece
    return received

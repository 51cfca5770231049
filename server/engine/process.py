"""An engine process, seen from the API process: started, spoken to, ended.

What it says is dealt out to the requests' streams (`engine_stream`) where it is read. When the socket closes, expected
or not, every open request ends with a typed error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread
from time import monotonic

import msgspec

from ..errors import EngineFailure, EngineUnavailable, OmlxError
from ..stop_signals import held_back
from .engine_log import relay
from .engine_stream import EngineStream
from .messages import (
    Alive,
    Batching,
    Cancel,
    Command,
    Encode,
    EngineFailed,
    EngineMessage,
    EngineReady,
    EngineStalled,
    EngineStats,
    Loading,
    MemoryLimit,
    SequenceUpdate,
    Shutdown,
    StepOutput,
    Submit,
)
from .ranks.control import BEAT_SECONDS, SILENCE_SECONDS
from .wire import FrameProtocol, frame

logger = logging.getLogger(__name__)

_decoder = msgspec.msgpack.Decoder(EngineMessage)
_STOP_SECONDS = 0.5
_SAVING_SECONDS = 1.5
"""What an engine may take besides, when it is asked to end, to save the prefixes it has only in memory."""


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How an engine process is started: its command line, to which `--fd N` is added, and its environment. `name` is
    what it is called in the log: its model's. `rank` is what its place in a group is called, where it is in one."""

    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    name: str = "an engine"
    rank: str = ""


@dataclass(frozen=True, slots=True)
class Pulse:
    """How long ago, in seconds, the engine last said that it lives, and last brought a token; None for never.

    `waiting_seconds` is the age of the first request in its queue.
    """

    seconds_since_step: float | None
    seconds_since_decode: float | None
    waiting_seconds: float


class EngineProcess:
    """A running engine. `start` spawns it at once; `attach` needs the event loop and begins to listen."""

    def __init__(
        self, process: subprocess.Popen[bytes], connection: socket.socket, log: Thread, rank: str = ""
    ) -> None:
        """`log` is the thread that writes the process's words to the log, until it ends; `rank` as in its command."""
        self._process = process
        self._rank = rank
        self._log = log
        self._connection = connection
        self._ready: asyncio.Future[EngineReady] | None = None
        self._transport: asyncio.Transport | None = None
        self._reading: asyncio.Task[None] | None = None
        self._streams: dict[str, EngineStream] = {}
        self._failure = ""
        self.failure_may_pass = False
        self.stalled_for = ""
        """Why it answers nobody for now, though it lives; "" where it does."""
        self._ready_at = 0.0
        self._ended_at = 0.0
        self.stats = EngineStats()
        self.batching = Batching("undecided")
        self._has_spoken = False
        self._went_on_at = 0.0
        self._stepped_at: float | None = None
        self._decoded_at: float | None = None
        self._beaten_at = 0.0
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    def start(cls, command: EngineCommand) -> EngineProcess:
        """Spawn the process. It inherits one socket, and what it says on standard error goes to the log."""
        ours, theirs = socket.socketpair()
        with theirs, held_back():
            process = subprocess.Popen(
                [*command.argv, "--fd", str(theirs.fileno())],
                env=dict(command.environment),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
        assert process.stderr is not None
        return cls(process, ours, relay(process.stderr, command.name), command.rank)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._reading is not None and not self._reading.done()

    @property
    def is_loading(self) -> bool:
        return self._ready is None or not self._ready.done()

    @property
    def pulse(self) -> Pulse:
        now = monotonic()
        since_step = None if self._stepped_at is None else now - self._stepped_at
        since_decode = None if self._decoded_at is None else now - self._decoded_at
        waiting = self.stats.waiting_seconds + (since_step or 0.0) if self.stats.num_waiting else 0.0
        return Pulse(since_step, since_decode, waiting)

    @property
    def ready_seconds(self) -> float:
        """For how long it has been ready, or was when it ended; 0 before."""
        return (self._ended_at or monotonic()) - self._ready_at if self._ready_at else 0.0

    @property
    def silent_seconds(self) -> float:
        """How long a ready engine has said nothing; before, for how long it has got no further."""
        if not self.is_alive:
            return 0.0
        went_on_at = max(self._went_on_at, self._beaten_at) if self._stepped_at is None else self._stepped_at
        return monotonic() - went_on_at

    async def ended(self) -> str:
        """Wait until it has ended, and say why."""
        assert self._reading is not None, "attach comes first"
        await asyncio.wait({self._reading})
        return self._failure

    def dump(self) -> None:
        """Have it write its threads' stacks to the log, whatever it is doing. One that has not spoken yet may not know
        the signal, and would end by it."""
        if self._has_spoken:
            self._process.send_signal(signal.SIGUSR1)

    def kill(self, reason: str) -> None:
        """End it at once, for this reason."""
        self._failure = self._failure or reason
        self._process.kill()

    async def attach(self) -> None:
        """Begin to read what the engine says."""
        loop = asyncio.get_running_loop()
        self._ready = loop.create_future()
        self._transport, frames = await loop.create_connection(
            lambda: FrameProtocol(self._receive), sock=self._connection
        )
        self._reading = asyncio.create_task(self._read(frames))
        self._went_on_at = monotonic()

    async def ready(self) -> EngineReady:
        """Wait until the weights are loaded. Raises `EngineUnavailable` with the engine's reason."""
        assert self._ready is not None, "attach comes first"
        return await asyncio.shield(self._ready)

    def submit(self, submit: Submit | Encode) -> EngineStream:
        """Hand over a request. Raises `EngineUnavailable` when the process is gone, or stands still."""
        if not self.is_alive:
            raise EngineUnavailable(self._failure or "the engine is not running; try again")
        if self.stalled_for:
            raise EngineUnavailable(self.stalled_for)
        assert submit.request_id not in self._streams
        request_id = submit.request_id  # the rest of it, the prompt above all, need not stay
        self._streams[request_id] = stream = EngineStream(lambda: self._forget(request_id))
        self._send(submit)
        return stream

    @property
    def claimed_bytes(self) -> int:
        """What the model takes with the requests that it has, at the length that is expected of each."""
        return self.stats.claimed_bytes

    def limit_memory(self, num_bytes: int) -> None:
        """What the model may take of the memory in all, its weights included."""
        self._send(MemoryLimit(num_bytes))

    def fail_requests(self, error: OmlxError) -> None:
        """End every open request with `error`."""
        for request_id, stream in list(self._streams.items()):
            stream.put(error)
            self._forget(request_id)

    async def stop(self) -> None:
        """End the process: asked first, then made to. No request survives it."""
        self.fail_requests(EngineUnavailable("the model was unloaded; try again"))
        if self._reading is None:
            self._connection.close()
        else:
            self._send(Shutdown())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._reading), _SAVING_SECONDS + _STOP_SECONDS)
        await asyncio.to_thread(self._end_process)
        if self._reading is not None:
            await self._reading

    def _forget(self, request_id: str) -> None:
        if self._streams.pop(request_id, None) is not None:
            self._send(Cancel(request_id))

    def _send(self, command: Command) -> None:
        if self._transport is not None and self.is_alive and not self._transport.is_closing():
            self._transport.write(frame(command))

    async def _read(self, frames: FrameProtocol) -> None:
        try:
            await frames.closed
        finally:
            await self._closed()

    def _receive(self, payload: bytearray, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            return
        try:
            self._take(_decoder.decode(payload))
        except msgspec.MsgspecError as error:
            self._failure = f"what it said cannot be read: {error}"
        if self._failure:
            transport.abort()  # it has said its last word; its end may take long

    def _take(self, message: EngineMessage) -> None:
        self._has_spoken = True
        if isinstance(message, StepOutput):
            self.stalled_for = ""
            self.stats = message.stats
            self._stepped_at = monotonic()
            for update in message.updates:
                if update.token_ids or update.vectors:
                    self._decoded_at = self._stepped_at
                self._deal(update)
        elif isinstance(message, EngineReady):
            assert self._ready is not None
            self._ready_at = self._stepped_at = monotonic()
            self._ready.set_result(message)
        elif isinstance(message, Loading):
            self._went_on_at = monotonic()
        elif isinstance(message, Batching):
            self.batching = message
        elif isinstance(message, Alive):
            self._beaten_at = monotonic()
            self._listening = self._listening or asyncio.create_task(self._listen_for_beats())
        elif isinstance(message, EngineStalled):
            logger.warning("Engine %d: %s", self.pid, message.message)
            self.stalled_for = message.message
            self.fail_requests(EngineFailure(message.message))
        elif isinstance(message, EngineFailed):
            named = "rank " in message.message
            self._failure = f"{self._rank}: {message.message}" if self._rank and not named else message.message
            self.failure_may_pass = message.may_pass

    async def _listen_for_beats(self) -> None:
        """Kill an engine that lived and says so no more: the ranks that wait for it cannot. It hears of this process
        in turn."""
        is_suspect = False  # once is no proof: this process may have been the one that stood still
        while True:
            self._send(Alive())
            await asyncio.sleep(BEAT_SECONDS)
            was_suspect, is_suspect = is_suspect, monotonic() - self._beaten_at > SILENCE_SECONDS
            if was_suspect and is_suspect:
                self.kill(f"rank 0 has not answered for {SILENCE_SECONDS:.0f} seconds")
                return

    def _deal(self, update: SequenceUpdate) -> None:
        stream = self._streams.get(update.request_id)
        if stream is None:  # cancelled while this step ran
            return
        if update.finish_reason is not None or update.error:
            del self._streams[update.request_id]
        stream.put(update)

    async def _closed(self) -> None:
        """The socket has closed: whoever waits learns why, at once where that is known, for the process's end may take
        long. `stop` waits for that."""
        assert self._ready is not None
        self._ended_at = monotonic()
        if self._listening is not None:
            self._listening.cancel()
        if not self._failure:
            status = await asyncio.to_thread(self._end_process)
            who = f"the engine process of {self._rank}" if self._rank else "the engine process"
            self._failure = f"{who} {ending(status)}"
        reason = self._failure
        for stream in self._streams.values():
            stream.put(EngineFailure(reason))
        self._streams.clear()
        if not self._ready.done():
            self._ready.set_exception(EngineUnavailable(reason))
            self._ready.exception()  # nobody need be waiting

    def _end_process(self) -> int:
        """Wait for the process, killing it when it does not end in time, and for its last words; its exit status."""
        try:
            status = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._log.join(_STOP_SECONDS)
        return status


def ending(status: int) -> str:
    """Why a process ended that could not say so itself."""
    if status == -signal.SIGKILL:
        return "was killed (SIGKILL); the system may have run out of memory"
    if status < 0:
        return f"crashed ({signal.Signals(-status).name}); the log says more"
    return f"ended with status {status}; the log says why"

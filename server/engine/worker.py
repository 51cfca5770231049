"""The engine process: commands in from one socket, one message a step out.

Nothing here knows MLX; what is loaded brings the model.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, TypeAlias

import msgspec

from ..errors import EngineFailure, OmlxError
from ..log_format import described
from ..printable import printable
from ..stop_signals import STOP_SIGNALS, let_through
from .batch import BatchEngine, BatchInfo
from .engine import Engine
from .load_watch import telling_of_work
from .memory_room import MemoryRoom
from .messages import (
    Alive,
    Batching,
    Cancel,
    Command,
    Encode,
    EngineFailed,
    EngineMessage,
    EngineReady,
    Loading,
    MemoryLimit,
    Shutdown,
    StepOutput,
    Submit,
)
from .scheduler import Scheduler, SchedulerLimits
from .wire import frame, read_frame

logger = logging.getLogger(__name__)

_QUIET_SECONDS = 0.1
"""So long nothing must have come before what can wait is done: the next request is often on its way."""

_LOOK_SECONDS = 1.0
"""An idle engine turns so often. One that does not is stuck, which is seen from the other ranks of a group."""

_Inbox: TypeAlias = "queue.SimpleQueue[Command | BaseException | None]"


class Stepping(Protocol):
    """Does a model's work, a step at a time: `Engine` for one that writes, `EncodingEngine` for one that encodes."""

    @property
    def info(self) -> BatchInfo: ...

    @property
    def batching(self) -> Batching: ...

    @property
    def has_work(self) -> bool: ...

    def submit(self, request: Submit | Encode) -> None: ...

    def cancel(self, request_id: str) -> None: ...

    def limit(self, limit: MemoryLimit) -> None: ...

    def step(self) -> StepOutput: ...

    def news(self) -> StepOutput: ...

    def idle(self) -> bool: ...

    def rest(self) -> None: ...

    def check(self) -> None: ...

    def close(self) -> None: ...


def run(
    connection: socket.socket,
    make_batch: Callable[[], BatchEngine],
    limits: SchedulerLimits | None = None,
    heartbeat_seconds: float = 5.0,
    hear_server: Callable[[Command], None] = lambda _: None,
    abandon: Callable[[], None] = lambda: None,
) -> int:
    """`serve` with a model that writes."""

    def load() -> Engine:
        batch = make_batch()
        info, asked = batch.info, limits or SchedulerLimits()
        bounded = replace(asked, max_chunk=min(asked.max_chunk, info.max_chunk))
        room = MemoryRoom(info.footprint, info.memory_bytes, info.large_row_tokens, lambda: batch.batching.name)
        scheduler = Scheduler(bounded, room)
        engine = Engine(scheduler, batch, time.perf_counter, cancelled, lambda: report(connection, engine.news()))
        return engine

    cancelled: set[str] = set()
    return serve(connection, load, heartbeat_seconds, hear_server, cancelled, abandon)


def serve(
    connection: socket.socket,
    load: Callable[[], Stepping],
    heartbeat_seconds: float = 5.0,
    hear_server: Callable[[Command], None] = lambda _: None,
    cancelled: set[str] | None = None,
    abandon: Callable[[], None] = lambda: None,
) -> int:
    """Load, say so, and serve until told to shut down or the other side closes. The process's exit status.

    The other side hears of every step and, where there is nothing to do, every `heartbeat_seconds`; as often, at most,
    that the load goes on. The calling thread does all the model's work; a second one reads commands, and calls
    `hear_server` with each, also where the other side only says that it lives. What it cancels stands in `cancelled`
    until the calling thread has heard of it too, so that long work can be given up. It calls `abandon` where the other
    side closes while the model is loaded, which may take minutes, and memory that the next server's engines want.
    """
    commands: _Inbox = queue.SimpleQueue()
    cancelled = set() if cancelled is None else cancelled
    is_loaded = threading.Event()

    def hear() -> None:
        if _read(connection, commands, hear_server, cancelled) and not is_loaded.is_set():
            abandon()

    threading.Thread(target=hear, name="engine-inbox", daemon=True).start()
    is_ready = False
    try:
        started = time.perf_counter()
        try:
            with telling_of_work(lambda: report(connection, Loading()), heartbeat_seconds):
                engine = load()
        finally:
            is_loaded.set()
        info = engine.info
        load_seconds = time.perf_counter() - started
        _send(connection, EngineReady(info.device, info.weight_bytes, load_seconds))
        is_ready = True
        try:
            _serve(connection, commands, engine, heartbeat_seconds, cancelled)
            engine.check()  # no quiet moment may have come since the last request
        finally:
            engine.close()
    except ConnectionError:
        logger.info("the server has gone; the engine ends")
    except OmlxError as error:
        logger.error("%s", error)
        report(connection, EngineFailed(str(error), may_pass=isinstance(error, EngineFailure)))
        return 1
    except Exception as error:
        # While the model was loaded there was no request yet to quote.
        words = described(error) if is_ready else printable(f"{type(error).__name__}: {error}")
        logger.exception("the engine failed: %s", words)
        report(connection, EngineFailed(words))
        return 1
    return 0


def set_signals() -> None:
    """Leave Ctrl-C, SIGTERM and a terminal's end to the server: they reach the whole process group, or all that belongs
    to a service, and the server ends the engine, once its requests have ended.
    SIGUSR1 is how it has a stuck engine write to the log where it stands."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    let_through()
    faulthandler.register(signal.SIGUSR1)


def _serve(
    connection: socket.socket, commands: _Inbox, engine: Stepping, heartbeat_seconds: float, cancelled: set[str]
) -> None:
    told: Batching | None = None
    patience, beat_at = _QUIET_SECONDS, time.perf_counter() + heartbeat_seconds
    while True:
        if engine.batching != told:
            told = engine.batching
            _send(connection, told)
        arrived = _arrived(commands, 0 if engine.has_work else patience)
        left = beat_at - time.perf_counter()
        if not arrived and not engine.has_work and left > 0:
            patience = 0 if engine.idle() else min(left, _LOOK_SECONDS)
            continue
        for command in arrived:
            match command:
                case Submit() | Encode():
                    engine.submit(command)
                case Cancel():
                    engine.cancel(command.request_id)
                    cancelled.discard(command.request_id)
                case MemoryLimit():
                    engine.limit(command)
                case Shutdown() | None:
                    return
                case BaseException():
                    raise command
        if any(isinstance(command, Submit | Cancel) for command in arrived):
            # Who was admitted need not wait for what is computed now, nor who may come in the place of one that left.
            _send(connection, engine.news())
        if not arrived and not engine.has_work:
            engine.rest()
        _send(connection, engine.step())  # where there is nothing to do, this is the heartbeat
        patience, beat_at = _QUIET_SECONDS, time.perf_counter() + heartbeat_seconds


def _arrived(commands: _Inbox, patience: float) -> list[Command | BaseException | None]:
    """What has come, after waiting for the first at most `patience` seconds."""
    arrived: list[Command | BaseException | None] = []
    with contextlib.suppress(queue.Empty):
        arrived.append(commands.get(timeout=patience))
        while True:
            arrived.append(commands.get_nowait())
    return arrived


def _read(
    connection: socket.socket, commands: _Inbox, hear_server: Callable[[Command], None], cancelled: set[str]
) -> bool:
    """Pass on every command; `None` at the end of the stream, the exception where it cannot be read. Whether the other
    side has gone."""
    decoder = msgspec.msgpack.Decoder(Command)
    try:
        while (payload := read_frame(connection)) is not None:
            command = decoder.decode(payload)
            hear_server(command)
            if isinstance(command, Alive):
                continue
            if isinstance(command, Cancel):
                cancelled.add(command.request_id)
            commands.put(command)
    except OSError:
        pass  # the end of the stream too
    except msgspec.MsgspecError as error:
        commands.put(error)
        return False
    commands.put(None)
    return True


def _send(connection: socket.socket, message: EngineMessage) -> None:
    connection.sendall(frame(message))


def report(connection: socket.socket, message: EngineMessage) -> bool:
    """Send where someone still listens; whether one does."""
    try:
        _send(connection, message)
    except OSError:
        logger.warning("the server has gone before it could be told: %s", type(message).__name__)
        return False
    return True
